//! The session with a server: requests and answers, and the numbers that files have in it.
//!
//! A [`Fid`] is a file of the server's under a number that we choose. Who drops the last owner of one may hold spin
//! locks, so the number only goes to a list; the next request says goodbye first. The list is made of the boxes that
//! the numbers came with: forgetting one allocates nothing.

use crate::options::MIN_MSIZE;
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use net9p::{Claim, Exchange, MESSAGE, Piece};
use p9wire::{IO_HEADER, MAX_WALK, Message, Names, Qid, READ_REPLY, Received, VERSION, answer, attr};
use sync::SpinLock;
use sync::levels::P9;
use task::WaitMode;

/// The greatest errno that a server may name; what lies beyond is the kernel's own.
const MAX_ERRNO: u32 = 133;

/// One mount's session.
pub(crate) struct Client {
    claim: Claim,
    msize: u32,
    numbers: SpinLock<Numbers, P9>,
}

struct Numbers {
    next: u32,
    /// Not known to the server any more: to be used again.
    free: List,
    /// Known to the server, and nobody's here.
    left: List,
}

/// Numbers in boxes, linked.
#[derive(Default)]
struct List(Option<Box<Number>>);

struct Number {
    fid: u32,
    next: Option<Box<Number>>,
}

impl List {
    fn push(&mut self, mut number: Box<Number>) {
        number.next = self.0.take();
        self.0 = Some(number);
    }

    fn pop(&mut self) -> Option<Box<Number>> {
        let mut first = self.0.take()?;
        self.0 = first.next.take();
        Some(first)
    }
}

/// A loop: a long list would be as many frames on the stack.
impl Drop for List {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// A file of the server's.
pub(crate) struct Fid {
    client: Arc<Client>,
    /// Always there, until the drop.
    number: Option<Box<Number>>,
    /// The server may know the number.
    known: bool,
}

impl Fid {
    pub fn number(&self) -> u32 {
        self.number.as_ref().map_or(p9wire::NO_FID, |number| number.fid)
    }

    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The server does not know it any more.
    pub fn set_gone(&mut self) {
        self.known = false;
    }
}

impl Drop for Fid {
    fn drop(&mut self) {
        let Some(number) = self.number.take() else { return };
        let mut numbers = self.client.numbers.lock();
        if self.known { numbers.left.push(number) } else { numbers.free.push(number) }
    }
}

/// Attributes as the server gives them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub qid: Qid,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    pub blocks: u64,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub generation: u64,
}

/// The payload of a request, and what may interrupt it.
pub(crate) struct Payload {
    pub out: Vec<Piece>,
    pub into: Vec<Piece>,
    pub mode: WaitMode,
}

impl Payload {
    pub fn none() -> Payload {
        Payload { out: Vec::new(), into: Vec::new(), mode: WaitMode::Killable }
    }
}

impl Client {
    /// Begins a session by way of a channel.
    ///
    /// # Errors
    /// EREMOTEIO: the server speaks another protocol or too short messages. Those of the channel.
    pub fn start(claim: Claim, msize: u32) -> Result<Arc<Client>> {
        let numbers = Numbers { next: 0, free: List::default(), left: List::default() };
        let mut client = Client { claim, msize: MIN_MSIZE, numbers: SpinLock::new(numbers) };
        let hello = Message::Tversion { msize, version: VERSION };
        let agreed = client.rpc(&hello, |answer| match answer {
            Message::Rversion { msize, version } => Some((*msize, *version == VERSION)),
            _ => None,
        })?;
        if !agreed.1 || agreed.0 < MIN_MSIZE {
            return Err(Errno::EREMOTEIO);
        }
        client.msize = agreed.0.min(msize);
        Ok(Arc::new(client))
    }

    pub fn msize(&self) -> u32 {
        self.msize
    }

    /// Pieces that one request may have.
    pub fn max_pieces(&self) -> usize {
        self.claim.channel().max_pieces()
    }

    /// Sends a message without payload; `read` takes the answer apart, `None` when it is not the one that belongs
    /// to the message (EIO).
    pub fn rpc<R>(&self, message: &Message, read: impl FnOnce(&Message) -> Option<R>) -> Result<R> {
        self.call(message, Payload::none(), |received, len| {
            if received.is_whole(len) { read(&received.message) } else { None }
        })
    }

    /// As [`Client::rpc`] where the answer says nothing but that all went well.
    pub fn ask(&self, message: &Message, answer: Message) -> Result<()> {
        self.rpc(message, |received| (*received == answer).then_some(()))
    }

    /// Sends a message; `read` is given the answer and the number of bytes that came.
    pub fn call<R>(
        &self,
        message: &Message,
        payload: Payload,
        read: impl FnOnce(&Received, usize) -> Option<R>,
    ) -> Result<R> {
        self.clunk_left(payload.mode);
        self.exchange(message, payload, read)
    }

    fn exchange<R>(
        &self,
        message: &Message,
        payload: Payload,
        read: impl FnOnce(&Received, usize) -> Option<R>,
    ) -> Result<R> {
        let follows: usize = payload.out.iter().map(|piece| piece.len).sum();
        let bytes = encode(message, follows)?;
        if bytes.len() + follows > self.msize as usize {
            return Err(Errno::EMSGSIZE);
        }
        let short = !payload.into.is_empty();
        let reply_len = if short { READ_REPLY } else { MESSAGE.min(self.msize as usize) };
        let Payload { out, into, mode } = payload;
        let reply = self.claim.channel().exchange(Exchange { message: bytes, out, reply_len, into, mode })?;
        let received = answer(&reply.message, reply.tag, reply.len).map_err(|_| Errno::EIO)?;
        match received.message {
            Message::Rlerror { ecode } => Err(server_error(ecode)),
            _ => read(&received, reply.len).ok_or(Errno::EIO),
        }
    }

    // ---- numbers ----

    /// A number that the server does not know yet.
    pub fn new_fid(self: &Arc<Self>) -> Result<Fid> {
        let mut numbers = self.numbers.lock();
        let number = match numbers.free.pop() {
            Some(number) => number,
            None => {
                let fid = numbers.next;
                if fid == p9wire::NO_FID {
                    return Err(Errno::ENFILE);
                }
                numbers.next += 1;
                drop(numbers);
                Box::new(Number { fid, next: None })
            }
        };
        Ok(Fid { client: self.clone(), number: Some(number), known: false })
    }

    /// Tells the server which files nobody uses any more. May sleep.
    pub fn clunk_left(&self, mode: WaitMode) {
        loop {
            let first = self.numbers.lock().left.pop();
            let Some(number) = first else { return };
            let clunk = Message::Tclunk { fid: number.fid };
            let payload = Payload { mode, ..Payload::none() };
            let done = self.exchange(&clunk, payload, |_, _| Some(()));
            // Refused or not, the number is free; but without an answer nobody knows, and it is not used again.
            if !matches!(done, Err(Errno::EINTR | Errno::EIO | Errno::ENOMEM)) {
                self.numbers.lock().free.push(number);
            }
        }
    }

    /// Runs a request that gives `fid` a meaning.
    pub fn making<R>(
        &self,
        fid: &mut Fid,
        message: &Message,
        read: impl FnOnce(&Message) -> Option<R>,
    ) -> Result<R> {
        let made = self.rpc(message, read);
        // After an answer that says no the server does not know it; after none, or nonsense, it may.
        fid.known = matches!(made, Ok(_) | Err(Errno::EINTR | Errno::EIO));
        made
    }

    // ---- requests of several users ----

    pub fn attach(self: &Arc<Self>, uid: u32, uname: &[u8], aname: &[u8]) -> Result<Fid> {
        let mut fid = self.new_fid()?;
        let attach = Message::Tattach { fid: fid.number(), afid: p9wire::NO_FID, uname, aname, n_uname: uid };
        self.making(&mut fid, &attach, |answer| matches!(answer, Message::Rattach { .. }).then_some(()))?;
        Ok(fid)
    }

    /// A file by its names from another. ENOENT also when only a part of the way exists.
    pub fn walk(self: &Arc<Self>, from: &Fid, names: &[&[u8]]) -> Result<(Fid, Option<Qid>)> {
        if names.len() > MAX_WALK {
            return Err(Errno::EINVAL);
        }
        let mut fid = self.new_fid()?;
        let walk = Message::Twalk { fid: from.number(), newfid: fid.number(), names: Names::List(names) };
        let qids = self.making(&mut fid, &walk, |answer| match answer {
            Message::Rwalk { qids } => Some(*qids),
            _ => None,
        })?;
        match qids.as_slice().len() {
            len if len == names.len() => Ok((fid, qids.as_slice().last().copied())),
            len if len < names.len() => {
                fid.known = false;
                Err(Errno::ENOENT)
            }
            _ => Err(Errno::EIO),
        }
    }

    pub fn stat(&self, fid: &Fid) -> Result<Stat> {
        let ask = Message::Tgetattr { fid: fid.number(), mask: attr::BASIC | attr::GEN };
        self.rpc(&ask, |answer| match *answer {
            Message::Rgetattr {
                valid,
                qid,
                mode,
                uid,
                gid,
                nlink,
                rdev,
                size,
                blksize,
                blocks,
                atime_s,
                atime_ns,
                mtime_s,
                mtime_ns,
                ctime_s,
                ctime_ns,
                generation,
                ..
            } => Some(Stat {
                qid,
                mode,
                uid,
                gid,
                nlink: u32::try_from(nlink).unwrap_or(u32::MAX),
                rdev,
                // What no file can have would overflow positions.
                size: size.min(i64::MAX as u64),
                blksize: u32::try_from(blksize).unwrap_or(MIN_MSIZE),
                blocks,
                atime: time(atime_s, atime_ns),
                mtime: time(mtime_s, mtime_ns),
                ctime: time(ctime_s, ctime_ns),
                generation: if valid & attr::GEN != 0 { generation } else { 0 },
            }),
            _ => None,
        })
    }
}

impl Drop for Client {
    /// The last file of the mount is gone.
    fn drop(&mut self) {
        if !sync::preempt::in_atomic() {
            self.clunk_left(WaitMode::Killable);
        }
    }
}

fn time(seconds: u64, nanoseconds: u64) -> i64 {
    vfs::attr::join_time(seconds as i64, nanoseconds.min(999_999_999) as i64)
}

fn server_error(ecode: u32) -> Errno {
    let known = if ecode <= MAX_ERRNO { Errno::from_number(ecode as i32) } else { None };
    known.unwrap_or(Errno::EIO)
}

/// The bytes of a message that `follows` bytes come behind.
fn encode(message: &Message, follows: usize) -> Result<Vec<u8>> {
    let follows = u32::try_from(follows).map_err(|_| Errno::EMSGSIZE)?;
    // Nearly all are short; the few with paths in them get the room when they turn out to be long.
    for room in [256, MESSAGE] {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(room, 0);
        if let Ok(len) = message.encode(0, follows, &mut bytes) {
            if matches!(message, Message::Tversion { .. }) {
                bytes[5..7].copy_from_slice(&p9wire::NO_TAG.to_le_bytes());
            }
            bytes.truncate(len);
            return Ok(bytes);
        }
    }
    Err(Errno::ENAMETOOLONG)
}

/// Most bytes of payload in one request.
pub(crate) fn io_unit(msize: u32, iounit: u32) -> usize {
    let most = msize - IO_HEADER;
    (if iounit == 0 { most } else { iounit.min(most) }).max(1) as usize
}
