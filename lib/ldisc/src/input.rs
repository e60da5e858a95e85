//! Input processing.
//!
//! ```text
//!   receive ──> translate (ICRNL ...) ──> signals, flow control ──> canonical: editing line ──newline──> ready
//!                                                              └──> raw: ready
//! ```

use crate::INPUT_MAX;
use crate::output::{Column, put};
use abi::tty::*;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What a byte of input asks the terminal to do besides reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    None,
    /// Readers have something new.
    Readable,
    /// SIGINT to the foreground process group.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTSTP.
    Suspend,
    /// Output stops (Ctrl-S) or goes on.
    StopOutput,
    StartOutput,
}

/// What a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// Bytes copied; 0 is end of file.
    Bytes(usize),
    /// Nothing to read yet.
    Empty,
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// One terminal's line discipline.
#[derive(Debug)]
pub struct LineDiscipline {
    termios: Termios,
    /// Input that a read may take. In canonical mode whole lines only.
    ready: VecDeque<u8>,
    /// Canonical mode: lengths of the lines in `ready`, an end-of-file line without its newline.
    lines: VecDeque<usize>,
    /// The line being edited.
    editing: Vec<u8>,
    /// The next byte is taken literally (VLNEXT).
    literal: bool,
    column: Column,
    /// Column where the line being edited began.
    line_column: usize,
}

impl Default for LineDiscipline {
    fn default() -> Self {
        LineDiscipline::new()
    }
}

impl LineDiscipline {
    pub fn new() -> LineDiscipline {
        LineDiscipline {
            termios: Termios::STANDARD,
            ready: VecDeque::new(),
            lines: VecDeque::new(),
            editing: Vec::new(),
            literal: false,
            column: Column::default(),
            line_column: 0,
        }
    }

    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings. What was typed stays readable: leaving canonical mode makes the unfinished
    /// line raw input, entering it makes raw input a line.
    pub fn set_termios(&mut self, termios: Termios) {
        let was = self.is_canonical();
        self.termios = termios;
        if was && !self.is_canonical() {
            self.ready.extend(self.editing.drain(..));
            self.lines.clear();
        } else if !was && self.is_canonical() && !self.ready.is_empty() {
            self.lines.push_back(self.ready.len());
        }
    }

    fn is_canonical(&self) -> bool {
        self.local(ICANON)
    }

    fn local(&self, flag: u32) -> bool {
        self.termios.c_lflag & flag != 0
    }

    fn input(&self, flag: u32) -> bool {
        self.termios.c_iflag & flag != 0
    }

    /// Whether `byte` is the control character at `index` (0 disables one).
    fn is_char(&self, byte: u8, index: usize) -> bool {
        byte != 0 && byte == self.termios.c_cc[index]
    }

    /// Bytes that a read would get now (FIONREAD).
    pub fn available(&self) -> usize {
        if self.is_canonical() { self.lines.front().copied().unwrap_or(0) } else { self.ready.len() }
    }

    /// Whether a read returns at once: a line (or end of file), or `VMIN` raw bytes.
    pub fn is_readable(&self) -> bool {
        if self.is_canonical() {
            return !self.lines.is_empty();
        }
        // With a timer VMIN counts only once reading has begun.
        let [vmin, vtime] = [self.termios.c_cc[VMIN], self.termios.c_cc[VTIME]];
        let wanted = if vtime == 0 { usize::from(vmin) } else { 1 };
        self.ready.len() >= wanted.max(1)
    }

    /// Room for input; 0 makes a driver hold its bytes back.
    pub fn room(&self) -> usize {
        (INPUT_MAX - 1).saturating_sub(self.ready.len() + self.editing.len())
    }

    /// Takes input out. Canonical: at most one line.
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let limit = if self.is_canonical() {
            match self.lines.front() {
                Some(&line) => line,
                None => return ReadOutcome::Empty,
            }
        } else if self.ready.is_empty() {
            return ReadOutcome::Empty;
        } else {
            self.ready.len()
        };
        let count = limit.min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(self.ready.drain(..count)) {
            *slot = byte;
        }
        self.consume_line(count);
        ReadOutcome::Bytes(count)
    }

    fn consume_line(&mut self, count: usize) {
        if let Some(line) = self.lines.front_mut() {
            *line -= count;
            if *line == 0 {
                self.lines.pop_front();
            }
        }
    }

    /// Throws unread input away (TCFLSH).
    pub fn flush_input(&mut self) {
        self.ready.clear();
        self.lines.clear();
        self.editing.clear();
        self.literal = false;
    }

    /// A program's output: bytes for the terminal go to `sink`.
    pub fn write(&mut self, bytes: &[u8], sink: Sink) {
        if self.termios.c_oflag & OPOST == 0 {
            return sink(bytes);
        }
        for &byte in bytes {
            put(&self.termios, &mut self.column, byte, sink);
        }
    }

    /// One byte from the terminal. Echo goes to `sink`.
    pub fn receive(&mut self, byte: u8, sink: Sink) -> Event {
        let byte = if self.input(ISTRIP) { byte & 0x7f } else { byte };
        if core::mem::take(&mut self.literal) {
            return self.accept(byte, sink);
        }
        let byte = match byte {
            b'\r' if self.input(IGNCR) => return Event::None,
            b'\r' if self.input(ICRNL) => b'\n',
            b'\n' if self.input(INLCR) => b'\r',
            byte if self.input(IUCLC) && self.local(IEXTEN) => byte.to_ascii_lowercase(),
            byte => byte,
        };
        if let Some(event) = self.flow_control(byte) {
            return event;
        }
        if let Some(event) = self.signal(byte, sink) {
            return event;
        }
        if self.is_canonical() { self.edit(byte, sink) } else { self.accept(byte, sink) }
    }

    fn flow_control(&self, byte: u8) -> Option<Event> {
        if !self.input(IXON) {
            return None;
        }
        if self.is_char(byte, VSTART) {
            return Some(Event::StartOutput);
        }
        self.is_char(byte, VSTOP).then_some(Event::StopOutput)
    }

    fn signal(&mut self, byte: u8, sink: Sink) -> Option<Event> {
        if !self.local(ISIG) {
            return None;
        }
        let events = [(VINTR, Event::Interrupt), (VQUIT, Event::Quit), (VSUSP, Event::Suspend)];
        let (_, event) = events.into_iter().find(|&(index, _)| self.is_char(byte, index))?;
        if !self.local(NOFLSH) {
            self.flush_input();
        }
        self.echo(byte, sink);
        Some(event)
    }

    /// Canonical mode: editing keys and line ends.
    fn edit(&mut self, byte: u8, sink: Sink) -> Event {
        if self.is_char(byte, VERASE) {
            self.erase_char(sink);
        } else if self.is_char(byte, VKILL) {
            self.erase_line(sink);
        } else if self.local(IEXTEN) && self.is_char(byte, VWERASE) {
            self.erase_word(sink);
        } else if self.local(IEXTEN) && self.is_char(byte, VLNEXT) {
            self.literal = true;
            if self.local(ECHO) && self.local(ECHOCTL) {
                self.send(b"^\x08", sink);
            }
        } else if self.local(IEXTEN) && self.local(ECHO) && self.is_char(byte, VREPRINT) {
            self.reprint(byte, sink);
        } else if self.is_char(byte, VEOF) {
            return self.end_line(None);
        } else if byte == b'\n' {
            if self.local(ECHO) || self.local(ECHONL) {
                self.send(b"\n", sink);
            }
            return self.end_line(Some(byte));
        } else if self.is_char(byte, VEOL) || (self.local(IEXTEN) && self.is_char(byte, VEOL2)) {
            self.echo(byte, sink);
            return self.end_line(Some(byte));
        } else {
            return self.accept(byte, sink);
        }
        Event::None
    }

    /// Puts an ordinary byte into the line or the raw input.
    fn accept(&mut self, byte: u8, sink: Sink) -> Event {
        // The last place of a full line is kept for its end.
        if self.room() <= 1 {
            if self.input(IMAXBEL) || self.is_canonical() {
                sink(b"\x07");
            }
            return Event::None;
        }
        if !self.is_canonical() {
            self.ready.push_back(byte);
            self.echo(byte, sink);
            return Event::Readable;
        }
        if self.editing.is_empty() {
            self.line_column = self.column.0;
        }
        self.editing.push(byte);
        self.echo(byte, sink);
        Event::None
    }

    fn end_line(&mut self, end: Option<u8>) -> Event {
        self.editing.extend(end);
        self.lines.push_back(self.editing.len());
        self.ready.extend(self.editing.drain(..));
        Event::Readable
    }

    /// Sends bytes through output processing.
    fn send(&mut self, bytes: &[u8], sink: Sink) {
        for &byte in bytes {
            put(&self.termios, &mut self.column, byte, sink);
        }
    }

    fn echo(&mut self, byte: u8, sink: Sink) {
        if !self.local(ECHO) {
            return;
        }
        if self.shown_with_caret(byte) {
            self.send(&[b'^', byte ^ 0x40], sink);
        } else {
            self.send(&[byte], sink);
        }
    }

    fn shown_with_caret(&self, byte: u8) -> bool {
        self.local(ECHOCTL) && (byte < 0x20 || byte == 0x7f) && byte != b'\t' && byte != b'\n'
    }

    /// Columns that `bytes` take when echoed from `column` on.
    fn echoed_to(&self, mut column: Column, bytes: &[u8]) -> usize {
        for &byte in bytes {
            if self.shown_with_caret(byte) {
                column.0 += 2;
            } else {
                column.advance(byte);
            }
        }
        column.0
    }

    /// Takes the last character of the line away (with IUTF8: all of its bytes); whether there was one.
    fn pop_char(&mut self) -> bool {
        let Some(mut last) = self.editing.pop() else { return false };
        while self.input(IUTF8) && last & 0xc0 == 0x80 {
            match self.editing.pop() {
                Some(byte) => last = byte,
                None => break,
            }
        }
        true
    }

    fn erase_char(&mut self, sink: Sink) {
        let before = self.echoed_to(Column(self.line_column), &self.editing);
        if self.pop_char() && self.local(ECHO) {
            self.rub_out(before, sink);
        }
    }

    fn erase_word(&mut self, sink: Sink) {
        let before = self.echoed_to(Column(self.line_column), &self.editing);
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        while self.editing.last().is_some_and(|byte| !word(byte)) {
            self.editing.pop();
        }
        while self.editing.last().is_some_and(word) {
            self.editing.pop();
        }
        if self.local(ECHO) {
            self.rub_out(before, sink);
        }
    }

    fn erase_line(&mut self, sink: Sink) {
        let before = self.echoed_to(Column(self.line_column), &self.editing);
        self.editing.clear();
        if !self.local(ECHO) {
            return;
        }
        if self.local(ECHOK) && self.local(ECHOKE) && self.local(ECHOE) {
            self.rub_out(before, sink);
        } else {
            let kill = self.termios.c_cc[VKILL];
            self.echo(kill, sink);
            if self.local(ECHOK) {
                self.send(b"\n", sink);
            }
        }
    }

    /// Makes the screen show the shortened line; the cursor stood at column `before`.
    fn rub_out(&mut self, before: usize, sink: Sink) {
        if !self.local(ECHOE) {
            let erase = self.termios.c_cc[VERASE];
            return self.echo(erase, sink);
        }
        let after = self.echoed_to(Column(self.line_column), &self.editing);
        for _ in after..before {
            self.send(b"\x08 \x08", sink);
        }
    }

    fn reprint(&mut self, byte: u8, sink: Sink) {
        self.echo(byte, sink);
        self.send(b"\n", sink);
        self.line_column = self.column.0;
        for byte in self.editing.clone() {
            self.echo(byte, sink);
        }
    }
}
