//! Pipes and FIFOs (pipe(7), fifo(7)).
//!
//! ```text
//!   write ----> [ slot | slot | slot | ..... free ..... ] ----> read
//!                 a slot: one page, bytes offset..offset+len
//! ```
//!
//! A pipe is a queue of up to 16 pages (F_SETPIPE_SZ changes that). A small write is put behind the last
//! one in the same page, a write of up to PIPE_BUF bytes never mixes with another. The counts that poll
//! looks at are atomics; the queue itself is under a lock that may be held while user memory faults in.

use crate::anon;
use crate::cred::Cred;
use crate::file::{File, FileOps, FileTraits, OpsRef};
use crate::inode::{InodeFlags, InodeRef, NewInode};
use crate::iobuf::IoBuf;
use crate::open::pseudo_file;
use crate::poll::PollTable;
use abi::fcntl::*;
use abi::fs::PIPE_BUF;
use abi::poll::PollEvents;
use abi::stat::S_IFIFO;
use abi::{Errno, errno::Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use arch::PAGE_SIZE;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use mem::{AllocFlags, Folio, user};
use sync::levels::PipeBuffer;
use task::{Mutex, WaitMode, WaitQueue};

/// Slots of a new pipe: 64 KiB.
const DEFAULT_SLOTS: usize = 16;
/// What an unprivileged F_SETPIPE_SZ may ask for (/proc/sys/fs/pipe-max-size).
static MAX_UNPRIVILEGED_SIZE: AtomicUsize = AtomicUsize::new(1 << 20);
const MAX_SLOTS: usize = 1 << 15;

/// What an unprivileged F_SETPIPE_SZ may ask for, in bytes.
pub fn max_size() -> usize {
    MAX_UNPRIVILEGED_SIZE.load(Ordering::Relaxed)
}

/// Sets it; rounded up to a size that a pipe can have. EINVAL for more than any.
pub fn set_max_size(bytes: usize) -> Result<()> {
    if bytes == 0 || bytes > MAX_SLOTS * PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    let slots = bytes.div_ceil(PAGE_SIZE).next_power_of_two();
    MAX_UNPRIVILEGED_SIZE.store(slots * PAGE_SIZE, Ordering::Relaxed);
    Ok(())
}

/// Bytes in a page, between writer and reader.
struct Slot {
    folio: Folio,
    offset: usize,
    len: usize,
    /// O_DIRECT: one write is one read.
    packet: bool,
    /// Another pipe has the page too (tee): nothing is added to it.
    shared: bool,
}

struct Queue {
    slots: VecDeque<Slot>,
    /// A page read empty, for the next write.
    spare: Option<Folio>,
}

/// The buffer and its two ends.
pub struct Pipe {
    queue: Mutex<Queue, PipeBuffer>,
    /// Slots in use and allowed: changed under the lock, looked at by poll without.
    used: AtomicUsize,
    limit: AtomicUsize,
    readers: AtomicU32,
    writers: AtomicU32,
    /// How often an end was opened: what an open FIFO waits for.
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
}

impl Pipe {
    fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            queue: Mutex::new(Queue { slots: VecDeque::new(), spare: None }),
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(DEFAULT_SLOTS),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            readable: Arc::new(WaitQueue::new(&"pipe_read")),
            writable: Arc::new(WaitQueue::new(&"pipe_write")),
        })
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    fn read(&self, buf: &mut IoBuf) -> Result<usize> {
        if buf.remaining() == 0 {
            return Ok(0);
        }
        let mut queue = self.queue.lock();
        let was_full = queue.slots.len() >= self.limit.load(Ordering::Relaxed);
        let mut result = Ok(());
        while let Some(slot) = queue.slots.front_mut() {
            let wanted = slot.len.min(buf.remaining());
            let moved = match buf.put_folio(&slot.folio, slot.offset, wanted) {
                Ok(moved) => moved,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            slot.offset += moved;
            slot.len -= moved;
            let packet = slot.packet;
            if slot.len == 0 || packet {
                queue.drop_front();
            }
            if moved < wanted || buf.remaining() == 0 || packet {
                break;
            }
        }
        let left = queue.slots.len();
        self.used.store(left, Ordering::SeqCst);
        // Asked under the lock: a writer may write and close while nobody holds it, and what it wrote comes before
        // the end. Without a writer now, nothing is put in before the lock is free.
        let ended = left == 0 && !self.has_writers();
        drop(queue);
        if was_full && left < self.limit.load(Ordering::Relaxed) {
            self.writable.wake(usize::MAX, PollEvents::WRITABLE.bits());
        }
        match result {
            Err(error) if buf.done() == 0 => Err(error),
            _ if buf.done() > 0 => Ok(buf.done()),
            _ if ended => Ok(0),
            _ => Err(Errno::EAGAIN),
        }
    }

    /// Puts what fits into the queue. EAGAIN when nothing does; EPIPE without readers.
    fn write(&self, buf: &mut IoBuf, packet: bool) -> Result<usize> {
        if !self.has_readers() {
            return Err(Errno::EPIPE);
        }
        if buf.remaining() == 0 {
            return Ok(0);
        }
        let before = buf.done();
        let mut queue = self.queue.lock();
        let result = self.fill(&mut queue, buf, packet);
        let used = queue.slots.len();
        self.used.store(used, Ordering::SeqCst);
        drop(queue);
        let moved = buf.done() - before;
        if moved > 0 {
            self.readable.wake(usize::MAX, PollEvents::READABLE.bits());
            return Ok(moved);
        }
        result.and(Err(Errno::EAGAIN))
    }

    fn fill(&self, queue: &mut Queue, buf: &mut IoBuf, packet: bool) -> Result<()> {
        // The odd bytes go behind the last write, if all of them fit there: so a write of up to PIPE_BUF
        // bytes is never split between two slots with another's in between.
        let odd = buf.remaining() % PAGE_SIZE;
        if odd > 0
            && !packet
            && let Some(last) = queue.slots.back_mut()
            && last.accepts(odd)
        {
            let moved = buf.take_folio(&last.folio, last.offset + last.len, odd)?;
            last.len += moved;
            if moved < odd {
                return Ok(());
            }
        }
        let limit = self.limit.load(Ordering::Relaxed);
        while buf.remaining() > 0 && queue.slots.len() < limit {
            let wanted = buf.remaining().min(PAGE_SIZE);
            let folio = queue.take_page()?;
            queue.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let moved = buf.take_folio(&folio, 0, wanted)?;
            queue.slots.push_back(Slot { folio, offset: 0, len: moved, packet, shared: false });
            if moved < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Bytes waiting (FIONREAD).
    fn waiting_bytes(&self) -> usize {
        self.queue.lock().slots.iter().map(|slot| slot.len).sum()
    }

    /// F_GETPIPE_SZ.
    pub fn capacity(&self) -> usize {
        self.limit.load(Ordering::Relaxed) * PAGE_SIZE
    }

    /// F_SETPIPE_SZ; the new size.
    pub fn set_capacity(&self, bytes: usize, privileged: bool) -> Result<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let slots = bytes.div_ceil(PAGE_SIZE).max(1).next_power_of_two();
        if slots * PAGE_SIZE > max_size() && !privileged {
            return Err(Errno::EPERM);
        }
        if slots > MAX_SLOTS {
            return Err(Errno::ENOMEM);
        }
        let queue = self.queue.lock();
        if queue.slots.len() > slots {
            return Err(Errno::EBUSY);
        }
        self.limit.store(slots, Ordering::SeqCst);
        drop(queue);
        self.writable.wake(usize::MAX, PollEvents::WRITABLE.bits());
        Ok(slots * PAGE_SIZE)
    }

    /// Puts what fits of a program's memory into the pipe, or takes what is there out to it: vmsplice(2). EAGAIN when that
    /// is nothing; as for writing and reading otherwise.
    pub(crate) fn put(&self, buf: &mut IoBuf) -> Result<usize> {
        self.write(buf, false)
    }

    /// See [`Pipe::put`].
    pub(crate) fn take(&self, buf: &mut IoBuf) -> Result<usize> {
        self.read(buf)
    }

    /// Takes up to `len` bytes out for splice(2), as kernel bytes; EAGAIN or end as for reading.
    pub(crate) fn take_bytes(&self, out: &mut [u8]) -> Result<usize> {
        self.read(&mut IoBuf::kernel_out(out))
    }

    /// Puts bytes back in front that splice(2) took and could not pass on.
    pub(crate) fn put_back(&self, bytes: &[u8]) -> Result<()> {
        let mut queue = self.queue.lock();
        for chunk in bytes.rchunks(PAGE_SIZE) {
            let folio = queue.take_page()?;
            folio.write(0, chunk);
            let slot = Slot { folio, offset: 0, len: chunk.len(), packet: false, shared: false };
            queue.slots.push_front(slot);
        }
        self.used.store(queue.slots.len(), Ordering::SeqCst);
        drop(queue);
        self.readable.wake(usize::MAX, PollEvents::READABLE.bits());
        Ok(())
    }

    /// tee(2): lets `to` see up to `len` bytes of this pipe too, without copying.
    pub(crate) fn tee(&self, to: &Pipe, len: usize) -> Result<usize> {
        if !to.has_readers() {
            return Err(Errno::EPIPE);
        }
        // Both locks, ordered by address.
        let (mut from_queue, mut to_queue);
        if core::ptr::from_ref(self) < core::ptr::from_ref(to) {
            from_queue = self.queue.lock();
            to_queue = to.queue.lock_nested();
        } else {
            to_queue = to.queue.lock();
            from_queue = self.queue.lock_nested();
        }
        let limit = to.limit.load(Ordering::Relaxed);
        let mut left = len;
        let mut full = false;
        for slot in from_queue.slots.iter_mut() {
            if left == 0 {
                break;
            }
            full = to_queue.slots.len() >= limit;
            if full || to_queue.slots.try_reserve(1).is_err() {
                break;
            }
            slot.shared = true;
            let part = slot.len.min(left);
            let copy = Slot { folio: slot.folio.clone(), len: part, shared: true, ..*slot };
            to_queue.slots.push_back(copy);
            left -= part;
        }
        to.used.store(to_queue.slots.len(), Ordering::SeqCst);
        let empty = from_queue.slots.is_empty();
        // Under the lock, as in `read`.
        let ended = empty && !self.has_writers();
        drop((from_queue, to_queue));
        if left < len {
            to.readable.wake(usize::MAX, PollEvents::READABLE.bits());
            return Ok(len - left);
        }
        match empty {
            true if ended => Ok(0),
            true => Err(Errno::EAGAIN),
            false if full => Err(Errno::EAGAIN),
            false => Err(Errno::ENOMEM),
        }
    }

    fn open_reader(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
        self.reader_opens.fetch_add(1, Ordering::SeqCst);
        self.writable.wake_all();
    }

    fn open_writer(&self) {
        self.writers.fetch_add(1, Ordering::SeqCst);
        self.writer_opens.fetch_add(1, Ordering::SeqCst);
        self.readable.wake_all();
    }

    fn close_reader(&self) {
        if self.readers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.writable.wake(usize::MAX, (PollEvents::WRITABLE | PollEvents::ERR).bits());
            self.empty_if_closed();
        }
    }

    fn close_writer(&self) {
        if self.writers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.readable.wake(usize::MAX, (PollEvents::READABLE | PollEvents::HUP).bits());
            self.empty_if_closed();
        }
    }

    /// A FIFO that nobody has open forgets what was in it.
    fn empty_if_closed(&self) {
        // The last reader and the last writer may go at once: one of them sees that both are gone.
        fence(Ordering::SeqCst);
        if self.has_readers() || self.has_writers() {
            return;
        }
        let mut queue = self.queue.lock();
        if !self.has_readers() && !self.has_writers() {
            let old = core::mem::take(&mut queue.slots);
            queue.spare = None;
            self.used.store(0, Ordering::SeqCst);
            drop(queue);
            drop(old);
        }
    }
}

impl Slot {
    /// Whether `len` more bytes may go behind this slot's.
    fn accepts(&self, len: usize) -> bool {
        !self.packet && !self.shared && self.offset + self.len + len <= PAGE_SIZE
    }
}

impl Queue {
    fn take_page(&mut self) -> Result<Folio> {
        match self.spare.take() {
            Some(folio) => Ok(folio),
            None => Ok(Folio::alloc(0, AllocFlags::USER)?),
        }
    }

    fn drop_front(&mut self) {
        if let Some(slot) = self.slots.pop_front()
            && !slot.shared
            && self.spare.is_none()
        {
            self.spare = Some(slot.folio);
        }
    }
}

/// One open end (or both: a FIFO opened for reading and writing).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
}

impl PipeEnd {
    /// Counts the ends that `flags` (O_ACCMODE) opens.
    fn open(pipe: &Arc<Pipe>, flags: u32) -> PipeEnd {
        let reads = matches!(flags & O_ACCMODE, O_RDONLY | O_RDWR);
        let writes = matches!(flags & O_ACCMODE, O_WRONLY | O_RDWR);
        if reads {
            pipe.open_reader();
        }
        if writes {
            pipe.open_writer();
        }
        PipeEnd { pipe: pipe.clone(), reads, writes }
    }

    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    #[cold]
    fn subscribe(&self, table: &mut PollTable) {
        if self.reads {
            table.add(&self.pipe.readable);
        }
        if self.writes {
            table.add(&self.pipe.writable);
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        if self.reads {
            self.pipe.close_reader();
        }
        if self.writes {
            self.pipe.close_writer();
        }
    }
}

impl FileOps for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::WRITE_ALL | FileTraits::POLLABLE | FileTraits::POLL_LOCKLESS
    }

    /// Half of what is in the pipe: it has two ends.
    fn held_bytes(&self, _file: &File) -> u64 {
        (self.pipe.used.load(Ordering::Relaxed) * arch::PAGE_SIZE / 2) as u64
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        self.pipe.read(buf)
    }

    fn write(&self, file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        self.pipe.write(buf, file.flags() & O_DIRECT != 0)
    }

    fn wait_queue(&self, _file: &File, events: PollEvents) -> Option<&WaitQueue> {
        Some(if events.contains(PollEvents::IN) { &self.pipe.readable } else { &self.pipe.writable })
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let pipe = &self.pipe;
        if let Some(table) = table {
            self.subscribe(table);
        }
        // Acquire is enough: who is about to sleep has announced it with a fence, or subscribed under a lock. Six
        // fences a descriptor were a third of polling 100 on riscv64 under emulation.
        let used = pipe.used.load(Ordering::Acquire);
        let mut events = PollEvents::empty();
        if self.reads {
            events.set(PollEvents::READABLE, used > 0);
            // A FIFO that never had a writer is not hung up.
            if !pipe.has_writers() && pipe.writer_opens.load(Ordering::Acquire) > 0 {
                events |= PollEvents::HUP;
            }
        }
        if self.writes {
            events.set(PollEvents::WRITABLE, used < pipe.limit.load(Ordering::Relaxed));
            events.set(PollEvents::ERR, !pipe.has_readers());
        }
        events
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes = i32::try_from(self.pipe.waiting_bytes()).unwrap_or(i32::MAX);
        user::write(argument, &bytes.to_ne_bytes()).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }
}

/// pipe2(2): the reading and the writing end. `flags`: O_NONBLOCK, O_DIRECT.
pub fn pipe(flags: u32, cred: &Cred) -> Result<(Arc<File>, Arc<File>)> {
    let pipe = Pipe::new();
    let sb = anon::pipe_sb();
    let mut new = NewInode::new(sb.next_ino(), S_IFIFO | 0o600);
    new.flags = InodeFlags::PSEUDO | InodeFlags::NO_ATIME;
    (new.uid, new.gid) = (cred.fsuid, cred.fsgid);
    let inode: InodeRef = new.build(sb, anon::AnonInode);
    let _ = inode.fifo.set(pipe.clone());
    let name = alloc::format!("pipe:[{}]", inode.ino);
    let status = flags & (O_NONBLOCK | O_DIRECT);
    let end = |access: u32| {
        let ops = OpsRef::shared(PipeEnd::open(&pipe, access));
        pseudo_file(name.as_bytes(), inode.clone(), ops, access | status)
    };
    Ok((end(O_RDONLY), end(O_WRONLY)))
}

/// Opens a FIFO: waits for the other end (fifo(7)). A pipe, opened once more through /proc/PID/fd, waits for nobody: its
/// other end was there, and may be gone for good.
pub(crate) fn open_fifo(inode: &InodeRef, flags: u32) -> Result<OpsRef> {
    if inode.fifo.get().is_none() {
        let _ = inode.fifo.set(Pipe::new());
    }
    let pipe = inode.fifo.get_expect();
    let nonblocking = flags & O_NONBLOCK != 0;
    let is_named = !inode.flags.contains(InodeFlags::PSEUDO);
    match flags & O_ACCMODE {
        O_RDONLY => {
            let seen = pipe.writer_opens.load(Ordering::SeqCst);
            let end = PipeEnd::open(pipe, flags);
            if is_named && !pipe.has_writers() && !nonblocking {
                wait_for_open(&pipe.readable, &pipe.writer_opens, seen)?;
            }
            Ok(OpsRef::shared(end))
        }
        O_WRONLY => {
            if is_named && nonblocking && !pipe.has_readers() {
                return Err(Errno::ENXIO);
            }
            let seen = pipe.reader_opens.load(Ordering::SeqCst);
            let end = PipeEnd::open(pipe, flags);
            if is_named && !pipe.has_readers() {
                wait_for_open(&pipe.writable, &pipe.reader_opens, seen)?;
            }
            Ok(OpsRef::shared(end))
        }
        O_RDWR => Ok(OpsRef::shared(PipeEnd::open(pipe, flags))),
        _ => Err(Errno::EINVAL),
    }
}

/// The other end may be gone again when we wake: the count of opens tells that it was there.
fn wait_for_open(queue: &WaitQueue, opens: &AtomicU32, seen: u32) -> Result<()> {
    let opened = || (opens.load(Ordering::SeqCst) != seen).then_some(());
    queue.wait_until(WaitMode::Interruptible, None, opened).map_err(|_| Errno::ERESTARTSYS)
}

/// The pipe behind a file, if it is an end of one.
pub fn of_file(file: &File) -> Option<&Arc<Pipe>> {
    file.ops_as::<PipeEnd>().map(|end| &end.pipe)
}

const _: () = assert!(PIPE_BUF == PAGE_SIZE, "atomic writes are one slot");
