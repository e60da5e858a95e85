//! A small set of address ranges, for sorting out at boot which memory is free before anything can be
//! allocated.

/// At most `N` disjoint, ascending half-open ranges.
///
/// When a removal would make one range too many, the smaller piece is given up: memory is lost, and
/// nothing reserved is ever handed out.
#[derive(Debug, Clone)]
pub struct Ranges<const N: usize> {
    ranges: [(u64, u64); N],
    len: usize,
}

impl<const N: usize> Default for Ranges<N> {
    fn default() -> Self {
        Ranges::new()
    }
}

impl<const N: usize> Ranges<N> {
    /// The empty set.
    pub const fn new() -> Self {
        Ranges { ranges: [(0, 0); N], len: 0 }
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges[..self.len].iter().copied()
    }

    /// Adds `start..end`, joining what touches it.
    pub fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        let old = self.clone();
        self.len = 0;
        let mut placed = false;
        for (from, to) in old.iter() {
            if to < start {
                self.push(from, to);
            } else if from > end {
                if !placed {
                    self.push(start, end);
                    placed = true;
                }
                self.push(from, to);
            } else {
                (start, end) = (start.min(from), end.max(to));
            }
        }
        if !placed {
            self.push(start, end);
        }
    }

    /// Removes `start..end`.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let old = self.clone();
        self.len = 0;
        let mut left = old.len;
        for (from, to) in old.iter() {
            left -= 1;
            let (low, high) = ((from, to.min(start)), (from.max(end), to));
            let two = low.0 < low.1 && high.0 < high.1;
            // Both pieces, unless the ranges to come then have no place.
            let room = N - self.len > left + 1;
            let low_is_larger = low.1.saturating_sub(low.0) > high.1.saturating_sub(high.0);
            if !two || room || low_is_larger {
                self.push(low.0, low.1);
            }
            if !two || room || !low_is_larger {
                self.push(high.0, high.1);
            }
        }
    }

    /// Takes `len` out of the highest range that has room for it below `limit`; its start, a multiple of
    /// `align` (a power of two).
    pub fn take_top(&mut self, len: u64, align: u64, limit: u64) -> Option<u64> {
        let place = |&(from, to): &(u64, u64)| {
            let start = to.min(limit).checked_sub(len)? & !(align - 1);
            (start >= from).then_some(start)
        };
        let start = self.ranges[..self.len].iter().rev().find_map(place)?;
        self.remove(start, start + len);
        Some(start)
    }

    fn push(&mut self, from: u64, to: u64) {
        if from < to && self.len < N {
            self.ranges[self.len] = (from, to);
            self.len += 1;
        }
    }
}
