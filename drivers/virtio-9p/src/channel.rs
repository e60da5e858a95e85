//! The queue of one device: slots, exchanges, the interrupt.

use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use mem::DmaMemory;
use net9p::{Channel, Exchange, MESSAGE, Piece, Reply};
use sync::SpinLock;
use sync::levels::DriverIrq;
use task::{WaitMode, WaitQueue};
use virtio::{Buffer, Queue};

/// Buffers of a chain at most: two messages, and pieces of payload.
pub(crate) const CHAIN: usize = 128;
/// Where the tag is in a message, and the tag of requests without one.
const TAG_AT: usize = 5;
const NO_TAG: [u8; 2] = [0xff; 2];
/// Where the answer's message is in a slot's memory.
const REPLY_AT: usize = MESSAGE;

/// What becomes of a slot's exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody's, or its owner prepares it.
    Idle,
    /// The device has it.
    Sent,
    /// The device is done with it and wrote so many bytes.
    Answered(u32),
    /// The device has it, and nobody waits.
    Abandoned,
}

struct Slot {
    state: State,
    /// Made by the first owner.
    memory: Option<DmaMemory>,
    /// The payloads' pages, while the device may touch them.
    pieces: Vec<Piece>,
}

struct Inner {
    queue: Queue,
    slots: Vec<Slot>,
    /// Slots without an owner.
    free: Vec<u16>,
    /// Chains that the device has.
    sent: usize,
    dead: bool,
}

/// One device.
pub(crate) struct Virtio9p {
    inner: SpinLock<Inner, DriverIrq>,
    /// By slot: the owner waits for the answer.
    answered: Vec<WaitQueue>,
    /// For a slot, or for room in the ring.
    room: WaitQueue,
    max_pieces: usize,
}

impl Virtio9p {
    pub fn new(queue: Queue, indirect: bool) -> Result<Virtio9p> {
        let count = queue.size();
        let (mut slots, mut free, mut answered) = (Vec::new(), Vec::new(), Vec::new());
        let len = usize::from(count);
        let reserved = slots.try_reserve_exact(len).and(free.try_reserve_exact(len));
        reserved.and(answered.try_reserve_exact(len)).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(len, || Slot { state: State::Idle, memory: None, pieces: Vec::new() });
        free.extend((0..count).rev());
        answered.resize_with(len, || WaitQueue::new(&"p9_client_rpc"));
        // Without a table of its own, a chain has to fit the ring beside others.
        let chain = if indirect { CHAIN } else { (len / 2).clamp(4, CHAIN) };
        let inner = Inner { queue, slots, free, sent: 0, dead: false };
        Ok(Virtio9p {
            inner: SpinLock::new(inner),
            answered,
            room: WaitQueue::new(&"p9_virtio_zc_request"),
            max_pieces: chain - 2,
        })
    }

    /// The device may have answered. Hard interrupt.
    pub fn interrupt(&self) -> bool {
        /// Answers that are taken out of the ring under one lock.
        const AT_ONCE: usize = 16;
        let mut any = false;
        loop {
            let mut slots = [0; AT_ONCE];
            let (taken, waited, died) = self.take_answers(&mut slots);
            any |= taken > 0;
            slots[..waited].iter().for_each(|slot| self.answered[usize::from(*slot)].wake_all());
            if died {
                self.answered.iter().for_each(WaitQueue::wake_all);
            }
            if taken > 0 || died {
                self.room.wake_all();
            }
            if taken < AT_ONCE {
                return any;
            }
        }
    }

    /// Takes answers out of the ring: how many, for how many of them (in `slots`) somebody waits, and whether the
    /// device was found to be broken.
    fn take_answers(&self, slots: &mut [u16]) -> (usize, usize, bool) {
        let mut inner = self.inner.lock();
        let (mut taken, mut waited) = (0, 0);
        while taken < slots.len()
            && let Some(used) = inner.queue.pop()
        {
            taken += 1;
            inner.sent -= 1;
            let slot = &mut inner.slots[usize::from(used.token)];
            if slot.state == State::Abandoned {
                // What it says is of no interest; its pages are free now.
                slot.pieces = Vec::new();
                slot.state = State::Idle;
                inner.free.push(used.token);
            } else {
                slot.state = State::Answered(used.len);
                slots[waited] = used.token;
                waited += 1;
            }
        }
        let died = inner.queue.is_broken() && !inner.dead;
        inner.dead |= died;
        (taken, waited, died)
    }

    /// Sleeps until there is a slot, which is the caller's then.
    fn take_slot(&self, mode: WaitMode) -> Result<u16> {
        let attempt = || {
            let mut inner = self.inner.lock();
            if inner.dead { Some(Err(Errno::EIO)) } else { inner.free.pop().map(Ok) }
        };
        self.room.wait_until(mode, None, attempt).map_err(|_| Errno::EINTR)?
    }

    fn give_slot(&self, slot: u16) {
        let mut inner = self.inner.lock();
        let pieces = core::mem::take(&mut inner.slots[usize::from(slot)].pieces);
        inner.slots[usize::from(slot)].state = State::Idle;
        inner.free.push(slot);
        drop(inner);
        drop(pieces);
        self.room.wake_one();
    }

    /// The memory of a slot that the caller owns; it comes back by `send`.
    fn take_memory(&self, slot: u16) -> Result<DmaMemory> {
        let memory = self.inner.lock().slots[usize::from(slot)].memory.take();
        match memory {
            Some(memory) => Ok(memory),
            None => Ok(DmaMemory::alloc(REPLY_AT + MESSAGE, false)?),
        }
    }

    /// Puts the chain of a slot into the ring; waits for room there.
    fn send(
        &self,
        slot: u16,
        memory: DmaMemory,
        chain: &[Buffer],
        pieces: Vec<Piece>,
        mode: WaitMode,
    ) -> Result<()> {
        let mut inner = self.inner.lock();
        let own = &mut inner.slots[usize::from(slot)];
        (own.memory, own.pieces) = (Some(memory), pieces);
        drop(inner);
        let attempt = || {
            let mut inner = self.inner.lock();
            if inner.dead {
                return Some(Err(Errno::EIO));
            }
            match inner.queue.add(slot, chain) {
                Ok(()) => {
                    inner.slots[usize::from(slot)].state = State::Sent;
                    inner.sent += 1;
                    inner.queue.publish();
                    Some(Ok(()))
                }
                // Others' chains fill the ring: their answers make room.
                Err(Errno::ENOSPC) if inner.sent > 0 => None,
                Err(_) => Some(Err(Errno::EIO)),
            }
        };
        self.room.wait_until(mode, None, attempt).map_err(|_| Errno::EINTR)?
    }

    /// Sleeps until the slot's exchange is answered; how many bytes came. After an error the slot is not the
    /// caller's any more.
    fn wait(&self, slot: u16, mode: WaitMode) -> Result<u32> {
        let index = usize::from(slot);
        let attempt = || {
            let inner = self.inner.lock();
            match inner.slots[index].state {
                State::Answered(len) => Some(Ok(len)),
                _ if inner.dead => Some(Err(Errno::EIO)),
                _ => None,
            }
        };
        let waited = self.answered[index].wait_until(mode, None, attempt);
        match waited {
            // The pages of a broken device's exchange are lost: it may write them at any time.
            Ok(result) => result,
            Err(_) => self.abandon(index),
        }
    }

    /// The caller goes; an answer that has just come is taken all the same.
    fn abandon(&self, index: usize) -> Result<u32> {
        let mut inner = self.inner.lock();
        match inner.slots[index].state {
            State::Answered(len) => Ok(len),
            _ => {
                inner.slots[index].state = State::Abandoned;
                Err(Errno::EINTR)
            }
        }
    }

    /// The front of a slot's answer.
    fn read_reply(&self, slot: u16, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(len, 0);
        let inner = self.inner.lock();
        if let Some(memory) = &inner.slots[usize::from(slot)].memory {
            memory.read(REPLY_AT, &mut bytes);
        }
        Ok(bytes)
    }

    fn run(&self, slot: u16, exchange: Exchange) -> core::result::Result<Reply, (Errno, bool)> {
        let Exchange { mut message, mut out, reply_len, into, mode } = exchange;
        let owned = |error| (error, true);
        let keeps_tag = message[TAG_AT..][..2] == NO_TAG;
        let tag = if keeps_tag { u16::from_le_bytes(NO_TAG) } else { slot };
        message[TAG_AT..][..2].copy_from_slice(&tag.to_le_bytes());
        let memory = self.take_memory(slot).map_err(owned)?;
        memory.write(0, &message);
        let room = reply_len + into.iter().map(|piece| piece.len).sum::<usize>();
        let chain = chain(&memory, message.len(), &out, reply_len, &into).map_err(owned)?;
        out.try_reserve_exact(into.len()).map_err(|_| (Errno::ENOMEM, true))?;
        out.extend(into);
        self.send(slot, memory, &chain, out, mode).map_err(owned)?;
        let len = self.wait(slot, mode).map_err(|error| (error, false))?;
        let len = (len as usize).min(room);
        let message = self.read_reply(slot, len.min(reply_len)).map_err(owned)?;
        Ok(Reply { tag, message, len })
    }
}

/// The buffers of an exchange: what the device reads, then what it writes.
fn chain(
    memory: &DmaMemory,
    len: usize,
    out: &[Piece],
    reply_len: usize,
    into: &[Piece],
) -> Result<Vec<Buffer>> {
    let mut chain = Vec::new();
    chain.try_reserve_exact(out.len() + into.len() + 2).map_err(|_| Errno::ENOMEM)?;
    let of = |piece: &Piece, device_writes| Buffer {
        phys: piece.folio.phys().0 + piece.offset as u64,
        len: piece.len as u32,
        device_writes,
    };
    chain.push(Buffer { phys: memory.phys(), len: len as u32, device_writes: false });
    chain.extend(out.iter().map(|piece| of(piece, false)));
    chain.push(Buffer { phys: memory.phys() + REPLY_AT as u64, len: reply_len as u32, device_writes: true });
    chain.extend(into.iter().map(|piece| of(piece, true)));
    Ok(chain)
}

impl Channel for Virtio9p {
    fn max_pieces(&self) -> usize {
        self.max_pieces
    }

    fn exchange(&self, exchange: Exchange) -> Result<Reply> {
        let pieces = exchange.out.len() + exchange.into.len();
        let inside =
            |piece: &Piece| piece.offset.checked_add(piece.len).is_some_and(|end| end <= piece.folio.len());
        let whole = exchange.out.iter().chain(&exchange.into).all(inside);
        let lengths =
            (TAG_AT + 2..=MESSAGE).contains(&exchange.message.len()) && exchange.reply_len <= MESSAGE;
        if pieces > self.max_pieces || !whole || !lengths {
            return Err(Errno::EMSGSIZE);
        }
        let slot = self.take_slot(exchange.mode)?;
        match self.run(slot, exchange) {
            Ok(reply) => {
                self.give_slot(slot);
                Ok(reply)
            }
            Err((error, owned)) => {
                if owned {
                    self.give_slot(slot);
                }
                Err(error)
            }
        }
    }
}
