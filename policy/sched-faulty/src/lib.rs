//! Policies that are wrong on purpose.
//!
//! **Problem.** The mechanism checks every answer of a policy, and a watchdog looks for tasks that were left
//! waiting. Whether they would notice shows only when somebody does it.
//!
//! **Interface.** [`faulty`] spoils an honest policy by one [`Crime`]. [`POLICIES`] can be chosen by name in
//! debug builds of the kernel started with `ochre.faulty_policies`, and in nothing else.
//!
//! **Idea.** All calls go to the honest policy (CFS); only the answers are spoilt. The one that starves keeps its
//! victims, the SCHED_BATCH tasks, to itself, and runs one only when nobody else wants the CPU.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use sched_api::{
    Carry, Dequeue, Dequeued, Enqueue, NoMemory, Params, Pick, PolicyInfo, QueueConfig, SchedKind,
    SchedPolicy, Slot, Stat,
};

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crime {
    /// Picks a slot that is empty.
    Ghost,
    /// Answers that there is nothing to do.
    Strike,
    /// Runs no SCHED_BATCH task while others want the CPU.
    Starve,
    /// Drops a runnable task.
    Drop,
    /// Delays everybody for ever.
    Delay,
}

/// Those that a kernel can be given.
pub const POLICIES: [PolicyInfo; 3] = [
    PolicyInfo {
        name: "faulty-ghost",
        about: "picks a task that is not there",
        make: |config| faulty(config, Crime::Ghost),
    },
    PolicyInfo {
        name: "faulty-strike",
        about: "answers that there is nothing to do",
        make: |config| faulty(config, Crime::Strike),
    },
    PolicyInfo {
        name: "faulty-starve",
        about: "runs no SCHED_BATCH task while others want the CPU",
        make: |config| faulty(config, Crime::Starve),
    },
];

/// A policy that is honest but for `crime`.
pub fn faulty(config: QueueConfig, crime: Crime) -> Result<Box<dyn SchedPolicy>, NoMemory> {
    let honest = (sched_cfs::INFO.make)(config)?;
    let mut faulty = Faulty { honest, crime, victims: Vec::new(), waiting: 0, current: None };
    faulty.reserve(config.slots)?;
    Ok(Box::new(faulty))
}

struct Faulty {
    honest: Box<dyn SchedPolicy>,
    crime: Crime,
    /// By slot: a task that is starved, unknown to the honest policy.
    victims: Vec<bool>,
    waiting: u32,
    /// The victim that runs, for want of others.
    current: Option<Slot>,
}

impl Faulty {
    fn is_victim(&self, slot: Slot) -> bool {
        self.victims.get(slot.index()).copied().unwrap_or(false)
    }

    fn first_victim(&self) -> Option<Slot> {
        self.victims.iter().position(|victim| *victim).map(|slot| Slot(slot as u32))
    }

    /// The one that starves: a victim only for want of others.
    fn pick_and_starve(&mut self, now_ns: u64) -> Pick {
        self.current = None;
        match (self.honest.pick_next(now_ns), self.first_victim()) {
            (Pick::Nothing, Some(victim)) => {
                self.current = Some(victim);
                Pick::Run(victim)
            }
            (pick, _) => pick,
        }
    }
}

impl SchedPolicy for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        let missing = slots.saturating_sub(self.victims.len());
        self.victims.try_reserve_exact(missing).map_err(|_| NoMemory)?;
        self.victims.extend((0..missing).map(|_| false));
        self.honest.reserve(slots)
    }

    fn enqueue(&mut self, now_ns: u64, slot: Slot, params: &Params, why: Enqueue) -> bool {
        if self.crime == Crime::Starve && params.kind == SchedKind::Batch {
            self.victims[slot.index()] = true;
            self.waiting += 1;
            return false;
        }
        self.honest.enqueue(now_ns, slot, params, why) || self.current.is_some()
    }

    fn dequeue(&mut self, now_ns: u64, slot: Slot, why: Dequeue) -> Dequeued {
        if self.is_victim(slot) {
            self.victims[slot.index()] = false;
            self.waiting -= 1;
            self.current = self.current.filter(|current| *current != slot);
            return Dequeued::Gone(Carry { left_at_ns: now_ns, ..Carry::default() });
        }
        match self.crime {
            Crime::Delay => Dequeued::Delayed,
            _ => self.honest.dequeue(now_ns, slot, why),
        }
    }

    fn pick_next(&mut self, now_ns: u64) -> Pick {
        if self.crime == Crime::Starve {
            return self.pick_and_starve(now_ns);
        }
        match (self.crime, self.honest.pick_next(now_ns)) {
            (Crime::Ghost, Pick::Run(_)) => Pick::Run(Slot(u32::MAX)),
            (Crime::Strike, _) => Pick::Nothing,
            (Crime::Drop, Pick::Run(slot)) => Pick::Drop(slot, Carry::default()),
            (_, pick) => pick,
        }
    }

    fn set_current(&mut self, now_ns: u64, slot: Slot) {
        if self.is_victim(slot) {
            self.honest.put_prev(now_ns);
            self.current = Some(slot);
        } else {
            self.current = None;
            self.honest.set_current(now_ns, slot);
        }
    }

    fn put_prev(&mut self, now_ns: u64) {
        self.current = None;
        self.honest.put_prev(now_ns);
    }

    fn tick(&mut self, now_ns: u64) -> bool {
        match self.current {
            Some(_) => self.honest.nr_running() > 0,
            None => self.honest.tick(now_ns),
        }
    }

    fn next_event(&self, now_ns: u64) -> Option<u64> {
        self.honest.next_event(now_ns)
    }

    fn yield_current(&mut self, now_ns: u64) {
        if self.current.is_none() {
            self.honest.yield_current(now_ns);
        }
    }

    fn set_params(&mut self, now_ns: u64, slot: Slot, params: &Params) -> bool {
        !self.is_victim(slot) && self.honest.set_params(now_ns, slot, params)
    }

    fn nr_running(&self) -> u32 {
        self.honest.nr_running() + self.waiting
    }

    fn load(&self) -> u64 {
        self.honest.load()
    }

    fn movable(&mut self, now_ns: u64, accept: &mut dyn FnMut(Slot) -> bool) -> Option<Slot> {
        self.honest.movable(now_ns, accept)
    }

    fn stats(&self, slot: Slot, put: &mut dyn FnMut(&'static str, Stat)) {
        self.honest.stats(slot, put);
    }
}
