//! What waits to be received, and what that costs its sender.

use crate::address::Bound;
use crate::gc::InFlight;
use crate::socket_state::Unix;
use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::mem::take;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use socket::Credentials;
use sync::SpinLock;
use sync::levels::Leaf;
use task::WaitQueue;

/// What a message costs besides its bytes: about what the kernel spends, so that many tiny ones are not free.
const OVERHEAD: usize = 512;

/// Bytes that a socket has sent and nobody has read.
pub struct Account {
    used: AtomicUsize,
    limit: AtomicUsize,
    pub writable: Arc<WaitQueue>,
}

impl Account {
    pub fn new(limit: usize) -> Arc<Account> {
        let writable = Arc::new(WaitQueue::new(&"unix_stream_sendmsg"));
        Arc::new(Account { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit), writable })
    }

    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
        self.writable.wake(usize::MAX, PollEvents::WRITABLE.bits());
    }

    /// Bytes still allowed; 0 when the buffer is full.
    pub fn room(&self) -> usize {
        self.limit.load(Relaxed).saturating_sub(self.used.load(SeqCst))
    }

    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// What poll(2) calls writable: at least three quarters free, so that a writer is not woken for each byte.
    pub fn is_writable(&self) -> bool {
        self.used.load(SeqCst).saturating_mul(4) <= self.limit.load(Relaxed)
    }
}

/// The price of one message; given back when it is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    pub fn new(account: &Arc<Account>, bytes: usize) -> Charge {
        let bytes = bytes + OVERHEAD;
        account.used.fetch_add(bytes, SeqCst);
        Charge { account: account.clone(), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, SeqCst);
        if self.account.is_writable() {
            self.account.writable.wake(usize::MAX, PollEvents::WRITABLE.bits());
        }
    }
}

/// One message, or one piece of a stream.
pub struct Message {
    /// Shared, so that it can be copied out with no lock held.
    pub data: Arc<Vec<u8>>,
    /// Bytes of `data` that were received already.
    pub start: usize,
    pub from: Option<Arc<Bound>>,
    /// `None`: neither end had asked for them when it was sent.
    pub credentials: Option<Credentials>,
    pub files: InFlight,
    /// Held for as long as the message is.
    pub _charge: Charge,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Nothing more comes: shutdown(2) on either side, or the peer is gone.
    shut: bool,
    /// The socket is closed: nothing may be put in.
    closed: bool,
    /// Senders that found no room.
    waiting: Vec<Weak<Unix>>,
}

/// The messages of one socket.
pub struct Inbox {
    queue: SpinLock<Queue, Leaf>,
    /// For poll(2), which should not take the lock; written under it.
    count: AtomicUsize,
}

/// What is at the front, without taking it.
pub struct Front {
    pub data: Arc<Vec<u8>>,
    pub start: usize,
    pub credentials: Option<Credentials>,
    pub from: Option<Arc<Bound>>,
    pub has_files: bool,
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox { queue: SpinLock::new(Queue::default()), count: AtomicUsize::new(0) }
    }

    /// Puts a message in. EPIPE when nobody will read it (the message comes back to be dropped by the caller: what it
    /// carries may sleep when it goes). With `limit`, EAGAIN when more than that many wait; `sender` is kicked
    /// ([`Unix::kick`]) when there is room again.
    pub fn push(
        &self,
        message: Message,
        limit: Option<usize>,
        sender: &Arc<Unix>,
    ) -> core::result::Result<(), (Errno, Message)> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err((Errno::ECONNREFUSED, message));
        }
        if queue.shut {
            return Err((Errno::EPIPE, message));
        }
        if limit.is_some_and(|limit| queue.messages.len() > limit) {
            return Err((queue.register(sender), message));
        }
        if queue.messages.try_reserve(1).is_err() {
            return Err((Errno::ENOMEM, message));
        }
        queue.bytes += message.data.len() - message.start;
        queue.messages.push_back(message);
        self.count.store(queue.messages.len(), SeqCst);
        Ok(())
    }

    /// EAGAIN when more than `limit` messages wait; `sender` is kicked when there is room.
    pub fn await_room(&self, limit: usize, sender: &Arc<Unix>) -> Result<()> {
        let mut queue = self.queue.lock();
        if queue.messages.len() > limit && !queue.shut { Err(queue.register(sender)) } else { Ok(()) }
    }

    /// Whether more than `limit` messages wait.
    pub fn is_over(&self, limit: usize) -> bool {
        self.count.load(SeqCst) > limit
    }

    pub fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    pub fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    pub fn is_shut(&self) -> bool {
        self.queue.lock().shut
    }

    /// A look at message `index`.
    pub fn look(&self, index: usize) -> Option<Front> {
        let queue = self.queue.lock();
        let message = queue.messages.get(index)?;
        Some(Front {
            data: message.data.clone(),
            start: message.start,
            credentials: message.credentials,
            from: message.from.clone(),
            has_files: !message.files.is_empty(),
        })
    }

    /// The descriptors of message `index`: taken out, or with `copy` a second reference to each.
    pub fn files(&self, index: usize, copy: bool) -> InFlight {
        let mut queue = self.queue.lock();
        match queue.messages.get_mut(index) {
            Some(message) if copy => message.files.duplicate(),
            Some(message) => take(&mut message.files),
            None => InFlight::default(),
        }
    }

    /// Takes `bytes` off the front message; all of it when that is what is left, or with `whole`. The finished message
    /// comes back, to be dropped where sleeping is allowed. Only one reader at a time.
    #[must_use]
    pub fn consume(&self, bytes: usize, whole: bool) -> Option<Message> {
        let mut queue = self.queue.lock();
        let front = queue.messages.front_mut()?;
        let left = front.data.len() - front.start;
        if bytes < left && !whole {
            front.start += bytes;
            queue.bytes -= bytes;
            return None;
        }
        queue.bytes -= left;
        let message = queue.messages.pop_front();
        self.count.store(queue.messages.len(), SeqCst);
        let waiting = take(&mut queue.waiting);
        drop(queue);
        kick_all(waiting);
        message
    }

    /// Nothing more comes.
    pub fn shut(&self) {
        let mut queue = self.queue.lock();
        queue.shut = true;
        let waiting = take(&mut queue.waiting);
        drop(queue);
        kick_all(waiting);
    }

    /// The end: what was left, for the caller to drop.
    #[must_use]
    pub fn close(&self) -> VecDeque<Message> {
        let mut queue = self.queue.lock();
        (queue.closed, queue.shut, queue.bytes) = (true, true, 0);
        let (messages, waiting) = (take(&mut queue.messages), take(&mut queue.waiting));
        self.count.store(0, SeqCst);
        drop(queue);
        kick_all(waiting);
        messages
    }

    /// Takes every message out of a socket that nobody can reach any more.
    #[must_use]
    pub fn empty(&self) -> VecDeque<Message> {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        self.count.store(0, SeqCst);
        take(&mut queue.messages)
    }

    /// Calls with each descriptor on its way to this socket.
    pub fn each_file(&self, mut look: impl FnMut(&Arc<vfs::File>)) {
        let queue = self.queue.lock();
        for message in &queue.messages {
            message.files.iter().for_each(&mut look);
        }
    }
}

impl Queue {
    /// Remembers a sender for which there is no room.
    fn register(&mut self, sender: &Arc<Unix>) -> Errno {
        if self.waiting.try_reserve(1).is_err() {
            return Errno::ENOMEM;
        }
        sender.forget_kick();
        if !self.waiting.iter().any(|other| core::ptr::eq(other.as_ptr(), Arc::as_ptr(sender))) {
            self.waiting.push(Arc::downgrade(sender));
        }
        Errno::EAGAIN
    }
}

/// Tells senders that there is room.
pub fn kick_all(waiting: Vec<Weak<Unix>>) {
    for sender in waiting.iter().filter_map(Weak::upgrade) {
        sender.kick();
    }
}

/// Bytes for a message, filled from the program's memory. ENOMEM, EFAULT.
pub fn collect(data: &mut vfs::IoBuf, len: usize) -> Result<Arc<Vec<u8>>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    let taken = if len == 0 { 0 } else { data.take(&mut bytes)? };
    bytes.truncate(taken);
    Ok(Arc::new(bytes))
}
