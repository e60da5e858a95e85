//! A booted machine whose first process is our agent: it runs programs and tells how they ended.
//!
//! Problem: one serial line carries console messages, the program's three streams and its status (see the crate
//! `wire`); the guest may panic, hang or vanish at any moment, and the caller wants to know which.
//!
//! Interface: [`Guest::start`] boots. [`Guest::follow`] passes on what the running program writes until it ends.
//! [`Guest::run`] runs one more program and collects its output, so that tests boot once and run many.
//!
//! Idea: a thread takes QEMU's output apart and sends [`Event`]s through a bounded channel; everything is decided
//! where they are received. Another thread feeds the program's stdin, as far as the agent's credit goes.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wire::{Command, Decoder, Kind};

use crate::machine::Machine;
use crate::places;
use crate::qemu::{Pipes, Qemu};
use crate::tree::Tree;
use crate::{commands, initramfs, qemu};

/// Console text that is kept for the case that something goes wrong, in bytes.
const KEPT_TEXT: usize = 1 << 20;
/// How long a panicking kernel may go on writing.
const PANIC_PATIENCE: Duration = Duration::from_secs(5);
/// After a read of fewer bytes than this, the next one waits for so long.
const COALESCE: usize = 2048;
const COALESCE_TIME: Duration = Duration::from_micros(500);
const PANIC: &str = "Kernel panic - not syncing: ";

/// Why there is no exit status.
#[derive(Debug)]
pub enum Failure {
    /// The kernel panicked, with this message.
    Panic(String),
    /// The agent did not appear within this time.
    Boot(Duration),
    /// The program did not end within this time.
    Timeout(Duration),
    /// QEMU ended, with what it said.
    Ended(String),
    /// Console text fell into the program's output.
    Mixed,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panic(message) => write!(f, "the guest's kernel panicked: {message}"),
            Self::Boot(limit) => write!(f, "the guest started no program within {} s", limit.as_secs()),
            Self::Timeout(limit) => {
                write!(f, "the program in the guest did not end within {} s", limit.as_secs_f32())
            }
            Self::Ended(message) if message.is_empty() => write!(f, "the guest ended before the program"),
            Self::Ended(message) => write!(f, "QEMU ended: {message}"),
            Self::Mixed => write!(f, "a console message fell into the program's output"),
        }
    }
}

impl std::error::Error for Failure {}

/// What arrives from the guest.
enum Event {
    Text(Vec<u8>),
    Frame(Kind, Vec<u8>),
    Corrupt(Vec<u8>),
    /// QEMU's output is at its end.
    End,
}

/// Where the running program's output goes.
pub struct Sinks<'a> {
    /// Its stdout.
    pub out: &'a mut dyn Write,
    /// Its stderr.
    pub err: &'a mut dyn Write,
    /// Kernel messages, when they are wanted.
    pub log: Option<&'a mut dyn Write>,
}

/// A program's end and what it wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Exit status, or 128 and the signal.
    pub code: i32,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

/// A running guest.
pub struct Guest {
    kernel: PathBuf,
    qemu: Qemu,
    events: Receiver<Event>,
    line: Arc<Line>,
    /// QEMU's own messages.
    messages: Arc<Mutex<String>>,
    /// The console's text so far, the last [`KEPT_TEXT`] bytes.
    text: Vec<u8>,
    /// How long after QEMU's start the agent appeared.
    ready: Option<Duration>,
    started: Instant,
    boot_limit: Duration,
    /// How long the machine may take to switch itself off.
    end_limit: Duration,
    panicked: Option<Instant>,
}

/// The line to the guest: whose turn it is, and how much may be sent.
#[derive(Default)]
struct Line {
    stdin: Mutex<Option<ChildStdin>>,
    flow: Mutex<Flow>,
    changed: Condvar,
}

#[derive(Default)]
struct Flow {
    ready: bool,
    /// Counts the programs: an old program's stdin thread stops.
    program: u32,
    running: bool,
    /// INPUT bytes that are not yet acknowledged.
    under_way: usize,
    /// RUN and START frames that are not yet acknowledged.
    unanswered: usize,
}

impl Line {
    fn flow(&self) -> std::sync::MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Flow)) {
        change(&mut self.flow());
        self.changed.notify_all();
    }

    /// Waits until the flow satisfies `condition`, and changes it in the same moment.
    fn wait_and_update(&self, condition: impl Fn(&Flow) -> bool, change: impl FnOnce(&mut Flow)) {
        let flow = self.changed.wait_while(self.flow(), |flow| !condition(flow));
        change(&mut flow.unwrap_or_else(PoisonError::into_inner));
    }

    /// Sends a frame. A guest that is gone is noticed by who reads from it.
    fn send(&self, kind: Kind, payload: &[u8]) {
        let mut frame = Vec::new();
        wire::encode(kind, payload, &mut frame);
        if let Some(stdin) = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = stdin.write_all(&frame).and_then(|()| stdin.flush());
        }
    }

    /// Passes `source` on to the stdin of program number `program`, until either ends.
    fn pump(&self, program: u32, mut source: impl Read) {
        let mut buf = [0; wire::HOST_PAYLOAD];
        let current = |flow: &Flow| flow.program == program && flow.running;
        loop {
            let n = match source.read(&mut buf) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result.unwrap_or(0),
            };
            let room = |flow: &Flow| flow.ready && flow.under_way + n <= wire::WINDOW;
            let mut mine = false;
            self.wait_and_update(
                |flow| !current(flow) || room(flow),
                |flow| {
                    mine = current(flow);
                    flow.under_way += if mine { n } else { 0 };
                },
            );
            match n {
                _ if !mine => return,
                0 => return self.send(Kind::InputEnd, b""),
                n => self.send(Kind::Input, &buf[..n]),
            }
        }
    }
}

impl Guest {
    /// Boots `machine` with our agent, which runs `first` at once (nothing, when its `argv` is empty).
    pub fn start(machine: &Machine, first: &Command) -> Result<Self> {
        Self::start_with(machine, first, Tree::default())
    }

    /// As [`Guest::start`], with more files.
    pub fn start_with(machine: &Machine, first: &Command, mut extra: Tree) -> Result<Self> {
        let built = commands::build(machine)?;
        extra.file(wire::EXEC_FILE, 0o600, first.to_bytes());
        let file = places::run_dir()?.join("initramfs.cpio");
        let initramfs = initramfs::write(file, &[&built.tree, &extra])?;
        let mut arguments = qemu::arguments(&built.machine, &built.kernel, &initramfs)?;
        let console =
            ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-monitor", "none"];
        arguments.extend(console.map(Into::into));
        let (qemu, pipes) = Qemu::start(machine.arch, arguments, true)?;
        if machine.gdb {
            commands::explain_gdb(&built.kernel);
        }
        let mut guest = Self::attach(qemu, pipes, built.kernel)?;
        guest.boot_limit = machine.boot_limit();
        guest.end_limit = built.machine.end_limit();
        guest.line.flow().running = !first.argv.is_empty();
        Ok(guest)
    }

    fn attach(qemu: Qemu, pipes: Pipes, kernel: PathBuf) -> Result<Self> {
        let stdout = pipes.stdout.context("no pipe")?;
        let mut stderr = pipes.stderr.context("no pipe")?;
        let (sender, events) = mpsc::sync_channel(64);
        std::thread::spawn(move || read_events(stdout, &sender));
        let messages = Arc::new(Mutex::new(String::new()));
        let log = messages.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut buf) {
                let text = String::from_utf8_lossy(&buf[..n]);
                log.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let line = Line { stdin: Mutex::new(pipes.stdin), ..Line::default() };
        Ok(Self {
            kernel,
            qemu,
            events,
            line: Arc::new(line),
            messages,
            text: Vec::new(),
            ready: None,
            started: Instant::now(),
            boot_limit: Duration::ZERO,
            end_limit: Duration::ZERO,
            panicked: None,
        })
    }

    /// Feeds `source` to the running program's stdin, from a thread of its own.
    pub fn feed(&self, source: impl Read + Send + 'static) {
        let line = self.line.clone();
        let program = line.flow().program;
        std::thread::spawn(move || line.pump(program, source));
    }

    /// Passes on what the running program writes until it ends; answers its exit status, or 128 and the signal.
    pub fn follow(&mut self, mut sinks: Sinks<'_>, limit: Option<Duration>) -> Result<i32> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            match self.next_event(deadline) {
                Ok(Event::Frame(Kind::Output, payload)) => pass_on(sinks.out, &payload)?,
                Ok(Event::Frame(Kind::Error, payload)) => pass_on(sinks.err, &payload)?,
                Ok(Event::Frame(Kind::Exit, payload)) => {
                    self.line.update(|flow| flow.running = false);
                    return Ok(exit_code(&payload));
                }
                Ok(Event::Frame(Kind::Log, payload) | Event::Text(payload)) => {
                    if let Some(log) = &mut sinks.log {
                        pass_on(*log, &payload)?;
                    }
                }
                Ok(Event::Frame(..)) => {}
                Ok(Event::Corrupt(_)) => return Err(Failure::Mixed.into()),
                Ok(Event::End) => return Err(self.why_ended().into()),
                Err(TooLate) => return Err(self.why_late(limit).into()),
            }
        }
    }

    /// Runs one more program, with `input` as its stdin, and collects its output.
    pub fn run(&mut self, command: &Command, input: Vec<u8>, limit: Duration) -> Result<Finished> {
        self.send_command(command, limit)?;
        if command.input {
            self.feed(std::io::Cursor::new(input));
        }
        self.collect(limit)
    }

    /// Collects what the running program writes until it ends.
    pub fn collect(&mut self, limit: Duration) -> Result<Finished> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = self.follow(Sinks { out: &mut out, err: &mut err, log: None }, Some(limit))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Finished { code, out: text(out), err: text(err) })
    }

    /// RUN frames one at a time, then START, each when the one before was taken.
    fn send_command(&mut self, command: &Command, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit.max(self.boot_limit);
        self.wait_for(deadline, |flow| flow.ready)?;
        let bytes = command.to_bytes();
        let pieces = bytes.chunks(wire::HOST_PAYLOAD).map(|piece| (Kind::Run, piece));
        for (kind, piece) in pieces.chain([(Kind::Start, &[][..])]) {
            self.line.update(|flow| {
                flow.unanswered += 1;
                if kind == Kind::Start {
                    flow.program += 1;
                    flow.running = true;
                }
            });
            self.line.send(kind, piece);
            if kind == Kind::Run {
                self.wait_for(deadline, |flow| flow.unanswered == 0)?;
            }
        }
        Ok(())
    }

    /// Takes events until the flow satisfies `condition`.
    fn wait_for(&mut self, deadline: Instant, condition: impl Fn(&Flow) -> bool) -> Result<()> {
        while !condition(&self.line.flow()) {
            match self.next_event(Some(deadline)) {
                Ok(Event::End) => return Err(self.why_ended().into()),
                Err(TooLate) => return Err(self.why_late(None).into()),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// The next event; what concerns flow control, boot and panics has been noted then.
    fn next_event(&mut self, deadline: Option<Instant>) -> Result<Event, TooLate> {
        let boot = self.ready.is_none().then(|| self.started + self.boot_limit);
        let panic = self.panicked.map(|at| at + PANIC_PATIENCE);
        let event = match [deadline, boot, panic].into_iter().flatten().min() {
            None => self.events.recv().unwrap_or(Event::End),
            Some(end) => match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Err(TooLate),
                Err(RecvTimeoutError::Disconnected) => Event::End,
            },
        };
        match &event {
            Event::Text(bytes) | Event::Corrupt(bytes) => self.keep(bytes),
            Event::Frame(Kind::Ready, _) => {
                self.ready = Some(self.started.elapsed());
                self.line.update(|flow| flow.ready = true);
            }
            Event::Frame(Kind::Credit, payload) => {
                let bytes =
                    usize::from(u16::from_le_bytes(payload.as_slice().try_into().unwrap_or_default()));
                self.line.update(|flow| flow.under_way = flow.under_way.saturating_sub(bytes));
            }
            Event::Frame(Kind::Ack, _) => {
                self.line.update(|flow| flow.unanswered = flow.unanswered.saturating_sub(1));
            }
            Event::Frame(..) | Event::End => {}
        }
        Ok(event)
    }

    /// Keeps console text, and notices a panic in it.
    fn keep(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        let excess = self.text.len().saturating_sub(KEPT_TEXT);
        self.text.drain(..excess);
        if self.panicked.is_none() && self.panic_message().is_some() {
            self.panicked = Some(Instant::now());
        }
    }

    fn panic_message(&self) -> Option<String> {
        // A panic arrives in small pieces; the part before the newest ones has been searched, but searching is cheap.
        let tail = &self.text[self.text.len().saturating_sub(64 << 10)..];
        let text = String::from_utf8_lossy(tail);
        let line = text
            .lines()
            .find_map(|line| line.split_once(PANIC).map(|(_, message)| message.trim().to_owned()))?;
        Some(line)
    }

    fn why_ended(&self) -> Failure {
        self.qemu.wait(Duration::from_secs(1)); // its last words
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned();
        self.panic_message().map_or(Failure::Ended(messages), Failure::Panic)
    }

    fn why_late(&self, limit: Option<Duration>) -> Failure {
        match self.panic_message() {
            Some(message) => Failure::Panic(message),
            None if self.ready.is_none() => {
                Failure::Boot(self.boot_limit.min(limit.unwrap_or(self.boot_limit)))
            }
            None => Failure::Timeout(limit.unwrap_or(self.boot_limit)),
        }
    }

    /// The kernel's image.
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// The time from QEMU's start to the first user program, once that has appeared.
    pub fn boot_time(&self) -> Option<Duration> {
        self.ready
    }

    /// The last lines of the console's text so far.
    pub fn last_words(&self, lines: usize) -> String {
        let text = String::from_utf8_lossy(&self.text).replace('\r', "");
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The console's text from shortly before a panic.
    pub fn panic_report(&self) -> String {
        const BEFORE: usize = 5;
        let text = String::from_utf8_lossy(&self.text).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        let start = lines.iter().position(|line| line.contains(PANIC)).unwrap_or(0);
        lines[start.saturating_sub(BEFORE)..].join("\n")
    }

    /// Lets the guest switch itself off; kills it when that takes too long.
    pub fn power_off(self) {
        self.line.send(Kind::Bye, b"");
        self.wait_for_end();
    }

    /// Waits for a guest that is switching itself off; kills it when that takes too long.
    pub fn wait_for_end(self) {
        let Self { qemu, events, end_limit, .. } = self;
        // The guest's last words must not be what keeps it from ending.
        std::thread::spawn(move || events.iter().for_each(drop));
        qemu.wait(end_limit);
    }
}

struct TooLate;

fn pass_on(sink: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    sink.write_all(bytes).and_then(|()| sink.flush()).context("cannot pass the program's output on")
}

/// As a shell's `$?`, from the status of `wait4`.
fn exit_code(payload: &[u8]) -> i32 {
    let status = i32::from_le_bytes(payload.try_into().unwrap_or([0, 0xff, 0, 0]));
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

fn read_events(mut stdout: impl Read, sender: &SyncSender<Event>) {
    let mut decoder = Decoder::default();
    let mut buf = vec![0; 64 << 10];
    let mut wanted = true;
    while wanted {
        let n = match stdout.read(&mut buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            result => result.unwrap_or(0),
        };
        if n == 0 {
            break;
        }
        // QEMU writes byte by byte. Who takes every byte at once is woken for every byte, which costs both sides more
        // than all the rest; who comes a little later finds many.
        if n < COALESCE {
            std::thread::sleep(COALESCE_TIME);
        }
        decoder.feed(&buf[..n], |event| {
            let event = match event {
                wire::Event::Text(text) => Event::Text(text.to_vec()),
                wire::Event::Frame(kind, payload) => Event::Frame(kind, payload.to_vec()),
                wire::Event::Corrupt(frame) => Event::Corrupt(frame.to_vec()),
            };
            wanted &= sender.send(event).is_ok();
        });
    }
    // A frame that was cut off may hold a panic.
    let _ = sender.send(Event::Text(decoder.unfinished().to_vec()));
    let _ = sender.send(Event::End);
}

#[cfg(test)]
mod tests {
    use super::exit_code;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let check = |status: i32, expected| assert_eq!(exit_code(&status.to_le_bytes()), expected);
        check(0, 0);
        check(3 << 8, 3);
        check(9, 137);
        check(0x80 | 11, 139); // with a core dump
    }
}
