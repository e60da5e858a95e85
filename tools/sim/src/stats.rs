//! A histogram of times, for percentiles.

/// Buckets per doubling: percentiles are right within 1.6 %.
const STEPS: usize = 64;

/// Counts of durations in ns.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Histogram {
    /// Adds one duration.
    pub fn add(&mut self, ns: u64) {
        let bucket = bucket_of(ns);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Durations added.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest, exactly.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The duration that `percent` of them do not exceed; 0 when there are none.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        let rank = (self.total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top_of(bucket).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

/// Below 64 ns each has a bucket; above, each doubling has 64.
fn bucket_of(ns: u64) -> usize {
    if ns < STEPS as u64 {
        return ns as usize;
    }
    let shift = ns.ilog2() as usize - STEPS.ilog2() as usize;
    (shift + 1) * STEPS + (ns >> shift) as usize - STEPS
}

/// The largest duration in a bucket.
fn top_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (shift, step) = (bucket / STEPS - 1, bucket % STEPS);
    (((STEPS + step + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_of_a_thousand() {
        let mut histogram = Histogram::default();
        (1..=1000u64).for_each(|ns| histogram.add(ns * 1000));
        for (percent, ns) in [(50.0, 500_000.0), (90.0, 900_000.0), (99.0, 990_000.0)] {
            let got = histogram.percentile_ns(percent) as f64;
            assert!((got / ns - 1.0).abs() < 0.017, "{percent}: {got}");
        }
        assert_eq!((histogram.max_ns(), histogram.count()), (1_000_000, 1000));
        assert_eq!(Histogram::default().percentile_ns(99.0), 0);
    }

    proptest! {
        #[test]
        fn every_duration_is_in_its_bucket(ns in 0..u64::MAX / 2) {
            let bucket = bucket_of(ns);
            prop_assert!(ns <= top_of(bucket));
            prop_assert!(bucket == 0 || ns > top_of(bucket - 1));
        }
    }
}
