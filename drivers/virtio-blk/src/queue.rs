//! One request queue: headers, the chain of a request, and what comes back.

use crate::config::Config;
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use block::{Op, Request};
use mem::DmaMemory;
use sync::SpinLock;
use sync::levels::DriverIrq;
use task::WaitQueue;
use virtio::{Buffer, Queue};

// Request types (VIRTIO 1.2, section 5.2.6).
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// What no device answers: it has not written the status.
const STATUS_NONE: u8 = 0xff;

/// The record of a tag in the header memory: header (type, priority, sector), range of a discard, status.
const RECORD: usize = 64;
const HEADER_LEN: u32 = 16;
const RANGE_AT: usize = 16;
const RANGE_LEN: u32 = 16;
const STATUS_AT: usize = 32;
const ID_AT: usize = 40;
const ID_LEN: usize = 20;

/// In the flags of a range to be zeroed.
const UNMAP: u32 = 1;

pub(crate) enum Answer {
    Started,
    Full,
    Failed(Errno),
}

struct Inner {
    queue: Queue,
    headers: DmaMemory,
    /// The chain that is being put together: room for the longest.
    chain: Vec<Buffer>,
}

pub(crate) struct RequestQueue {
    inner: SpinLock<Inner, DriverIrq>,
    depth: u16,
    /// The answer to `ask_serial`.
    probe: SpinLock<Option<Result<()>>, DriverIrq>,
    probe_wait: WaitQueue,
}

impl RequestQueue {
    pub(crate) fn new(queue: Queue) -> Result<RequestQueue> {
        let depth = queue.size();
        let headers = DmaMemory::alloc(usize::from(depth) * RECORD, false)?;
        let mut chain = Vec::new();
        chain.try_reserve_exact(256).map_err(|_| Errno::ENOMEM)?;
        Ok(RequestQueue {
            inner: SpinLock::new(Inner { queue, headers, chain }),
            depth,
            probe: SpinLock::new(None),
            probe_wait: WaitQueue::new(&"virtblk_get_id"),
        })
    }

    pub(crate) fn depth(&self) -> u16 {
        self.depth
    }

    /// Puts a request into the ring.
    pub(crate) fn start(&self, tag: u16, request: &Request, config: &Config) -> Answer {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let (kind, data_in) = match request.op() {
            Op::Read => (IN, true),
            Op::Write => (OUT, false),
            Op::Flush => (FLUSH, false),
            Op::Discard => (DISCARD, false),
            Op::WriteZeroes => (WRITE_ZEROES, false),
        };
        let sector = if request.op().has_data() { request.start() } else { 0 };
        inner.begin(tag, kind, request.prio().into(), sector);
        match request.op() {
            Op::Discard | Op::WriteZeroes => {
                let unmap = request.op() == Op::WriteZeroes && config.may_unmap;
                inner.push_range(tag, request.start(), request.sectors(), if unmap { UNMAP } else { 0 });
            }
            Op::Read | Op::Write => {
                for segment in request.segments() {
                    inner.push_data(segment.phys(), segment.len, data_in, config.limits.max_segment_bytes);
                }
            }
            Op::Flush => {}
        }
        inner.end(tag)
    }

    /// Tells the device.
    pub(crate) fn publish(&self) {
        self.inner.lock().queue.publish();
    }

    /// Takes requests out that are done; how many.
    pub(crate) fn take_done(&self, done: &mut [(u16, Result<()>)]) -> usize {
        let mut inner = self.inner.lock();
        let mut count = 0;
        while count < done.len()
            && let Some(used) = inner.queue.pop()
        {
            let status: u8 = inner.headers.read_val(usize::from(used.token) * RECORD + STATUS_AT);
            let result = match status {
                STATUS_OK => Ok(()),
                STATUS_UNSUPPORTED => Err(Errno::EOPNOTSUPP),
                _ => Err(Errno::EIO),
            };
            done[count] = (used.token, result);
            count += 1;
        }
        count
    }

    // ---- the serial number, before there is a disk ----

    /// Asks for it and waits. Process context.
    pub(crate) fn ask_serial(&self) -> Result<[u8; ID_LEN]> {
        let mut inner = self.inner.lock();
        inner.begin(0, GET_ID, 0, 0);
        let phys = inner.headers.phys() + ID_AT as u64;
        inner.push_data(phys, ID_LEN as u32, true, u32::MAX);
        if !matches!(inner.end(0), Answer::Started) {
            return Err(Errno::EIO);
        }
        inner.queue.publish();
        drop(inner);
        let answer = || self.probe.lock().take();
        /// A device that does not answer this does not keep the machine from starting.
        const PATIENCE_NS: u64 = 5_000_000_000;
        let deadline_ns = arch::timer::now_ns() + PATIENCE_NS;
        let waited = self.probe_wait.wait_until(task::WaitMode::Uninterruptible, Some(deadline_ns), answer);
        waited.map_err(|_| Errno::EIO)??;
        let mut id = [0; ID_LEN];
        self.inner.lock().headers.read(ID_AT, &mut id);
        Ok(id)
    }

    pub(crate) fn wake_probe(&self, result: Result<()>) {
        *self.probe.lock() = Some(result);
        self.probe_wait.wake_all();
    }
}

impl Inner {
    /// Begins a chain with the header.
    fn begin(&mut self, tag: u16, kind: u32, prio: u32, sector: u64) {
        let at = usize::from(tag) * RECORD;
        self.headers.write_val(at, &kind.to_le());
        self.headers.write_val(at + 4, &prio.to_le());
        self.headers.write_val(at + 8, &sector.to_le());
        self.headers.write_val(at + STATUS_AT, &STATUS_NONE);
        self.chain.clear();
        let phys = self.headers.phys() + at as u64;
        self.chain.push(Buffer { phys, len: HEADER_LEN, device_writes: false });
    }

    fn push_range(&mut self, tag: u16, start: u64, sectors: u32, flags: u32) {
        let at = usize::from(tag) * RECORD + RANGE_AT;
        self.headers.write_val(at, &start.to_le());
        self.headers.write_val(at + 8, &sectors.to_le());
        self.headers.write_val(at + 12, &flags.to_le());
        let phys = self.headers.phys() + at as u64;
        self.chain.push(Buffer { phys, len: RANGE_LEN, device_writes: false });
    }

    /// Adds a piece of data, joined to the one before if that ends where it begins.
    fn push_data(&mut self, mut phys: u64, mut len: u32, device_writes: bool, most: u32) {
        let first = self.chain.len() == 1;
        if let Some(last) = self.chain.last_mut()
            && !first
            && last.phys + u64::from(last.len) == phys
            && last.len.checked_add(len).is_some_and(|sum| sum <= most)
        {
            last.len += len;
            return;
        }
        while len > 0 && self.chain.len() < self.chain.capacity() {
            let part = len.min(most);
            self.chain.push(Buffer { phys, len: part, device_writes });
            (phys, len) = (phys + u64::from(part), len - part);
        }
    }

    /// Ends the chain with the status and puts it into the ring.
    fn end(&mut self, tag: u16) -> Answer {
        let phys = self.headers.phys() + (usize::from(tag) * RECORD + STATUS_AT) as u64;
        self.chain.push(Buffer { phys, len: 1, device_writes: true });
        match self.queue.add(tag, &self.chain) {
            Ok(()) => Answer::Started,
            // With nothing under way nobody would come back for it.
            Err(Errno::ENOSPC) if self.queue.free() < self.queue.size() => Answer::Full,
            Err(_) => Answer::Failed(Errno::EIO),
        }
    }
}
