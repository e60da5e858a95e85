//! Restartable sequences: rseq(2).
//!
//! **Problem.** A program wants to change data that belongs to a CPU without an atomic instruction. That is safe if
//! nobody else ran on that CPU meanwhile, which only the kernel knows.
//!
//! **Interface.** A thread registers an area. The kernel keeps there the number of the CPU it runs on, and when a
//! thread that is inside a critical section was switched away or gets a signal, it goes on at the section's
//! abort address instead.
//!
//! **Idea.** The scheduler counts how often a task got a CPU. On the way to user mode, interrupts off, that count is
//! compared with the one that the area was last written for: a switch costs nothing, a system call two loads.

use crate::signal::{self, SigInfo};
use crate::thread::work;
use crate::{Ctx, Result, usermem};
use abi::Errno;
use abi::rseq::{CriticalSection, RSEQ_CPU_ID_UNINITIALIZED, RSEQ_FEATURE_BYTES, RSEQ_ORIGINAL_BYTES, at};
use abi::signal::SIGSEGV;
use arch::cpu;
use core::sync::atomic::Ordering::Relaxed;

/// What a thread registered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rseq {
    /// Address of the area; 0: none.
    area: usize,
    len: u32,
    signature: u32,
    /// How often the thread had got a CPU when the area was written; 0: it is to be written.
    seen: u64,
}

impl Rseq {
    /// What a child in memory of its own starts with.
    pub fn fork(self) -> Rseq {
        Rseq { seen: 0, ..self }
    }

    /// Whether the thread has an area.
    pub fn is_registered(&self) -> bool {
        self.area != 0
    }

    /// Whether the thread was switched away since its area was last written. Interrupts off for a lasting answer.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.area != 0 && self.seen != switches()
    }
}

/// How often the running task got a CPU.
#[inline]
fn switches() -> u64 {
    task::current().sched.timeslices.load(Relaxed)
}

/// The alignment and length that Linux asks for: whoever knows of more fields than the first version had may be
/// given any length that holds them.
fn check(area: usize, len: u32) -> Result<()> {
    let aligned = area.is_multiple_of(RSEQ_ORIGINAL_BYTES as usize);
    if len < RSEQ_ORIGINAL_BYTES || !aligned || len < RSEQ_FEATURE_BYTES {
        return Err(Errno::EINVAL);
    }
    let end = area.checked_add(len as usize).ok_or(Errno::EFAULT)?;
    if end > arch::mmu::user_top() { Err(Errno::EFAULT) } else { Ok(()) }
}

/// Registers the area of the calling thread. EBUSY when it has registered this one, EINVAL for another or a bad one,
/// EPERM for another signature.
pub fn register(ctx: &mut Ctx, area: usize, len: u32, signature: u32) -> Result<()> {
    let old = ctx.local.rseq;
    if old.area != 0 {
        return Err(match (old.area == area && old.len == len, old.signature == signature) {
            (false, _) => Errno::EINVAL,
            (true, false) => Errno::EPERM,
            (true, true) => Errno::EBUSY,
        });
    }
    check(area, len)?;
    // What is left there from before is no section of ours.
    usermem::write(area + at::RSEQ_CS, &0u64)?;
    ctx.local.rseq = Rseq { area, len, signature, seen: 0 };
    Ok(())
}

/// Takes the registration back. EINVAL when there is none like it, EPERM for another signature.
pub fn unregister(ctx: &mut Ctx, area: usize, len: u32, signature: u32) -> Result<()> {
    let old = ctx.local.rseq;
    if old.area == 0 || old.area != area || old.len != len {
        return Err(Errno::EINVAL);
    }
    if old.signature != signature {
        return Err(Errno::EPERM);
    }
    write_ids(area, 0, RSEQ_CPU_ID_UNINITIALIZED, 0)?;
    ctx.local.rseq = Rseq::default();
    ctx.mm().release_concurrency_id(&task::current());
    Ok(())
}

fn write_ids(area: usize, start: u32, cpu: u32, concurrency_id: u32) -> Result<()> {
    let store = |at, value| mem::user::store_u32(area + at, value).map_err(|_| Errno::EFAULT);
    store(at::CPU_ID_START, start)?;
    store(at::CPU_ID, cpu)?;
    store(at::NODE_ID, 0)?;
    store(at::MM_CID, concurrency_id)
}

/// The thread was switched away: its section, if it is in one, is left, and its area says where it runs now. A
/// switch meanwhile makes the area stale again. An area that cannot be used any more is a fault of the thread.
#[cold]
pub(crate) fn refresh(ctx: &mut Ctx) {
    ctx.local.rseq.seen = switches();
    let area = ctx.local.rseq.area;
    let task = task::current().arc();
    let written = leave_section(ctx).and_then(|()| {
        let concurrency_id = ctx.mm().concurrency_id(&task);
        let cpu = cpu::id() as u32;
        write_ids(area, cpu, cpu, concurrency_id)
    });
    if written.is_err() {
        signal::force(ctx.thread, SigInfo::kernel(SIGSEGV));
    }
}

/// Threads in the caller's memory, on whatever CPU, leave the sections that they are in before they run on in user mode:
/// membarrier(2), whose caller interrupts the CPUs after this. A thread that does not run leaves its section anyway when
/// it gets a CPU.
pub fn leave_sections(ctx: &Ctx) {
    crate::pid::for_each_process(|process| {
        if process.has_mm(ctx.mm()) {
            let signals = process.signals.lock();
            signals.threads.iter().for_each(|thread| thread.add_work(work::RSEQ));
        }
    });
}

/// A handler is about to run: a section that the signal interrupts is left first, so that the handler returns to
/// its abort address. EFAULT and EINVAL when the area or the section is bad.
pub(crate) fn before_handler(ctx: &mut Ctx) -> Result<()> {
    if ctx.local.rseq.area == 0 { Ok(()) } else { leave_section(ctx) }
}

/// Sends the thread to the abort address of the section that it is in. EINVAL for a bad section, EFAULT.
fn leave_section(ctx: &mut Ctx) -> Result<()> {
    let area = ctx.local.rseq.area;
    let address: u64 = usermem::read(area + at::RSEQ_CS)?;
    if address == 0 {
        return Ok(());
    }
    let section: CriticalSection = usermem::read(usize::try_from(address).map_err(|_| Errno::EINVAL)?)?;
    check_section(&section, ctx.local.rseq.signature)?;
    let inside = (ctx.user.pc() as u64).wrapping_sub(section.start_ip) < section.post_commit_offset;
    let flags: u32 = usermem::read(area + at::FLAGS)?;
    if inside && (section.flags != 0 || flags != 0) {
        return Err(Errno::EINVAL);
    }
    usermem::write(area + at::RSEQ_CS, &0u64)?;
    if inside {
        ctx.user.set_pc(section.abort_ip as usize);
    }
    Ok(())
}

/// EINVAL unless the section lies in user memory, aborts outside itself, and to where the program's signature is.
fn check_section(section: &CriticalSection, signature: u32) -> Result<()> {
    let top = arch::mmu::user_top() as u64;
    let end = section.start_ip.checked_add(section.post_commit_offset).ok_or(Errno::EINVAL)?;
    let aborts_inside = section.abort_ip.wrapping_sub(section.start_ip) < section.post_commit_offset;
    if section.start_ip >= top
        || end >= top
        || section.abort_ip >= top
        || section.version > 0
        || aborts_inside
    {
        return Err(Errno::EINVAL);
    }
    let before = section.abort_ip.checked_sub(4).ok_or(Errno::EFAULT)?;
    let found: u32 = usermem::read(before as usize)?;
    if found == signature { Ok(()) } else { Err(Errno::EINVAL) }
}
