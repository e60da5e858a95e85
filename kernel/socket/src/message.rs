//! What travels: bytes in user memory, an address, control data.

use crate::Socket;
use abi::Errno;
use abi::errno::Result;
use abi::socket::{CmsgHdr, SCM_CREDENTIALS, SCM_MAX_FD, SCM_RIGHTS, SOL_SOCKET, Ucred};
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::{File, IoBuf};

/// Who sent a message: `struct ucred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Credentials {
    /// Of nobody: what a receiver sees that asked too late.
    pub const NOBODY: Credentials = Credentials { pid: 0, uid: 65_534, gid: 65_534 };

    pub fn to_bytes(self) -> [u8; Ucred::SIZE] {
        Ucred { pid: self.pid, uid: self.uid, gid: self.gid }.to_bytes()
    }
}

/// Control data of a message that is sent, its descriptors resolved and its credentials checked.
#[derive(Default)]
pub struct Control {
    pub files: Vec<Arc<File>>,
    /// What the sender claims to be; `None`: what it is.
    pub credentials: Option<Credentials>,
}

/// A message on its way out.
pub struct Outgoing<'a, 'b> {
    pub data: &'a mut IoBuf<'b>,
    /// Where to; `None`: to the peer.
    pub address: Option<&'a [u8]>,
    /// The receiver, once the family has looked it up: so that a send that waits does not look again.
    pub target: Option<Arc<dyn Socket>>,
    pub control: Control,
    /// `MSG_*`.
    pub flags: u32,
}

/// A message on its way in.
pub struct Incoming<'a, 'b> {
    pub data: &'a mut IoBuf<'b>,
    /// `MSG_*`, as the caller gave them.
    pub flags: u32,
    /// What came with it; the family fills these.
    pub address: Vec<u8>,
    pub files: Vec<Arc<File>>,
    pub credentials: Option<Credentials>,
    /// `MSG_TRUNC`, `MSG_EOR`: what recvmsg(2) returns in `msg_flags`.
    pub result_flags: u32,
    /// Bytes the message had, with MSG_TRUNC also those that did not fit.
    pub full_len: usize,
}

impl<'a, 'b> Incoming<'a, 'b> {
    pub fn new(data: &'a mut IoBuf<'b>, flags: u32) -> Incoming<'a, 'b> {
        Incoming {
            data,
            flags,
            address: Vec::new(),
            files: Vec::new(),
            credentials: None,
            result_flags: 0,
            full_len: 0,
        }
    }
}

/// A control message as the program wrote it.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    Rights(Vec<i32>),
    Credentials(Credentials),
}

fn align(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Takes a control buffer apart (cmsg(3)). EINVAL for lengths that do not add up, kinds that are not known, or more
/// than SCM_MAX_FD descriptors. Messages of other levels than SOL_SOCKET are left out, as on Linux.
pub fn parse_control(bytes: &[u8]) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes[at..].first_chunk() {
        let header = CmsgHdr::from_bytes(header);
        let len = usize::try_from(header.len).map_err(|_| Errno::EINVAL)?;
        if len < CmsgHdr::SIZE || len > bytes.len() - at {
            return Err(Errno::EINVAL);
        }
        let data = &bytes[at + CmsgHdr::SIZE..at + len];
        if header.level == SOL_SOCKET {
            items.push(parse_item(header.kind, data)?);
        }
        at = (at + align(len)).min(bytes.len());
    }
    Ok(items)
}

fn parse_item(kind: i32, data: &[u8]) -> Result<Item> {
    match kind {
        SCM_RIGHTS => {
            let count = data.len() / 4;
            if count > SCM_MAX_FD {
                return Err(Errno::EINVAL);
            }
            let word = |chunk: &[u8]| i32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            Ok(Item::Rights(data.chunks_exact(4).map(word).collect()))
        }
        SCM_CREDENTIALS => {
            let ucred = Ucred::from_bytes(data.try_into().map_err(|_| Errno::EINVAL)?);
            Ok(Item::Credentials(Credentials { pid: ucred.pid, uid: ucred.uid, gid: ucred.gid }))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Appends a control message to `out` if it fits into `room` bytes altogether, cut short if it must be. Whether it was
/// cut (MSG_CTRUNC).
pub fn push_control(out: &mut Vec<u8>, room: usize, kind: i32, data: &[u8]) -> bool {
    let start = out.len();
    let left = room.saturating_sub(start);
    if left < CmsgHdr::SIZE {
        return true;
    }
    let len = (CmsgHdr::SIZE + data.len()).min(left);
    let header = CmsgHdr { len: len as u64, level: SOL_SOCKET, kind };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(&data[..len - CmsgHdr::SIZE]);
    out.resize((start + align(len)).min(room), 0);
    len < CmsgHdr::SIZE + data.len()
}
