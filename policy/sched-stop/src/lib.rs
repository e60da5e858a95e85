//! The stop class: tasks that take a CPU away from everybody, real-time tasks included.
//!
//! **Problem.** Moving the running task to another CPU, or stopping all CPUs for a moment, needs a task
//! that nothing preempts.
//!
//! **Interface.** [`Stop`] implements [`SchedPolicy`].
//!
//! **Idea.** First come, first served, each until it blocks. There is rarely more than one.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use sched_api::weight::NICE_0_WEIGHT;
use sched_api::{Carry, Dequeue, Dequeued, Enqueue, NoMemory, Params, Pick, SchedPolicy, Slot, Stat};

/// One CPU's stopper tasks, in order of arrival.
#[derive(Debug, Default)]
pub struct Stop {
    queue: Vec<Slot>,
    current: Option<Slot>,
}

impl SchedPolicy for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        let missing = slots.saturating_sub(self.queue.len());
        self.queue.try_reserve(missing).map_err(|_| NoMemory)
    }

    fn enqueue(&mut self, _now_ns: u64, slot: Slot, _params: &Params, _why: Enqueue) -> bool {
        self.queue.push(slot);
        self.current.is_none()
    }

    fn dequeue(&mut self, now_ns: u64, slot: Slot, _why: Dequeue) -> Dequeued {
        self.queue.retain(|other| *other != slot);
        self.current = self.current.filter(|current| *current != slot);
        Dequeued::Gone(Carry { left_at_ns: now_ns, ..Carry::default() })
    }

    fn pick_next(&mut self, _now_ns: u64) -> Pick {
        self.current = self.queue.first().copied();
        self.current.map_or(Pick::Nothing, Pick::Run)
    }

    fn set_current(&mut self, _now_ns: u64, slot: Slot) {
        self.current = Some(slot);
    }

    fn put_prev(&mut self, _now_ns: u64) {
        self.current = None;
    }

    fn tick(&mut self, _now_ns: u64) -> bool {
        false
    }

    fn next_event(&self, _now_ns: u64) -> Option<u64> {
        None
    }

    fn yield_current(&mut self, _now_ns: u64) {
        if !self.queue.is_empty() {
            self.queue.rotate_left(1);
        }
    }

    fn set_params(&mut self, _now_ns: u64, _slot: Slot, _params: &Params) -> bool {
        false
    }

    fn nr_running(&self) -> u32 {
        self.queue.len() as u32
    }

    fn load(&self) -> u64 {
        self.queue.len() as u64 * NICE_0_WEIGHT
    }

    /// A stopper belongs to its CPU.
    fn movable(&mut self, _now_ns: u64, _accept: &mut dyn FnMut(Slot) -> bool) -> Option<Slot> {
        None
    }

    fn stats(&self, _slot: Slot, _put: &mut dyn FnMut(&'static str, Stat)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served() {
        let mut stop = Stop::default();
        assert_eq!(stop.pick_next(0), Pick::Nothing);
        assert!(stop.enqueue(0, Slot(3), &Params::stopper(), Enqueue::New));
        assert_eq!(stop.pick_next(0), Pick::Run(Slot(3)));
        assert!(!stop.enqueue(0, Slot(1), &Params::stopper(), Enqueue::New));
        assert_eq!((stop.pick_next(0), stop.nr_running()), (Pick::Run(Slot(3)), 2));
        stop.yield_current(0);
        assert_eq!(stop.pick_next(0), Pick::Run(Slot(1)));
        stop.dequeue(0, Slot(1), Dequeue::Sleep);
        assert_eq!(stop.pick_next(0), Pick::Run(Slot(3)));
        assert_eq!(stop.movable(0, &mut |_| true), None);
    }
}
