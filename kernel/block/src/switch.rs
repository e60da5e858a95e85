//! Choosing the I/O scheduler of a disk, under load.
//!
//! `none` means no scheduler: requests go from each CPU's software queue to the hardware queue. With another
//! one they go to the elevator. Changing moves what waits from one to the other under their lock; what is
//! under way stays under way, and its completion is not reported to a scheduler that did not start it.

use crate::disk::Disk;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use iosched_api::{SchedulerInfo, TunableError};
use iosched_queue::Elevator;
use sync::Once;

/// The name of having none.
pub const NONE: &str = "none";

static SCHEDULERS: Once<&'static [SchedulerInfo]> = Once::new();

pub(crate) fn init(schedulers: &'static [SchedulerInfo]) {
    let _ = SCHEDULERS.set(schedulers);
}

/// The schedulers that can be chosen besides `none`.
pub fn schedulers() -> &'static [SchedulerInfo] {
    SCHEDULERS.get().copied().unwrap_or_default()
}

/// The scheduler of a new disk: as on Linux, the first of the list for one hardware queue, none for several.
pub(crate) fn set_default(disk: &Arc<Disk>) {
    if disk.hw.len() == 1
        && let Some(first) = schedulers().first()
    {
        // Without memory for its tables the disk works without it.
        let _ = disk.set_scheduler(first.name);
    }
}

impl Disk {
    /// The name of the scheduler in use.
    pub fn scheduler(&self) -> &'static str {
        self.elevator.lock().as_ref().map_or(NONE, Elevator::name)
    }

    /// Changes the scheduler. EINVAL when there is none of that name, ENOMEM. Process context.
    pub fn set_scheduler(&self, name: &str) -> Result<()> {
        let _one = self.switch.lock();
        if name == self.scheduler() {
            return Ok(());
        }
        if name == NONE {
            self.remove_elevator();
        } else {
            let info = schedulers().iter().find(|info| info.name == name).ok_or(Errno::EINVAL)?;
            self.install(info)?;
        }
        for number in 0..self.hw.len() {
            self.run(number);
        }
        Ok(())
    }

    fn install(&self, info: &SchedulerInfo) -> Result<()> {
        let now_ns = arch::timer::now_ns();
        if self.has_elevator.load(Ordering::Acquire) {
            let policy = (info.make)(self.requests).map_err(|_| Errno::ENOMEM)?;
            let old = match self.elevator.lock().as_mut() {
                Some(elevator) => elevator.replace(info, policy, now_ns),
                None => policy,
            };
            drop(old);
            return Ok(());
        }
        let elevator = Elevator::new(info, self.requests).map_err(|_| Errno::ENOMEM)?;
        let mut place = self.elevator.lock();
        self.elevator_number.fetch_add(1, Ordering::Relaxed);
        *place = Some(elevator);
        self.has_elevator.store(true, Ordering::Release);
        Ok(())
    }

    /// What waits in the elevator goes to this CPU's software queue.
    fn remove_elevator(&self) {
        let mut waiting: Vec<Box<crate::Request>> = Vec::new();
        let mut elevator = self.elevator.lock();
        self.has_elevator.store(false, Ordering::Release);
        let Some(mut old) = elevator.take() else { return };
        drop(elevator);
        while let Some(request) = old.take_any() {
            waiting.push(request);
        }
        for request in waiting {
            self.enqueue(request);
        }
    }

    /// The knobs of the scheduler in use.
    pub fn scheduler_tunables(&self) -> Vec<&'static str> {
        self.elevator.lock().as_ref().map_or(Vec::new(), |elevator| elevator.tunables().collect())
    }

    /// A knob's value.
    pub fn scheduler_tunable(&self, name: &str) -> Option<u64> {
        self.elevator.lock().as_ref()?.tunable(name)
    }

    /// Turns a knob. ENOENT, EINVAL.
    pub fn set_scheduler_tunable(&self, name: &str, value: u64) -> Result<()> {
        let mut elevator = self.elevator.lock();
        let elevator = elevator.as_mut().ok_or(Errno::ENOENT)?;
        elevator.set_tunable(name, value).map_err(|error| match error {
            TunableError::Unknown => Errno::ENOENT,
            TunableError::OutOfRange => Errno::EINVAL,
        })
    }
}
