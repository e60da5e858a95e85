//! Somebody at a console: types, and waits for what must appear.
//!
//! Problem: a test of a terminal talks with programs that answer when they like, through a line that echoes, with
//! escape sequences in between.
//!
//! Interface: [`Console`] on a pair of streams; [`Console::expect`] and [`Console::ask`] wait for text,
//! [`Console::screen`] is what a person would see now. [`Person`] is one at a pseudoterminal on which the runner
//! was started.
//!
//! Idea: a thread reads; whoever waits takes what it read, gives it to a terminal emulator, and looks at the part
//! that came after the last thing found. Waiting ends after [`PATIENCE`] only to keep a test that fails from hanging.
#![allow(dead_code)] // each test uses its part

use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::termios::{Termios, tcgetattr};

pub const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// Rows and columns of the person's terminal.
pub const SIZE: (u16, u16) = (30, 100);

/// How long something may take to appear; emulation on a loaded host is slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// The prompt of root's shell at home.
pub const PROMPT: &str = "~ # ";

/// One end of a line with a machine at the other.
pub struct Console {
    input: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    emulator: vt100::Parser,
    /// All text so far, without escape sequences.
    text: String,
    /// Up to where [`Self::expect`] has looked.
    found: usize,
    plain: Plain,
}

impl Console {
    pub fn new(input: impl Write + Send + 'static, mut output: impl Read + Send + 'static) -> Self {
        let size = [SIZE.0, SIZE.1].map(|n| NonZero::new(n).expect("not zero"));
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            // A pseudoterminal without a program at its other end gives an error.
            while let Ok(n @ 1..) = output.read(&mut buf) {
                if sender.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            input: Box::new(input),
            output: receiver,
            emulator: vt100::Parser::new(size[0], size[1], 0),
            text: String::new(),
            found: 0,
            plain: Plain::default(),
        }
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        let [rows, cols] = [rows, cols].map(|n| NonZero::new(n).expect("not zero"));
        self.emulator.set_size(rows, cols);
    }

    /// Types.
    pub fn send(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).and_then(|()| self.input.flush()).expect("the line takes it");
    }

    /// Takes one piece of output in; false at its end.
    fn take(&mut self, deadline: Instant) -> Result<bool, RecvTimeoutError> {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => {
                self.emulator.process(&bytes);
                self.plain.feed(&bytes, &mut self.text);
                Ok(true)
            }
            Err(RecvTimeoutError::Disconnected) => Ok(false),
            Err(RecvTimeoutError::Timeout) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Waits until `condition` holds after some output.
    #[track_caller]
    fn wait(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            match self.take(deadline) {
                Ok(true) => {}
                Ok(false) => panic!("{what:?} did not appear before the end:\n{}", self.last()),
                Err(_) => panic!("{what:?} did not appear:\n{}", self.last()),
            }
        }
    }

    /// Waits for `wanted` behind what was found before; answers the text before it.
    #[track_caller]
    pub fn expect(&mut self, wanted: &str) -> String {
        let mut before = String::new();
        self.wait(wanted, |console| {
            let Some(at) = console.text[console.found..].find(wanted) else { return false };
            before = console.text[console.found..console.found + at].to_owned();
            console.found += at + wanted.len();
            true
        });
        before
    }

    /// Types a command at the prompt; answers what appeared until the next prompt, without the command's echo.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(&format!("{command}\n"));
        self.expect("\n"); // the echo ends here
        self.expect(PROMPT).trim().to_owned()
    }

    /// Waits until the screen satisfies `condition`.
    #[track_caller]
    pub fn see(&mut self, what: &str, condition: impl Fn(&vt100::Screen) -> bool) {
        self.wait(what, |console| condition(console.emulator.screen()));
        self.found = self.text.len();
    }

    /// Waits for the end of the output; answers all of it.
    #[track_caller]
    pub fn drain(&mut self) -> &str {
        let deadline = Instant::now() + PATIENCE;
        while self.take(deadline).unwrap_or_else(|_| panic!("no end:\n{}", self.last())) {}
        &self.text
    }

    fn last(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// Drops escape sequences and carriage returns, also those that arrive in parts.
#[derive(Default)]
struct Plain {
    state: State,
}

#[derive(Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence,
}

impl Plain {
    fn feed(&mut self, bytes: &[u8], out: &mut String) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) => State::Escape,
                (State::Escape, b'[') => State::Sequence,
                (State::Sequence, b'@'..=b'~') | (State::Escape, _) => State::Text,
                (State::Sequence, _) => State::Sequence,
                (State::Text, b'\r') => State::Text,
                (State::Text, byte) => {
                    out.push(char::from(byte));
                    State::Text
                }
            };
        }
    }
}

/// Somebody at a terminal who has started the runner.
pub struct Person {
    pub console: Console,
    pty: Arc<pty_process::blocking::Pty>,
    before: Termios,
    child: Child,
}

struct End(Arc<pty_process::blocking::Pty>);

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        (&*self.0).flush()
    }
}

impl Person {
    /// Starts the runner with these arguments on a new terminal.
    pub fn start(arguments: &[&str]) -> Self {
        let (pty, pts) = pty_process::blocking::open().expect("a pseudoterminal");
        pty.resize(pty_process::Size::new(SIZE.0, SIZE.1)).expect("it has a size");
        let before = tcgetattr(pty.as_fd()).expect("it is a terminal");
        let command = pty_process::blocking::Command::new(RUNNER).args(arguments).env("TERM", "xterm");
        let child = command.spawn(pts).expect("the runner starts");
        let pty = Arc::new(pty);
        Self { console: Console::new(End(pty.clone()), End(pty.clone())), pty, before, child }
    }

    /// Makes the terminal's window another size.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.pty.resize(pty_process::Size::new(rows, cols)).expect("it has a size");
        self.console.resize(rows, cols);
    }

    /// Waits for the runner's end. The terminal must then be as it was, and no emulator left.
    pub fn leave(mut self) -> (ExitStatus, String) {
        let text = self.console.drain().to_owned();
        let status = self.child.wait().expect("it can be waited for");
        let after = tcgetattr(self.pty.as_fd()).expect("it is a terminal");
        let modes = |t: &Termios| (t.input_modes, t.output_modes, t.control_modes, t.local_modes);
        assert_eq!(modes(&after), modes(&self.before), "the terminal is as it was");
        assert_no_emulator(self.child.id());
        (status, text)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended, unless the test failed
        let _ = self.child.wait();
    }
}

/// No emulator of that runner may be left: each has the name of the runner's own directory among its arguments. One
/// that was killed may need a moment to go.
pub fn assert_no_emulator(runner: u32) {
    let mark = format!("/run/{runner}-");
    let is_ours = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    };
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_dir("/proc").expect("there is /proc").flatten().any(|entry| is_ours(&entry)) {
        assert!(Instant::now() < deadline, "an emulator was left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
}
