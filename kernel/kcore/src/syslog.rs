//! Readers of the kernel's log: what /dev/kmsg, /proc/kmsg and syslog(2) share.
//!
//! **Problem.** A line is logged anywhere, under any lock; somebody may sleep until one comes. Waking a task takes
//! run-queue locks, which the one who logs may hold.
//!
//! **Interface.** [`queue`] and [`has_after`] for readers that keep a place of their own (/dev/kmsg); [`read`],
//! [`unread`] and [`is_unread`] for the one place that syslog(2) and /proc/kmsg share, where each line is read once;
//! [`line`] is how they show a record.
//!
//! **Idea.** Readers say that they wait; only then does the next line raise a softirq, by an interrupt that the CPU
//! sends itself. The softirq wakes them.

use crate::Result;
use abi::Errno;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};
use irq::softirq::{self, Vector};
use klog::{LINE_MAX, Record};
use sync::Once;
use sync::levels::KernelText;
use task::{Mutex, WaitMode, WaitQueue};
use vfs::IoBuf;

static QUEUE: Once<Arc<WaitQueue>> = Once::new();
/// Somebody is about to wait.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Where a reader is: the record, and how many bytes of its line were read.
#[derive(Clone, Copy)]
struct Place {
    sequence: u64,
    partial: usize,
}

/// The shared place. Held while lines are copied out.
static PLACE: Mutex<Place, KernelText> = Mutex::new(Place { sequence: 0, partial: 0 });
/// Its record, for looking without the lock, which may be slept for.
static UNREAD: AtomicU64 = AtomicU64::new(0);

/// Lets readers be woken. Boot, once.
pub fn init() {
    let _ = QUEUE.set(Arc::new(WaitQueue::new(&"do_syslog")));
    softirq::open(Vector::Tasklet, || queue().wake_all());
    klog::set_wake(|| {
        if WANTED.swap(false, SeqCst) {
            softirq::raise_by_interrupt(Vector::Tasklet);
        }
    });
}

/// Woken when a record comes, if [`has_after`] or [`is_unread`] found none before.
pub fn queue() -> &'static Arc<WaitQueue> {
    QUEUE.get_expect()
}

/// Whether there is a record of at least this number; when not, its coming wakes the queue.
pub fn has_after(sequence: u64) -> bool {
    let is_there = || klog::bounds().1 > sequence;
    // Said before the second look: what is logged in between is either seen or wakes.
    is_there() || {
        WANTED.store(true, SeqCst);
        is_there()
    }
}

/// A record as syslog(2) gives it: `<6>[    1.234567] text`.
pub fn line(record: &Record, text: &[u8; LINE_MAX]) -> String {
    let (seconds, micros) = (record.time_ns / 1_000_000_000, record.time_ns / 1000 % 1_000_000);
    let text = String::from_utf8_lossy(&text[..record.len]);
    format!("<{}>[{seconds:5}.{micros:06}] {text}\n", record.prefix)
}

impl Place {
    /// The next record and its line without what was read.
    fn next(&mut self, text: &mut [u8; LINE_MAX]) -> Option<String> {
        let record = klog::read_after(self.sequence, text)?;
        if record.sequence != self.sequence {
            // The ring went over what was not read.
            *self = Place { sequence: record.sequence, partial: 0 };
        }
        let mut line = line(&record, text).into_bytes();
        line.drain(..self.partial.min(line.len()));
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

/// Whether the shared place has something to read; when not, its coming wakes the queue.
/// Does not sleep.
pub fn is_unread() -> bool {
    has_after(UNREAD.load(SeqCst))
}

/// Bytes that [`read`] would give.
pub fn unread() -> usize {
    let mut place = *PLACE.lock();
    let mut text = [0; LINE_MAX];
    let mut sum = 0;
    while let Some(line) = place.next(&mut text) {
        sum += line.len();
        place = Place { sequence: place.sequence + 1, partial: 0 };
    }
    sum
}

/// Reads on at the shared place. EAGAIN when there is nothing; then a record that comes wakes the queue.
pub fn read(buf: &mut IoBuf) -> Result<usize> {
    let mut place = PLACE.lock();
    let mut text = [0; LINE_MAX];
    while buf.remaining() > 0 {
        let Some(line) = place.next(&mut text) else {
            if buf.done() > 0 {
                break;
            }
            if has_after(place.sequence) {
                continue;
            }
            return Err(Errno::EAGAIN);
        };
        match buf.put(line.as_bytes()) {
            Ok(count) if count == line.len() => {
                *place = Place { sequence: place.sequence + 1, partial: 0 };
                UNREAD.store(place.sequence, SeqCst);
            }
            Ok(count) => place.partial += count,
            Err(errno) if buf.done() == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(buf.done())
}

/// [`read`] that waits. EINTR's kin when a signal comes.
pub fn read_waiting(buf: &mut IoBuf) -> Result<usize> {
    loop {
        match read(buf) {
            Err(Errno::EAGAIN) => {}
            answer => return answer,
        }
        let ready = || is_unread().then_some(());
        queue().wait_until(WaitMode::Interruptible, None, ready).map_err(|_| Errno::ERESTARTSYS)?;
    }
}
