//! Which points of one step a point of the next needs. benches/taskbench.h says it again in C.

use super::{Shape, Size};

/// The points of the step before that a point needs, in order, each once.
pub(super) fn inputs_of(shape: Shape, size: Size, step: u32, point: u32, inputs: &mut Vec<u32>) {
    let width = size.width;
    let around = |reach: u32| point.saturating_sub(reach)..=(point + reach).min(width - 1);
    inputs.clear();
    match shape {
        Shape::Stencil1d => inputs.extend(around(1)),
        Shape::Nearest => inputs.extend(around(2)),
        Shape::Dom => inputs.extend(point.saturating_sub(1)..=point),
        Shape::AllToAll => inputs.extend(0..width),
        Shape::Fft => inputs.extend(butterfly(width, step, point)),
        Shape::Spread => inputs.extend((0..5).map(|part| (point + part * width.div_ceil(5)) % width)),
        Shape::Random => {
            let mut chance = Chance::at(size.seed, step, point);
            inputs.extend([point, chance.below(width), chance.below(width)]);
        }
        Shape::FanOut => inputs.push(point / 2),
        Shape::RandomNearest => {
            let mut chance = Chance::at(size.seed, step, point);
            inputs.extend(around(2).filter(|&other| chance.below(2) == 1 || other == point));
        }
        Shape::NoComm | Shape::Trivial | Shape::Chain | Shape::Tree => inputs.push(point),
    }
    inputs.sort_unstable();
    inputs.dedup();
}

fn butterfly(width: u32, step: u32, point: u32) -> impl Iterator<Item = u32> {
    let rounds = width.next_power_of_two().trailing_zeros().max(1);
    let distance = 1 << ((step - 1) % rounds);
    let others = [point.checked_sub(distance), Some(point), point.checked_add(distance)];
    others.into_iter().flatten().filter(move |other| *other < width)
}

/// A linear congruential generator whose high bits are used; the multiplier is Knuth's for MMIX.
pub(super) struct Chance(u64);

impl Chance {
    /// The chance of one point in one step.
    pub fn at(seed: u64, step: u32, point: u32) -> Chance {
        let place = (u64::from(step) << 32) | u64::from(point);
        let mut chance = Chance(seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        chance.next();
        chance.next();
        chance
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(limit)) >> 32) as u32
    }
}
