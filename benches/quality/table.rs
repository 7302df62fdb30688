//! Ratios over many cases in few lines.

/// Ratios of one group of cases.
#[derive(Clone, Debug, Default)]
pub struct Ratios {
    logs: f64,
    count: usize,
    worst: f64,
    sum: f64,
    reference_sum: f64,
}

impl Ratios {
    pub fn add(&mut self, figure: u64, reference: u64) {
        let ratio = figure as f64 / reference.max(1) as f64;
        self.logs += ratio.ln();
        self.count += 1;
        self.worst = self.worst.max(ratio);
        self.sum += figure as f64;
        self.reference_sum += reference as f64;
    }

    /// The geometric mean.
    pub fn mean(&self) -> f64 {
        (self.logs / self.count.max(1) as f64).exp()
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn worst(&self) -> f64 {
        self.worst
    }

    /// The ratio of the sums: long cases count more.
    pub fn total(&self) -> f64 {
        self.sum / self.reference_sum.max(1.0)
    }
}
