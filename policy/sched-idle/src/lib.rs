//! The idle class: what a CPU does with having nothing to do.
//!
//! **Problem.** A CPU that becomes idle could fetch a task from a busy one. When it is idle only for
//! moments at a time (a pipe between two CPUs), looking around each time costs more than it brings.
//!
//! **Interface.** [`Idle`] is told when the CPU goes idle and when it stops; it says how long that took
//! in all ([`Idle::total_ns`]) and whether fetching work is worth a given cost
//! ([`Idle::worth_pulling`]). The idle task itself needs no policy: it runs when the classes above
//! answer "nothing", and is no entry in any queue.
//!
//! **Idea.** A running average of the idle periods, each counted with one eighth (Linux's `avg_idle`);
//! one long period counts as at most twice the cost that is compared, so that the first busy moments
//! after it are noticed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// What it costs to move a task, its cold cache included (sysctl_sched_migration_cost), in ns.
pub const MIGRATION_COST_NS: u64 = 500_000;

/// The idle times of one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    since_ns: Option<u64>,
    total_ns: u64,
    average_ns: u64,
}

impl Default for Idle {
    fn default() -> Self {
        // Optimistic, so that the first idle CPUs after boot look for work.
        Idle { since_ns: None, total_ns: 0, average_ns: 2 * MIGRATION_COST_NS }
    }
}

impl Idle {
    /// The CPU has nothing to run from now on. Again while idle: no effect.
    pub fn enter(&mut self, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
    }

    /// The CPU runs something again.
    pub fn leave(&mut self, now_ns: u64) {
        if let Some(since_ns) = self.since_ns.take() {
            let idle_ns = now_ns.saturating_sub(since_ns);
            self.total_ns = self.total_ns.saturating_add(idle_ns);
            let capped = idle_ns.min(2 * MIGRATION_COST_NS);
            self.average_ns = self.average_ns - self.average_ns / 8 + capped / 8;
        }
    }

    /// Whether the CPU is idle.
    pub fn is_idle(&self) -> bool {
        self.since_ns.is_some()
    }

    /// Time idle in all, the present period included, in ns.
    pub fn total_ns(&self, now_ns: u64) -> u64 {
        let present = self.since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        self.total_ns.saturating_add(present)
    }

    /// Whether the CPU will probably be idle for longer than fetching a task costs.
    pub fn worth_pulling(&self, cost_ns: u64) -> bool {
        self.average_ns >= cost_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up() {
        let mut idle = Idle::default();
        idle.enter(100);
        idle.enter(150);
        assert_eq!((idle.is_idle(), idle.total_ns(160)), (true, 60));
        idle.leave(200);
        idle.leave(300);
        assert_eq!((idle.is_idle(), idle.total_ns(1000)), (false, 100));
    }

    #[test]
    fn short_naps_stop_the_search_and_a_rest_restarts_it() {
        let mut idle = Idle::default();
        assert!(idle.worth_pulling(MIGRATION_COST_NS));
        let nap = |idle: &mut Idle, ns| {
            idle.enter(0);
            idle.leave(ns);
        };
        (0..20).for_each(|_| nap(&mut idle, 5_000));
        assert!(!idle.worth_pulling(MIGRATION_COST_NS));
        (0..8).for_each(|_| nap(&mut idle, 1_000_000_000));
        assert!(idle.worth_pulling(MIGRATION_COST_NS));
    }
}
