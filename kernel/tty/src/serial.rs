//! The way from a serial port's interrupt handler to its terminal.
//!
//! The handler only puts bytes into a ring: what they lead to (echo, signals, wake-ups of whole
//! sessions) takes locks of process context, so a kernel thread does it. When the terminal has no room
//! the ring fills, the handler leaves bytes in the device, and the sender is held back by the hardware.

use crate::tty::Tty;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use sync::SpinLock;
use sync::levels::TerminalInput;
use task::{NewTask, WaitMode, WaitQueue};

/// Bytes between the interrupt and the thread.
const RING: usize = 4096;

/// A serial port's input.
pub struct SerialInput {
    ring: SpinLock<VecDeque<u8>, TerminalInput>,
    thread: WaitQueue,
}

impl SerialInput {
    /// Makes the ring. Process context.
    pub fn new() -> Arc<SerialInput> {
        let ring = VecDeque::with_capacity(RING);
        Arc::new(SerialInput { ring: SpinLock::new(ring), thread: WaitQueue::new(&"serial_input") })
    }

    /// Fills the ring from the device as far as there is room; from the interrupt handler. Returns
    /// whether room was left.
    pub fn fill(&self, mut next: impl FnMut() -> Option<u8>) -> bool {
        let mut ring = self.ring.lock();
        let mut any = false;
        let left = loop {
            if ring.len() >= RING {
                break false;
            }
            match next() {
                Some(byte) => {
                    ring.push_back(byte);
                    any = true;
                }
                None => break true,
            }
        };
        drop(ring);
        if any {
            self.thread.wake_all();
        }
        left
    }

    /// The terminal takes input again.
    pub fn resume(&self) {
        self.thread.wake_all();
    }

    /// Starts the thread that feeds `tty`. `emptied` is called when the ring has room again.
    pub fn start(
        self: &Arc<Self>,
        tty: &Arc<Tty>,
        emptied: impl Fn() + Send + 'static,
    ) -> Result<(), mem::OutOfMemory> {
        let (input, tty) = (self.clone(), tty.clone());
        let name = format!("kworker/{}", tty.name);
        NewTask::kernel(name, move || input.feed(&tty, &emptied)).spawn().map(drop)
    }

    fn feed(&self, tty: &Tty, emptied: &dyn Fn()) {
        let mut piece = [0; 256];
        // Bytes of the ring that the terminal had no room for when it was last asked.
        let mut refused = 0;
        loop {
            let ready = || {
                let waiting = self.ring.lock().len();
                (waiting > refused || waiting > 0 && tty.has_room()).then_some(())
            };
            if self.thread.wait_until(WaitMode::Idle, None, ready).is_err() {
                continue;
            }
            let len = {
                let ring = self.ring.lock();
                let len = ring.len().min(piece.len());
                piece.iter_mut().zip(ring.iter()).for_each(|(slot, byte)| *slot = *byte);
                len
            };
            let taken = tty.input(&piece[..len]);
            self.ring.lock().drain(..taken);
            refused = if taken < len { self.ring.lock().len() } else { 0 };
            emptied();
        }
    }
}
