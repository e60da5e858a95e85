//! A queue: messages by priority, who waits, who is to be told.

use crate::Capacity;
use crate::limits::Charge;
use abi::poll::PollEvents;
use abi::signal::{SI_MESGQ, SIGEV_SIGNAL, SigEvent};
use abi::{Errno, errno::Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use kcore::signal::{self, SigInfo};
use kcore::{Ctx, Pid, pid};
use sync::SpinLock;
use sync::levels::MessageQueue;
use task::{WaitEnd, WaitMode, WaitQueue};
use vfs::File;

/// A message.
#[derive(Debug)]
pub struct Message {
    pub priority: u32,
    pub bytes: Vec<u8>,
}

/// How long a caller is ready to wait.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// EAGAIN instead of waiting.
    pub nonblocking: bool,
    /// ETIMEDOUT then (monotonic).
    pub deadline_ns: Option<u64>,
}

/// Who is told of the next message into the empty queue.
struct Notify {
    pid: Pid,
    event: SigEvent,
}

#[derive(Default)]
struct State {
    /// The highest last; within one, the oldest first.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: u64,
    bytes: u64,
    notify: Option<Notify>,
    /// Threads that wait for a message: then nobody is told of one.
    receivers: u32,
}

/// A queue; the file system's part of its inode.
pub struct Queue {
    capacity: Capacity,
    _charge: Charge,
    state: SpinLock<State, MessageQueue>,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
}

/// The queue behind a descriptor. EBADF for another kind of file.
pub fn of_file(file: &File) -> Result<&Queue> {
    file.inode().ops_as::<Queue>().ok_or(Errno::EBADF)
}

fn ended(end: WaitEnd) -> Errno {
    match end {
        WaitEnd::Timeout => Errno::ETIMEDOUT,
        WaitEnd::Signal => Errno::ERESTARTSYS,
    }
}

impl Queue {
    pub(crate) fn new(capacity: Capacity, charge: Charge) -> Queue {
        Queue {
            capacity,
            _charge: charge,
            state: SpinLock::new(State::default()),
            readable: Arc::new(WaitQueue::new(&"mq_receive")),
            writable: Arc::new(WaitQueue::new(&"mq_send")),
        }
    }

    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Messages that wait.
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// Waits for room and queues a message. EMSGSIZE, EAGAIN, ETIMEDOUT, ERESTARTSYS, ENOMEM.
    pub fn send(&self, ctx: &Ctx, message: Message, wanted: &Wanted) -> Result<()> {
        let mut message = Some(message);
        let mut told = None;
        let mut attempt = || {
            let mut state = self.state.lock();
            if state.count >= self.capacity.messages {
                return wanted.nonblocking.then_some(Err(Errno::EAGAIN));
            }
            let result = state.put(&mut message);
            if result.is_ok() && state.count == 1 && state.receivers == 0 {
                told = state.notify.take();
            }
            Some(result)
        };
        let done = match attempt() {
            Some(done) => done,
            None => self
                .writable
                .wait_until(WaitMode::Interruptible, wanted.deadline_ns, attempt)
                .map_err(ended)?,
        };
        done?;
        self.readable.wake(usize::MAX, PollEvents::READABLE.bits());
        if let Some(notify) = told {
            notify.tell(ctx);
        }
        Ok(())
    }

    /// Waits for a message and takes the oldest of the highest priority. EAGAIN, ETIMEDOUT, ERESTARTSYS.
    pub fn receive(&self, wanted: &Wanted) -> Result<Message> {
        let mut waits = false;
        let mut attempt = || {
            let mut state = self.state.lock();
            let message = state.take();
            if message.is_none() && wanted.nonblocking {
                return Some(Err(Errno::EAGAIN));
            }
            // Whether it is counted among the receivers follows from what it found, under one hold of the lock.
            if waits != message.is_none() {
                waits = message.is_none();
                state.receivers = if waits { state.receivers + 1 } else { state.receivers - 1 };
            }
            message.map(Ok)
        };
        let done = match attempt() {
            Some(done) => Ok(done),
            None => self.readable.wait_until(WaitMode::Interruptible, wanted.deadline_ns, &mut attempt),
        };
        if waits {
            self.state.lock().receivers -= 1;
        }
        let message = done.map_err(ended)??;
        self.writable.wake(usize::MAX, PollEvents::WRITABLE.bits());
        Ok(message)
    }

    /// mq_notify(3): the caller's process is to be told. EBUSY when another one, or this one, is already.
    pub fn set_notify(&self, pid: Pid, event: SigEvent) -> Result<()> {
        let mut state = self.state.lock();
        if state.notify.is_some() {
            return Err(Errno::EBUSY);
        }
        state.notify = Some(Notify { pid, event });
        Ok(())
    }

    /// The process is not to be told any more, if it was.
    pub fn clear_notify(&self, pid: Pid) {
        let mut state = self.state.lock();
        if state.notify.as_ref().is_some_and(|notify| notify.pid == pid) {
            state.notify = None;
        }
    }

    pub(crate) fn queue(&self, writes: bool) -> &Arc<WaitQueue> {
        if writes { &self.writable } else { &self.readable }
    }

    pub(crate) fn ready(&self) -> PollEvents {
        let count = self.count();
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, count > 0);
        events.set(PollEvents::WRITABLE, count < self.capacity.messages);
        events
    }

    /// What reading the file shows.
    pub(crate) fn show(&self, out: &mut dyn Write) -> fmt::Result {
        let state = self.state.lock();
        let (how, signal, pid) = state.notify.as_ref().map_or((0, 0, 0), |notify| {
            let signals = notify.event.notify == SIGEV_SIGNAL;
            (notify.event.notify, if signals { notify.event.signo } else { 0 }, notify.pid)
        });
        writeln!(out, "QSIZE:{:<10} NOTIFY:{how:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}", state.bytes)
    }
}

impl State {
    fn put(&mut self, message: &mut Option<Message>) -> Result<()> {
        let Some(Message { priority, bytes }) = message.take() else { return Ok(()) };
        let list = self.messages.entry(priority).or_default();
        if list.try_reserve(1).is_err() {
            // An empty list would hide the messages of lower priority.
            if list.is_empty() {
                self.messages.remove(&priority);
            }
            return Err(Errno::ENOMEM);
        }
        self.count += 1;
        self.bytes += bytes.len() as u64;
        list.push_back(bytes);
        Ok(())
    }

    fn take(&mut self) -> Option<Message> {
        let mut highest = self.messages.last_entry()?;
        let priority = *highest.key();
        let bytes = highest.get_mut().pop_front();
        if highest.get().is_empty() {
            highest.remove();
        }
        let bytes = bytes?;
        self.count -= 1;
        self.bytes -= bytes.len() as u64;
        Some(Message { priority, bytes })
    }
}

impl Notify {
    fn tell(&self, ctx: &Ctx) {
        if self.event.notify != SIGEV_SIGNAL || self.event.signo == 0 {
            return;
        }
        let Some(process) = pid::find_process(self.pid) else { return };
        let mut info = SigInfo::user(self.event.signo as u32, SI_MESGQ, ctx.process.pid(), ctx.cred().uid);
        info.fields[1] = self.event.value;
        // A process that cannot take one more signal is not told, as on Linux.
        let _ = signal::send_process(&process, info);
    }
}
