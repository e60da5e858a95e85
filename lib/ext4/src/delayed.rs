//! Which blocks of a file are in memory only and have been promised room on the medium.

use alloc::vec::Vec;

/// Disjoint runs of blocks, sorted; neighbours are one run.
#[derive(Debug, Default)]
pub struct Delayed(Vec<(u32, u32)>);

impl Delayed {
    pub const fn new() -> Delayed {
        Delayed(Vec::new())
    }

    /// How many blocks.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|run| u64::from(run.1 - run.0)).sum()
    }

    /// The length of the run of blocks from `from` on that are all in, or all out; and which.
    pub fn run(&self, from: u32, to: u32) -> (u32, bool) {
        let first = self.0.partition_point(|run| run.1 <= from);
        match self.0.get(first) {
            Some(run) if run.0 <= from => (run.1.min(to) - from, true),
            Some(run) => (run.0.min(to) - from, false),
            None => (to - from, false),
        }
    }

    /// Adds `from..to`, no block of which is in. False when there is no memory.
    pub fn add(&mut self, from: u32, to: u32) -> bool {
        let at = self.0.partition_point(|run| run.1 < from);
        let joins_left = self.0.get(at).is_some_and(|run| run.1 == from);
        let right = at + usize::from(joins_left);
        let joins_right = self.0.get(right).is_some_and(|run| run.0 == to);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at].1 = self.0[right].1;
                self.0.remove(right);
            }
            (true, false) => self.0[at].1 = to,
            (false, true) => self.0[right].0 = from,
            (false, false) => {
                if self.0.try_reserve(1).is_err() {
                    return false;
                }
                self.0.insert(at, (from, to));
            }
        }
        true
    }

    /// Takes `from..to` out; how many blocks were in. When a run must be cut in two and there is no memory for
    /// that, its tail is taken too: what was promised for it is lost to nobody, it is only asked for again.
    pub fn remove(&mut self, from: u32, to: u32) -> u32 {
        let mut removed = 0;
        let mut at = self.0.partition_point(|run| run.1 <= from);
        while let Some(&(start, end)) = self.0.get(at) {
            if start >= to {
                break;
            }
            let (cut_from, cut_to) = (start.max(from), end.min(to));
            removed += cut_to - cut_from;
            match (start < cut_from, cut_to < end) {
                (false, false) => {
                    self.0.remove(at);
                }
                (true, false) => {
                    self.0[at].1 = cut_from;
                    at += 1;
                }
                (false, true) => {
                    self.0[at].0 = cut_to;
                    at += 1;
                }
                (true, true) => {
                    self.0[at].1 = cut_from;
                    if self.0.try_reserve(1).is_ok() {
                        self.0.insert(at + 1, (cut_to, end));
                    } else {
                        removed += end - cut_to;
                    }
                    at += 2;
                }
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn like_a_set(ops in prop::collection::vec((0u32..60, 1u32..20, any::<bool>()), 1..60)) {
            let (mut runs, mut set) = (Delayed::new(), BTreeSet::new());
            for (from, len, add) in ops {
                let to = from + len;
                if add {
                    let mut at = from;
                    while at < to {
                        let (len, inside) = runs.run(at, to);
                        if !inside {
                            runs.add(at, at + len);
                        }
                        at += len;
                    }
                    set.extend(from..to);
                } else {
                    let before = set.len();
                    set.retain(|b| !(from..to).contains(b));
                    prop_assert_eq!(runs.remove(from, to) as usize, before - set.len());
                }
                let all: BTreeSet<u32> = runs.0.iter().flat_map(|run| run.0..run.1).collect();
                prop_assert_eq!(&all, &set);
                prop_assert!(runs.0.windows(2).all(|w| w[0].1 < w[1].0));
            }
        }
    }
}
