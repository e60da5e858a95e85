//! What the runner says while a person has the console: another line, on which nothing but frames comes.

use alloc::ffi::CString;

use rt::io::Fd;
use rt::{fs, io, nr, tty};
use wire::{Decoder, Event, Kind};

use crate::console;

/// The line to the runner, where there is one.
pub struct Control {
    line: Fd,
    console: Fd,
    decoder: Decoder,
}

impl Control {
    /// Opens it. The console is opened too, for its size.
    pub fn open() -> Option<Control> {
        let path = CString::new(wire::CONTROL_DEVICE).ok()?;
        let flags = nr::O_RDWR | nr::O_NOCTTY | nr::O_NONBLOCK | nr::O_CLOEXEC;
        let line = fs::open(&path, flags, 0).ok()?;
        console::make_raw(line);
        let console = console::open().ok()?;
        Some(Control { line, console, decoder: Decoder::default() })
    }

    /// What [`hear`](Self::hear) waits for.
    pub fn poll_fd(&self) -> io::PollFd {
        io::poll_fd(self.line, nr::POLLIN)
    }

    /// Does what has come; false when nothing will come any more.
    pub fn hear(&mut self) -> bool {
        let mut buf = [0; 256];
        let len = match io::read(self.line, &mut buf) {
            Ok(0) => return false,
            Ok(len) => len,
            Err(rt::Errno::EAGAIN | rt::Errno::EINTR) => return true,
            Err(_) => return false,
        };
        let console = self.console;
        self.decoder.feed(&buf[..len], |event| {
            if let Event::Frame(Kind::Window, &[a, b, c, d]) = event {
                let (rows, cols) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                // Whoever has the console in the foreground learns of it by SIGWINCH.
                let _ = tty::set_window_size(console, rows, cols);
            }
        });
        true
    }
}
