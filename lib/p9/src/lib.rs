//! 9P2000.L on the wire.
//!
//! **Problem.** A client and a server of files exchange some fifty kinds of messages; either may be wrong or hostile.
//!
//! **Interface.** [`Message`] has a variant for each kind, [`Message::encode`] and [`decode`] its bytes. What follows
//! a message as payload (file contents, directory entries) is not copied: `encode` is told its length, `decode`
//! gives back what follows. [`Entries`] walks the payload of `Rreaddir`.
//!
//! ```text
//!   size[4] type[1] tag[2]   fields   payload
//!   '------- HEADER -----'            'count' of Twrite, Rread, Rreaddir
//!   little-endian; a string is len[2] and its bytes; a qid is kind[1] version[4] path[8]
//! ```
//!
//! **Idea.** One table of messages makes the enum, the encoder and the decoder, so that they cannot disagree; tests
//! send every message there and back, and bytes of all kinds into the decoder.

#![no_std]
#![forbid(unsafe_code)]

mod fields;
mod messages;

pub use fields::{Lock, Names, Qid, Qids, Reader, Writer};
pub use messages::Message;

/// Bytes before a message's fields: size, type, tag.
pub const HEADER: usize = 7;
/// Bytes of `Rread`, `Rreaddir` and `Rlerror`: what a reply with payload has before it, and an error takes.
pub const READ_REPLY: usize = HEADER + 4;
/// What a message with payload may take beside it: the protocol's IOHDRSZ.
pub const IO_HEADER: u32 = 24;
/// The tag of `Tversion`.
pub const NO_TAG: u16 = 0xffff;
/// No second identity: the `afid` of an attach without authentication.
pub const NO_FID: u32 = 0xffff_ffff;
/// Names that one `Twalk` takes at most.
pub const MAX_WALK: usize = 16;
/// The protocol's name in `Tversion`.
pub const VERSION: &[u8] = b"9P2000.L";

/// Bits of `Tgetattr` and `Rgetattr`.
pub mod attr {
    /// Everything that stat(2) tells.
    pub const BASIC: u64 = 0x7ff;
    pub const BTIME: u64 = 0x800;
    pub const GEN: u64 = 0x1000;
}

/// Bits of `Tsetattr`.
pub mod set {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 2;
    pub const GID: u32 = 4;
    pub const SIZE: u32 = 8;
    pub const ATIME: u32 = 16;
    pub const MTIME: u32 = 32;
    pub const CTIME: u32 = 64;
    /// The time is given; without it, it is the server's.
    pub const ATIME_SET: u32 = 128;
    pub const MTIME_SET: u32 = 256;
}

/// Kinds and answers of `Tlock` and `Tgetlock`.
pub mod lock {
    pub const READ: u8 = 0;
    pub const WRITE: u8 = 1;
    pub const UNLOCK: u8 = 2;
    /// Wait for it.
    pub const BLOCK: u32 = 1;
    pub const SUCCESS: u8 = 0;
    pub const BLOCKED: u8 = 1;
    pub const ERROR: u8 = 2;
    pub const GRACE: u8 = 3;
}

/// The bytes are no message of this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The message does not fit the buffer, or has more than its format can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

impl Message<'_> {
    /// Writes the message with `tag` to the front of `out`; `payload` bytes will follow it. Returns its own length.
    pub fn encode(&self, tag: u16, payload: u32, out: &mut [u8]) -> Result<usize, TooLong> {
        let mut writer = Writer::new(out);
        writer.u32(0);
        writer.u8(self.kind());
        writer.u16(tag);
        self.put_fields(&mut writer);
        let len = writer.finish()?;
        let size = u32::try_from(len).ok().and_then(|len| len.checked_add(payload)).ok_or(TooLong)?;
        out[..4].copy_from_slice(&size.to_le_bytes());
        Ok(len)
    }
}

/// A message as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received<'a> {
    /// What its size field says, payload included.
    pub size: u32,
    pub tag: u16,
    pub message: Message<'a>,
    /// What follows the fields.
    pub rest: &'a [u8],
}

/// Reads a message from the front of `bytes`, which may end before its payload does.
pub fn decode(bytes: &[u8]) -> Result<Received<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let (size, kind, tag) = (reader.u32()?, reader.u8()?, reader.u16()?);
    if (size as usize) < HEADER {
        return Err(Malformed);
    }
    // Fields do not reach beyond what the message says it has.
    reader.limit(size as usize);
    let message = Message::get_fields(kind, &mut reader)?;
    Ok(Received { size, tag, message, rest: reader.rest() })
}

/// Reads the answer to the request with `tag`: `len` bytes have come in all, of which `bytes` are the front.
/// Another request's answer is none, nor is one that says it is longer than what came.
pub fn answer(bytes: &[u8], tag: u16, len: usize) -> Result<Received<'_>, Malformed> {
    let received = decode(bytes)?;
    let fits = received.tag == tag && received.size as usize <= len;
    if fits { Ok(received) } else { Err(Malformed) }
}

impl Received<'_> {
    /// Whether its fields are all that came: so are answers without payload.
    pub fn is_whole(&self, len: usize) -> bool {
        self.rest.is_empty() && self.size as usize == len
    }

    /// The length of the payload, when it is what [`Message::Rread`] or [`Message::Rreaddir`] says, and no more than
    /// the `room` that was asked for.
    pub fn payload(&self, room: usize) -> Option<usize> {
        let (Message::Rread { count } | Message::Rreaddir { count }) = self.message else { return None };
        let whole = u64::from(count) + READ_REPLY as u64 == u64::from(self.size);
        (whole && count as usize <= room).then_some(count as usize)
    }
}

/// One directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub qid: Qid,
    /// Where the next `Treaddir` goes on behind this entry; the server's own numbers.
    pub next: u64,
    /// `DT_*` of readdir(3).
    pub kind: u8,
    /// Not empty, without `/` and zero bytes.
    pub name: &'a [u8],
}

/// The entries in the payload of `Rreaddir`. An entry that is cut off or has no possible name is an error, after
/// which there are no more.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Reader<'a>);

impl<'a> Entries<'a> {
    pub fn new(payload: &'a [u8]) -> Entries<'a> {
        Entries(Reader::new(payload))
    }

    fn read(&mut self) -> Result<Entry<'a>, Malformed> {
        let reader = &mut self.0;
        let entry =
            Entry { qid: reader.qid()?, next: reader.u64()?, kind: reader.u8()?, name: reader.string()? };
        let possible = !entry.name.is_empty() && !entry.name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if possible { Ok(entry) } else { Err(Malformed) }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.rest().is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(entry)
    }
}

impl Entry<'_> {
    /// Appends the entry to a payload, as a server does.
    pub fn put(&self, writer: &mut Writer<'_>) {
        writer.qid(self.qid);
        writer.u64(self.next);
        writer.u8(self.kind);
        writer.string(self.name);
    }
}
