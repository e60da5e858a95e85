//! Message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::{ALTER, Found, Perm, READ, Registry, now_s};
use crate::{Ctx, Result};
use abi::Errno;
use abi::cap::CAP_SYS_RESOURCE;
use abi::ipc::*;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use sync::SpinLock;
use sync::levels::{SysvObject, SysvTable};
use task::{WaitEnd, WaitMode, WaitQueue};

/// One message.
pub struct Message {
    pub kind: i64,
    pub bytes: Vec<u8>,
}

struct State {
    status: MsqidDs,
    perm: Perm,
    messages: VecDeque<Message>,
    removed: bool,
}

/// A queue.
pub struct Queue {
    state: SpinLock<State, SysvObject>,
    senders: WaitQueue,
    receivers: WaitQueue,
}

static QUEUES: SpinLock<Registry<Queue>, SysvTable> = SpinLock::new(Registry::new(MSGMNI));

/// Which message a receiver wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// 0: any; positive: of this kind; negative: the lowest kind up to its magnitude.
    pub kind: i64,
    /// MSG_EXCEPT: of any kind but this one.
    pub except: bool,
    /// MSG_NOERROR: cut to the room instead of E2BIG.
    pub cut: bool,
    pub room: usize,
}

impl Wanted {
    fn place(&self, messages: &VecDeque<Message>) -> Option<usize> {
        match self.kind {
            0 => (!messages.is_empty()).then_some(0),
            kind if kind > 0 => messages.iter().position(|m| (m.kind == kind) != self.except),
            kind => {
                let most = kind.checked_neg().unwrap_or(i64::MAX);
                let fits = messages.iter().enumerate().filter(|(_, m)| m.kind <= most);
                // The first of the lowest.
                fits.min_by_key(|(_, m)| m.kind).map(|(at, _)| at)
            }
        }
    }
}

/// msgget(2).
pub fn get(ctx: &Ctx, key: i32, flags: u32) -> Result<i32> {
    let mut queues = QUEUES.lock();
    match queues.find(key, flags)? {
        Found::Known(id, queue) => {
            drop(queues);
            queue.state.lock().perm.check(ctx, flags)?;
            Ok(id)
        }
        Found::Absent => {
            let queue = fresh(ctx, key, flags);
            let (id, uses) = queues.insert(key, queue.clone())?;
            queue.state.lock().perm.0.seq = uses as u16;
            Ok(id)
        }
    }
}

fn fresh(ctx: &Ctx, key: i32, flags: u32) -> Arc<Queue> {
    let status = MsqidDs { ctime: now_s(), max_bytes: MSGMNB, ..MsqidDs::default() };
    let perm = Perm::new(ctx, key, flags);
    let state = State { status, perm, messages: VecDeque::new(), removed: false };
    Arc::new(Queue {
        state: SpinLock::new(state),
        senders: WaitQueue::new(&"msg_send"),
        receivers: WaitQueue::new(&"msg_receive"),
    })
}

/// The queue of an identifier.
pub fn find(id: i32) -> Result<Arc<Queue>> {
    QUEUES.lock().get(id)
}

/// MSG_STAT and MSG_STAT_ANY: the queue in a place of the table.
pub fn at(place: i32) -> Result<(i32, Arc<Queue>)> {
    QUEUES.lock().at(place)
}

fn ended(end: WaitEnd) -> Errno {
    debug_assert!(end == WaitEnd::Signal, "it waits without a deadline");
    // A handler ends the wait whatever SA_RESTART says (signal(7)).
    Errno::ERESTARTNOHAND
}

impl Queue {
    /// msgsnd(2): waits for room unless told not to (EAGAIN). EACCES, EIDRM, ENOMEM.
    pub fn send(&self, ctx: &Ctx, message: Message, nowait: bool) -> Result<()> {
        let mut message = Some(message);
        let pid = ctx.process.pid() as i32;
        let mut attempt = || {
            let mut state = self.state.lock();
            let result = state.check(ctx, ALTER).and_then(|()| state.put(&mut message, pid));
            match result {
                Err(Errno::EAGAIN) if !nowait => None,
                result => Some(result),
            }
        };
        self.senders.wait_until(WaitMode::Interruptible, None, &mut attempt).map_err(ended)??;
        self.receivers.wake_all();
        Ok(())
    }

    /// msgrcv(2): waits for a message unless told not to (ENOMSG). E2BIG, EACCES, EIDRM.
    pub fn receive(&self, ctx: &Ctx, wanted: &Wanted, nowait: bool) -> Result<Message> {
        let pid = ctx.process.pid() as i32;
        let mut attempt = || {
            let mut state = self.state.lock();
            match state.check(ctx, READ).and_then(|()| state.take(wanted, pid)) {
                Err(Errno::ENOMSG) if !nowait => None,
                result => Some(result),
            }
        };
        let message =
            self.receivers.wait_until(WaitMode::Interruptible, None, &mut attempt).map_err(ended)??;
        self.senders.wake_all();
        Ok(message)
    }

    /// IPC_STAT; `any`: whoever asks.
    pub fn stat(&self, ctx: &Ctx, any: bool) -> Result<MsqidDs> {
        let state = self.state.lock();
        if !any {
            state.check(ctx, READ)?;
        }
        Ok(MsqidDs { perm: state.perm.0, ..state.status })
    }

    /// IPC_SET. EPERM, also for more room than usual without privilege.
    pub fn set(&self, ctx: &Ctx, new: &MsqidDs) -> Result<()> {
        let mut state = self.state.lock();
        state.perm.check_owner(ctx)?;
        if new.max_bytes > MSGMNB && !ctx.capable(CAP_SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        state.perm.set(&new.perm);
        state.status.max_bytes = new.max_bytes;
        state.status.ctime = now_s();
        drop(state);
        self.senders.wake_all();
        Ok(())
    }
}

impl State {
    fn check(&self, ctx: &Ctx, wanted: u32) -> Result<()> {
        if self.removed { Err(Errno::EIDRM) } else { self.perm.check(ctx, wanted) }
    }

    fn put(&mut self, message: &mut Option<Message>, pid: i32) -> Result<()> {
        let len = message.as_ref().map_or(0, |message| message.bytes.len()) as u64;
        let max = self.status.max_bytes;
        if self.status.bytes + len > max || self.status.messages + 1 > max {
            return Err(Errno::EAGAIN);
        }
        self.messages.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.messages.extend(message.take());
        self.status.bytes += len;
        self.status.messages += 1;
        (self.status.stime, self.status.last_sender) = (now_s(), pid);
        Ok(())
    }

    fn take(&mut self, wanted: &Wanted, pid: i32) -> Result<Message> {
        let place = wanted.place(&self.messages).ok_or(Errno::ENOMSG)?;
        if self.messages[place].bytes.len() > wanted.room && !wanted.cut {
            return Err(Errno::E2BIG);
        }
        let mut message = self.messages.remove(place).ok_or(Errno::ENOMSG)?;
        self.status.bytes -= message.bytes.len() as u64;
        self.status.messages -= 1;
        (self.status.rtime, self.status.last_receiver) = (now_s(), pid);
        message.bytes.truncate(wanted.room);
        Ok(message)
    }
}

/// IPC_RMID: who waits finds out.
pub fn remove(ctx: &Ctx, id: i32) -> Result<()> {
    find(id)?.state.lock().perm.check_owner(ctx)?;
    let gone = QUEUES.lock().remove(id)?;
    let messages = {
        let mut state = gone.state.lock();
        state.removed = true;
        core::mem::take(&mut state.messages)
    };
    drop(messages);
    gone.senders.wake_all();
    gone.receivers.wake_all();
    Ok(())
}

/// IPC_INFO and, with `used`, MSG_INFO; also the highest place in use.
pub fn info(used: bool) -> (MsgInfo, usize) {
    let queues = QUEUES.lock();
    let mut info = MsgInfo {
        pool: (MSGMNI as u64 * MSGMNB / 1024) as i32,
        map: MSGMNB as i32,
        max: MSGMAX as i32,
        mnb: MSGMNB as i32,
        mni: MSGMNI as i32,
        ssz: 16,
        tql: MSGMNB as i32,
        seg: 0xffff,
        pad: 0,
    };
    if used {
        let statuses = || queues.iter().map(|queue| queue.state.lock().status);
        info.pool = queues.iter().count() as i32;
        info.map = statuses().map(|status| status.messages as i32).sum();
        info.tql = statuses().map(|status| status.bytes as i32).sum();
    }
    (info, queues.highest())
}

/// A line of /proc/sysvipc/msg: the first queue at or after a place, and the place after it.
pub(super) fn line(from: usize, out: &mut dyn Write) -> Option<(usize, fmt::Result)> {
    let (place, id, queue) = QUEUES.lock().next(from)?;
    let (perm, status) = {
        let state = queue.state.lock();
        (state.perm.0, state.status)
    };
    let IpcPerm { key, uid, gid, cuid, cgid, mode, .. } = perm;
    let MsqidDs { bytes, messages, last_sender, last_receiver, stime, rtime, ctime, .. } = status;
    let result = writeln!(
        out,
        "{key:>10} {id:>10}  {mode:>4o}  {bytes:>10} {messages:>10} {last_sender:>5} {last_receiver:>5} \
         {uid:>5} {gid:>5} {cuid:>5} {cgid:>5} {stime:>10} {rtime:>10} {ctime:>10}"
    );
    Some((place + 1, result))
}
