//! The hierarchical timer wheel without cascading (Gleixner, Linux 4.8, `kernel/time/timer.c`).
//!
//! Nine levels of 64 buckets; a bucket of level `n` is 8^n ticks wide. A timer goes into the finest
//! level that reaches its expiry and *stays there*: the classic wheel moves timers to finer levels as
//! they come near, which costs more than it gains for timeouts that hardly ever expire. The price is
//! that a timer fires at the end of its bucket, up to an eighth of its distance late, never early.
//!
//! ```text
//!   level  width (ticks)  reaches         at 1 ms a tick
//!   0      1              0..63           exact
//!   1      8              64..511         up to 7 ms late
//!   2      64             512..4095       up to 63 ms late
//!   3      512            4096..32767     up to half a second late
//!   ...    8^n
//! ```

use crate::{OutOfMemory, TimerId};
use alloc::vec::Vec;

/// Number of levels: 9 of them reach 63 * 8^8 ticks, 12 days of milliseconds. What is later waits in the
/// last bucket and is put in again from there.
pub const LEVELS: usize = 9;
const BUCKETS: u64 = 64;
const LEVEL_SHIFT: u32 = 3;
const NONE: u32 = u32::MAX;

/// Bucket width, in ticks, for a timer `distance` ticks away: it fires less than that late.
pub fn granularity_at(distance: u64) -> u64 {
    1 << shift(level_for(distance))
}

#[derive(Debug)]
struct Node<T> {
    expires: u64,
    generation: u32,
    /// Where the node is linked; meaningless while `value` is `None`.
    bucket: u16,
    prev: u32,
    next: u32,
    value: Option<T>,
}

/// A wheel of timers that carry a `T` each.
#[derive(Debug)]
pub struct TimerWheel<T> {
    /// All ticks below this one have been processed.
    clock: u64,
    heads: [u32; LEVELS * BUCKETS as usize],
    /// Bit `b` of level `n`: bucket `b` is not empty.
    pending: [u64; LEVELS],
    nodes: Vec<Node<T>>,
    free: u32,
    armed: usize,
}

fn shift(level: usize) -> u32 {
    LEVEL_SHIFT * level as u32
}

/// The finest level on which a bucket `distance` ticks ahead cannot be mistaken for a past one.
fn level_for(distance: u64) -> usize {
    // Level n takes what is nearer than 63 of its buckets: one less than 64, because rounding up may add one.
    (0..LEVELS).find(|&level| distance >> shift(level) < BUCKETS - 1).unwrap_or(LEVELS - 1)
}

impl<T> TimerWheel<T> {
    /// A wheel whose time begins at tick `now`.
    pub const fn new(now: u64) -> TimerWheel<T> {
        TimerWheel {
            clock: now,
            heads: [NONE; LEVELS * BUCKETS as usize],
            pending: [0; LEVELS],
            nodes: Vec::new(),
            free: NONE,
            armed: 0,
        }
    }

    /// Arms a timer for tick `expires`, or for the next tick processed if that is past. Constant time.
    ///
    /// `now` matters when the wheel has not been asked for a while (a tickless CPU): the precision follows
    /// the distance from there.
    pub fn add(&mut self, now: u64, expires: u64, value: T) -> Result<TimerId, OutOfMemory> {
        let slot = self.new_slot()?;
        self.forward(now);
        let node = &mut self.nodes[slot as usize];
        node.expires = expires;
        node.value = Some(value);
        let generation = node.generation;
        self.armed += 1;
        self.link(slot);
        Ok(TimerId { slot, generation })
    }

    /// Disarms a timer and returns its value; `None` if it has fired or was cancelled. Constant time.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let node = self.nodes.get(id.slot as usize)?;
        if node.generation != id.generation || node.value.is_none() {
            return None;
        }
        self.unlink(id.slot);
        self.release(id.slot)
    }

    /// Takes one timer that is due at tick `now` out of the wheel; `None` when no more is due.
    ///
    /// Called in a loop. Between the calls the caller may drop its lock, arm and cancel timers.
    pub fn pop_expired(&mut self, now: u64) -> Option<T> {
        loop {
            let due = self.next_bucket().filter(|&(tick, _)| tick <= now);
            let Some((tick, bucket)) = due else {
                self.clock = self.clock.max(now.saturating_add(1));
                return None;
            };
            self.clock = tick;
            let slot = self.heads[bucket];
            self.unlink(slot);
            if self.nodes[slot as usize].expires <= tick {
                return self.release(slot);
            }
            // It was too far for the wheel, which reaches further from here. The clock stays: other
            // timers of this bucket may be due.
            self.link(slot);
        }
    }

    /// The first tick at which [`TimerWheel::pop_expired`] will have something to do; `None` without timers.
    pub fn next_expiry(&self) -> Option<u64> {
        self.next_bucket().map(|(tick, _)| tick)
    }

    /// Number of armed timers.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The bucket that is due first, and its tick: the end of its width.
    fn next_bucket(&self) -> Option<(u64, usize)> {
        let levels = (0..LEVELS).filter(|&level| self.pending[level] != 0);
        let first = levels.map(|level| {
            let shift = shift(level);
            // The first bucket of this level that ends at or after the clock.
            let from = self.clock.div_ceil(1 << shift);
            let ahead = self.pending[level].rotate_right((from % BUCKETS) as u32).trailing_zeros();
            let position = from + u64::from(ahead);
            (position << shift, level * BUCKETS as usize + (position % BUCKETS) as usize)
        });
        first.min()
    }

    /// Moves the clock to `now`, but not past a timer that is due and was not taken out yet.
    fn forward(&mut self, now: u64) {
        if now > self.clock {
            let due = self.next_expiry().unwrap_or(now);
            self.clock = self.clock.max(due.min(now));
        }
    }

    fn link(&mut self, slot: u32) {
        let expires = self.nodes[slot as usize].expires.max(self.clock);
        let level = level_for(expires - self.clock);
        let furthest = (self.clock >> shift(level)) + BUCKETS - 1;
        let position = expires.div_ceil(1 << shift(level)).min(furthest);
        let bucket = level * BUCKETS as usize + (position % BUCKETS) as usize;
        self.pending[level] |= 1 << (position % BUCKETS);
        let head = self.heads[bucket];
        let node = &mut self.nodes[slot as usize];
        (node.bucket, node.prev, node.next) = (bucket as u16, NONE, head);
        if head != NONE {
            self.nodes[head as usize].prev = slot;
        }
        self.heads[bucket] = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Node { bucket, prev, next, .. } = self.nodes[slot as usize];
        let bucket = usize::from(bucket);
        match prev {
            NONE => self.heads[bucket] = next,
            _ => self.nodes[prev as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if self.heads[bucket] == NONE {
            self.pending[bucket / BUCKETS as usize] &= !(1 << (bucket as u64 % BUCKETS));
        }
    }

    fn new_slot(&mut self) -> Result<u32, OutOfMemory> {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.nodes[slot as usize].next;
            return Ok(slot);
        }
        let slot = u32::try_from(self.nodes.len()).map_err(|_| OutOfMemory)?;
        self.nodes.try_reserve(1).map_err(|_| OutOfMemory)?;
        let node = Node { expires: 0, generation: 0, bucket: 0, prev: NONE, next: NONE, value: None };
        self.nodes.push(node);
        Ok(slot)
    }

    fn release(&mut self, slot: u32) -> Option<T> {
        let node = &mut self.nodes[slot as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = slot;
        self.armed -= 1;
        node.value.take()
    }
}
