//! The sleeping locks and wait queues on the host's threads.
#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use sync::Level;

pub struct RwSemaphore<T, L: Level> {
    value: RwLock<T>,
    _level: PhantomData<fn() -> L>,
}

pub struct SemReadGuard<'a, T, L: Level> {
    value: RwLockReadGuard<'a, T>,
    _level: PhantomData<fn() -> L>,
}

pub struct SemWriteGuard<'a, T, L: Level> {
    value: RwLockWriteGuard<'a, T>,
    _level: PhantomData<fn() -> L>,
}

impl<T, L: Level> RwSemaphore<T, L> {
    pub const fn new(value: T) -> Self {
        RwSemaphore { value: RwLock::new(value), _level: PhantomData }
    }

    pub fn read(&self) -> SemReadGuard<'_, T, L> {
        sync::assert_may_sleep();
        sync::acquired::<L>(false);
        SemReadGuard { value: self.value.read().unwrap_or_else(PoisonError::into_inner), _level: PhantomData }
    }

    pub fn try_read(&self) -> Option<SemReadGuard<'_, T, L>> {
        let value = self.value.try_read().ok()?;
        sync::acquired::<L>(true);
        Some(SemReadGuard { value, _level: PhantomData })
    }

    pub fn write(&self) -> SemWriteGuard<'_, T, L> {
        self.write_at(false)
    }

    pub fn write_nested(&self) -> SemWriteGuard<'_, T, L> {
        self.write_at(true)
    }

    fn write_at(&self, nested: bool) -> SemWriteGuard<'_, T, L> {
        sync::assert_may_sleep();
        sync::acquired::<L>(nested);
        SemWriteGuard {
            value: self.value.write().unwrap_or_else(PoisonError::into_inner),
            _level: PhantomData,
        }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, L: Level> Deref for SemReadGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, L: Level> Drop for SemReadGuard<'_, T, L> {
    fn drop(&mut self) {
        sync::released::<L>();
    }
}

impl<T, L: Level> Deref for SemWriteGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, L: Level> DerefMut for SemWriteGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T, L: Level> Drop for SemWriteGuard<'_, T, L> {
    fn drop(&mut self) {
        sync::released::<L>();
    }
}

pub struct WaitQueue;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitMode {
    Uninterruptible,
    Killable,
    Interruptible,
    Idle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitEnd {
    Signal,
    Timeout,
}

/// Tries until it works or the time is over. Nobody wakes anybody here: waiters look again and again.
pub fn wait_alone<R>(
    _name: &'static &'static str,
    _mode: WaitMode,
    deadline_ns: Option<u64>,
    mut attempt: impl FnMut() -> Option<R>,
) -> Result<R, WaitEnd> {
    sync::assert_may_sleep();
    loop {
        if let Some(value) = attempt() {
            return Ok(value);
        }
        if deadline_ns.is_some_and(|end| arch::timer::now_ns() >= end) {
            return Err(WaitEnd::Timeout);
        }
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
}

impl WaitQueue {
    pub const fn new(_name: &'static &'static str) -> WaitQueue {
        WaitQueue
    }

    pub fn wait<R>(&self, attempt: impl FnMut() -> Option<R>) -> R {
        wait_alone(&"wait", WaitMode::Uninterruptible, None, attempt).unwrap_or_else(|_| unreachable!())
    }

    pub fn wait_until<R>(
        &self,
        mode: WaitMode,
        deadline_ns: Option<u64>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitEnd> {
        wait_alone(&"wait", mode, deadline_ns, attempt)
    }

    pub fn wake_all(&self) {}
}

/// A kernel thread is a thread of the host's.
pub struct NewTask {
    name: String,
    body: Box<dyn FnOnce() + Send>,
}

impl NewTask {
    pub fn kernel(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> NewTask {
        NewTask { name: name.into(), body: Box::new(body) }
    }

    pub fn spawn(self) -> Result<(), abi::Errno> {
        let thread = std::thread::Builder::new().name(self.name);
        thread.spawn(self.body).map(drop).map_err(|_| abi::Errno::ENOMEM)
    }
}

pub fn yield_now() {
    std::thread::yield_now();
}

pub struct Current;

pub fn current() -> Current {
    Current
}

impl Current {
    pub fn fatal_pending(&self) -> bool {
        false
    }
}

/// A task, which a test puts on a CPU and takes off.
#[derive(Default)]
pub struct Task {
    on_cpu: AtomicBool,
}

impl Task {
    pub fn on_cpu(&self) -> bool {
        self.on_cpu.load(Relaxed)
    }

    pub fn set_on_cpu(&self, on_cpu: bool) {
        self.on_cpu.store(on_cpu, Relaxed);
    }
}
