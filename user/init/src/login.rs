//! Who is logged in, for who(1) and w(1).
//!
//! A login program would note the shell in utmp(5); here there is none, so it is the first process that does. The record is
//! glibc's for x86-64 and riscv64, whose times have 32 bits.

use alloc::vec::Vec;

use rt::process::Pid;
use rt::{Result, fs, nr, time};

const USER_PROCESS: u16 = 7;
const USER: &[u8] = b"root";
/// Bytes of a record, and where its parts are.
const SIZE: usize = 384;
const AT_PID: usize = 4;
const AT_LINE: usize = 8;
const AT_ID: usize = 40;
const AT_USER: usize = 44;
const AT_SESSION: usize = 336;
const AT_SECONDS: usize = 340;
const LINE_LEN: usize = 32;
const ID_LEN: usize = 4;

/// Notes root's session with the leader `pid` on the terminal that is standard input. Nobody else is there yet.
pub fn note(pid: Pid) -> Result<()> {
    let mut path = [0; 64];
    let path = fs::readlink(c"/proc/self/fd/0", &mut path)?;
    let line = path.strip_prefix(b"/dev/").unwrap_or(path);
    let seconds = time::clock_ns(nr::CLOCK_REALTIME)? / 1_000_000_000;
    fs::write_file(c"/run/utmp", &record(pid, line, seconds))
}

fn record(pid: Pid, line: &[u8], seconds: u64) -> Vec<u8> {
    let mut record = Vec::from([0; SIZE]);
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    // What remains of a long name is its end, which tells terminals apart.
    let id = &line[line.len().saturating_sub(ID_LEN)..];
    put(0, &USER_PROCESS.to_ne_bytes());
    put(AT_PID, &(pid as u32).to_ne_bytes());
    put(AT_LINE, &line[..line.len().min(LINE_LEN)]);
    put(AT_ID, id);
    put(AT_USER, USER);
    put(AT_SESSION, &(pid as u32).to_ne_bytes());
    put(AT_SECONDS, &(seconds as u32).to_ne_bytes());
    record
}
