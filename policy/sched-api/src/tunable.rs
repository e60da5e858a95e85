//! How a policy is made, and its knobs.

use crate::{NoMemory, QueueId, SchedPolicy};
use alloc::boxed::Box;

/// What a policy instance is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct QueueConfig {
    /// The instance's name, for [`crate::Carry::home`].
    pub id: QueueId,
    /// CPUs online; granularities grow with it (see [`cpu_factor`]).
    pub cpus: u32,
    /// Slots to make room for at once, see [`SchedPolicy::reserve`].
    pub slots: usize,
}

/// A policy that can be chosen by name; each policy crate exports one as `INFO`.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInfo {
    /// As written to /sys/kernel/sched/policy.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Makes an instance. Called outside any lock; may allocate.
    pub make: fn(QueueConfig) -> Result<Box<dyn SchedPolicy>, NoMemory>,
}

/// Why a knob was not turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunableError {
    /// The policy has no knob of that name (ENOENT).
    Unknown,
    /// The value is outside the knob's range (EINVAL).
    OutOfRange,
}

/// Linux's logarithmic scaling of granularities: `1 + log2(min(cpus, 8))`, so 1, 2, 3, 4 for 1, 2, 4,
/// 8 CPUs. With more CPUs a queue rarely holds several tasks for long, and longer slices switch less.
pub fn cpu_factor(cpus: u32) -> u64 {
    u64::from(1 + cpus.clamp(1, 8).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor() {
        let table = [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (4096, 4)];
        for (cpus, factor) in table {
            assert_eq!(cpu_factor(cpus), factor, "{cpus} CPUs");
        }
    }
}
