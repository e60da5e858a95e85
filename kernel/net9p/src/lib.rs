//! Ways to servers of 9P: what the file system needs of one, and which there are.
//!
//! **Problem.** fs/9p speaks a protocol; a driver moves bytes. Neither may know the other.
//!
//! **Interface.** A driver implements [`Channel`] and makes it known by the name that mount(2) gives ([`register`]);
//! the file system takes it for one mount ([`claim`]).
//!
//! **Idea.** One call is one exchange: a request goes, its answer comes, the caller sleeps meanwhile. The memory of
//! payloads belongs to the exchange, not to the caller: a caller that is killed leaves at once, and the channel keeps
//! the pages until the server lets go of them.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mem::Folio;
use sync::SpinLock;
use sync::levels::DeviceTable;
use task::WaitMode;

/// The longest message, its payload left out.
pub const MESSAGE: usize = 8192;

/// Some bytes of a folio, for a payload.
#[derive(Clone)]
pub struct Piece {
    pub folio: Folio,
    pub offset: usize,
    pub len: usize,
}

/// A request, with its payload and the room for that of the answer.
pub struct Exchange {
    /// The message, at most [`MESSAGE`] bytes. The channel sets its tag, unless it is that of no request (0xffff).
    pub message: Vec<u8>,
    /// Follows the message.
    pub out: Vec<Piece>,
    /// How much of the answer is its message; what comes behind goes to `into`.
    pub reply_len: usize,
    pub into: Vec<Piece>,
    /// What ends the wait for the answer.
    pub mode: WaitMode,
}

/// An answer, as the server gave it.
pub struct Reply {
    /// The tag that was sent.
    pub tag: u16,
    /// The front of the answer: `reply_len` bytes at most, fewer if fewer came.
    pub message: Vec<u8>,
    /// How many bytes came in all, as the device says: no more than there was room for.
    pub len: usize,
}

/// A way to a server.
pub trait Channel: Send + Sync + 'static {
    /// The most pieces that the payloads of an exchange may have.
    fn max_pieces(&self) -> usize;

    /// Sends a request and sleeps until it is answered. Process context, no spin locks.
    ///
    /// # Errors
    /// EIO: the device is broken. EINTR: `mode` let a signal through; what the server does meanwhile is not known.
    /// ENOMEM. EMSGSIZE: a message or payload is too long.
    fn exchange(&self, exchange: Exchange) -> Result<Reply>;
}

struct Known {
    name: Vec<u8>,
    channel: Arc<dyn Channel>,
    in_use: bool,
}

static CHANNELS: SpinLock<Vec<Known>, DeviceTable> = SpinLock::new(Vec::new());

/// Makes a channel known. Several may have one name; they are taken in the order they came. Boot.
pub fn register(name: &[u8], channel: Arc<dyn Channel>) {
    CHANNELS.lock().push(Known { name: name.to_vec(), channel, in_use: false });
}

/// A channel that is one user's alone; dropping it gives it back.
pub struct Claim(Arc<dyn Channel>);

/// Takes the channel of a name. ENOENT: there is none. EBUSY: it is taken.
pub fn claim(name: &[u8]) -> Result<Claim> {
    let mut error = Errno::ENOENT;
    for known in CHANNELS.lock().iter_mut().filter(|known| known.name == name) {
        if !core::mem::replace(&mut known.in_use, true) {
            return Ok(Claim(known.channel.clone()));
        }
        error = Errno::EBUSY;
    }
    Err(error)
}

impl Claim {
    pub fn channel(&self) -> &dyn Channel {
        &*self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut channels = CHANNELS.lock();
        if let Some(known) = channels.iter_mut().find(|known| Arc::ptr_eq(&known.channel, &self.0)) {
            known.in_use = false;
        }
    }
}
