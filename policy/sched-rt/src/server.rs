//! The fair server: 50 ms in every second for the fair class, whatever real-time tasks do.
//!
//! Linux bounded the real-time class to 950 ms per second from 2008 (sched_rt_runtime_us), which stops
//! a runaway real-time task even when nobody else wants the CPU. Since 6.12 the fair class instead has a
//! reservation (/sys/kernel/debug/sched/fair_server), which is what this is:
//!
//! ```text
//!   a fair task is runnable, real-time tasks take the CPU
//!   |<----------------- period 1 s ----------------->|
//!   |                    waiting          |  50 ms   |
//!                                         ^ the latest moment to begin: the fair class runs
//! ```
//!
//! Beginning as late as possible disturbs real-time tasks least; whatever the fair class gets by itself
//! before that moment is deducted.

/// Budget of the fair class on one CPU.
#[derive(Clone, Copy, Debug)]
pub struct FairServer {
    runtime_ns: u64,
    period_ns: u64,
    /// Start of the present period; none while no fair task waits behind a real-time task.
    started_at_ns: Option<u64>,
    used_ns: u64,
}

impl Default for FairServer {
    fn default() -> Self {
        FairServer { runtime_ns: 50_000_000, period_ns: 1_000_000_000, started_at_ns: None, used_ns: 0 }
    }
}

impl FairServer {
    /// Budget per period, in ns. 0 switches the server off.
    pub fn runtime_ns(&self) -> u64 {
        self.runtime_ns
    }

    /// Length of a period, in ns.
    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// Sets both; false when `runtime_ns > period_ns` or the period is not in 100 us ..= 1 h.
    pub fn configure(&mut self, runtime_ns: u64, period_ns: u64) -> bool {
        let sane = runtime_ns <= period_ns && (100_000..=3_600_000_000_000).contains(&period_ns);
        if sane {
            *self = FairServer { runtime_ns, period_ns, started_at_ns: None, used_ns: 0 };
        }
        sane
    }

    /// The fair class ran for `ns`, by its own right or by the server's.
    pub fn fair_ran(&mut self, ns: u64) {
        self.used_ns = self.used_ns.saturating_add(ns);
    }

    /// Call when real-time tasks and fair tasks both want the CPU: is it the fair class's turn?
    /// The first call after [`relax`](Self::relax) starts a period.
    pub fn is_fair_due(&mut self, now_ns: u64) -> bool {
        let start = self.present_period(now_ns);
        self.left_ns() > 0 && now_ns >= self.latest_begin(start)
    }

    /// Call when the two no longer compete: the next competition starts a new period.
    pub fn relax(&mut self) {
        self.started_at_ns = None;
        self.used_ns = 0;
    }

    /// While they compete: when the answer of [`is_fair_due`](Self::is_fair_due) next changes by itself.
    /// `fair_runs` says who has the CPU now.
    pub fn next_event(&self, now_ns: u64, fair_runs: bool) -> Option<u64> {
        let start = self.started_at_ns?;
        if self.runtime_ns == 0 {
            return None;
        }
        let end = start.saturating_add(self.period_ns);
        let at = match (fair_runs, self.left_ns()) {
            (true, left_ns) => now_ns.saturating_add(left_ns),
            (false, 0) => end,
            (false, _) => self.latest_begin(start),
        };
        Some(at.max(now_ns.saturating_add(1)))
    }

    fn left_ns(&self) -> u64 {
        self.runtime_ns.saturating_sub(self.used_ns)
    }

    fn latest_begin(&self, start: u64) -> u64 {
        start.saturating_add(self.period_ns - self.left_ns())
    }

    /// The start of the period that `now_ns` is in. A new one begins with a full budget.
    fn present_period(&mut self, now_ns: u64) -> u64 {
        let start = match self.started_at_ns {
            Some(start) if now_ns < start.saturating_add(self.period_ns) => return start,
            // Period after period without a gap; after a longer one, from now.
            Some(start) if now_ns < start.saturating_add(self.period_ns.saturating_mul(2)) => {
                start.saturating_add(self.period_ns)
            }
            _ => now_ns,
        };
        self.started_at_ns = Some(start);
        self.used_ns = 0;
        start
    }
}
