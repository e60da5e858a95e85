//! The runner's agent: runs programs on request and reports over the console (see the crate `wire`).
//!
//! Idea: one loop around `ppoll`. The program's three standard descriptors are pipes. What it writes becomes
//! frames at once; what the host sends for stdin waits here until the pipe takes it, and only then gives the host
//! new credit, so that the terminal's input queue never overflows. When the program has ended, what is left in the
//! pipes goes out before its exit status; a background process that keeps them open is not waited for.

use core::ffi::CStr;

use alloc::ffi::CString;
use alloc::vec::Vec;

use rt::io::{self, Fd, PollFd};
use rt::process::{self, Pid, Status, Strings};
use rt::{Errno, eprintln, fs, nr, signal};
use wire::{Command, Decoder, Event, Kind};

use crate::{shutdown, signals};

/// Speaks the protocol on `input` and `output` until the host or the command says to stop.
pub fn run(input: Fd, output: Fd, first: Command) {
    let mut agent = Agent {
        host: Host { output, frame: Vec::new() },
        log: first.log.then(open_log).flatten(),
        pieces: Vec::new(),
        child: None,
    };
    agent.host.send(Kind::Ready, b"1");
    let once = first.once;
    if !first.argv.is_empty() {
        agent.start(&first);
    }
    let mut decoder = Decoder::default();
    loop {
        agent.finish_ended();
        if (once && agent.child.is_none()) || !agent.turn(input, &mut decoder) {
            return;
        }
    }
}

/// The way to the host.
struct Host {
    output: Fd,
    frame: Vec<u8>,
}

impl Host {
    fn send(&mut self, kind: Kind, payload: &[u8]) {
        self.frame.clear();
        wire::encode(kind, payload, &mut self.frame);
        // The console does not fail; if it did, nobody could be told.
        let _ = io::write_all(self.output, &self.frame);
    }
}

/// A running program and our ends of its pipes.
struct Child {
    pid: Pid,
    stdin: Option<Fd>,
    stdout: Option<Fd>,
    stderr: Option<Fd>,
    /// From the host, not yet in the pipe.
    unwritten: Vec<u8>,
    input_ended: bool,
    status: Option<Status>,
}

struct Agent {
    host: Host,
    /// `/dev/kmsg`, when kernel messages are wanted.
    log: Option<Fd>,
    /// RUN frames so far.
    pieces: Vec<u8>,
    child: Option<Child>,
}

impl Agent {
    /// Sleeps once and handles what came; false when the conversation is over.
    fn turn(&mut self, input: Fd, decoder: &mut Decoder) -> bool {
        let child = self.child.as_ref();
        let unwritten = child.is_some_and(|c| !c.unwritten.is_empty());
        let mut fds = [
            io::poll_fd(input, nr::POLLIN),
            io::poll_fd(child.and_then(|c| c.stdout).unwrap_or(-1), nr::POLLIN),
            io::poll_fd(child.and_then(|c| c.stderr).unwrap_or(-1), nr::POLLIN),
            io::poll_fd(child.and_then(|c| c.stdin).filter(|_| unwritten).unwrap_or(-1), nr::POLLOUT),
            io::poll_fd(self.log.unwrap_or(-1), nr::POLLIN),
        ];
        let polled = signals::wait(&mut fds);
        self.reap();
        if polled.is_err() {
            return polled == Err(Errno::EINTR);
        }
        let ready = |fd: &PollFd| fd.revents != 0;
        if ready(&fds[4]) {
            self.forward_log();
        }
        if let Some(child) = &mut self.child {
            if ready(&fds[1]) {
                forward(&mut child.stdout, Kind::Output, &mut self.host);
            }
            if ready(&fds[2]) {
                forward(&mut child.stderr, Kind::Error, &mut self.host);
            }
            if ready(&fds[3]) {
                child.write_input(&mut self.host);
            }
        }
        !ready(&fds[0]) || self.hear(input, decoder)
    }

    fn reap(&mut self) {
        let child = &mut self.child;
        signals::reap(|pid, status| match child {
            Some(c) if c.pid == pid => c.status = Some(status),
            _ => {}
        });
        if process::getpid() == 1
            && let Some(how) = signals::requested_reboot(signals::take())
        {
            shutdown::shut_down(how);
        }
    }

    /// Reads from the host; false at the end of the conversation.
    fn hear(&mut self, input: Fd, decoder: &mut Decoder) -> bool {
        let mut buf = [0; 1024];
        let n = match io::read(input, &mut buf) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(Errno::EINTR | Errno::EAGAIN) => 0,
            Err(_) => return false,
        };
        let mut goes_on = true;
        decoder.feed(&buf[..n], |event| {
            if let Event::Frame(kind, payload) = event {
                goes_on &= self.obey(kind, payload);
            }
        });
        goes_on
    }

    fn obey(&mut self, kind: Kind, payload: &[u8]) -> bool {
        match kind {
            Kind::Input => self.take_input(payload),
            Kind::InputEnd => {
                if let Some(child) = &mut self.child {
                    child.input_ended = true;
                    child.write_input(&mut self.host);
                }
            }
            Kind::Run => {
                self.pieces.extend_from_slice(payload);
                self.host.send(Kind::Ack, b"");
            }
            Kind::Start => {
                let pieces = core::mem::take(&mut self.pieces);
                self.host.send(Kind::Ack, b"");
                self.start(&Command::from_bytes(&pieces).unwrap_or_default());
            }
            Kind::Signal => {
                if let (Some(child), Some(&number)) = (&self.child, payload.first()) {
                    let _ = process::kill(-child.pid, u32::from(number)); // it may just have ended
                }
            }
            Kind::Bye => return false,
            _ => {}
        }
        true
    }

    fn take_input(&mut self, payload: &[u8]) {
        match &mut self.child {
            Some(child) if child.stdin.is_some() => {
                child.unwritten.extend_from_slice(payload);
                child.write_input(&mut self.host);
            }
            _ => credit(&mut self.host, payload.len()), // nobody reads it any more
        }
    }

    /// Starts a program; one that cannot be started ends at once with 126 or 127 and a message.
    fn start(&mut self, command: &Command) {
        if self.child.is_some() {
            return;
        }
        match spawn(command) {
            Ok(child) => self.child = Some(child),
            Err(e) => {
                let message = alloc::format!("init: cannot start a process: {e}\n");
                self.host.send(Kind::Error, message.as_bytes());
                self.host.send(Kind::Exit, &(126i32 << 8).to_le_bytes());
            }
        }
    }

    /// If the program has ended: the rest of its output, then its status.
    fn finish_ended(&mut self) {
        let Some(status) = self.child.as_ref().and_then(|c| c.status) else { return };
        let Some(mut child) = self.child.take() else { return };
        while forward(&mut child.stdout, Kind::Output, &mut self.host) {}
        while forward(&mut child.stderr, Kind::Error, &mut self.host) {}
        self.forward_log();
        credit(&mut self.host, child.unwritten.len());
        [child.stdin, child.stdout, child.stderr].into_iter().flatten().for_each(close);
        self.host.send(Kind::Exit, &status.0.to_le_bytes());
    }

    /// Kernel messages, from `/dev/kmsg`'s `level,number,microseconds,flags;text` to `[seconds] text`.
    fn forward_log(&mut self) {
        let Some(log) = self.log else { return };
        let mut buf = [0; 2048];
        loop {
            match io::read(log, &mut buf) {
                Ok(n) if n > 0 => {
                    let line = readable_record(&buf[..n]);
                    self.host.send(Kind::Log, &line);
                }
                Err(Errno::EPIPE) => {} // records were overwritten before we read them
                _ => return,
            }
        }
    }
}

fn readable_record(record: &[u8]) -> Vec<u8> {
    let mut halves = record.splitn(2, |&b| b == b';');
    let (prefix, text) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let time_us =
        prefix.split(|&b| b == b',').nth(2).and_then(|f| core::str::from_utf8(f).ok()?.parse::<u64>().ok());
    let time_us = time_us.unwrap_or(0);
    let mut line = alloc::format!("[{:5}.{:06}] ", time_us / 1_000_000, time_us % 1_000_000).into_bytes();
    line.extend_from_slice(text);
    line
}

/// `/dev/kmsg`, past the messages that the console already has.
fn open_log() -> Option<Fd> {
    let fd = fs::open(c"/dev/kmsg", nr::O_RDONLY | nr::O_NONBLOCK | nr::O_CLOEXEC, 0).ok()?;
    let _ = io::seek(fd, 0, nr::SEEK_END); // without it messages come twice
    Some(fd)
}

fn close(fd: Fd) {
    let _ = io::close(fd); // ours, and a pipe: nothing to lose
}

fn credit(host: &mut Host, bytes: usize) {
    if bytes > 0 {
        host.send(Kind::Credit, &(bytes as u16).to_le_bytes());
    }
}

/// Passes on what a pipe has, once; false when it has nothing, or is at its end and closed.
fn forward(pipe: &mut Option<Fd>, kind: Kind, host: &mut Host) -> bool {
    let Some(fd) = *pipe else { return false };
    let mut buf = [0; wire::MAX_PAYLOAD];
    match io::read(fd, &mut buf) {
        Ok(n) if n > 0 => {
            host.send(kind, &buf[..n]);
            true
        }
        Err(Errno::EINTR) => true,
        Err(Errno::EAGAIN) => false,
        _ => {
            close(fd);
            *pipe = None;
            false
        }
    }
}

impl Child {
    /// Moves what the host sent into the program's stdin, as far as it goes.
    fn write_input(&mut self, host: &mut Host) {
        let Some(fd) = self.stdin else { return };
        let before = self.unwritten.len();
        let mut broken = false;
        while !self.unwritten.is_empty() {
            match io::write(fd, &self.unwritten) {
                Ok(n) => drop(self.unwritten.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    broken = true; // the program closed its stdin
                    self.unwritten.clear();
                }
            }
        }
        credit(host, before - self.unwritten.len());
        if broken || (self.input_ended && self.unwritten.is_empty()) {
            close(fd);
            self.stdin = None;
        }
    }
}

/// A pipe whose one end, ours, does not block.
fn pipe(ours_reads: bool) -> rt::Result<(Fd, Fd)> {
    let (read_end, write_end) = io::pipe(nr::O_CLOEXEC)?;
    let (ours, theirs) = if ours_reads { (read_end, write_end) } else { (write_end, read_end) };
    io::set_nonblocking(ours, true)?;
    Ok((ours, theirs))
}

fn spawn(command: &Command) -> rt::Result<Child> {
    let (stdin, child_in) = if command.input {
        pipe(false).map(|(ours, theirs)| (Some(ours), theirs))?
    } else {
        (None, fs::open(c"/dev/null", nr::O_RDONLY | nr::O_CLOEXEC, 0)?)
    };
    let (stdout, child_out) = pipe(true)?;
    let (stderr, child_err) = pipe(true)?;
    let Some(pid) = process::fork()? else {
        for (standard, fd) in [child_in, child_out, child_err].into_iter().enumerate() {
            let _ = io::dup2(fd, standard as Fd);
        }
        process::exit(become_program(command))
    };
    [child_in, child_out, child_err].into_iter().for_each(close);
    Ok(Child {
        pid,
        stdin,
        stdout: Some(stdout),
        stderr: Some(stderr),
        unwritten: Vec::new(),
        input_ended: false,
        status: None,
    })
}

/// In the child; returns, with the status that shells use, only when the program cannot be started.
fn become_program(command: &Command) -> i32 {
    let _ = process::setsid(); // so that a signal reaches the program and its children together
    let _ = signal::set_action(nr::SIGPIPE, signal::Action::Default, 0, 0);
    signals::restore_in_child();
    let strings =
        |list: &[Vec<u8>]| list.iter().map(|s| CString::new(s.as_slice()).unwrap_or_default()).collect();
    let (argv, env, cwd): (Vec<CString>, Vec<CString>, _) = (
        strings(&command.argv),
        strings(&command.env),
        CString::new(command.cwd.as_slice()).unwrap_or_default(),
    );
    let Some(name) = argv.first() else { return 127 };
    if !cwd.is_empty()
        && let Err(e) = fs::chdir(&cwd)
    {
        eprintln!("init: {cwd:?}: {e}");
        return 126;
    }
    let argv = Strings::new(argv.iter().map(CString::as_c_str));
    let path = env.iter().find_map(|v| v.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default().to_vec();
    let env = Strings::new(env.iter().map(CString::as_c_str));
    let error = exec_in_path(name, &path, &argv, &env);
    eprintln!("{}: {}", name.to_string_lossy(), describe(error));
    if error == Errno::ENOENT { 127 } else { 126 }
}

/// As `execvpe(3)`: a name with a slash is a path, another is looked for in each directory of `path`.
fn exec_in_path(name: &CStr, path: &[u8], argv: &Strings<'_>, env: &Strings<'_>) -> Errno {
    if name.to_bytes().contains(&b'/') {
        return process::execve(name, argv, env);
    }
    let mut result = Errno::ENOENT;
    for dir in path.split(|&b| b == b':').filter(|d| !d.is_empty()) {
        let Ok(file) = CString::new([dir, b"/", name.to_bytes()].concat()) else { continue };
        match process::execve(&file, argv, env) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            other => result = other,
        }
    }
    result
}

fn describe(error: Errno) -> &'static str {
    match error {
        Errno::ENOENT => "not found",
        Errno::EACCES => "permission denied",
        Errno::ENOEXEC => "not a program that this kernel runs",
        other => other.name().unwrap_or("cannot be executed"),
    }
}
