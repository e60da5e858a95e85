//! One socket: its state and how connections change it.

use crate::address::{self, Bound};
use crate::inbox::{Account, Inbox, kick_all};
use crate::{gc, show};
use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use abi::socket::{AF_UNIX, SOCK_DGRAM};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::mem::take;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};
use socket::{Credentials, Options, Party};
use sync::SpinLock;
use sync::levels::{Leaf, PipeBuffer, Socket as SocketLevel};
use task::{Mutex, WaitQueue};

/// How far a socket has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    #[default]
    Fresh,
    Listening,
    /// Has a peer; a datagram socket may go back to `Fresh`.
    Connected,
    Closed,
}

#[derive(Default)]
pub struct State {
    pub stage: Stage,
    pub bound: Option<Arc<Bound>>,
    pub peer: Option<Arc<Unix>>,
    /// Of the peer when the connection was made; of a listener itself.
    pub credentials: Option<Credentials>,
    /// Nothing may be sent any more.
    pub send_shut: bool,
    /// Connections that nobody has accepted.
    pub backlog: VecDeque<Arc<Unix>>,
    pub backlog_max: usize,
    /// Callers that found the backlog full.
    pub waiting: Vec<Weak<Unix>>,
}

/// A socket of this family.
pub struct Unix {
    pub itself: Weak<Unix>,
    pub options: Options,
    /// Serialises bind, listen and connect, which walk paths.
    pub admin: Mutex<(), SocketLevel>,
    /// One reader at a time: a message is copied out while it still stands in the inbox.
    pub readers: Mutex<(), PipeBuffer>,
    pub state: SpinLock<State, Leaf>,
    pub inbox: Inbox,
    pub readable: Arc<WaitQueue>,
    pub account: Arc<Account>,
    /// Somebody who was full has room again.
    kicked: AtomicBool,
    /// The number in /proc/net/unix and of the inode; 0 before accept.
    pub inode: AtomicU64,
    id: u64,
}

impl Unix {
    pub fn new(kind: u32) -> Arc<Unix> {
        Unix::with_options(Options::new(AF_UNIX, kind, 0))
    }

    pub fn with_options(options: Options) -> Arc<Unix> {
        let id = show::next_id();
        let socket = Arc::new_cyclic(|itself| Unix {
            itself: itself.clone(),
            account: Account::new(options.send_buffer.load(Relaxed)),
            options,
            admin: Mutex::new(()),
            readers: Mutex::new(()),
            state: SpinLock::new(State::default()),
            inbox: Inbox::new(),
            readable: Arc::new(WaitQueue::new(&"unix_stream_read_generic")),
            kicked: AtomicBool::new(false),
            inode: AtomicU64::new(0),
            id,
        });
        show::add(id, &socket);
        socket
    }

    pub fn arc(&self) -> Arc<Unix> {
        // The caller holds a reference, so there is one.
        self.itself.upgrade().unwrap_or_else(|| unreachable!("a socket outlives its references"))
    }

    pub fn is_datagram(&self) -> bool {
        self.options.kind == SOCK_DGRAM
    }

    pub fn peer(&self) -> Option<Arc<Unix>> {
        self.state.lock().peer.clone()
    }

    pub fn stage(&self) -> Stage {
        self.state.lock().stage
    }

    /// Makes `peer` the other end.
    pub fn join(&self, peer: &Arc<Unix>, credentials: Credentials) {
        let mut state = self.state.lock();
        state.stage = Stage::Connected;
        state.credentials = Some(credentials);
        let old = state.peer.replace(peer.clone());
        drop(state);
        drop(old);
    }

    /// Tells a waiting sender or caller that there is room.
    pub fn kick(&self) {
        self.kicked.store(true, SeqCst);
        self.account.writable.wake(usize::MAX, PollEvents::WRITABLE.bits());
    }

    /// Before waiting for a kick; under the lock of who will kick.
    pub fn forget_kick(&self) {
        self.kicked.store(false, SeqCst);
    }

    pub fn is_kicked(&self) -> bool {
        self.kicked.load(SeqCst)
    }

    fn wake_all(&self, events: PollEvents) {
        self.readable.wake(usize::MAX, events.bits());
        self.account.writable.wake(usize::MAX, events.bits());
    }

    // ---- connecting ----

    /// connect(2) of a stream to `listener`. The caller holds `admin`.
    pub fn call(&self, listener: &Arc<Unix>, who: &Party) -> Result<()> {
        match self.stage() {
            Stage::Fresh => {}
            Stage::Connected => return Err(Errno::EISCONN),
            Stage::Listening | Stage::Closed => return Err(Errno::EINVAL),
        }
        if listener.options.kind != self.options.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let own = self.arc();
        let server = Unix::with_options(listener.options.inherited());
        server.join(&own, who.credentials());
        let bound = listener.state.lock().bound.clone();
        server.state.lock().bound = bound;
        let listeners = match listener.enqueue(&own, &server) {
            Ok(credentials) => credentials,
            Err(errno) => {
                server.forsake();
                return Err(errno);
            }
        };
        // The server may be accepted and even closed before this; then its end is marked in our inbox already.
        self.join(&server, listeners);
        listener.readable.wake(usize::MAX, PollEvents::READABLE.bits());
        Ok(())
    }

    /// Adds a connection to the backlog; the listener's credentials.
    fn enqueue(&self, caller: &Arc<Unix>, server: &Arc<Unix>) -> Result<Credentials> {
        let mut state = self.state.lock();
        if state.stage != Stage::Listening || state.send_shut {
            return Err(Errno::ECONNREFUSED);
        }
        state.backlog.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if state.backlog.len() > state.backlog_max {
            state.waiting.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            caller.forget_kick();
            state.waiting.push(Arc::downgrade(caller));
            return Err(Errno::EAGAIN);
        }
        state.backlog.push_back(server.clone());
        Ok(state.credentials.unwrap_or_default())
    }

    /// The oldest connection of the backlog. EINVAL when this does not listen.
    pub fn take_connection(&self) -> Result<Arc<Unix>> {
        let mut state = self.state.lock();
        if state.stage != Stage::Listening {
            return Err(Errno::EINVAL);
        }
        let shut = state.send_shut;
        let server = state.backlog.pop_front().ok_or(if shut { Errno::EINVAL } else { Errno::EAGAIN })?;
        let waiting = take(&mut state.waiting);
        drop(state);
        kick_all(waiting);
        Ok(server)
    }

    // ---- ending ----

    /// shutdown(2), and the mirror image at the peer of a connection.
    pub fn shut(&self, receiving: bool, sending: bool) {
        if sending {
            self.state.lock().send_shut = true;
        }
        if receiving {
            self.inbox.shut();
        }
        if !self.is_datagram()
            && let Some(peer) = self.peer()
        {
            peer.shut_by_peer(sending, receiving);
        }
        self.wake_all(PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::RDHUP);
    }

    fn shut_by_peer(&self, receiving: bool, sending: bool) {
        if sending {
            self.state.lock().send_shut = true;
        }
        if receiving {
            self.inbox.shut();
        }
        let mut events = PollEvents::READABLE | PollEvents::RDHUP;
        events.set(PollEvents::HUP | PollEvents::WRITABLE, sending);
        self.wake_all(events);
    }

    /// A connection that never came to be: lets go of its caller without a trace.
    fn forsake(&self) {
        let peer = self.state.lock().peer.take();
        drop(peer);
    }

    /// The end of the socket.
    pub fn end(&self, reset: bool) {
        let (bound, peer, backlog, waiting) = {
            let mut state = self.state.lock();
            state.stage = Stage::Closed;
            state.send_shut = true;
            (state.bound.take(), state.peer.take(), take(&mut state.backlog), take(&mut state.waiting))
        };
        if let Some(bound) = bound {
            address::release(&bound, self);
        }
        let unread = self.inbox.close();
        if let Some(peer) = peer
            && !self.is_datagram()
        {
            if reset || !unread.is_empty() {
                peer.options.set_error(Errno::ECONNRESET);
            }
            peer.shut_by_peer(true, true);
        }
        kick_all(waiting);
        for server in backlog {
            server.end(true);
        }
        drop(unread);
        self.wake_all(PollEvents::HUP);
    }

    /// What getsockname(2) and a datagram's receiver see.
    pub fn address(&self) -> Vec<u8> {
        let bound = self.state.lock().bound.clone();
        address::to_bytes(bound.as_ref().map(|bound| &bound.name))
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        show::remove(self.id);
    }
}

/// The last descriptor of a socket went: it ends, and with it perhaps what only it had kept.
pub fn close(socket: &Unix) {
    socket.end(false);
    gc::collect_if_needed();
}
