//! Output for the time before the terminal driver, and for panics: polled, without locks.

use super::io::IoRegion;
use super::{platform, sbi};
use crate::bootinfo::BootInfo;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The serial port's address; 0: the firmware prints.
static BASE: AtomicUsize = AtomicUsize::new(0);
static SHIFT: AtomicUsize = AtomicUsize::new(0);

const DATA: usize = 0;
const LINE_STATUS: usize = 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// A port that does not get ready in this many looks is given up for the byte.
const PATIENCE: usize = 100_000;

/// From here on the serial port is written to directly.
pub fn early_init(_info: &BootInfo) {
    if let Some(uart) = platform::uart().filter(|uart| uart.io.len() > LINE_STATUS << uart.reg_shift) {
        SHIFT.store(uart.reg_shift as usize, Ordering::Relaxed);
        BASE.store(uart.io.address(), Ordering::Release);
    }
}

/// Writes bytes, waiting for the port. Any context.
pub fn early_write(bytes: &[u8]) {
    let base = BASE.load(Ordering::Acquire);
    if base == 0 {
        return bytes.iter().for_each(|&byte| sbi::putchar(byte));
    }
    let shift = SHIFT.load(Ordering::Relaxed);
    // SAFETY: 1. `early_init` stored the address of a mapped port of at least this length.
    let io = unsafe { IoRegion::mmio(crate::VirtAddr(base), (LINE_STATUS << shift) + 1) };
    for &byte in bytes {
        let ready = |_: &usize| io.read8(LINE_STATUS << shift) & TRANSMITTER_EMPTY != 0;
        let _ = (0..PATIENCE).find(ready);
        io.write8(DATA, byte);
    }
}

/// Formatted early output.
pub(super) struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        early_write(text.as_bytes());
        Ok(())
    }
}
