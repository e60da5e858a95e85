//! What the runner and the guest's first process say to each other over one serial line.
//!
//! Problem: `exec` has one serial port. It carries the kernel's console messages, and also a program's
//! stdin, stdout and stderr, byte-exact and apart, its exit status, and requests to run more programs.
//!
//! Interface: [`encode`] makes a frame, a [`Decoder`] takes a byte stream apart into frames and the text
//! between them. [`Command`] is a program to run, as bytes. The constants say who may send how much.
//!
//! Idea: a frame is `F7 FE, kind, length (2 bytes, little endian), check, payload, sum (2 bytes)`. The first two
//! bytes never occur in UTF-8, and the check byte ties the header together, so console text is not taken for a
//! frame. A kernel message that lands inside a frame spoils the sum and is reported rather than delivered.
//!
//! ```text
//!  guest to host                             host to guest
//!  READY            the agent listens        INPUT bytes      for stdin, within the window
//!  OUTPUT, ERROR    what the program wrote   INPUT_END        stdin is at its end
//!  CREDIT n         n bytes of INPUT taken   RUN bytes        a piece of a `Command`
//!  ACK              RUN or START was taken   START            run it
//!  EXIT status      as wait4 gives it        SIGNAL n         kill the program with n
//!  LOG              kernel messages          BYE              power off
//! ```
//!
//! Flow control, because a terminal's input queue is 4 KiB and drops what exceeds it: the host has at most
//! [`WINDOW`] bytes of INPUT unacknowledged, and at most one RUN or START piece.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// Bytes of INPUT that the host may have under way.
pub const WINDOW: usize = 2048;
/// The longest payload from the host.
pub const HOST_PAYLOAD: usize = 512;
/// The longest payload at all.
pub const MAX_PAYLOAD: usize = 4096;

/// File in the initramfs that asks the first process to be the agent: a [`Command`], then is removed.
pub const EXEC_FILE: &str = ".ochre/exec";
/// File in the initramfs with the terminal's `rows cols TERM`.
pub const TERMINAL_FILE: &str = ".ochre/terminal";

/// Terminal in the guest by which the runner reaches the first process of a machine with a shell on its console.
pub const CONTROL_DEVICE: &str = "/dev/hvc0";

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The agent listens.
    Ready = 1,
    /// The program wrote to stdout.
    Output = 2,
    /// The program wrote to stderr.
    Error = 3,
    /// The program ended: the status of `wait4`, 4 bytes, little endian.
    Exit = 4,
    /// So many bytes of INPUT were taken: 2 bytes, little endian.
    Credit = 5,
    /// A RUN or START frame was taken.
    Ack = 6,
    /// Kernel messages.
    Log = 7,
    /// Bytes for stdin.
    Input = 0x21,
    /// Stdin is at its end.
    InputEnd = 0x22,
    /// A piece of a [`Command`].
    Run = 0x23,
    /// Run the command that the RUN frames made.
    Start = 0x24,
    /// Send the program this signal: 1 byte.
    Signal = 0x25,
    /// Power off.
    Bye = 0x26,
    /// The person's terminal has another size: rows and columns, 2 bytes each, little endian. On the line of
    /// [`CONTROL_DEVICE`], to a machine that has a shell on its console.
    Window = 0x27,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [Ready, Output, Error, Exit, Credit, Ack, Log, Input, InputEnd, Run, Start, Signal, Bye, Window]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
    }
}

const MAGIC: [u8; 2] = [0xf7, 0xfe];
const HEADER: usize = 6;
const TRAILER: usize = 2;

fn header(kind: u8, len: u16) -> [u8; HEADER] {
    let [low, high] = len.to_le_bytes();
    let check = kind ^ low.rotate_left(3) ^ high.rotate_left(5) ^ 0x5a;
    [MAGIC[0], MAGIC[1], kind, low, high, check]
}

/// Fletcher's checksum with 16 bits.
fn sum(payload: &[u8]) -> [u8; TRAILER] {
    let (mut a, mut b) = (0u32, 0u32);
    for run in payload.chunks(4096) {
        for &byte in run {
            a += u32::from(byte);
            b += a;
        }
        a %= 255;
        b %= 255;
    }
    [a as u8, b as u8]
}

/// Appends a frame to `out`; a payload over [`MAX_PAYLOAD`] is cut there.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    out.extend_from_slice(&header(kind as u8, payload.len() as u16));
    out.extend_from_slice(payload);
    out.extend_from_slice(&sum(payload));
}

/// A piece of the stream.
#[derive(PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// Bytes outside frames: console text.
    Text(&'a [u8]),
    /// A frame.
    Frame(Kind, &'a [u8]),
    /// A frame whose sum is wrong, with its raw bytes.
    Corrupt(&'a [u8]),
}

/// Takes a byte stream apart.
#[derive(Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

/// What stands at the start of the pending bytes.
enum Head {
    Text(usize),
    Frame(Kind, usize),
    Incomplete,
}

impl Decoder {
    /// Takes `bytes` in and reports every complete piece. Text is reported at once, a frame when it is whole.
    pub fn feed(&mut self, bytes: &[u8], mut report: impl FnMut(Event<'_>)) {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.pending[at..];
            match head(rest) {
                Head::Incomplete => break,
                Head::Text(len) => {
                    report(Event::Text(&rest[..len]));
                    at += len;
                }
                Head::Frame(kind, len) => {
                    let (frame, payload) = (&rest[..len], &rest[HEADER..len - TRAILER]);
                    let good = frame[len - TRAILER..] == sum(payload);
                    report(if good { Event::Frame(kind, payload) } else { Event::Corrupt(frame) });
                    at += len;
                }
            }
        }
        self.pending.drain(..at);
    }

    /// The bytes of a frame that has not become whole.
    pub fn unfinished(&self) -> &[u8] {
        &self.pending
    }
}

fn head(bytes: &[u8]) -> Head {
    let Some(start) = bytes.iter().position(|&b| b == MAGIC[0]) else {
        return if bytes.is_empty() { Head::Incomplete } else { Head::Text(bytes.len()) };
    };
    if start > 0 {
        return Head::Text(start);
    }
    if bytes.len() < HEADER {
        let plausible = bytes.iter().zip(MAGIC).all(|(&have, want)| have == want);
        return if plausible { Head::Incomplete } else { Head::Text(1) };
    }
    let len = u16::from_le_bytes([bytes[3], bytes[4]]);
    let whole = HEADER + usize::from(len) + TRAILER;
    match Kind::from_byte(bytes[2]) {
        Some(kind) if bytes[..HEADER] == header(bytes[2], len) && usize::from(len) <= MAX_PAYLOAD => {
            if bytes.len() < whole { Head::Incomplete } else { Head::Frame(kind, whole) }
        }
        _ => Head::Text(1),
    }
}

/// A program to run in the guest.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Command {
    /// The agent powers off after the program's end.
    pub once: bool,
    /// Kernel messages are sent as LOG frames.
    pub log: bool,
    /// Stdin is INPUT frames; otherwise `/dev/null`.
    pub input: bool,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Name and arguments. The name is looked up in `PATH`. Empty: only listen.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub env: Vec<Vec<u8>>,
}

impl Command {
    /// As bytes: flags, then NUL-terminated strings (directory, number of arguments, arguments, environment).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(u8::from(self.once) | u8::from(self.log) << 1 | u8::from(self.input) << 2);
        let mut put = |string: &[u8]| {
            out.extend_from_slice(string);
            out.push(0);
        };
        put(&self.cwd);
        put(alloc::format!("{}", self.argv.len()).as_bytes());
        self.argv.iter().chain(&self.env).for_each(|s| put(s));
        out
    }

    /// From bytes; `None` when they are not what [`Self::to_bytes`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&flags, rest) = bytes.split_first()?;
        let rest = rest.strip_suffix(&[0])?;
        let mut strings = rest.split(|&b| b == 0).map(<[u8]>::to_vec);
        let cwd = strings.next()?;
        let count: usize = core::str::from_utf8(&strings.next()?).ok()?.parse().ok()?;
        let mut argv: Vec<_> = strings.collect();
        let env = (count <= argv.len()).then(|| argv.split_off(count))?;
        Some(Self { once: flags & 1 != 0, log: flags & 2 != 0, input: flags & 4 != 0, cwd, argv, env })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::{format, vec};

    fn decode(pieces: &[&[u8]]) -> String {
        let mut decoder = Decoder::default();
        let mut log = String::new();
        for piece in pieces {
            decoder.feed(piece, |event| match event {
                Event::Text(t) => log += &format!("text {} ", t.escape_ascii()),
                Event::Frame(k, p) => log += &format!("{k:?} {} ", p.escape_ascii()),
                Event::Corrupt(f) => log += &format!("corrupt {} ", f.len()),
            });
        }
        log
    }

    #[test]
    fn frames_and_text_are_told_apart_wherever_the_stream_is_cut() {
        let mut stream = b"boot\n".to_vec();
        encode(Kind::Output, b"a\xf7\xfeb", &mut stream);
        encode(Kind::Exit, &[0, 1, 0, 0], &mut stream);
        stream.extend_from_slice(b"\xf7x");
        let whole = decode(&[&stream]);
        assert_eq!(whole, "text boot\\n Output a\\xf7\\xfeb Exit \\x00\\x01\\x00\\x00 text \\xf7 text x ");
        for cut in 0..stream.len() {
            let parts = decode(&[&stream[..cut], &stream[cut..]]);
            assert_eq!(parts.replace("text bo text ot\\n", "text boot\\n").matches("Output a").count(), 1);
            assert!(parts.contains("Exit \\x00\\x01"), "cut at {cut}: {parts}");
        }
    }

    #[test]
    fn a_message_inside_a_frame_is_noticed() {
        let mut frame = Vec::new();
        encode(Kind::Output, b"0123456789", &mut frame);
        let spoilt: Vec<u8> = [&frame[..9], b"oops", &frame[9..]].concat();
        assert!(decode(&[&spoilt]).starts_with("corrupt "));
    }

    #[test]
    fn a_command_survives_its_bytes() {
        let command = Command {
            once: true,
            log: false,
            input: true,
            cwd: b"/tmp".to_vec(),
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"".to_vec()],
            env: vec![b"A=b".to_vec()],
        };
        assert_eq!(Command::from_bytes(&command.to_bytes()), Some(command.clone()));
        let empty = Command::default();
        assert_eq!(Command::from_bytes(&empty.to_bytes()), Some(empty));
        assert_eq!(Command::from_bytes(b""), None);
        assert_eq!(Command::from_bytes(b"\x00/\x009\x00"), None);
    }
}
