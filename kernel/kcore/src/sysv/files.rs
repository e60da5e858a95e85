//! /proc/sysvipc and the limits in /proc/sys/kernel.

use super::{msg, sem, shm};
use crate::Result;
use abi::Errno;
use abi::ipc::{MSGMAX, MSGMNB, MSGMNI, SEMMNI, SEMMNS, SEMMSL, SEMOPM};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use kernfs::{Meta, Next, Node, PROC, RecordSource, Records, TextBuf, knob, text, written};
use vfs::Caller;

/// Writes the line of the first object at or after a place, and says which place comes next.
type Line = fn(usize, &mut dyn Write) -> Option<(usize, fmt::Result)>;

const MESSAGES: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      \
    stime      rtime      ctime\n";
const SEMAPHORES: &str =
    "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const SEGMENTS: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
    atime      dtime      ctime                   rss                  swap\n";

/// Registers the files. Boot.
pub fn init() {
    for (name, header, line) in [
        ("sysvipc/msg", MESSAGES, msg::line as Line),
        ("sysvipc/sem", SEMAPHORES, sem::line as Line),
        ("sysvipc/shm", SEGMENTS, shm::line as Line),
    ] {
        PROC.add(name, Node::Records(Arc::new(Table { header, line })));
    }
    PROC.add("sys/kernel/shmmax", limit(shm::max_bytes, shm::set_max_bytes));
    PROC.add("sys/kernel/shmall", limit(shm::max_pages, shm::set_max_pages));
    PROC.add("sys/kernel/shm_rmid_forced", limit(shm::rmid_forced, shm::set_rmid_forced));
    PROC.add("sys/kernel/shmmni", limit(shm::max_segments, shm::set_max_segments));
    PROC.add("sys/kernel/msgmax", text(|out| writeln!(out, "{MSGMAX}")));
    PROC.add("sys/kernel/msgmnb", text(|out| writeln!(out, "{MSGMNB}")));
    PROC.add("sys/kernel/msgmni", text(|out| writeln!(out, "{MSGMNI}")));
    PROC.add("sys/kernel/sem", text(|out| writeln!(out, "{SEMMSL}\t{SEMMNS}\t{SEMOPM}\t{SEMMNI}")));
}

fn limit(show: fn() -> u64, store: fn(u64) -> Result<()>) -> Node {
    let store = move |text: &str| store(text.parse().map_err(|_| Errno::EINVAL)?);
    knob(0o644, move |out| writeln!(out, "{}", show()), store)
}

/// The objects of a kind.
#[derive(Clone, Copy)]
struct Table {
    header: &'static str,
    line: Line,
}

impl Meta for Table {
    fn mode(&self) -> u32 {
        0o444
    }
}

impl Records for Table {
    fn open(&self, _caller: &Caller) -> Result<Box<dyn RecordSource>> {
        Ok(Box::new(*self))
    }
}

/// Record 0 is the header; record `n + 1` starts to look at place `n`.
impl RecordSource for Table {
    fn next(&self, cursor: u64, out: &mut TextBuf) -> Result<Next> {
        let Some(from) = cursor.checked_sub(1) else {
            written(out.write_str(self.header))?;
            return Ok(Next::At(1));
        };
        match (self.line)(from as usize, out) {
            None => Ok(Next::End),
            Some((next, result)) => {
                written(result)?;
                Ok(Next::At(next as u64 + 1))
            }
        }
    }
}
