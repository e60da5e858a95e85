//! The terminal itself: discipline, output, hang-up.

use crate::control::Control;
use abi::stat::DevId;
use abi::tty::{ICANON, NOFLSH, Termios, VMIN, VTIME, Winsize};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use kcore::signal::{SigInfo, send_group};
use ldisc::{Event, LineDiscipline, ReadOutcome};
use sync::levels::{DeviceTable, TerminalLine};
use sync::{Once, SpinLock};
use task::WaitQueue;

/// What a terminal's output goes to. All functions: any context, must not sleep.
pub trait Hardware: Send + Sync {
    /// Takes as many bytes as there is room for; says how many.
    fn write(&self, bytes: &[u8]) -> usize;
    /// How many bytes `write` would take.
    fn room(&self) -> usize;
    /// Bytes taken but not out yet (TIOCOUTQ).
    fn pending(&self) -> usize;
    /// Throws away what is not out yet (TCFLSH).
    fn flush(&self);
    /// The settings changed.
    fn set_termios(&self, _old: &Termios, _new: &Termios) {}
    /// Ctrl-S or its like stopped the output, or let it go on.
    fn flow_changed(&self, _stopped: bool) {}
    /// Input that nobody has read was thrown away.
    fn input_flushed(&self) {}
    /// A key sent a signal, and input was thrown away for it; output that is on its way should be, too.
    fn interrupted(&self) {}
    /// There is room for input again after [`Tty::input`] took less than it was given.
    fn input_wanted(&self) {}
}

/// A program's output is processed in pieces of this many bytes; each may grow eightfold (tabs).
const CHUNK: usize = 64;
const GROWTH: usize = 8;

/// A terminal. Lives as long as its device or any open file.
pub struct Tty {
    /// "ttyS0", "pts/3".
    pub name: String,
    pub dev: DevId,
    hardware: Arc<dyn Hardware>,
    line: SpinLock<LineDiscipline, TerminalLine>,
    pub(crate) control: SpinLock<Control, TerminalLine>,
    pub(crate) read_wait: Arc<WaitQueue>,
    pub(crate) write_wait: Arc<WaitQueue>,
    /// Ctrl-S holds the output.
    stopped: AtomicBool,
    /// The other side is gone: reads see the end, writes EIO.
    hung_up: AtomicBool,
    /// Open files.
    pub(crate) opens: AtomicUsize,
}

impl Tty {
    pub fn new(name: String, dev: DevId, hardware: Arc<dyn Hardware>) -> Arc<Tty> {
        Arc::new(Tty {
            name,
            dev,
            hardware,
            line: SpinLock::new(LineDiscipline::new()),
            control: SpinLock::new(Control::default()),
            read_wait: Arc::new(WaitQueue::new(&"n_tty_read")),
            write_wait: Arc::new(WaitQueue::new(&"n_tty_write")),
            stopped: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            opens: AtomicUsize::new(0),
        })
    }

    pub fn is_hung_up(&self) -> bool {
        self.hung_up.load(SeqCst)
    }

    /// A new open of a device that was hung up starts afresh.
    pub(crate) fn revive(&self) {
        self.hung_up.store(false, SeqCst);
    }

    pub fn termios(&self) -> Termios {
        *self.line.lock().termios()
    }

    pub fn set_termios(&self, termios: Termios) {
        let mut line = self.line.lock();
        let old = *line.termios();
        line.set_termios(termios);
        drop(line);
        self.hardware.set_termios(&old, &termios);
        self.read_wait.wake_all();
    }

    pub(crate) fn hardware(&self) -> &Arc<dyn Hardware> {
        &self.hardware
    }

    /// Takes bytes from the device or the master: echoes, signals, wakes readers. Returns how many were
    /// taken; less than given only in raw mode with nobody reading. Process context.
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        let mut events = Vec::new();
        let mut line = self.line.lock();
        let raw = line.termios().c_lflag & ICANON == 0;
        for &byte in bytes {
            if raw && line.room() <= 1 {
                break;
            }
            taken += 1;
            let event = self.receive(&mut line, byte);
            if event != Event::None && events.last() != Some(&event) {
                events.push(event);
            }
        }
        drop(line);
        for event in events {
            self.act(event);
        }
        taken
    }

    /// One byte of input. What a signal throws away does not include the echo of its own key.
    fn receive(&self, line: &mut LineDiscipline, byte: u8) -> Event {
        let mut held = [0; 8];
        let mut len = 0;
        let event = line.receive(byte, &mut |echo| match held.get_mut(len..len + echo.len()) {
            Some(room) => {
                room.copy_from_slice(echo);
                len += echo.len();
            }
            None => {
                self.hardware.write(&held[..len]);
                self.hardware.write(echo);
                len = 0;
            }
        });
        let signals = matches!(event, Event::Interrupt | Event::Quit | Event::Suspend);
        if signals && line.termios().c_lflag & NOFLSH == 0 {
            self.hardware.interrupted();
        }
        self.hardware.write(&held[..len]);
        event
    }

    fn act(&self, event: Event) {
        use abi::signal::{SIGINT, SIGQUIT, SIGTSTP};
        match event {
            Event::None => {}
            Event::Readable => self.read_wait.wake_all(),
            Event::Interrupt => self.signal_foreground(SIGINT),
            Event::Quit => self.signal_foreground(SIGQUIT),
            Event::Suspend => self.signal_foreground(SIGTSTP),
            Event::StopOutput => self.set_stopped(true),
            Event::StartOutput => self.set_stopped(false),
        }
    }

    pub(crate) fn signal_foreground(&self, signal: u32) {
        let group = self.control.lock().foreground.clone();
        if let Some(group) = group {
            send_group(&group, SigInfo::kernel(signal));
        }
    }

    /// Holds the output, or lets it go on (Ctrl-S, Ctrl-Q, TCXONC).
    pub fn set_stopped(&self, on: bool) {
        if self.stopped.swap(on, SeqCst) != on {
            self.hardware.flow_changed(on);
        }
        if !on {
            self.write_wait.wake_all();
        }
    }

    pub fn is_readable(&self) -> bool {
        self.is_hung_up() || self.line.lock().is_readable()
    }

    pub fn is_writable(&self) -> bool {
        self.is_hung_up() || (!self.stopped.load(SeqCst) && self.hardware.room() >= CHUNK * GROWTH)
    }

    /// Bytes a read would get (FIONREAD).
    pub fn available(&self) -> usize {
        self.line.lock().available()
    }

    /// Takes input out, if there is as much as the settings ask for. `waited`: VTIME has run out, or
    /// the first byte need not be waited for.
    pub(crate) fn try_read(&self, buffer: &mut [u8], waited: bool) -> ReadOutcome {
        let mut line = self.line.lock();
        let termios = line.termios();
        let raw = termios.c_lflag & ICANON == 0;
        let vmin = usize::from(termios.c_cc[VMIN]);
        let enough = vmin.min(buffer.len()).max(1);
        if raw && line.available() < enough && !waited {
            return ReadOutcome::Empty;
        }
        let outcome = line.read(buffer);
        drop(line);
        if matches!(outcome, ReadOutcome::Bytes(1..)) {
            self.hardware.input_wanted();
        }
        outcome
    }

    /// Whether input is taken now: in canonical mode always (what does not fit is answered by a bell).
    pub fn has_room(&self) -> bool {
        self.input_room() > 0
    }

    /// Bytes of input that are surely taken.
    pub(crate) fn input_room(&self) -> usize {
        let line = self.line.lock();
        if line.termios().c_lflag & ICANON != 0 { usize::MAX } else { line.room().saturating_sub(1) }
    }

    /// `(VMIN, VTIME in tenths of a second)` in raw mode.
    pub(crate) fn raw_timing(&self) -> Option<(u8, u8)> {
        let termios = self.termios();
        (termios.c_lflag & ICANON == 0).then_some((termios.c_cc[VMIN], termios.c_cc[VTIME]))
    }

    /// Sends a program's bytes as far as there is room; 0: none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        for chunk in bytes.chunks(CHUNK) {
            if self.stopped.load(SeqCst) {
                break;
            }
            let mut line = self.line.lock();
            if self.hardware.room() < chunk.len() * GROWTH {
                break;
            }
            let mut out = [0; CHUNK * GROWTH];
            let mut len = 0;
            line.write(chunk, &mut |bytes| {
                out[len..len + bytes.len()].copy_from_slice(bytes);
                len += bytes.len();
            });
            self.hardware.write(&out[..len]);
            sent += chunk.len();
        }
        sent
    }

    /// The device has room again.
    pub fn output_ready(&self) {
        self.write_wait.wake_all();
    }

    pub(crate) fn flush_input(&self) {
        self.line.lock().flush_input();
        self.hardware.input_flushed();
        self.hardware.input_wanted();
    }

    pub fn winsize(&self) -> Winsize {
        self.control.lock().winsize
    }

    /// Sets the window size; a change sends SIGWINCH to the foreground group.
    pub fn set_winsize(&self, size: Winsize) {
        let old = core::mem::replace(&mut self.control.lock().winsize, size);
        if old != size {
            self.signal_foreground(abi::signal::SIGWINCH);
        }
    }

    /// The other side is gone for good: the session's leader gets SIGHUP and SIGCONT, everybody who
    /// waits wakes. vhangup(2), closing of a master.
    pub fn hang_up(self: &Arc<Self>) {
        self.hung_up.store(true, SeqCst);
        self.disconnect_session();
        self.read_wait.wake_all();
        self.write_wait.wake_all();
    }
}

static TERMINALS: SpinLock<Vec<Arc<Tty>>, DeviceTable> = SpinLock::new(Vec::new());
static CONSOLE: Once<Arc<Tty>> = Once::new();

/// Makes a terminal of a device known by its number. Pseudo-terminals come and go and are not kept here.
pub fn register(tty: Arc<Tty>) {
    TERMINALS.lock().push(tty);
}

/// The terminal with a device number.
pub fn by_device(dev: DevId) -> Option<Arc<Tty>> {
    TERMINALS.lock().iter().find(|tty| tty.dev == dev).cloned()
}

/// Every terminal of a device.
pub(crate) fn for_each(mut look: impl FnMut(&Arc<Tty>)) {
    let terminals = TERMINALS.lock().clone();
    terminals.iter().for_each(&mut look);
}

/// Says which terminal /dev/console is. Once.
pub fn set_console(tty: Arc<Tty>) {
    let _ = CONSOLE.set(tty);
}

pub fn console() -> Option<&'static Arc<Tty>> {
    CONSOLE.get()
}
