//! Sockets: numbers and structures of socket(2), socket(7), unix(7), send(2), recv(2).

use crate::abi_struct;

pub const AF_UNSPEC: u16 = 0;
pub const AF_UNIX: u16 = 1;

pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;
pub const SOCK_RAW: u32 = 3;
pub const SOCK_SEQPACKET: u32 = 5;
/// One past the highest type.
pub const SOCK_MAX: u32 = 11;
pub const SOCK_TYPE_MASK: u32 = 0xf;
pub const SOCK_CLOEXEC: u32 = crate::fcntl::O_CLOEXEC;
pub const SOCK_NONBLOCK: u32 = crate::fcntl::O_NONBLOCK;

pub const SHUT_RD: i32 = 0;
pub const SHUT_WR: i32 = 1;
pub const SHUT_RDWR: i32 = 2;

pub const MSG_OOB: u32 = 1;
pub const MSG_PEEK: u32 = 2;
pub const MSG_CTRUNC: u32 = 8;
pub const MSG_TRUNC: u32 = 0x20;
pub const MSG_DONTWAIT: u32 = 0x40;
pub const MSG_EOR: u32 = 0x80;
pub const MSG_WAITALL: u32 = 0x100;
pub const MSG_NOSIGNAL: u32 = 0x4000;
pub const MSG_MORE: u32 = 0x8000;
pub const MSG_WAITFORONE: u32 = 0x10000;
pub const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;

pub const SOL_SOCKET: i32 = 1;
pub const SO_DEBUG: i32 = 1;
pub const SO_REUSEADDR: i32 = 2;
pub const SO_TYPE: i32 = 3;
pub const SO_ERROR: i32 = 4;
pub const SO_DONTROUTE: i32 = 5;
pub const SO_BROADCAST: i32 = 6;
pub const SO_SNDBUF: i32 = 7;
pub const SO_RCVBUF: i32 = 8;
pub const SO_KEEPALIVE: i32 = 9;
pub const SO_OOBINLINE: i32 = 10;
pub const SO_LINGER: i32 = 13;
pub const SO_REUSEPORT: i32 = 15;
pub const SO_PASSCRED: i32 = 16;
pub const SO_PEERCRED: i32 = 17;
pub const SO_RCVLOWAT: i32 = 18;
pub const SO_SNDLOWAT: i32 = 19;
pub const SO_RCVTIMEO: i32 = 20;
pub const SO_SNDTIMEO: i32 = 21;
pub const SO_ACCEPTCONN: i32 = 30;
pub const SO_PEERSEC: i32 = 31;
pub const SO_SNDBUFFORCE: i32 = 32;
pub const SO_RCVBUFFORCE: i32 = 33;
pub const SO_PROTOCOL: i32 = 38;
pub const SO_DOMAIN: i32 = 39;
pub const SO_PEERGROUPS: i32 = 59;
pub const SO_PEERPIDFD: i32 = 77;

pub const SCM_RIGHTS: i32 = 1;
pub const SCM_CREDENTIALS: i32 = 2;
/// The most descriptors in one message.
pub const SCM_MAX_FD: usize = 253;

/// Bytes of `sockaddr_storage`: the longest address.
pub const SOCKADDR_MAX: usize = 128;
/// Bytes of `sun_path`.
pub const UNIX_PATH_MAX: usize = 108;

/// The default of net.core.{r,w}mem_default and the most an unprivileged setsockopt(2) gives.
pub const SOCKET_BUFFER_DEFAULT: usize = 212_992;
/// net.core.somaxconn.
pub const SOMAXCONN: u32 = 4096;
/// net.unix.max_dgram_qlen.
pub const UNIX_DGRAM_QUEUE: usize = 10;

abi_struct! {
    /// `struct msghdr` as the kernel reads it.
    pub struct MsgHdr = 56 {
        pub name: u64,
        pub name_len: u32,
        pub pad: u32,
        pub iov: u64,
        pub iov_len: u64,
        pub control: u64,
        pub control_len: u64,
        pub flags: u32,
        pub pad2: u32,
    }
}

abi_struct! {
    /// `struct cmsghdr`; its data follows at the next multiple of 8.
    pub struct CmsgHdr = 16 { pub len: u64, pub level: i32, pub kind: i32, }
}

abi_struct! {
    /// `struct ucred`.
    pub struct Ucred = 12 { pub pid: u32, pub uid: u32, pub gid: u32, }
}

abi_struct! {
    /// `struct linger`.
    pub struct Linger = 8 { pub on: i32, pub seconds: i32, }
}
