//! /dev/kmsg: the kernel's log, a record a read, and a way to add to it (Linux's Documentation/ABI/testing/dev-kmsg).
//!
//! A reader has a place of its own: the number of the next record. What the ring went over before it was read is told
//! by EPIPE, once.

use abi::fcntl::{SEEK_DATA, SEEK_END, SEEK_SET};
use abi::poll::PollEvents;
use abi::{Errno, errno::Result};
use core::any::Any;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kcore::syslog;
use klog::{LINE_MAX, Record};
use task::WaitQueue;
use vfs::{File, FileOps, FileTraits, IoBuf, PollTable};

/// An open /dev/kmsg.
pub(crate) struct OpenLog {
    /// The record to read next. Changed with the file's position locked.
    next: AtomicU64,
}

impl OpenLog {
    pub fn new() -> OpenLog {
        OpenLog { next: AtomicU64::new(klog::bounds().0) }
    }
}

/// Room for the longest record: each byte may become `\xHH`.
const ROOM: usize = 64 + 4 * LINE_MAX;

struct Shown {
    bytes: [u8; ROOM],
    len: usize,
}

impl Write for Shown {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// `level,number,microseconds,-;text`, control characters and backslashes as `\xHH`.
fn show(record: &Record, text: &[u8], out: &mut Shown) -> fmt::Result {
    write!(out, "{},{},{},-;", record.prefix, record.sequence, record.time_ns / 1000)?;
    for &byte in text {
        match byte {
            b'\\' | 0..0x20 | 0x7f.. => write!(out, "\\x{byte:02x}")?,
            _ => out.write_char(char::from(byte))?,
        }
    }
    out.write_char('\n')
}

/// The level and facility that a line begins with, as `<12>`; without one the facility is the users' and the level a
/// warning, and no program speaks as the kernel (facility 0).
fn split_prefix(text: &[u8]) -> (u8, &[u8]) {
    const USER: u8 = 1 << 3;
    const DEFAULT_LEVEL: u8 = 4;
    let parse = || {
        let digits = text.strip_prefix(b"<")?;
        let end = digits.iter().position(|byte| *byte == b'>')?;
        let number: u32 = core::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
        Some((number as u8, &digits[end + 1..]))
    };
    match parse() {
        Some((number, rest)) if number >> 3 == 0 => (USER | number, rest),
        Some((number, rest)) => (number, rest),
        None => (USER | DEFAULT_LEVEL, text),
    }
}

impl FileOps for OpenLog {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::POLLABLE
    }

    /// EPIPE when records were lost, EINVAL when the next one does not fit.
    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let wanted = self.next.load(Relaxed);
        let mut text = [0; LINE_MAX];
        if !syslog::has_after(wanted) {
            return Err(Errno::EAGAIN);
        }
        let record = klog::read_after(wanted, &mut text).ok_or(Errno::EAGAIN)?;
        self.next.store(record.sequence, Relaxed);
        if record.sequence != wanted {
            return Err(Errno::EPIPE);
        }
        let mut shown = Shown { bytes: [0; ROOM], len: 0 };
        show(&record, &text[..record.len], &mut shown).map_err(|_| Errno::EINVAL)?;
        if shown.len > buf.remaining() {
            return Err(Errno::EINVAL);
        }
        self.next.store(wanted + 1, Relaxed);
        buf.put(&shown.bytes[..shown.len])
    }

    fn write(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        /// Linux's PRINTKRB_RECORD_MAX.
        const LONGEST: usize = 1024;
        let len = buf.remaining();
        if len > LONGEST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; LONGEST];
        let taken = buf.take(&mut bytes[..len])?;
        let (prefix, text) = split_prefix(&bytes[..taken]);
        klog::log_user(prefix, text.strip_suffix(b"\n").unwrap_or(text));
        Ok(taken)
    }

    fn wait_queue(&self, _file: &File, _events: PollEvents) -> Option<&WaitQueue> {
        Some(syslog::queue())
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(syslog::queue());
        }
        let next = self.next.load(Relaxed);
        if !syslog::has_after(next) {
            return PollEvents::empty();
        }
        let lost =
            if klog::bounds().0 > next { PollEvents::ERR | PollEvents::PRI } else { PollEvents::empty() };
        PollEvents::READABLE | lost
    }

    /// SEEK_SET: the oldest record; SEEK_DATA: the first after the last clear; SEEK_END: those to come.
    fn seek(&self, _file: &File, _pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        if offset != 0 {
            return Err(Errno::ESPIPE);
        }
        let (first, end) = klog::bounds();
        let place = match whence {
            SEEK_SET => first,
            SEEK_DATA => klog::cleared().max(first),
            SEEK_END => end,
            _ => return Err(Errno::EINVAL),
        };
        self.next.store(place, Relaxed);
        Ok(0)
    }
}
