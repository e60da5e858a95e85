//! A check often needs another process or thread to stand in a system call. How long it takes to get there is not
//! known on a loaded machine, so nobody sleeps "long enough": [`until`] looks at the state that /proc tells.

use alloc::format;
use alloc::string::String;
use core::ffi::CStr;
use rt::process::Pid;
use rt::{Errno, Result, fs, time};

/// The letter of a thread's state in /proc; `None` when it is gone.
pub fn letter(tid: Pid) -> Option<char> {
    let path = format!("/proc/{tid}/stat\0");
    let bytes = fs::read_file(CStr::from_bytes_with_nul(path.as_bytes()).ok()?).ok()?;
    String::from_utf8_lossy(&bytes).rsplit_once(") ")?.1.chars().next()
}

/// Waits until a thread is in a state; ESRCH when it is gone.
pub fn until(tid: Pid, wanted: char) -> Result<()> {
    loop {
        match letter(tid) {
            Some(letter) if letter == wanted => return Ok(()),
            Some(_) => time::sleep_ns(1_000_000),
            None => return Err(Errno::ESRCH),
        }
    }
}

/// Waits until a thread sleeps in a system call that a signal can end.
pub fn until_asleep(tid: Pid) -> Result<()> {
    until(tid, 'S')
}
