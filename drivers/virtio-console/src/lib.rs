//! The virtio console as a terminal, /dev/hvc0.
//!
//! **Problem.** A machine may have one serial port only; a second line to the outside needs a device that every machine
//! can have. **Interface.** [`init`] makes a terminal of each console device. **Idea.** Two queues of buffers of
//! [`PIECE`] bytes: the device fills those of the first, the driver those of the second. Input that the terminal has no
//! room for stays in its buffer, so the device runs out of buffers and holds the sender back. Several ports on one
//! device are not asked for. Source: VIRTIO 1.2, section 5.3.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::Errno;
use abi::errno::Result;
use abi::stat::DevId;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use klog::{pr_info, pr_warn};
use mem::DmaMemory;
use sync::levels::DriverIrq;
use sync::{Once, SpinLock};
use tty::{Hardware, SerialInput, Tty};
use virtio::{Buffer, Device, Queue, kind};

/// Bytes of a buffer, and buffers of a queue.
const PIECE: usize = 256;
const PIECES: u16 = 16;

/// Linux's number of hvc0.
const MAJOR: u32 = 229;

/// A queue and the memory of its buffers; a buffer's number is its token.
struct Line {
    queue: Queue,
    memory: DmaMemory,
    /// Buffers that the device does not have (of output).
    free: Vec<u16>,
    /// Bytes of output that the device has.
    under_way: usize,
    /// Lengths of those.
    lens: [usize; PIECES as usize],
}

impl Line {
    fn new(device: &mut Device, number: u16) -> Result<Line> {
        let queue = device.make_queue(number, PIECES, 1)?;
        let memory = DmaMemory::alloc(PIECE * usize::from(PIECES), false)?;
        let mut free = Vec::new();
        free.try_reserve_exact(PIECES.into()).map_err(|_| Errno::ENOMEM)?;
        free.extend(0..queue.size().min(PIECES));
        Ok(Line { queue, memory, free, under_way: 0, lens: [0; PIECES as usize] })
    }

    fn buffer(&self, token: u16, len: usize, device_writes: bool) -> Buffer {
        let phys = self.memory.phys() + u64::from(token) * PIECE as u64;
        Buffer { phys, len: len as u32, device_writes }
    }

    /// Gives the device a buffer to fill.
    fn offer(&mut self, token: u16) {
        let buffer = self.buffer(token, PIECE, true);
        // It fails when the device has broken the rules: then nothing comes any more.
        let _ = self.queue.add(token, &[buffer]);
    }
}

/// What came in one buffer.
struct Piece {
    bytes: [u8; PIECE],
    at: usize,
    len: usize,
}

/// Input: who moves it, and what was left over.
struct Input {
    line: Line,
    /// Somebody moves bytes; who comes meanwhile says so and leaves.
    busy: bool,
    again: bool,
    left: Option<Piece>,
}

struct Port {
    output: SpinLock<Line, DriverIrq>,
    received: SpinLock<Input, DriverIrq>,
    input: Arc<SerialInput>,
    tty: Once<Arc<Tty>>,
    /// Never looked at again, and never given up.
    _device: Once<Device>,
}

impl Input {
    /// What was left over, or the next buffer, which the device gets back at once.
    fn next(&mut self) -> Option<Piece> {
        if let Some(left) = self.left.take() {
            return Some(left);
        }
        let used = self.line.queue.pop()?;
        let mut piece = Piece { bytes: [0; PIECE], at: 0, len: (used.len as usize).min(PIECE) };
        self.line.memory.read(usize::from(used.token) * PIECE, &mut piece.bytes);
        self.line.offer(used.token);
        self.line.queue.publish();
        Some(piece)
    }
}

impl Port {
    /// Moves input to the terminal until there is none or no room. Interrupt handler, or the terminal's thread.
    fn receive(&self) {
        {
            let mut received = self.received.lock();
            if received.busy {
                received.again = true;
                return;
            }
            received.busy = true;
        }
        loop {
            let mut piece = {
                let mut received = self.received.lock();
                received.again = false;
                let Some(piece) = received.next() else {
                    received.busy = false;
                    return;
                };
                piece
            };
            self.input.fill(|| {
                let byte = piece.bytes[..piece.len].get(piece.at).copied();
                piece.at += 1;
                byte
            });
            if piece.at < piece.len {
                let mut received = self.received.lock();
                received.left = Some(piece);
                if !received.again {
                    received.busy = false;
                    return;
                }
            }
        }
    }

    /// Output buffers came back.
    fn sent(&self) -> bool {
        let mut output = self.output.lock();
        let mut any = false;
        while let Some(used) = output.queue.pop() {
            let token = used.token;
            output.under_way -= core::mem::take(&mut output.lens[usize::from(token)]);
            output.free.push(token);
            any = true;
        }
        drop(output);
        if any && let Some(tty) = self.tty.get() {
            tty.output_ready();
        }
        any
    }
}

impl Hardware for Port {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut output = self.output.lock();
        let mut done = 0;
        for piece in bytes.chunks(PIECE) {
            let Some(token) = output.free.pop() else { break };
            for (at, byte) in piece.iter().enumerate() {
                output.memory.write_val(usize::from(token) * PIECE + at, byte);
            }
            let buffer = output.buffer(token, piece.len(), false);
            if output.queue.add(token, &[buffer]).is_err() {
                output.free.push(token);
                break;
            }
            output.lens[usize::from(token)] = piece.len();
            output.under_way += piece.len();
            done += piece.len();
        }
        output.queue.publish();
        done
    }

    fn room(&self) -> usize {
        self.output.lock().free.len() * PIECE
    }

    fn pending(&self) -> usize {
        self.output.lock().under_way
    }

    /// What the device has been given is out.
    fn flush(&self) {}

    fn input_wanted(&self) {
        self.input.resume();
    }
}

/// Makes terminals of the machine's console devices. Boot, after `virtio::init` and `tty::devices::init`.
pub fn init() {
    for (number, device) in (0..).zip(virtio::take(kind::CONSOLE)) {
        let name = format!("hvc{number}");
        match probe(device, number) {
            Ok(()) => pr_info!("{name}: virtio console"),
            Err(errno) => pr_warn!("{name}: {errno:?}"),
        }
    }
}

fn probe(mut device: Device, number: u32) -> Result<()> {
    device.negotiate(0)?;
    let mut received = Line::new(&mut device, 0)?;
    let output = Line::new(&mut device, 1)?;
    for token in core::mem::take(&mut received.free) {
        received.offer(token);
    }
    let port = Arc::new(Port {
        output: SpinLock::new(output),
        received: SpinLock::new(Input { line: received, busy: false, again: false, left: None }),
        input: SerialInput::new(),
        tty: Once::new(),
        _device: Once::new(),
    });
    let tty = Tty::new(format!("hvc{number}"), DevId::new(MAJOR, number), port.clone());
    let _ = port.tty.set(tty.clone());
    let resumed = port.clone();
    port.input.start(&tty, move || resumed.receive())?;
    let (receiver, sender) = (port.clone(), port.clone());
    let receive = move || {
        receiver.receive();
        true
    };
    device.start(&[Arc::new(receive), Arc::new(move || sender.sent())], None, |_| 0)?;
    port.received.lock().line.queue.publish();
    let _ = port._device.set(device);
    tty::devices::announce(&tty, "hvc")
}
