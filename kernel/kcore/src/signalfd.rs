//! signalfd(2): signals that are read instead of handled.
//!
//! A read takes from whoever reads, as on Linux: the descriptor only remembers the set. That is also why it waits
//! here and not in the general wait: the queue is the reader's process's, not the file's.

use crate::signal::{self, SigInfo, SigSet};
use crate::thread::Thread;
use crate::{Process, Result};
use abi::Errno;
use abi::fcntl::{O_NONBLOCK, O_RDWR};
use abi::poll::PollEvents;
use abi::signal::{
    POLL_IN, SI_KERNEL, SI_QUEUE, SI_TIMER, SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGIO, SIGKILL, SIGSEGV,
    SIGSTOP, SIGTRAP, SignalfdSiginfo,
};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use task::{WaitMode, WaitQueue};
use vfs::{File, FileOps, FileTraits, IoBuf, OpsRef, PollTable, anon};
use zerocopy::{FromZeros, IntoBytes};

const RECORD_BYTES: usize = size_of::<SignalfdSiginfo>();

/// The object behind the descriptor.
pub struct SignalFd {
    mask: AtomicU64,
}

/// signalfd4(2) with -1 as descriptor.
pub fn create(mask: SigSet, nonblocking: bool) -> Arc<File> {
    let fd = SignalFd { mask: AtomicU64::new(0) };
    fd.set_mask(mask);
    let status = if nonblocking { O_NONBLOCK } else { 0 };
    anon::file("[signalfd]", OpsRef::shared(fd), O_RDWR | status)
}

/// The object of a descriptor; EINVAL for another kind of file.
pub fn of_file(file: &File) -> Result<&SignalFd> {
    file.ops_as::<SignalFd>().ok_or(Errno::EINVAL)
}

impl SignalFd {
    /// signalfd4(2) on a descriptor of this kind. SIGKILL and SIGSTOP are left out silently.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.without(SIGKILL).without(SIGSTOP).bits(), SeqCst);
    }

    fn mask(&self) -> SigSet {
        SigSet::from_bits(self.mask.load(SeqCst))
    }

    /// The first record, for which the read may sleep.
    fn first(&self, thread: &Thread, may_wait: bool) -> Result<SigInfo> {
        let take = || signal::take(thread, self.mask());
        if let Some(info) = take() {
            return Ok(info);
        }
        if !may_wait {
            return Err(Errno::EAGAIN);
        }
        let queue = thread.process().signalfd_queue();
        queue.wait_until(WaitMode::Interruptible, None, take).map_err(|_| Errno::ERESTARTSYS)
    }
}

impl Process {
    /// Where readers of signalfd wait for the process's signals. Made when first used.
    pub(crate) fn signalfd_queue(&self) -> &Arc<WaitQueue> {
        if self.signalfd.get().is_none() {
            let _ = self.signalfd.set(Arc::new(WaitQueue::new(&"signalfd_read")));
        }
        self.signalfd.get_expect()
    }

    /// A signal was queued: under the signal lock.
    pub(crate) fn wake_signalfd(&self) {
        if let Some(queue) = self.signalfd.get() {
            queue.wake(usize::MAX, PollEvents::READABLE.bits());
        }
    }
}

/// What a read shows of a signal. Source: signalfd(2); which fields count depends on signal and code, as in
/// sigaction(2).
fn record(info: &SigInfo) -> SignalfdSiginfo {
    let signal = info.signo as u32;
    let mut out = SignalfdSiginfo::new_zeroed();
    (out.signo, out.errno, out.code) = (signal, info.errno, info.code);
    match (signal, info.code) {
        (_, SI_TIMER) => {
            (out.tid, out.overrun) = (info.si_pid(), info.si_uid());
            (out.ptr, out.int) = (info.fields[1], info.fields[1] as i32);
        }
        (SIGILL | SIGFPE | SIGSEGV | SIGBUS | SIGTRAP, 1..SI_KERNEL) => out.addr = info.si_addr(),
        (SIGIO, POLL_IN..SI_KERNEL) => (out.band, out.fd) = (info.fields[0] as u32, info.fields[1] as i32),
        (SIGCHLD, 1..SI_KERNEL) => {
            (out.pid, out.uid, out.status) = (info.si_pid(), info.si_uid(), info.si_status());
            (out.utime, out.stime) = (info.fields[2], info.fields[3]);
        }
        _ => {
            (out.pid, out.uid) = (info.si_pid(), info.si_uid());
            if info.code <= SI_QUEUE {
                (out.ptr, out.int) = (info.fields[1], info.fields[1] as i32);
            }
        }
    }
    out
}

impl FileOps for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE
    }

    fn read(&self, file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if buf.remaining() < RECORD_BYTES {
            return Err(Errno::EINVAL);
        }
        let thread = Thread::current().ok_or(Errno::EAGAIN)?;
        let mut next = Some(self.first(&thread, !buf.nowait && !file.is_nonblocking())?);
        let mut done = 0;
        while let Some(info) = next.take() {
            // A record that only half arrives is gone with its signal, as on Linux.
            match buf.put(record(&info).as_bytes()) {
                Ok(RECORD_BYTES) => done += RECORD_BYTES,
                _ if done == 0 => return Err(Errno::EFAULT),
                _ => break,
            }
            if buf.remaining() >= RECORD_BYTES {
                next = signal::take(&thread, self.mask());
            }
        }
        thread.recalculate();
        Ok(done)
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let Some(thread) = Thread::current() else { return PollEvents::empty() };
        if let Some(table) = table {
            table.add(thread.process().signalfd_queue());
        }
        let pending = thread.pending_set() | thread.process().shared_pending();
        if (pending & self.mask()).is_empty() { PollEvents::empty() } else { PollEvents::READABLE }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "sigmask:\t{:016x}", self.mask().bits())
    }
}
