//! Who waits for whom, over all files.

use alloc::vec::Vec;

/// Edges "waiter waits for holder".
#[derive(Debug)]
pub struct WaitGraph<O> {
    edges: Vec<(O, O)>,
}

impl<O: Copy + PartialEq> WaitGraph<O> {
    pub const fn new() -> WaitGraph<O> {
        WaitGraph { edges: Vec::new() }
    }

    /// Whether `waiter` waiting for `holder` would close a cycle. Follows at most `limit` edges, so a
    /// huge graph costs a missed deadlock rather than a hang (Linux stops after 10).
    pub fn would_deadlock(&self, waiter: O, holder: O, limit: usize) -> bool {
        let mut at = holder;
        for _ in 0..limit {
            if at == waiter {
                return true;
            }
            match self.edges.iter().find(|edge| edge.0 == at) {
                Some(edge) => at = edge.1,
                None => return false,
            }
        }
        false
    }

    /// Notes a wait. False when memory is short.
    pub fn add(&mut self, waiter: O, holder: O) -> bool {
        if self.edges.try_reserve(1).is_err() {
            return false;
        }
        self.edges.push((waiter, holder));
        true
    }

    /// Forgets one wait of `waiter`.
    pub fn remove(&mut self, waiter: O) {
        if let Some(at) = self.edges.iter().position(|edge| edge.0 == waiter) {
            self.edges.swap_remove(at);
        }
    }
}

impl<O: Copy + PartialEq> Default for WaitGraph<O> {
    fn default() -> Self {
        WaitGraph::new()
    }
}
