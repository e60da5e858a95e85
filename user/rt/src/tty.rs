//! Terminals: modes, size, the controlling terminal (`ioctl_tty(2)`).

use core::mem::MaybeUninit;

use crate::io::Fd;
use crate::nr::*;
use crate::process::Pid;
use crate::uapi::ioctl::*;
use crate::{Result, syscall};

pub use crate::nr::{termios as Termios, winsize as WinSize};

/// `TCGETS`.
pub fn attributes(fd: Fd) -> Result<Termios> {
    let mut attributes = MaybeUninit::<Termios>::zeroed();
    // SAFETY: 1. the kernel writes one `termios`.
    unsafe { syscall!(__NR_ioctl, fd, TCGETS, attributes.as_mut_ptr()) }?;
    // SAFETY: 1. all its fields are integers, zeroed and then written.
    Ok(unsafe { attributes.assume_init() })
}

/// `TCSETS`.
pub fn set_attributes(fd: Fd, attributes: &Termios) -> Result<()> {
    // SAFETY: 1. the kernel reads one `termios`.
    unsafe { syscall!(__NR_ioctl, fd, TCSETS, &raw const *attributes) }.map(drop)
}

/// As `cfmakeraw(3)`, with one byte enough for a read, at 115200 baud: an emulated UART, too, holds back a
/// character's time what does not fill its queue.
pub fn make_raw(attributes: &mut Termios) {
    attributes.c_iflag &= !(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    attributes.c_oflag &= !OPOST;
    attributes.c_lflag &= !(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    attributes.c_cflag = attributes.c_cflag & !(CSIZE | PARENB | CBAUD) | CS8 | B115200;
    attributes.c_cc[VMIN as usize] = 1;
    attributes.c_cc[VTIME as usize] = 0;
}

/// `TIOCGWINSZ`.
pub fn window_size(fd: Fd) -> Result<WinSize> {
    let mut size = MaybeUninit::<WinSize>::zeroed();
    // SAFETY: 1. the kernel writes one `winsize`.
    unsafe { syscall!(__NR_ioctl, fd, TIOCGWINSZ, size.as_mut_ptr()) }?;
    // SAFETY: 1. all its fields are integers, zeroed and then written.
    Ok(unsafe { size.assume_init() })
}

/// `TIOCSWINSZ`.
pub fn set_window_size(fd: Fd, rows: u16, cols: u16) -> Result<()> {
    let size = WinSize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: 1. the kernel reads one `winsize`.
    unsafe { syscall!(__NR_ioctl, fd, TIOCSWINSZ, &raw const size) }.map(drop)
}

/// `TIOCSCTTY`: makes the terminal the controlling one of the caller, a session leader.
pub fn set_controlling(fd: Fd) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(__NR_ioctl, fd, TIOCSCTTY, 0) }.map(drop)
}

/// `TIOCSPGRP` (`tcsetpgrp(3)`).
pub fn set_foreground(fd: Fd, group: Pid) -> Result<()> {
    // SAFETY: 1. the kernel reads one int.
    unsafe { syscall!(__NR_ioctl, fd, TIOCSPGRP, &raw const group) }.map(drop)
}

/// `TIOCGPGRP` (`tcgetpgrp(3)`).
pub fn foreground(fd: Fd) -> Result<Pid> {
    let mut group: Pid = 0;
    // SAFETY: 1. the kernel writes one int.
    unsafe { syscall!(__NR_ioctl, fd, TIOCGPGRP, &raw mut group) }?;
    Ok(group)
}

/// `TIOCGSID` (`tcgetsid(3)`).
pub fn session(fd: Fd) -> Result<Pid> {
    let mut session: Pid = 0;
    // SAFETY: 1. the kernel writes one int.
    unsafe { syscall!(__NR_ioctl, fd, TIOCGSID, &raw mut session) }?;
    Ok(session)
}

/// `TIOCSPTLCK` and `TIOCGPTN`: unlocks the other side of pseudo-terminal master `fd` and answers its number
/// in `/dev/pts`.
pub fn unlock_pty(fd: Fd) -> Result<u32> {
    let locked = 0i32;
    let mut number = 0u32;
    // SAFETY: 1. the kernel reads one int, and writes one.
    unsafe {
        syscall!(__NR_ioctl, fd, TIOCSPTLCK, &raw const locked)?;
        syscall!(__NR_ioctl, fd, TIOCGPTN, &raw mut number)?;
    }
    Ok(number)
}
