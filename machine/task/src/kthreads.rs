//! Which kernel threads there are: told to the layer that gives them numbers.
//!
//! Threads are made long before there are numbers, by layers that know none; so the first ones are kept in a list
//! until somebody asks.

use crate::task::{Task, current};
use alloc::sync::Arc;
use alloc::vec::Vec;
use sync::levels::Leaf;
use sync::{Once, SpinLock};

/// Called in process context: `made` for each kernel thread that was made and has not run yet, `ends` on each task
/// with a payload whose body has returned.
#[derive(Clone, Copy)]
pub struct KernelThreads {
    pub made: fn(&Arc<Task>),
    pub ends: fn(&Task),
}

static LISTENER: Once<KernelThreads> = Once::new();
/// Those made before somebody listened.
static EARLY: SpinLock<Vec<Arc<Task>>, Leaf> = SpinLock::new(Vec::new());

/// Installs the listener and returns the kernel threads made so far, ended ones among them. Once, at boot.
pub fn listen(listener: KernelThreads) -> Vec<Arc<Task>> {
    let _ = LISTENER.set(listener);
    core::mem::take(&mut *EARLY.lock())
}

pub(crate) fn made(task: &Arc<Task>) {
    match LISTENER.get() {
        Some(listener) => (listener.made)(task),
        None => EARLY.lock().push(task.clone()),
    }
}

/// The body of the current task has returned.
pub(crate) fn ends() {
    if let Some(listener) = LISTENER.get()
        && current().payload().is_some()
    {
        (listener.ends)(&current());
    }
}
