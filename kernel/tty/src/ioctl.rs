//! The ioctls that every terminal knows. Source: tty_ioctl(4).

use crate::tty::Tty;
use abi::Errno;
use abi::errno::Result;
use abi::tty::*;
use alloc::sync::Arc;
use kcore::{Process, Thread};
use mem::user;

fn put(addr: usize, bytes: &[u8]) -> Result<usize> {
    user::write(addr, bytes).map(|()| 0).map_err(|_| Errno::EFAULT)
}

fn get<const N: usize>(addr: usize) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    user::read(addr, &mut bytes).map_err(|_| Errno::EFAULT)?;
    Ok(bytes)
}

fn put_int(addr: usize, value: i32) -> Result<usize> {
    put(addr, &value.to_ne_bytes())
}

fn caller() -> Result<Arc<Process>> {
    Ok(Thread::current().ok_or(Errno::ENOTTY)?.process().clone())
}

impl Tty {
    /// ioctl(2) on the terminal; for a master, on its slave. ENOTTY for what is no terminal's business.
    pub(crate) fn ioctl(self: &Arc<Self>, command: u32, argument: usize) -> Result<usize> {
        match command {
            TCGETS => put(argument, &self.termios().to_bytes()),
            TCGETS2 => self.get_termios2(argument),
            TCSETS | TCSETSW | TCSETSF => {
                self.change_termios(command - TCSETS, Termios::from_bytes(&get(argument)?))
            }
            TCSETS2 | TCSETSW2 | TCSETSF2 => {
                let bytes: [u8; 44] = get(argument)?;
                let mut old = [0; 36];
                old.copy_from_slice(&bytes[..36]);
                self.change_termios(command - TCSETS2, Termios::from_bytes(&old))
            }
            TIOCGWINSZ => self.get_winsize(argument),
            TIOCSWINSZ => self.put_winsize(argument),
            TIOCGPGRP => self.check_controls().and_then(|()| self.get_foreground(argument)),
            TIOCSPGRP => {
                self.check_change()?;
                let pgid = i32::from_ne_bytes(get(argument)?);
                self.set_foreground(&*caller()?, pgid).map(|()| 0)
            }
            TIOCGSID => self.check_controls().and_then(|()| self.get_session(argument)),
            TIOCSCTTY => {
                let privileged = Thread::current().is_some_and(|t| t.cred().capable(abi::cap::CAP_SYS_ADMIN));
                self.acquire(&*caller()?, argument == 1 && privileged).map(|()| 0)
            }
            TIOCNOTTY => self.release(&*caller()?).map(|()| 0),
            TIOCEXCL | TIOCNXCL => {
                self.control.lock().exclusive = command == TIOCEXCL;
                Ok(0)
            }
            FIONREAD => put_int(argument, self.available() as i32),
            TIOCOUTQ => put_int(argument, self.hardware().pending() as i32),
            TCFLSH => self.flush(argument),
            TCXONC => self.start_stop(argument),
            TCSBRK | TCSBRKP => {
                self.check_change()?;
                self.drain().map(|()| 0)
            }
            TIOCSTI => self.simulate_input(argument),
            TIOCGETD => put_int(argument, 0),
            TIOCSETD if i32::from_ne_bytes(get(argument)?) == 0 => Ok(0),
            TIOCSETD => Err(Errno::EINVAL),
            TIOCVHANGUP => {
                self.hang_up();
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn get_termios2(&self, argument: usize) -> Result<usize> {
        let mut bytes = [0; 44];
        bytes[..36].copy_from_slice(&self.termios().to_bytes());
        // c_ispeed and c_ospeed: what B38400 says; no line here has another speed.
        bytes[36..40].copy_from_slice(&38_400u32.to_ne_bytes());
        bytes[40..].copy_from_slice(&38_400u32.to_ne_bytes());
        put(argument, &bytes)
    }

    /// `how`: 0 now, 1 when the output is out, 2 also throws the input away.
    fn change_termios(&self, how: u32, termios: Termios) -> Result<usize> {
        self.check_change()?;
        if how > 0 {
            self.drain()?;
        }
        if how == 2 {
            self.flush_input();
        }
        self.set_termios(termios);
        Ok(0)
    }

    /// Waits until the output is out.
    pub(crate) fn drain(&self) -> Result<()> {
        let done = || (self.hardware().pending() == 0 || self.is_hung_up()).then_some(());
        self.write_wait.wait_until(task::WaitMode::Interruptible, None, done).map_err(|_| Errno::ERESTARTSYS)
    }

    fn get_winsize(&self, argument: usize) -> Result<usize> {
        let size = self.winsize();
        let mut bytes = [0; 8];
        for (at, value) in [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel].into_iter().enumerate()
        {
            bytes[at * 2..at * 2 + 2].copy_from_slice(&value.to_ne_bytes());
        }
        put(argument, &bytes)
    }

    fn put_winsize(&self, argument: usize) -> Result<usize> {
        let bytes: [u8; 8] = get(argument)?;
        let value = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let size = Winsize { ws_row: value(0), ws_col: value(2), ws_xpixel: value(4), ws_ypixel: value(6) };
        self.set_winsize(size);
        Ok(0)
    }

    /// TIOCGPGRP and TIOCGSID of a terminal tell only the session that it controls.
    fn check_controls(&self) -> Result<()> {
        if self.controls(&*caller()?) { Ok(()) } else { Err(Errno::ENOTTY) }
    }

    /// TIOCGPGRP: the foreground group, 0 without one. A master tells it to everybody.
    pub(crate) fn get_foreground(&self, argument: usize) -> Result<usize> {
        let group = self.control.lock().foreground.clone();
        put_int(argument, group.map_or(0, |group| group.pgid() as i32))
    }

    /// TIOCGSID. ENOTTY without a session.
    pub(crate) fn get_session(&self, argument: usize) -> Result<usize> {
        let session = self.control.lock().session.clone().ok_or(Errno::ENOTTY)?;
        put_int(argument, session.sid() as i32)
    }

    fn flush(&self, which: usize) -> Result<usize> {
        self.check_change()?;
        if which > TCIOFLUSH {
            return Err(Errno::EINVAL);
        }
        if which != TCOFLUSH {
            self.flush_input();
        }
        if which != TCIFLUSH {
            self.hardware().flush();
            self.output_ready();
        }
        Ok(0)
    }

    fn start_stop(&self, which: usize) -> Result<usize> {
        self.check_change()?;
        match which {
            TCOOFF => self.set_stopped(true),
            TCOON => self.set_stopped(false),
            // Sends the STOP or START character to the other side.
            TCIOFF | TCION => {
                let index = if which == TCIOFF { VSTOP } else { VSTART };
                let byte = self.termios().c_cc[index];
                if byte != 0 {
                    self.hardware().write(&[byte]);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    /// TIOCSTI: as if typed; only into one's own terminal, or by root.
    fn simulate_input(&self, argument: usize) -> Result<usize> {
        let thread = Thread::current().ok_or(Errno::EPERM)?;
        if !self.controls(thread.process()) && !thread.cred().capable(abi::cap::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let byte: [u8; 1] = get(argument)?;
        self.input(&byte);
        Ok(0)
    }
}
