//! Record locks on the server: for clients of other machines. Those of this one were sorted out by the file layer.

use crate::io::OpenFid;
use abi::{Errno, errno::Result};
use p9wire::{Lock as Range, Message, lock};
use task::WaitMode;
use vfs::locks::{Kind, Lock, LockOwner};

/// Who we are among the server's clients; what Linux sends is the machine's name.
const CLIENT: &[u8] = b"ochre";
/// A server that does not wait itself is asked again after this long, as Linux does.
const AGAIN_NS: u64 = 30_000_000_000;

fn range((start, end): (u64, u64), pid: i32) -> Range {
    // Length 0 is to the end, wherever that is.
    let length = if end >= i64::MAX as u64 { 0 } else { end - start + 1 };
    Range { start, length, proc_id: pid as u32 }
}

fn number(kind: Option<Kind>) -> u8 {
    match kind {
        Some(Kind::Read) => lock::READ,
        Some(Kind::Write) => lock::WRITE,
        None => lock::UNLOCK,
    }
}

impl OpenFid {
    /// Asks for a lock, or gives it up. EAGAIN, ENOLCK; EINTR and ERESTARTSYS while waiting.
    pub fn lock(&self, pid: i32, span: (u64, u64), kind: Option<Kind>, wait: bool) -> Result<()> {
        let flags = if wait { lock::BLOCK } else { 0 };
        let (fid, range) = (self.fid.number(), range(span, pid));
        let ask = Message::Tlock { fid, kind: number(kind), flags, range, client: CLIENT };
        loop {
            let status = self.fid.client().rpc(&ask, |answer| match answer {
                Message::Rlock { status } => Some(*status),
                _ => None,
            });
            match status? {
                lock::SUCCESS => return Ok(()),
                lock::BLOCKED if wait => pause()?,
                lock::BLOCKED => return Err(Errno::EAGAIN),
                _ => return Err(Errno::ENOLCK),
            }
        }
    }

    /// What is in the way of a lock, if anything is.
    pub fn get_lock(&self, wanted: &Lock<LockOwner>) -> Result<Option<Lock<LockOwner>>> {
        let range = range((wanted.start, wanted.end), wanted.owner.pid);
        let (fid, kind) = (self.fid.number(), number(Some(wanted.kind)));
        let ask = Message::Tgetlock { fid, kind, range, client: CLIENT };
        self.fid.client().rpc(&ask, |answer| match *answer {
            Message::Rgetlock { kind: lock::UNLOCK, .. } => Some(None),
            Message::Rgetlock { kind, range, .. } => {
                let kind = if kind == lock::READ { Kind::Read } else { Kind::Write };
                let end = range.start.checked_add(range.length.checked_sub(1).unwrap_or(u64::MAX));
                let (end, owner) = (end.unwrap_or(u64::MAX), LockOwner::remote(range.proc_id as i32));
                Some(Some(Lock { start: range.start, end, kind, owner }))
            }
            _ => None,
        })
    }
}

fn pause() -> Result<()> {
    let deadline_ns = arch::timer::now_ns() + AGAIN_NS;
    match task::wait_alone(&"p9_lock", WaitMode::Interruptible, Some(deadline_ns), || None::<()>) {
        Err(task::WaitEnd::Signal) => Err(Errno::ERESTARTSYS),
        _ => Ok(()),
    }
}
