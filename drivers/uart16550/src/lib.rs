//! The 16550 UART as a terminal, /dev/ttyS0.
//!
//! **Idea.** Output goes into a ring and from there into the device's FIFO, 16 bytes whenever it says
//! that the FIFO is empty; the transmit interrupt is on only while the ring holds something. Input goes
//! from the FIFO to `tty::SerialInput`; when that is full the receive interrupt is turned off and the
//! FIFO holds the sender back. Source: the PC16550D data sheet.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::stat::DevId;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use arch::devices::UartInfo;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use klog::pr_info;
use sync::levels::DriverIrq;
use sync::{Once, SpinLock};
use tty::{Hardware, SerialInput, Tty};

/// Receiver buffer and transmitter holding register.
const DATA: usize = 0;
const INTERRUPT_ENABLE: usize = 1;
const FIFO_CONTROL: usize = 2;
const LINE_CONTROL: usize = 3;
const MODEM_CONTROL: usize = 4;
const LINE_STATUS: usize = 5;

/// In the line control register: the first two registers are the divisor.
const DIVISOR_LATCH: u8 = 1 << 7;

const RECEIVED: u8 = 1;
const TRANSMIT_EMPTY: u8 = 1 << 5;
const BOTH_EMPTY: u8 = 1 << 6;

const ENABLE_RECEIVE: u8 = 1;
const ENABLE_TRANSMIT: u8 = 2;

const FIFO: usize = 16;
/// Bytes of output that wait for the device.
const RING: usize = 8192;

/// Major and minor number of ttyS0.
const TTY_S0: (u32, u32) = (4, 64);

struct Output {
    ring: VecDeque<u8>,
    /// The interrupt-enable register as last written.
    enabled: u8,
}

struct Uart {
    info: UartInfo,
    output: SpinLock<Output, DriverIrq>,
    input: Arc<SerialInput>,
    /// The receive interrupt is off because nobody takes the input.
    held: AtomicBool,
    tty: Once<Arc<Tty>>,
}

impl Uart {
    fn get(&self, register: usize) -> u8 {
        self.info.io.read8(register << self.info.reg_shift)
    }

    fn put(&self, register: usize, value: u8) {
        self.info.io.write8(register << self.info.reg_shift, value);
    }

    /// Moves output into the FIFO while that is empty; with the rest waiting, asks for an interrupt.
    fn transmit(&self, output: &mut Output) {
        while !output.ring.is_empty() && self.get(LINE_STATUS) & TRANSMIT_EMPTY != 0 {
            for _ in 0..FIFO {
                let Some(byte) = output.ring.pop_front() else { break };
                self.put(DATA, byte);
            }
        }
        let wanted =
            output.enabled & !ENABLE_TRANSMIT | if output.ring.is_empty() { 0 } else { ENABLE_TRANSMIT };
        self.enable(output, wanted);
    }

    fn enable(&self, output: &mut Output, mask: u8) {
        if output.enabled != mask {
            output.enabled = mask;
            self.put(INTERRUPT_ENABLE, mask);
        }
    }

    /// The interrupt handler; whether there was anything to do.
    fn interrupt(&self) -> bool {
        let received = self.get(LINE_STATUS) & RECEIVED != 0;
        if received && !self.input.fill(|| (self.get(LINE_STATUS) & RECEIVED != 0).then(|| self.get(DATA))) {
            let mut output = self.output.lock();
            self.held.store(true, Relaxed);
            let mask = output.enabled & !ENABLE_RECEIVE;
            self.enable(&mut output, mask);
        }
        let mut output = self.output.lock();
        let waiting = output.ring.len();
        self.transmit(&mut output);
        let sent = waiting - output.ring.len();
        drop(output);
        if sent > 0
            && let Some(tty) = self.tty.get()
        {
            tty.output_ready();
        }
        received || sent > 0
    }

    /// There is room for input again.
    fn emptied(&self) {
        if self.held.swap(false, Relaxed) {
            let mut output = self.output.lock();
            let mask = output.enabled | ENABLE_RECEIVE;
            self.enable(&mut output, mask);
        }
    }
}

impl Hardware for Uart {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut output = self.output.lock();
        let count = bytes.len().min(RING - output.ring.len());
        output.ring.extend(&bytes[..count]);
        self.transmit(&mut output);
        count
    }

    fn room(&self) -> usize {
        RING - self.output.lock().ring.len()
    }

    fn pending(&self) -> usize {
        let waiting = self.output.lock().ring.len();
        waiting + usize::from(self.get(LINE_STATUS) & BOTH_EMPTY == 0)
    }

    fn flush(&self) {
        self.output.lock().ring.clear();
    }

    fn input_wanted(&self) {
        self.input.resume();
    }
}

/// Finds the machine's serial port and makes it a terminal. `None` when there is no port or no memory.
/// Process context, once, at boot.
pub fn init() -> Option<Arc<Tty>> {
    let info = arch::platform::uart()?;
    let mut ring = VecDeque::new();
    ring.try_reserve_exact(RING).ok()?;
    let uart = Arc::new(Uart {
        info,
        output: SpinLock::new(Output { ring, enabled: 0 }),
        input: SerialInput::new(),
        held: AtomicBool::new(false),
        tty: Once::new(),
    });
    let tty = Tty::new("ttyS0".to_string(), DevId::new(TTY_S0.0, TTY_S0.1), uart.clone());
    let _ = uart.tty.set(tty.clone());

    uart.put(LINE_CONTROL, DIVISOR_LATCH);
    uart.put(DATA, 1); // the fastest: 115,200 baud with a PC's clock
    uart.put(INTERRUPT_ENABLE, 0); // the divisor's upper half
    uart.put(LINE_CONTROL, 0b11); // 8 bits, no parity, 1 stop bit
    // FIFOs on and empty, interrupt at 14 bytes, or when fewer wait for the time of four. QEMU hands over as many bytes
    // at once as are left to the interrupt: at a level of one, a program's input comes a byte an interrupt.
    uart.put(FIFO_CONTROL, 0b1100_0111);
    uart.put(MODEM_CONTROL, 0b1011); // DTR, RTS, and OUT2, which lets PC interrupts through

    let resumed = uart.clone();
    uart.input.start(&tty, move || resumed.emptied()).ok()?;
    let handler = uart.clone();
    if !irq::request(info.line, "ttyS0", Arc::new(move || handler.interrupt())) {
        return None;
    }
    uart.enable(&mut uart.output.lock(), ENABLE_RECEIVE);
    tty::register(tty.clone());
    pr_info!("ttyS0: 16550 at interrupt {}", info.line);
    Some(tty)
}
