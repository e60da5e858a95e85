//! poll(2), select(2), epoll(7), eventfd(2), timerfd_create(2), signalfd(2): events and structures.

use crate::abi_struct;

bitflags::bitflags! {
    /// The events of poll(2) and epoll(7); the numbers are the same for both.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PollEvents: u32 {
        const IN = 0x001;
        const PRI = 0x002;
        const OUT = 0x004;
        const ERR = 0x008;
        const HUP = 0x010;
        const NVAL = 0x020;
        const RDNORM = 0x040;
        const RDBAND = 0x080;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const MSG = 0x400;
        const RDHUP = 0x2000;
    }
}

impl PollEvents {
    /// Data can be read.
    pub const READABLE: PollEvents = PollEvents::IN.union(PollEvents::RDNORM);
    /// Data can be written.
    pub const WRITABLE: PollEvents = PollEvents::OUT.union(PollEvents::WRNORM);
    /// Reported whether asked for or not.
    pub const ALWAYS: PollEvents = PollEvents::ERR.union(PollEvents::HUP);
    /// A file that never blocks (Linux's DEFAULT_POLLMASK).
    pub const REGULAR: PollEvents = PollEvents::READABLE.union(PollEvents::WRITABLE);
}

abi_struct! {
    /// One entry of poll(2).
    pub struct PollFd = 8 { pub fd: i32, pub events: i16, pub revents: i16, }
}

#[cfg(target_arch = "x86_64")]
abi_struct! {
    /// Packed on x86-64 alone.
    pub packed struct EpollEvent = 12 { pub events: u32, pub data: u64, }
}

#[cfg(not(target_arch = "x86_64"))]
abi_struct! {
    pub struct EpollEvent = 16 { pub events: u32, pub pad: u32, pub data: u64, }
}

impl EpollEvent {
    pub fn new(events: u32, data: u64) -> EpollEvent {
        EpollEvent { events, data, ..EpollEvent::default() }
    }
}

pub const EPOLL_CTL_ADD: u32 = 1;
pub const EPOLL_CTL_DEL: u32 = 2;
pub const EPOLL_CTL_MOD: u32 = 3;
pub const EPOLLEXCLUSIVE: u32 = 1 << 28;
pub const EPOLLWAKEUP: u32 = 1 << 29;
pub const EPOLLONESHOT: u32 = 1 << 30;
pub const EPOLLET: u32 = 1 << 31;

pub const EPOLL_CLOEXEC: u32 = crate::fcntl::O_CLOEXEC;

pub const TFD_CLOEXEC: u32 = crate::fcntl::O_CLOEXEC;
pub const TFD_NONBLOCK: u32 = crate::fcntl::O_NONBLOCK;
pub const TFD_TIMER_ABSTIME: u32 = 1;
pub const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

pub const SFD_CLOEXEC: u32 = crate::fcntl::O_CLOEXEC;
pub const SFD_NONBLOCK: u32 = crate::fcntl::O_NONBLOCK;

pub const EFD_SEMAPHORE: u32 = 1;
pub const EFD_CLOEXEC: u32 = crate::fcntl::O_CLOEXEC;
pub const EFD_NONBLOCK: u32 = crate::fcntl::O_NONBLOCK;
