//! The first serial port, written by polling: for the log, from the first instruction on.

use super::reg::{inb, outb};
use crate::BootInfo;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

pub const COM1: u16 = 0x3f8;
pub const COM1_LINE: u32 = 4;
const FIFO_CONTROL: u16 = COM1 + 2;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;
const SCRATCH: u16 = COM1 + 7;
const THR_EMPTY: u8 = 1 << 5;
const FIFO_BYTES: usize = 16;

static PRESENT: AtomicBool = AtomicBool::new(false);

/// Whether there is a serial port.
pub fn present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// Sets the port up: 115200 baud, 8N1, FIFOs on, interrupts off. Called again by the kernel it does nothing
/// new.
pub fn early_init(_info: &BootInfo) {
    init();
}

pub(super) fn init() {
    // SAFETY: 1. the ports are those of the serial port, or of nothing.
    unsafe {
        outb(SCRATCH, 0xa5);
        if inb(SCRATCH) != 0xa5 {
            return;
        }
        outb(COM1 + 1, 0);
        outb(LINE_CONTROL, 0x80);
        outb(COM1, 1);
        outb(COM1 + 1, 0);
        outb(LINE_CONTROL, 3);
        outb(FIFO_CONTROL, 7);
        outb(MODEM_CONTROL, 0x0b);
    }
    PRESENT.store(true, Ordering::Relaxed);
}

/// Writes bytes as they are; returns when they are in the port's FIFO. Any context.
pub fn early_write(bytes: &[u8]) {
    if !present() {
        return;
    }
    for chunk in bytes.chunks(FIFO_BYTES) {
        wait_empty();
        for byte in chunk {
            // SAFETY: 1. the transmit register of the serial port, whose FIFO has room.
            unsafe { outb(COM1, *byte) };
        }
    }
}

/// Waits until the FIFO is empty, but not for ever on a port whose other end is stuck.
fn wait_empty() {
    for _ in 0..100_000 {
        // SAFETY: 1. the status register of the serial port.
        if unsafe { inb(LINE_STATUS) } & THR_EMPTY != 0 {
            return;
        }
        super::cpu::relax();
    }
}

/// For `write!` before there is a log.
pub(super) struct Early;

impl fmt::Write for Early {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        early_write(text.as_bytes());
        Ok(())
    }
}
