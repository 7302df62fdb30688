//! Which of many stretches side by side a number lies in, in about one look.

/// An index into the starts of stretches, which lie elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Finder {
    /// Numbers with the same upper bits share an entry.
    shift: u32,
    /// The stretch that the least number of each entry lies in, and one entry more.
    stretches: Vec<u32>,
}

impl Finder {
    /// An index for stretches that start at `starts`, ascending from 0, and end at `end`.
    pub fn new(starts: impl ExactSizeIterator<Item = u32>, end: usize) -> Self {
        let entries = starts.len().next_power_of_two();
        let bits = usize::BITS - end.leading_zeros();
        let shift = bits.saturating_sub(entries.trailing_zeros()).min(31);
        let mut starts = starts.zip(0..).peekable();
        let mut stretch = 0;
        let stretch_of = |entry: usize| {
            while let Some((_, number)) = starts.next_if(|(start, _)| *start as usize <= entry << shift) {
                stretch = number;
            }
            stretch
        };
        Finder { shift, stretches: (0..(end >> shift) + 2).map(stretch_of).collect() }
    }

    /// The stretch that `number` lies in; `start` says where a stretch starts.
    #[inline]
    pub fn find(&self, number: u32, start: impl Fn(usize) -> u32) -> usize {
        let entry = (number >> self.shift) as usize;
        let (mut least, mut behind) =
            (self.stretches[entry] as usize, self.stretches[entry + 1] as usize + 1);
        while behind - least > 1 {
            let middle = least.midpoint(behind);
            match start(middle) <= number {
                true => least = middle,
                false => behind = middle,
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_is_found_in_its_stretch(lengths in prop::collection::vec(1..200_u32, 1..40)) {
            let starts: Vec<u32> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end - length) }).collect();
            let end: u32 = lengths.iter().sum();
            let finder = Finder::new(starts.iter().copied(), end as usize);
            for number in 0..end {
                let expected = starts.partition_point(|start| *start <= number) - 1;
                prop_assert_eq!(finder.find(number, |stretch| starts[stretch]), expected);
            }
        }
    }
}
