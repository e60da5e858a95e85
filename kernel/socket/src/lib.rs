//! Sockets: what all address families share.
//!
//! **Problem.** One set of system calls serves families that have nothing in common but blocking, options and
//! messages with addresses and control data.
//!
//! **Interface.** A family implements [`Family`] and registers; its sockets implement [`Socket`], whose methods only
//! try. [`file`] makes an open file of one, [`of_file`] finds it again. [`connect`], [`accept`], [`send`] and
//! [`receive`] are the blocking calls, with the time limits of SO_SNDTIMEO and SO_RCVTIMEO.
//!
//! **Idea.** As for other files, blocking = try + wait: the loop is here once ([`blocking`]). The options that every
//! family has lie in [`Options`], so that a family answers only for what is its own.
//!
//! Sources: socket(7), socket(2), send(2), recv(2), cmsg(3).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod call;
mod family;
mod file;
mod message;
mod options;

pub use call::{Wait, accept, blocking, connect, receive, send};
pub use family::{Family, find_family, register_family};
pub use file::{file, of_file, set_caller};
pub use message::{Control, Credentials, Incoming, Item, Outgoing, parse_control, push_control};
pub use options::{Options, Value, peer_credentials};

use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use task::WaitQueue;
use vfs::{Caller, PollTable};

/// Who makes a call on a socket, for families that show or check it.
#[derive(Clone, Copy)]
pub struct Party<'a> {
    pub caller: Caller<'a>,
    pub pid: u32,
}

impl Party<'_> {
    /// What SO_PEERCRED and SCM_CREDENTIALS tell of the caller.
    pub fn credentials(&self) -> Credentials {
        Credentials { pid: self.pid, uid: self.caller.cred.euid, gid: self.caller.cred.egid }
    }
}

/// Which half of a connection shutdown(2) closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown {
    pub receiving: bool,
    pub sending: bool,
}

/// A socket of some family. Methods may sleep for memory and user memory, but never wait for a peer: they say EAGAIN
/// and [`blocking`] waits at [`Socket::queue`].
pub trait Socket: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;

    fn options(&self) -> &Options;

    /// bind(2).
    fn bind(&self, address: &[u8], who: &Party) -> Result<()>;

    /// listen(2); `backlog` is not above somaxconn.
    fn listen(&self, backlog: u32, who: &Party) -> Result<()>;

    /// connect(2). EAGAIN: the other side's queue of connections is full.
    fn try_connect(&self, address: &[u8], who: &Party) -> Result<()>;

    /// Whether [`Socket::try_connect`] may say something else than EAGAIN by now.
    fn can_connect(&self) -> bool {
        self.poll(None).intersects(PollEvents::WRITABLE | PollEvents::ALWAYS)
    }

    /// accept(2). EAGAIN: nobody has called.
    fn try_accept(&self) -> Result<Arc<dyn Socket>>;

    /// getsockname(2).
    fn name(&self) -> Result<Vec<u8>>;

    /// getpeername(2). ENOTCONN.
    fn peer_name(&self) -> Result<Vec<u8>>;

    /// shutdown(2). ENOTCONN.
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// Sends what there is room for. EAGAIN when there is none.
    fn try_send(&self, message: &mut Outgoing, who: &Party) -> Result<usize>;

    /// Whether [`Socket::try_send`] of this message would not say EAGAIN now.
    fn can_send(&self, message: &Outgoing) -> bool {
        let _ = message;
        self.poll(None).intersects(PollEvents::WRITABLE | PollEvents::ALWAYS)
    }

    /// Receives what is there. EAGAIN when nothing is.
    fn try_receive(&self, message: &mut Incoming) -> Result<usize>;

    /// Options that are the family's own. ENOPROTOOPT.
    fn set_option(&self, level: i32, name: i32, value: &[u8], who: &Party) -> Result<()> {
        let _ = (level, name, value, who);
        Err(Errno::ENOPROTOOPT)
    }

    /// As [`Socket::set_option`], for getsockopt(2).
    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        let _ = (level, name);
        Err(Errno::ENOPROTOOPT)
    }

    /// What is ready, as poll(2) tells it. Does not sleep.
    fn poll(&self, table: Option<&mut PollTable>) -> PollEvents;

    /// Where to wait for `events`.
    fn queue(&self, events: PollEvents) -> &Arc<WaitQueue>;

    /// Bytes that can be read (FIONREAD) and that are on their way (TIOCOUTQ).
    fn waiting_bytes(&self) -> (usize, usize);

    /// The number of the inode that stands for it.
    fn set_inode(&self, inode: u64) {
        let _ = inode;
    }

    /// The last descriptor is gone.
    fn close(&self);
}
