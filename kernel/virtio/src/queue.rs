//! The split virtqueue (VIRTIO 1.2, section 2.7), with indirect descriptors and event indices.
//!
//! ```text
//!   descriptors   [addr len flags next] * size      or, indirect, one that points to a table
//!   available     flags, idx, heads * size, used_event        written here, read by the device
//!   used          flags, idx, (head, len) * size, avail_event written by the device, read here
//! ```
//!
//! An event index says "interrupt (notify) me when the index passes this": a batch costs one notification.

use crate::device::{Notify, feature};
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};
use mem::DmaMemory;

const NEXT: u16 = 1;
const DEVICE_WRITES: u16 = 2;
const INDIRECT: u16 = 4;

const DESCRIPTOR: usize = 16;
/// Where the used ring begins: a page border, which the legacy interface wants.
const ALIGN: usize = 4096;
const NONE: u16 = u16::MAX;

/// A piece of memory for the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    pub phys: u64,
    pub len: u32,
    /// The device writes it, else it reads it. Those it reads come first.
    pub device_writes: bool,
}

/// A chain that the device is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// What [`Queue::add`] was given.
    pub token: u16,
    /// Bytes the device wrote, as it says.
    pub len: u32,
}

/// What is known of a descriptor in use as the head of a chain.
#[derive(Clone, Copy)]
struct Chain {
    token: u16,
    /// Descriptors of the ring, 0 when the head is not in use.
    count: u16,
}

/// One queue. The driver keeps it under a lock of level `DriverIrq`.
pub struct Queue {
    number: u16,
    size: u16,
    ring: DmaMemory,
    /// By token: tables for indirect chains, made when first needed.
    tables: Vec<Option<DmaMemory>>,
    table_entries: usize,
    chains: Vec<Chain>,
    /// The links of descriptors, free and used; the ring's own copy belongs to the device as well.
    next: Vec<u16>,
    free: u16,
    free_count: u16,
    /// The next index of the available ring, and how far the device was told of it.
    available: u16,
    published: u16,
    seen: u16,
    events: bool,
    broken: bool,
    notify: Notify,
}

/// Offsets in the ring's memory.
pub(crate) struct Layout {
    pub available: usize,
    pub used: usize,
    pub bytes: usize,
}

impl Layout {
    pub(crate) fn new(size: u16) -> Layout {
        let size = usize::from(size);
        let available = DESCRIPTOR * size;
        let used = (available + 6 + 2 * size).next_multiple_of(ALIGN);
        Layout { available, used, bytes: used + 6 + 8 * size }
    }
}

impl Queue {
    /// A queue of `size` descriptors. With [`feature::INDIRECT`] among `features`, chains of up to
    /// `table_entries` buffers take one descriptor each.
    pub(crate) fn new(
        number: u16,
        size: u16,
        table_entries: usize,
        features: u64,
        notify: Notify,
    ) -> Result<Queue> {
        let ring = DmaMemory::alloc(Layout::new(size).bytes, false)?;
        let indirect = features & feature::INDIRECT != 0;
        let count = usize::from(size);
        let mut queue = Queue {
            number,
            size,
            ring,
            tables: Vec::new(),
            table_entries: if indirect { table_entries } else { 0 },
            chains: Vec::new(),
            next: Vec::new(),
            free: 0,
            free_count: size,
            available: 0,
            published: 0,
            seen: 0,
            events: features & feature::EVENT_IDX != 0,
            broken: false,
            notify,
        };
        let room = queue.chains.try_reserve_exact(count).and(queue.next.try_reserve_exact(count));
        room.and(queue.tables.try_reserve_exact(count)).map_err(|_| Errno::ENOMEM)?;
        queue.chains.resize(count, Chain { token: 0, count: 0 });
        queue.next.extend((1..size).chain([NONE]));
        queue.tables.resize_with(count, || None);
        Ok(queue)
    }

    /// Its number on the device.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Descriptors.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Descriptors that no chain uses.
    pub fn free(&self) -> u16 {
        self.free_count
    }

    pub(crate) fn phys(&self) -> u64 {
        self.ring.phys()
    }

    /// The device has broken the rules: nothing comes back any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Adds a chain; the device sees it at the next [`Queue::publish`]. `token` names it when it comes back;
    /// tokens of chains under way differ and are below the queue's size. Any context, no sleep.
    ///
    /// # Errors
    /// ENOSPC: no descriptors are left. EINVAL: no buffers. EIO: the device is broken.
    pub fn add(&mut self, token: u16, buffers: &[Buffer]) -> Result<()> {
        if self.broken {
            return Err(Errno::EIO);
        }
        if buffers.is_empty() || token >= self.size {
            return Err(Errno::EINVAL);
        }
        let head = match self.table(token, buffers.len()) {
            Some(table) => self.add_indirect(table, token, buffers)?,
            None => self.add_direct(buffers)?,
        };
        self.chains[usize::from(head)].token = token;
        let at = Layout::new(self.size).available + 4 + 2 * usize::from(self.available % self.size);
        self.ring.write_val(at, &head.to_le());
        self.available = self.available.wrapping_add(1);
        Ok(())
    }

    /// The physical address of the token's table, when the chain is to go through one.
    fn table(&mut self, token: u16, buffers: usize) -> Option<u64> {
        if buffers < 2 || buffers > self.table_entries {
            return None;
        }
        let entries = self.table_entries;
        let slot = self.tables.get_mut(usize::from(token))?;
        if slot.is_none() {
            // Without memory the chain may still fit the ring itself.
            *slot = DmaMemory::alloc(entries * DESCRIPTOR, true).ok();
        }
        slot.as_ref().map(DmaMemory::phys)
    }

    fn add_indirect(&mut self, table: u64, token: u16, buffers: &[Buffer]) -> Result<u16> {
        let head = self.take_free(1)?;
        if let Some(memory) = &self.tables[usize::from(token)] {
            for (at, buffer) in buffers.iter().enumerate() {
                let more = at + 1 < buffers.len();
                write_descriptor(memory, at, buffer, more.then_some(at as u16 + 1));
            }
        }
        let bytes = buffers.len() * DESCRIPTOR;
        write_raw(&self.ring, head.into(), table, bytes as u32, INDIRECT, 0);
        Ok(head)
    }

    fn add_direct(&mut self, buffers: &[Buffer]) -> Result<u16> {
        let count = u16::try_from(buffers.len()).map_err(|_| Errno::ENOSPC)?;
        let head = self.take_free(count)?;
        let mut at = head;
        for (number, buffer) in buffers.iter().enumerate() {
            let next = self.next[usize::from(at)];
            let more = number + 1 < buffers.len();
            write_descriptor(&self.ring, at.into(), buffer, more.then_some(next));
            at = next;
        }
        Ok(head)
    }

    /// Takes `count` linked descriptors off the free list.
    fn take_free(&mut self, count: u16) -> Result<u16> {
        if count > self.free_count {
            return Err(Errno::ENOSPC);
        }
        let head = self.free;
        let mut last = head;
        for _ in 1..count {
            last = self.next[usize::from(last)];
        }
        self.free = self.next[usize::from(last)];
        self.free_count -= count;
        self.chains[usize::from(head)].count = count;
        Ok(head)
    }

    /// Shows the device what was added, and notifies it if it wants that.
    pub fn publish(&mut self) {
        let (old, new) = (self.published, self.available);
        if old == new {
            return;
        }
        let layout = Layout::new(self.size);
        self.ring.store_u16(layout.available + 2, new);
        self.published = new;
        // The device writes its wish, then reads the index; here it is the other way round.
        fence(Ordering::SeqCst);
        let wanted = if self.events {
            let event = self.ring.load_u16(layout.used + 4 + 8 * usize::from(self.size));
            passes(event, old, new)
        } else {
            self.ring.load_u16(layout.used) & 1 == 0
        };
        if wanted {
            self.notify.ring(self.number);
        }
    }

    /// The next chain that the device is done with. After `None` the device interrupts for the next one.
    pub fn pop(&mut self) -> Option<Used> {
        let layout = Layout::new(self.size);
        if self.broken {
            return None;
        }
        if self.ring.load_u16(layout.used + 2) == self.seen {
            // Ask for an interrupt, then look again: one may have come in between.
            if self.events {
                self.ring.store_u16(layout.available + 4 + 2 * usize::from(self.size), self.seen);
                fence(Ordering::SeqCst);
            }
            if self.ring.load_u16(layout.used + 2) == self.seen {
                return None;
            }
        }
        let at = layout.used + 4 + 8 * usize::from(self.seen % self.size);
        let head = u32::from_le(self.ring.read_val(at));
        let len = u32::from_le(self.ring.read_val(at + 4));
        self.seen = self.seen.wrapping_add(1);
        let chain = usize::try_from(head).ok().and_then(|head| self.chains.get_mut(head));
        match chain {
            Some(chain) if chain.count > 0 => {
                let Chain { token, count } = core::mem::replace(chain, Chain { token: 0, count: 0 });
                self.give_back(head as u16, count);
                Some(Used { token, len })
            }
            _ => {
                self.broken = true;
                klog::pr_err!(
                    "virtio: queue {}: the device returned {head}, which is not in use",
                    self.number
                );
                None
            }
        }
    }

    fn give_back(&mut self, head: u16, count: u16) {
        let mut last = head;
        for _ in 1..count {
            last = self.next[usize::from(last)];
        }
        self.next[usize::from(last)] = self.free;
        self.free = head;
        self.free_count += count;
    }
}

/// Whether an index that went from `old` to `new` has passed `event` (VIRTIO 1.2, 2.7.10).
fn passes(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

fn write_descriptor(memory: &DmaMemory, at: usize, buffer: &Buffer, next: Option<u16>) {
    let flags = if next.is_some() { NEXT } else { 0 } | if buffer.device_writes { DEVICE_WRITES } else { 0 };
    write_raw(memory, at, buffer.phys, buffer.len, flags, next.unwrap_or(0));
}

fn write_raw(memory: &DmaMemory, at: usize, phys: u64, len: u32, flags: u16, next: u16) {
    let at = at * DESCRIPTOR;
    memory.write_val(at, &phys.to_le());
    memory.write_val(at + 8, &len.to_le());
    memory.write_val(at + 12, &flags.to_le());
    memory.write_val(at + 14, &next.to_le());
}
