//! Unix-domain sockets (unix(7)): streams, datagrams and sequenced packets between processes of one machine, with
//! descriptors and credentials on board.
//!
//! ```text
//!   sender                                      receiver
//!   Account: bytes on their way  <-- Charge -- [ Message | Message | ... ] Inbox
//!   (SO_SNDBUF)                                  bytes, descriptors, credentials, the sender's name
//! ```
//!
//! **Idea.** A message goes straight into the receiver's inbox; what it weighs is charged to the sender until it was
//! read, so that a slow reader stops the writer and nobody else. All of a socket's own state is under one short lock,
//! and no two of them are ever held together: a connection is made by changing three sockets one after another, in an
//! order that each in-between state allows.
//!
//! Descriptors on their way can keep each other alive (a socket sent through itself): [`gc`] finds those.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod gc;
mod inbox;
mod ops;
mod show;
mod socket_state;

use abi::Errno;
use abi::errno::Result;
use abi::socket::{AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM};
use alloc::sync::Arc;
use socket::{Family, Party, Socket};
use socket_state::Unix;

struct UnixFamily;

/// The type that a socket of `kind` gets: SOCK_RAW is another word for datagrams here, as on BSD.
fn checked(kind: u32, protocol: i32) -> Result<u32> {
    if protocol != 0 && protocol != i32::from(AF_UNIX) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        SOCK_STREAM | SOCK_DGRAM | SOCK_SEQPACKET => Ok(kind),
        SOCK_RAW => Ok(SOCK_DGRAM),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

impl Family for UnixFamily {
    fn number(&self) -> u16 {
        AF_UNIX
    }

    fn create(&self, kind: u32, protocol: i32, _who: &Party) -> Result<Arc<dyn Socket>> {
        Ok(Unix::new(checked(kind, protocol)?))
    }

    fn pair(&self, kind: u32, protocol: i32, who: &Party) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
        let kind = checked(kind, protocol)?;
        let (a, b) = (Unix::new(kind), Unix::new(kind));
        a.join(&b, who.credentials());
        b.join(&a, who.credentials());
        Ok((a, b))
    }
}

/// Makes the family known, and `/proc/net/unix`. At boot.
pub fn init() {
    socket::register_family(&UnixFamily);
    show::init();
}
