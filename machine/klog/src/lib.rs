//! printk: the kernel's log.
//!
//! **Problem.** Any context, interrupt handlers and the panic path included, must be able to leave a
//! line that a person finds later.
//!
//! **Interface.** [`pr_err!`], [`pr_warn!`], [`pr_info!`], [`pr_debug!`] and [`printk!`] with a level.
//! Readers ([`read_after`], for /dev/kmsg and syslog(2)) go by sequence number and see records that
//! were overwritten as a gap. [`set_console`] says where lines at or below the console level go.
//!
//! **Idea.** A static byte ring of records under one spin lock, no allocation: the log works before the
//! heap and after it is gone. The writer formats into a small buffer on its stack first, so that
//! formatting code never runs under the lock.

#![no_std]
#![forbid(unsafe_code)]

mod ring;

pub use ring::{RING_BYTES, Record};

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use ring::Ring;
use sync::levels::{Console, Log};
use sync::{Once, SpinLock};

/// Severity, as in syslog(3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    Emerg = 0,
    Alert = 1,
    Crit = 2,
    Err = 3,
    Warn = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl Level {
    /// The level of a number 0 to 7; larger ones are Debug.
    pub fn from_number(number: u8) -> Level {
        [Level::Emerg, Level::Alert, Level::Crit, Level::Err, Level::Warn, Level::Notice, Level::Info]
            .get(usize::from(number))
            .copied()
            .unwrap_or(Level::Debug)
    }
}

/// The longest line; the rest is cut.
pub const LINE_MAX: usize = 400;

static RING: SpinLock<Ring, Log> = SpinLock::new(Ring::new());
/// Serialises whole lines on the console.
static CONSOLE: SpinLock<(), Console> = SpinLock::new(());
/// Lines of a lower number than this are shown on the console.
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(7);
static WAKE: Once<fn()> = Once::new();
/// Set by the panic path: print without taking locks that a stopped CPU may hold.
static PANICKING: AtomicBool = AtomicBool::new(false);
static CLEARED: AtomicUsize = AtomicUsize::new(0);

/// The console level (`loglevel=`, `quiet`, syslog(2) action 8): lines with a smaller number are shown.
pub fn set_console_level(level: u8) {
    CONSOLE_LEVEL.store(level.clamp(1, 8), Ordering::Relaxed);
}

pub fn console_level() -> u8 {
    CONSOLE_LEVEL.load(Ordering::Relaxed)
}

/// Installs what wakes readers that wait for the next record. Called in the writer's context, which may be an
/// interrupt handler and hold any lock: it must neither sleep nor take one.
pub fn set_wake(wake: fn()) {
    let _ = WAKE.set(wake);
}

/// From here on lines go out whatever locks are held: the machine is panicking.
pub fn enter_panic() {
    PANICKING.store(true, Ordering::SeqCst);
    set_console_level(8);
}

struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_MAX - self.len;
        // Cut at a character boundary, so that readers get valid UTF-8.
        let take = (0..=text.len().min(room)).rev().find(|&n| text.is_char_boundary(n)).unwrap_or(0);
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// Adds a line to the log and shows it on the console when its level says so. Any context.
pub fn log(level: Level, args: fmt::Arguments) {
    let mut line = Line { bytes: [0; LINE_MAX], len: 0 };
    let _ = line.write_fmt(args);
    while line.len > 0 && line.bytes[line.len - 1] == b'\n' {
        line.len -= 1;
    }
    store(level as u8, &line.bytes[..line.len]);
}

/// A line that a program wrote to /dev/kmsg: `prefix` is a level plus eight times a facility (syslog(3)). What is
/// longer than [`LINE_MAX`] is cut.
pub fn log_user(prefix: u8, text: &[u8]) {
    store(prefix, &text[..text.len().min(LINE_MAX)]);
}

fn store(prefix: u8, text: &[u8]) {
    let time_ns = arch::timer::now_ns();
    if PANICKING.load(Ordering::Relaxed) {
        if let Some(mut ring) = RING.try_lock() {
            ring.push(prefix, time_ns, text);
        }
        show(time_ns, text);
        return;
    }
    RING.lock().push(prefix, time_ns, text);
    if prefix & 7 < console_level() {
        let _line = CONSOLE.lock();
        show(time_ns, text);
    }
    if let Some(wake) = WAKE.get() {
        wake();
    }
}

/// Prints "[    1.234567] text" on the console.
fn show(time_ns: u64, text: &[u8]) {
    let mut head = Line { bytes: [0; LINE_MAX], len: 0 };
    let _ = write!(head, "[{:5}.{:06}] ", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
    arch::console::early_write(&head.bytes[..head.len]);
    arch::console::early_write(text);
    arch::console::early_write(b"\r\n");
}

/// The first record with a sequence number of at least `sequence`. Its text is copied into `buffer`
/// (cut when too short). `None` when there is none yet.
pub fn read_after(sequence: u64, buffer: &mut [u8]) -> Option<Record> {
    RING.lock().read(sequence, buffer)
}

/// The sequence numbers of the oldest record kept and of the next one to come.
pub fn bounds() -> (u64, u64) {
    let ring = RING.lock();
    (ring.first_sequence(), ring.next_sequence())
}

/// syslog(2) action 5: readers of "all" start after what is there now.
pub fn clear() {
    CLEARED.store(RING.lock().next_sequence() as usize, Ordering::Relaxed);
}

/// Where syslog(2) action 3 starts.
pub fn cleared() -> u64 {
    CLEARED.load(Ordering::Relaxed) as u64
}

/// Logs at a [`Level`].
#[macro_export]
macro_rules! printk {
    ($level:expr, $($arg:tt)*) => { $crate::log($level, core::format_args!($($arg)*)) };
}

#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => { $crate::log($crate::Level::Err, core::format_args!($($arg)*)) };
}

#[macro_export]
macro_rules! pr_warn {
    ($($arg:tt)*) => { $crate::log($crate::Level::Warn, core::format_args!($($arg)*)) };
}

#[macro_export]
macro_rules! pr_info {
    ($($arg:tt)*) => { $crate::log($crate::Level::Info, core::format_args!($($arg)*)) };
}

#[macro_export]
macro_rules! pr_debug {
    ($($arg:tt)*) => { $crate::log($crate::Level::Debug, core::format_args!($($arg)*)) };
}
