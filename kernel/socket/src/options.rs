//! The options at level SOL_SOCKET that need no family.

use crate::{Credentials, Party};
use abi::Errno;
use abi::cap::CAP_NET_ADMIN;
use abi::errno::Result;
use abi::socket::*;
use abi::time::Timeval;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize};
use zerocopy::IntoBytes;

/// The smallest buffers that setsockopt(2) gives (Linux's SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF).
const MIN_SEND: usize = 4608;
const MIN_RECEIVE: usize = 2304;

/// The settings of one socket. Each is an atomic of its own: they are independent.
pub struct Options {
    pub family: u16,
    pub kind: u32,
    pub protocol: i32,
    pub listening: AtomicBool,
    pub pass_credentials: AtomicBool,
    /// Bytes; already doubled as Linux reports them.
    pub send_buffer: AtomicUsize,
    pub receive_buffer: AtomicUsize,
    /// 0: for ever.
    pub send_timeout_ns: AtomicU64,
    pub receive_timeout_ns: AtomicU64,
    /// A bit per flag that only needs to be remembered: number `SO_*` is bit `SO_*`.
    flags: AtomicU64,
    linger_s: AtomicI32,
    receive_low: AtomicU32,
    /// An error to be reported once (SO_ERROR); 0: none.
    pub error: AtomicI32,
}

/// What getsockopt(2) answers with.
pub type Value = Vec<u8>;

/// Flags that change nothing for families without a wire.
const REMEMBERED: [i32; 7] =
    [SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_REUSEPORT];

fn int(value: &[u8]) -> Result<i32> {
    let bytes = value.get(..4).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn long(value: &[u8], at: usize) -> Result<i64> {
    let bytes: [u8; 8] = value.get(at..at + 8).and_then(|b| b.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok(i64::from_ne_bytes(bytes))
}

/// A time limit as a timeval: 0 is none.
fn timeout_ns(value: &[u8]) -> Result<u64> {
    let (sec, usec) = (long(value, 0)?, long(value, 8)?);
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        return Ok(1); // over before it begins
    }
    Timeval { sec, usec }.to_ns().ok_or(Errno::EINVAL)
}

impl Options {
    pub fn new(family: u16, kind: u32, protocol: i32) -> Options {
        Options {
            family,
            kind,
            protocol,
            listening: AtomicBool::new(false),
            pass_credentials: AtomicBool::new(false),
            send_buffer: AtomicUsize::new(SOCKET_BUFFER_DEFAULT),
            receive_buffer: AtomicUsize::new(SOCKET_BUFFER_DEFAULT),
            send_timeout_ns: AtomicU64::new(0),
            receive_timeout_ns: AtomicU64::new(0),
            flags: AtomicU64::new(0),
            linger_s: AtomicI32::new(0),
            receive_low: AtomicU32::new(1),
            error: AtomicI32::new(0),
        }
    }

    /// A copy for a socket that another one made (accept(2)).
    pub fn inherited(&self) -> Options {
        let new = Options::new(self.family, self.kind, self.protocol);
        new.pass_credentials.store(self.pass_credentials.load(Relaxed), Relaxed);
        new.send_buffer.store(self.send_buffer.load(Relaxed), Relaxed);
        new.receive_buffer.store(self.receive_buffer.load(Relaxed), Relaxed);
        new
    }

    /// The pending error, which is then forgotten.
    pub fn take_error(&self) -> Result<()> {
        match self.error.swap(0, Relaxed) {
            0 => Ok(()),
            number => Err(Errno::from_number(number).unwrap_or(Errno::EIO)),
        }
    }

    pub fn set_error(&self, errno: Errno) {
        self.error.store(errno.number(), Relaxed);
    }

    fn set_flag(&self, name: i32, on: bool) {
        let bit = 1u64 << name;
        if on {
            self.flags.fetch_or(bit, Relaxed);
        } else {
            self.flags.fetch_and(!bit, Relaxed);
        }
    }

    /// setsockopt(2) at SOL_SOCKET. EINVAL for short values, ENOPROTOOPT for names that are not known.
    pub fn set(&self, name: i32, value: &[u8], who: &Party) -> Result<()> {
        let forced = matches!(name, SO_SNDBUFFORCE | SO_RCVBUFFORCE);
        if forced && !who.caller.capable(CAP_NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        let buffer = |least: usize| -> Result<usize> {
            let asked = usize::try_from(int(value)?).unwrap_or(0);
            let most = if forced { i32::MAX as usize / 2 } else { SOCKET_BUFFER_DEFAULT };
            Ok((2 * asked.min(most)).max(least))
        };
        match name {
            SO_PASSCRED => self.pass_credentials.store(int(value)? != 0, Relaxed),
            SO_SNDBUF | SO_SNDBUFFORCE => self.send_buffer.store(buffer(MIN_SEND)?, Relaxed),
            SO_RCVBUF | SO_RCVBUFFORCE => self.receive_buffer.store(buffer(MIN_RECEIVE)?, Relaxed),
            SO_SNDTIMEO => self.send_timeout_ns.store(timeout_ns(value)?, Relaxed),
            SO_RCVTIMEO => self.receive_timeout_ns.store(timeout_ns(value)?, Relaxed),
            SO_LINGER => {
                let seconds = int(value.get(4..).unwrap_or(&[]))?;
                self.set_flag(SO_LINGER, int(value)? != 0);
                self.linger_s.store(seconds, Relaxed);
            }
            SO_RCVLOWAT => {
                let low = int(value)?;
                self.receive_low.store(if low < 0 { i32::MAX as u32 } else { low.max(1) as u32 }, Relaxed);
            }
            _ if REMEMBERED.contains(&name) => self.set_flag(name, int(value)? != 0),
            SO_TYPE | SO_PROTOCOL | SO_DOMAIN | SO_ERROR | SO_ACCEPTCONN | SO_PEERCRED | SO_SNDLOWAT => {
                return Err(Errno::ENOPROTOOPT);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// getsockopt(2) at SOL_SOCKET; `None`: the family may know it.
    pub fn get(&self, name: i32) -> Option<Value> {
        let int = |value: i32| Some(value.to_ne_bytes().to_vec());
        let size = |value: &AtomicUsize| int(i32::try_from(value.load(Relaxed)).unwrap_or(i32::MAX));
        let flag = |name: i32| self.flags.load(Relaxed) >> name & 1;
        match name {
            SO_TYPE => int(self.kind as i32),
            SO_DOMAIN => int(i32::from(self.family)),
            SO_PROTOCOL => int(self.protocol),
            SO_ERROR => int(self.error.swap(0, Relaxed)),
            SO_ACCEPTCONN => int(self.listening.load(Relaxed).into()),
            SO_PASSCRED => int(self.pass_credentials.load(Relaxed).into()),
            SO_SNDBUF => size(&self.send_buffer),
            SO_RCVBUF => size(&self.receive_buffer),
            SO_SNDLOWAT => int(1),
            SO_RCVLOWAT => int(self.receive_low.load(Relaxed) as i32),
            SO_SNDTIMEO => Some(Timeval::from_ns(self.send_timeout_ns.load(Relaxed)).as_bytes().to_vec()),
            SO_RCVTIMEO => Some(Timeval::from_ns(self.receive_timeout_ns.load(Relaxed)).as_bytes().to_vec()),
            SO_LINGER => {
                let linger = Linger { on: flag(SO_LINGER) as i32, seconds: self.linger_s.load(Relaxed) };
                Some(linger.to_bytes().to_vec())
            }
            _ if REMEMBERED.contains(&name) => int(flag(name) as i32),
            _ => None,
        }
    }
}

/// What SO_PEERCRED answers.
pub fn peer_credentials(credentials: Option<Credentials>) -> Value {
    let nobody = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
    credentials.unwrap_or(nobody).to_bytes().to_vec()
}
