//! Noticing that the fair policy does not do its work.
//!
//! A task is forgotten when it waits for 10 s of the *fair clock*, which runs while the fair class has
//! the CPU (or the CPU idles) and stands still while real-time tasks hold it: that is not the policy's
//! doing. Ten seconds are a fault for tasks that compete about as equals. One of little weight among
//! heavy ones, or one of hundreds, may rightly wait longer (nice 19 against nice -20 gets 1 : 5917), so
//! the limit grows with the wait that its weight explains.

use sched_api::weight::{NICE_0_WEIGHT, aged_ns};
use sched_api::{Params, SLICE_MAX_NS, Slot};

/// What a policy did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answered with a slot whose task may not run.
    BadPick(Slot),
    /// It answered "nothing to run" although a task of its class waits.
    Idles,
    /// It delayed or dropped a task that does not sleep.
    BadDrop(Slot),
    /// It left a runnable task unscheduled; for so many ns.
    Starves(Slot, u64),
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::BadPick(slot) => write!(f, "picked a task that may not run (slot {})", slot.0),
            Fault::Idles => write!(f, "picked nothing although tasks are runnable"),
            Fault::BadDrop(slot) => write!(f, "dropped a task that is not asleep (slot {})", slot.0),
            Fault::Starves(_, ns) => {
                write!(f, "left a runnable task unscheduled for {} ms", ns / 1_000_000)
            }
        }
    }
}

/// How often the waiting tasks are looked through, all in all.
pub(crate) const PERIOD_NS: u64 = 1_000_000_000;
/// So many slots in one go: it happens in the timer's interrupt.
pub(crate) const CHUNK: usize = 512;
const LIMIT_NS: u64 = 10_000_000_000;

/// The longest that a task with `params` may wait in a queue of total weight `load`: after one slice its
/// virtual time is ahead of the others by as much as they need, together, to catch up. The slice is the longest that
/// anybody may ask for, as the others may have; and half as much again, since a slice ends at a tick.
pub(crate) fn limit_ns(params: &Params, load: u64) -> u64 {
    let lead_ns = aged_ns(SLICE_MAX_NS, params.weight(), params.penalty_ns_per_ms);
    let turn_ns = u128::from(lead_ns) * u128::from(load) / u128::from(NICE_0_WEIGHT);
    LIMIT_NS.max(u64::try_from(turn_ns + turn_ns / 2).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_among_equals_more_for_the_light() {
        let second = 1_000_000_000;
        assert_eq!(limit_ns(&Params::nice(0), 3 * 1024), 10 * second);
        assert_eq!(limit_ns(&Params::nice(0), 60 * 1024), 10 * second);
        // A round of a hundred others with the longest slices takes ten seconds.
        assert_eq!(limit_ns(&Params::nice(0), 101 * 1024), 15_150_000_000);
        assert_eq!(limit_ns(&Params::nice(0), 1000 * 1024), 150 * second);
        assert!(limit_ns(&Params::nice(19), 88761) > 200 * second);
    }
}
