//! The calls that may block.

use crate::{Incoming, Outgoing, Party, Socket};
use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use abi::socket::{MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, SOCK_STREAM};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use task::{WaitEnd, WaitMode, WaitQueue};

/// How long a call may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    No,
    /// Until then (monotonic ns).
    Until(u64),
    Forever,
}

impl Wait {
    fn new(nonblocking: bool, timeout_ns: &AtomicU64) -> Wait {
        match timeout_ns.load(Relaxed) {
            _ if nonblocking => Wait::No,
            0 => Wait::Forever,
            ns => Wait::Until(time::monotonic_ns().saturating_add(ns)),
        }
    }

    fn deadline_ns(self) -> Option<u64> {
        match self {
            Wait::Until(ns) => Some(ns),
            Wait::No | Wait::Forever => None,
        }
    }

    /// A call with a time limit is not restarted: the limit would start anew.
    fn interrupted(self) -> Errno {
        if self == Wait::Forever { Errno::ERESTARTSYS } else { Errno::EINTR }
    }
}

/// Tries until the answer is not EAGAIN, sleeping at `queue` until `ready` says that another try is worth it.
pub fn blocking<T>(
    queue: &WaitQueue,
    wait: Wait,
    mut attempt: impl FnMut() -> Result<T>,
    ready: impl Fn() -> bool,
) -> Result<T> {
    loop {
        match attempt() {
            Err(Errno::EAGAIN) if wait != Wait::No => {}
            result => return result,
        }
        let is_ready = || ready().then_some(());
        match queue.wait_until(WaitMode::Interruptible, wait.deadline_ns(), is_ready) {
            Ok(()) => {}
            Err(WaitEnd::Timeout) => return Err(Errno::EAGAIN),
            Err(WaitEnd::Signal) => return Err(wait.interrupted()),
        }
    }
}

fn ready_for(socket: &dyn Socket, events: PollEvents) -> impl Fn() -> bool {
    move || socket.poll(None).intersects(events | PollEvents::ALWAYS | PollEvents::RDHUP)
}

/// connect(2).
pub fn connect(socket: &dyn Socket, nonblocking: bool, address: &[u8], who: &Party) -> Result<()> {
    let wait = Wait::new(nonblocking, &socket.options().send_timeout_ns);
    let attempt = || socket.try_connect(address, who);
    // Only room at the other side lets it go on, and that side wakes our queue for writing.
    blocking(socket.queue(PollEvents::WRITABLE), wait, attempt, || socket.can_connect())
}

/// accept(2).
pub fn accept(socket: &dyn Socket, nonblocking: bool) -> Result<Arc<dyn Socket>> {
    let wait = Wait::new(nonblocking, &socket.options().receive_timeout_ns);
    let attempt = || socket.try_accept();
    blocking(socket.queue(PollEvents::READABLE), wait, attempt, ready_for(socket, PollEvents::READABLE))
}

/// send(2) and its kin. A stream goes on until everything is sent; an error after a part was sent gives the part.
pub fn send(socket: &dyn Socket, nonblocking: bool, message: &mut Outgoing, who: &Party) -> Result<usize> {
    let nonblocking = nonblocking || message.flags & MSG_DONTWAIT != 0;
    let wait = Wait::new(nonblocking, &socket.options().send_timeout_ns);
    let queue = socket.queue(PollEvents::WRITABLE);
    let mut sent = 0;
    loop {
        let part = loop {
            match socket.try_send(message, who) {
                Err(Errno::EAGAIN) if wait != Wait::No => {}
                result => break result,
            }
            let room = || socket.can_send(message).then_some(());
            match queue.wait_until(WaitMode::Interruptible, wait.deadline_ns(), room) {
                Ok(()) => {}
                Err(WaitEnd::Timeout) => break Err(Errno::EAGAIN),
                Err(WaitEnd::Signal) => break Err(wait.interrupted()),
            }
        };
        match part {
            Ok(part) => sent += part,
            Err(_) if sent > 0 => return Ok(sent),
            Err(errno) => return Err(errno),
        }
        if message.data.remaining() == 0 || socket.options().kind != SOCK_STREAM {
            return Ok(sent);
        }
    }
}

/// recv(2) and its kin. With MSG_WAITALL a stream fills the whole buffer, unless the stream ends, something with
/// control data comes, or a signal.
pub fn receive(socket: &dyn Socket, nonblocking: bool, message: &mut Incoming) -> Result<usize> {
    let nonblocking = nonblocking || message.flags & MSG_DONTWAIT != 0;
    let wait = Wait::new(nonblocking, &socket.options().receive_timeout_ns);
    let stream = socket.options().kind == SOCK_STREAM;
    let all = stream && message.flags & (MSG_WAITALL | MSG_PEEK) == MSG_WAITALL;
    let queue = socket.queue(PollEvents::READABLE);
    let mut received = 0;
    loop {
        let attempt = || socket.try_receive(message);
        match blocking(queue, wait, attempt, ready_for(socket, PollEvents::READABLE)) {
            Ok(0) => return Ok(received),
            Ok(part) => received += part,
            Err(_) if received > 0 => return Ok(received),
            Err(errno) => return Err(errno),
        }
        if !all || message.data.remaining() == 0 || !message.files.is_empty() {
            return Ok(received);
        }
    }
}
