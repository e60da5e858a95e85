//! Completions and changes of size, which must not run in an interrupt handler: `kblockd/N`, one thread a CPU.

use crate::bio::Bio;
use crate::disk::Disk;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use mem::OutOfMemory;
use sync::levels::BlockPool;
use sync::{Once, PerCpu, SpinLock};
use task::{NewTask, Task, WaitMode, WaitQueue};

struct Cpu {
    /// Disks whose size may have changed.
    resized: SpinLock<VecDeque<Arc<Disk>>, BlockPool>,
    done: SpinLock<VecDeque<Box<Bio>>, BlockPool>,
    thread: WaitQueue,
}

static CPUS: Once<PerCpu<Cpu>> = Once::new();

/// Starts the threads; `pin` binds a task to its CPU before it first runs.
pub(crate) fn start(pin: impl Fn(&Arc<Task>, usize)) -> Result<(), OutOfMemory> {
    let cpus = PerCpu::new(|_| Cpu {
        resized: SpinLock::new(VecDeque::new()),
        done: SpinLock::new(VecDeque::new()),
        thread: WaitQueue::new(&"kblockd"),
    });
    let _ = CPUS.set(cpus);
    for (number, _) in CPUS.get_expect().iter() {
        let thread = NewTask::kernel(format!("kblockd/{number}"), move || run(number)).create()?;
        pin(&thread, number);
        thread.wake();
    }
    Ok(())
}

/// Hands a bio that is done to this CPU's thread. Any context.
pub(crate) fn defer(bio: Box<Bio>) {
    let _off = sync::irq_off();
    let cpu = CPUS.get_expect().this();
    cpu.done.lock().push_back(bio);
    cpu.thread.wake_one();
}

/// The device says that its size may be another: looked at soon. Any context.
pub fn size_changed(disk: &Arc<Disk>) {
    let _off = sync::irq_off();
    let cpu = CPUS.get_expect().this();
    cpu.resized.lock().push_back(disk.clone());
    cpu.thread.wake_one();
}

fn run(number: usize) {
    let cpu = CPUS.get_expect().of(number);
    // Two lists that change places, so that an interrupt handler finds room in the one it adds to.
    let mut mine = VecDeque::new();
    loop {
        let some = || (!cpu.done.lock().is_empty() || !cpu.resized.lock().is_empty()).then_some(());
        let _ = cpu.thread.wait_until(WaitMode::Idle, None, some);
        core::mem::swap(&mut mine, &mut *cpu.done.lock());
        mine.drain(..).for_each(Bio::call_end);
        let resized = cpu.resized.lock().pop_front();
        if let Some(disk) = resized {
            disk.look_at_size();
        }
    }
}
