//! eventfd(2): a counter that can be waited for.

use crate::anon;
use crate::file::{File, FileOps, FileTraits, OpsRef};
use crate::iobuf::IoBuf;
use crate::poll::PollTable;
use abi::fcntl::O_RDWR;
use abi::poll::{EFD_NONBLOCK, EFD_SEMAPHORE, PollEvents};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use task::{WaitMode, WaitQueue};

/// The largest count; one more would be the value that a write refuses.
const MAX: u64 = u64::MAX - 1;

struct EventFd {
    count: AtomicU64,
    semaphore: bool,
    queue: Arc<WaitQueue>,
}

impl EventFd {
    /// Adds to the count; waits for room here, because how much room is needed only the write knows.
    fn add(&self, value: u64, may_wait: bool) -> Result<()> {
        let add = |count: u64| count.checked_add(value).filter(|sum| *sum <= MAX);
        let attempt = || self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).ok().map(drop);
        match attempt() {
            Some(()) => Ok(()),
            None if !may_wait => Err(Errno::EAGAIN),
            None => {
                let result = self.queue.wait_until(WaitMode::Interruptible, None, attempt);
                result.map_err(|_| Errno::ERESTARTSYS)
            }
        }
    }
}

impl FileOps for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE | FileTraits::POLL_LOCKLESS
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if buf.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let take = |count: u64| match count {
            0 => None,
            _ if self.semaphore => Some(count - 1),
            _ => Some(0),
        };
        let count = self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        let count = count.map_err(|_| Errno::EAGAIN)?;
        self.queue.wake(usize::MAX, PollEvents::WRITABLE.bits());
        let value = if self.semaphore { 1 } else { count };
        buf.put(&value.to_ne_bytes())
    }

    fn write(&self, file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if buf.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        if buf.take(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        self.add(value, !buf.nowait && !file.is_nonblocking())?;
        self.queue.wake(usize::MAX, PollEvents::READABLE.bits());
        Ok(8)
    }

    fn wait_queue(&self, _file: &File, _events: PollEvents) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.queue);
        }
        let count = self.count.load(Ordering::Acquire);
        let mut events = PollEvents::empty();
        events.set(PollEvents::IN, count > 0);
        events.set(PollEvents::OUT, count < MAX);
        events
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "eventfd-count: {:16x}", self.count.load(Ordering::Relaxed))?;
        writeln!(out, "eventfd-semaphore: {}", u32::from(self.semaphore))
    }
}

/// eventfd2(2); `flags` checked by the caller.
pub fn eventfd(initial: u32, flags: u32) -> Arc<File> {
    let event = EventFd {
        count: AtomicU64::new(u64::from(initial)),
        semaphore: flags & EFD_SEMAPHORE != 0,
        queue: Arc::new(WaitQueue::new(&"eventfd_read")),
    };
    anon::file("[eventfd]", OpsRef::shared(event), O_RDWR | flags & EFD_NONBLOCK)
}
