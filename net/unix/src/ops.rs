//! The calls on a socket.

use crate::address::{self, Name};
use crate::gc::{self, InFlight};
use crate::inbox::{Charge, Front, Message, collect};
use crate::socket_state::{Stage, Unix, close};
use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use abi::socket::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::mem::take;
use core::sync::atomic::Ordering::Relaxed;
use socket::{Credentials, Incoming, Options, Outgoing, Party, Shutdown, Socket, peer_credentials};
use task::WaitQueue;
use vfs::PollTable;

/// The most bytes of a stream in one message.
const CHUNK: usize = 16 << 10;

impl Unix {
    fn check_name(&self, who: &Party) -> Result<()> {
        // Who asks for credentials wants to be answered, so it needs a name (unix(7), "Autobind feature").
        let nameless = self.options.pass_credentials.load(Relaxed) && self.state.lock().bound.is_none();
        if !nameless {
            return Ok(());
        }
        let _admin = self.admin.lock();
        self.bind_locked(Name::Auto, who)
    }

    /// bind(2) with `admin` held.
    fn bind_locked(&self, name: Name, who: &Party) -> Result<()> {
        if self.state.lock().bound.is_some() {
            return match name {
                Name::Auto => Ok(()),
                name if address::is_taken(&name, who) => Err(Errno::EADDRINUSE),
                _ => Err(Errno::EINVAL),
            };
        }
        let bound = Arc::new(address::bind(&self.arc(), name, who)?);
        let mut state = self.state.lock();
        if state.stage == Stage::Closed {
            drop(state);
            address::release(&bound, self);
            return Err(Errno::EINVAL);
        }
        state.bound = Some(bound);
        Ok(())
    }

    /// connect(2) of a datagram socket: sets or dissolves where send(2) goes.
    fn connect_datagram(&self, address: &[u8], who: &Party) -> Result<()> {
        let family = address.get(..2).ok_or(Errno::EINVAL)?;
        if u16::from_ne_bytes([family[0], family[1]]) == AF_UNSPEC {
            let mut state = self.state.lock();
            let old = state.peer.take();
            state.stage = Stage::Fresh;
            drop(state);
            drop(old);
            return Ok(());
        }
        self.check_name(who)?;
        let peer = self.find_datagram(address, who)?;
        self.join(&peer, who.credentials());
        Ok(())
    }

    /// The datagram socket of an address that takes ours. EPROTOTYPE, EPERM, and what finding it fails with.
    fn find_datagram(&self, address: &[u8], who: &Party) -> Result<Arc<Unix>> {
        let target = address::find(&address::parse(address)?, self.options.kind, who)?;
        if !target.is_datagram() {
            return Err(Errno::EPROTOTYPE);
        }
        if self.may_send(&target) { Ok(target) } else { Err(Errno::EPERM) }
    }

    /// A socket that has a peer hears nobody else.
    fn may_send(&self, target: &Unix) -> bool {
        target.peer().is_none_or(|peer| core::ptr::eq(Arc::as_ptr(&peer), self))
    }

    // ---- sending ----

    fn message(&self, data: Arc<Vec<u8>>, to: &Unix, message: &mut Outgoing, who: &Party) -> Message {
        let wanted = |socket: &Unix| socket.options.pass_credentials.load(Relaxed);
        let claimed = message.control.credentials;
        let credentials = (claimed.is_some() || wanted(self) || wanted(to))
            .then(|| claimed.unwrap_or_else(|| who.credentials()));
        let charge = Charge::new(&self.account, data.len());
        let files = InFlight::new(take(&mut message.control.files));
        let from = self.state.lock().bound.clone();
        Message { data, start: 0, from, credentials, files, _charge: charge }
    }

    fn deliver(&self, to: &Unix, message: Message, limit: Option<usize>, out: &mut Outgoing) -> Result<()> {
        match to.inbox.push(message, limit, &self.arc()) {
            Ok(()) => {
                to.readable.wake(usize::MAX, PollEvents::READABLE.bits());
                Ok(())
            }
            Err((errno, mut message)) => {
                // It may be tried again.
                out.control.files = take(&mut message.files).land();
                Err(errno)
            }
        }
    }

    fn check_sending(&self) -> Result<()> {
        self.options.take_error()?;
        if self.state.lock().send_shut { Err(Errno::EPIPE) } else { Ok(()) }
    }

    fn send_stream(&self, message: &mut Outgoing, who: &Party) -> Result<usize> {
        if message.address.is_some() {
            return Err(if self.peer().is_some() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        self.check_sending()?;
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if message.data.remaining() == 0 {
            return Ok(0);
        }
        if self.account.room() == 0 {
            return Err(Errno::EAGAIN);
        }
        let data = collect(message.data, message.data.remaining().min(CHUNK))?;
        let sent = data.len();
        let piece = self.message(data, &peer, message, who);
        self.deliver(&peer, piece, None, message).map_err(|errno| match errno {
            Errno::ECONNREFUSED => Errno::EPIPE,
            other => other,
        })?;
        Ok(sent)
    }

    /// Where a datagram or packet goes.
    fn target(&self, message: &mut Outgoing, who: &Party) -> Result<Arc<Unix>> {
        if let Some(known) = &message.target {
            let unix = known.as_any().downcast_ref::<Unix>();
            return unix.map(Unix::arc).ok_or(Errno::EINVAL);
        }
        let target = match message.address {
            Some(address) if self.is_datagram() => self.find_datagram(address, who)?,
            // A sequenced packet goes to the peer, whatever the address says.
            _ => self.peer().ok_or(Errno::ENOTCONN)?,
        };
        message.target = Some(target.clone());
        Ok(target)
    }

    fn send_packet(&self, message: &mut Outgoing, who: &Party) -> Result<usize> {
        self.check_sending()?;
        let len = message.data.remaining();
        if len > self.options.send_buffer.load(Relaxed).saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        self.check_name(who)?;
        let target = self.target(message, who)?;
        if self.is_datagram() && !self.may_send(&target) {
            return Err(Errno::EPERM);
        }
        let limit = self.limit_at(&target);
        if self.account.room() == 0 || limit.is_some_and(|limit| target.inbox.is_over(limit)) {
            self.wait_for_room(&target, limit)?;
        }
        let data = collect(message.data, len)?;
        if data.len() < len {
            return Err(Errno::EFAULT);
        }
        let packet = self.message(data, &target, message, who);
        let result = self.deliver(&target, packet, limit, message);
        match result {
            Ok(()) => Ok(len),
            Err(Errno::ECONNREFUSED) if self.is_datagram() => self.refused(&target),
            Err(Errno::ECONNREFUSED) => Err(Errno::EPIPE),
            Err(errno) => Err(errno),
        }
    }

    /// How many datagrams may wait at a receiver that has not connected to us.
    fn limit_at(&self, target: &Unix) -> Option<usize> {
        let mutual = target.peer().is_some_and(|peer| core::ptr::eq(Arc::as_ptr(&peer), self));
        (self.is_datagram() && !mutual).then_some(UNIX_DGRAM_QUEUE)
    }

    /// EAGAIN, after arranging for a kick; `Ok` when there is room by now.
    fn wait_for_room(&self, target: &Unix, limit: Option<usize>) -> Result<()> {
        match limit {
            Some(limit) => target.inbox.await_room(limit, &self.arc()).and_then(|()| self.own_room()),
            None => self.own_room(),
        }
    }

    fn own_room(&self) -> Result<()> {
        if self.account.room() == 0 { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// The receiver is gone: a connected socket forgets it.
    fn refused(&self, target: &Arc<Unix>) -> Result<usize> {
        let mut state = self.state.lock();
        let gone = state.peer.take_if(|peer| Arc::ptr_eq(peer, target));
        if gone.is_some() {
            state.stage = Stage::Fresh;
        }
        drop(state);
        drop(gone);
        Err(Errno::ECONNREFUSED)
    }

    // ---- receiving ----

    /// Credentials for who asked for them.
    fn show_credentials(&self, front: &Front, message: &mut Incoming) {
        if self.options.pass_credentials.load(Relaxed) {
            message.credentials = Some(front.credentials.unwrap_or(Credentials::NOBODY));
        }
    }

    fn nothing(&self) -> Result<usize> {
        self.options.take_error()?;
        let ended = self.inbox.is_shut() || self.stage() == Stage::Closed;
        // Looked at again: a peer may send and close between the caller's look at the inbox and this.
        if ended && self.inbox.is_empty() { Ok(0) } else { Err(Errno::EAGAIN) }
    }

    fn receive_stream(&self, message: &mut Incoming) -> Result<usize> {
        match self.stage() {
            Stage::Fresh | Stage::Listening => return Err(Errno::EINVAL),
            Stage::Connected | Stage::Closed => {}
        }
        let peek = message.flags & MSG_PEEK != 0;
        let _one = self.readers.lock();
        let (mut done, mut index) = (0, 0);
        let mut sender = None;
        while message.data.remaining() > 0 {
            let Some(front) = self.inbox.look(index) else { break };
            // Bytes of different senders are not mixed when the reader wants to know whose they are.
            let asks = self.options.pass_credentials.load(Relaxed);
            if asks && sender.is_some_and(|sender| sender != front.credentials) {
                break;
            }
            sender = Some(front.credentials);
            let wanted = front.data.len() - front.start;
            let copied = match message.data.put(&front.data[front.start..]) {
                Ok(copied) => copied,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            done += copied;
            self.show_credentials(&front, message);
            if front.has_files {
                message.files = self.inbox.files(index, peek).land();
            }
            if peek {
                index += 1;
            } else {
                drop(self.inbox.consume(copied, false));
            }
            if front.has_files || copied < wanted {
                break;
            }
        }
        message.full_len = done;
        if done > 0 || message.data.remaining() == 0 { Ok(done) } else { self.nothing() }
    }

    fn receive_packet(&self, message: &mut Incoming) -> Result<usize> {
        if !self.is_datagram() && self.stage() == Stage::Fresh {
            return Err(Errno::ENOTCONN);
        }
        let peek = message.flags & MSG_PEEK != 0;
        let _one = self.readers.lock();
        let Some(front) = self.inbox.look(0) else { return self.nothing() };
        let len = front.data.len();
        let wanted = len.min(message.data.remaining());
        let copied = if wanted == 0 { 0 } else { message.data.put(&front.data[..wanted])? };
        if copied < len {
            message.result_flags |= MSG_TRUNC;
        }
        message.full_len = len;
        message.address = front.from.as_ref().map(|bound| bound.to_bytes()).unwrap_or_default();
        self.show_credentials(&front, message);
        if front.has_files {
            message.files = self.inbox.files(0, peek).land();
        }
        if !peek {
            drop(self.inbox.consume(len, true));
        }
        Ok(if message.flags & MSG_TRUNC != 0 { len } else { copied })
    }
}

impl Socket for Unix {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn set_inode(&self, inode: u64) {
        self.inode.store(inode, Relaxed);
    }

    fn bind(&self, address: &[u8], who: &Party) -> Result<()> {
        let name = address::parse(address)?;
        let _admin = self.admin.lock();
        self.bind_locked(name, who)
    }

    fn listen(&self, backlog: u32, who: &Party) -> Result<()> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP);
        }
        let _admin = self.admin.lock();
        let mut state = self.state.lock();
        if state.bound.is_none() || !matches!(state.stage, Stage::Fresh | Stage::Listening) {
            return Err(Errno::EINVAL);
        }
        state.stage = Stage::Listening;
        state.backlog_max = backlog as usize;
        state.credentials = Some(who.credentials());
        let waiting = take(&mut state.waiting);
        drop(state);
        self.options.listening.store(true, Relaxed);
        crate::inbox::kick_all(waiting);
        Ok(())
    }

    fn try_connect(&self, address: &[u8], who: &Party) -> Result<()> {
        if self.is_datagram() {
            return self.connect_datagram(address, who);
        }
        let name = address::parse(address)?;
        if name == Name::Auto {
            return Err(Errno::EINVAL);
        }
        self.check_name(who)?;
        let _admin = self.admin.lock();
        let listener = address::find(&name, self.options.kind, who)?;
        self.call(&listener, who)
    }

    fn can_connect(&self) -> bool {
        self.is_kicked()
    }

    fn try_accept(&self) -> Result<Arc<dyn Socket>> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.take_connection().map(|server| server as Arc<dyn Socket>)
    }

    fn name(&self) -> Result<Vec<u8>> {
        Ok(self.address())
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        Ok(self.peer().ok_or(Errno::ENOTCONN)?.address())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.shut(how.receiving, how.sending);
        Ok(())
    }

    fn try_send(&self, message: &mut Outgoing, who: &Party) -> Result<usize> {
        if message.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if !message.control.files.is_empty() {
            gc::check_limit(vfs::MAX_FDS)?;
        }
        if self.options.kind == SOCK_STREAM {
            self.send_stream(message, who)
        } else {
            self.send_packet(message, who)
        }
    }

    fn can_send(&self, message: &Outgoing) -> bool {
        let target = message.target.as_ref().and_then(|target| target.as_any().downcast_ref::<Unix>());
        let limited = target.is_some_and(|target| self.limit_at(target).is_some());
        if limited && self.account.room() > 0 {
            return self.is_kicked();
        }
        self.account.room() > 0 || self.poll(None).intersects(PollEvents::ALWAYS)
    }

    fn try_receive(&self, message: &mut Incoming) -> Result<usize> {
        if message.flags & MSG_OOB != 0 {
            return Err(if self.options.kind == SOCK_STREAM { Errno::EINVAL } else { Errno::EOPNOTSUPP });
        }
        if self.options.kind == SOCK_STREAM {
            self.receive_stream(message)
        } else {
            self.receive_packet(message)
        }
    }

    fn set_option(&self, level: i32, name: i32, _value: &[u8], _who: &Party) -> Result<()> {
        match (level, name) {
            // The common part has set it already.
            (SOL_SOCKET, SO_SNDBUF | SO_SNDBUFFORCE) => {
                self.account.set_limit(self.options.send_buffer.load(Relaxed));
                Ok(())
            }
            (SOL_SOCKET, _) => Ok(()),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, SO_PEERCRED) => Ok(peer_credentials(self.state.lock().credentials)),
            (SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn poll(&self, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.readable);
            table.add(&self.account.writable);
        }
        let (stage, send_shut, backlog, peer) = {
            let state = self.state.lock();
            (state.stage, state.send_shut, !state.backlog.is_empty(), state.peer.clone())
        };
        let receive_shut = self.inbox.is_shut();
        let mut events = PollEvents::empty();
        events.set(PollEvents::ERR, self.options.error.load(Relaxed) != 0);
        events.set(PollEvents::READABLE, !self.inbox.is_empty() || receive_shut || backlog);
        events.set(PollEvents::RDHUP, receive_shut);
        let unconnected = !self.is_datagram() && matches!(stage, Stage::Fresh | Stage::Closed);
        events.set(PollEvents::HUP, receive_shut && send_shut || unconnected);
        let full =
            peer.is_some_and(|peer| self.limit_at(&peer).is_some_and(|limit| peer.inbox.is_over(limit)));
        events.set(PollEvents::WRITABLE, stage != Stage::Listening && self.account.is_writable() && !full);
        events
    }

    fn queue(&self, events: PollEvents) -> &Arc<WaitQueue> {
        if events.intersects(PollEvents::IN) { &self.readable } else { &self.account.writable }
    }

    fn waiting_bytes(&self) -> (usize, usize) {
        let input = if self.is_datagram() {
            // The size of the next datagram.
            self.inbox.look(0).map_or(0, |front| front.data.len())
        } else {
            self.inbox.bytes()
        };
        (input, self.account.used())
    }

    fn close(&self) {
        close(self);
    }
}
