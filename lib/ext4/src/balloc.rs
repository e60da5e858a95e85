//! Allocating and freeing blocks.
//!
//! Near a goal, in runs as long as wanted: first the goal's group, then the groups after it; first for a run of
//! the whole length, then for the longest there is. A group has a lock of its own, so that files in different
//! groups do not wait for each other. Freed blocks stay out of reach until the transaction that freed them is
//! durable: else data could overwrite what the medium still refers to.

use crate::DAMAGED;
use crate::bits;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::journal::{Freed, Handle};
use abi::Errno;
use abi::errno::Result;
use core::sync::atomic::Ordering;

/// Who wants blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Promised before ([`Fs::promise`]): the promise is given back with the blocks.
    Promised,
    /// Not promised: only as many as nobody else was promised, the reserve excluded.
    Plain,
    /// The superuser's: not promised either, but the reserve may be used.
    Privileged,
    /// Whatever there is: nodes of maps, without which promised data has no place.
    Reserve,
}

impl<E: Env> Fs<E> {
    /// Blocks kept for the maps of files whose data was promised a place: 2 %, at most 4096, as on Linux.
    pub(crate) fn held_back(&self) -> i64 {
        (self.geo.blocks / 50).min(4096) as i64
    }

    /// Promises `count` blocks to data that is to be placed later. ENOSPC. `privileged`: may use the reserve.
    pub fn promise(&self, count: u64, privileged: bool) -> Result<()> {
        let count = count as i64;
        let promised = self.promised.fetch_add(count, Ordering::AcqRel) + count;
        let reserve = self.held_back() + if privileged { 0 } else { self.geo.reserved_blocks as i64 };
        if promised + reserve > self.free_blocks.load(Ordering::Acquire) {
            self.promised.fetch_sub(count, Ordering::AcqRel);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Takes a promise back.
    pub fn unpromise(&self, count: u64) {
        self.promised.fetch_sub(count as i64, Ordering::AcqRel);
    }

    /// The group of a block, and its place there.
    pub(crate) fn place_of(&self, block: u64) -> (u32, u32) {
        let at = block.saturating_sub(self.geo.first_data_block);
        let per = u64::from(self.geo.blocks_per_group);
        ((at / per) as u32, (at % per) as u32)
    }

    /// Allocates one run of up to `want` blocks near `goal`. ENOSPC.
    pub(crate) fn alloc_blocks(
        &self,
        handle: &Handle<E>,
        goal: u64,
        want: u32,
        claim: Claim,
    ) -> Result<(u64, u32)> {
        let want = self.allowed(want, claim)?;
        let goal = if goal < self.geo.blocks { goal } else { self.geo.first_data_block };
        let (home, from) = self.place_of(goal);
        let want = want.min(self.geo.blocks_per_group);
        for least in [want, want.div_ceil(8), 1] {
            for step in 0..self.geo.groups {
                let group = (home + step) % self.geo.groups;
                if self.groups[group as usize].state.lock().usable_blocks() < least {
                    continue;
                }
                let from = if step == 0 { from } else { 0 };
                let Some((first, len)) = self.take_in(handle, group, from, want, least)? else { continue };
                self.free_blocks.fetch_sub(i64::from(len), Ordering::AcqRel);
                if claim == Claim::Promised {
                    self.unpromise(u64::from(len));
                }
                return Ok((self.group_first(group) + u64::from(first), len));
            }
            if least == 1 {
                break;
            }
        }
        Err(Errno::ENOSPC)
    }

    /// How many of the wanted blocks the claim may have.
    fn allowed(&self, want: u32, claim: Claim) -> Result<u32> {
        if claim == Claim::Promised {
            return Ok(want);
        }
        let reserve = match claim {
            Claim::Reserve => 0,
            Claim::Privileged => self.held_back(),
            _ => self.geo.reserved_blocks as i64 + self.held_back(),
        };
        let free = self.free_blocks.load(Ordering::Acquire);
        let promised = if claim == Claim::Reserve { 0 } else { self.promised.load(Ordering::Acquire) };
        let left = free - promised - reserve;
        if left <= 0 { Err(Errno::ENOSPC) } else { Ok(want.min(u32::try_from(left).unwrap_or(u32::MAX))) }
    }

    /// Takes a run of at least `least` in one group.
    fn take_in(
        &self,
        handle: &Handle<E>,
        group: u32,
        from: u32,
        want: u32,
        least: u32,
    ) -> Result<Option<(u32, u32)>> {
        let bitmap = self.block_bitmap(handle, group)?;
        let len = self.group_len(group);
        let place = &self.groups[group as usize];
        // Looked for twice: a group without a fitting run should not become part of the transaction.
        let search = |bytes: &[u8], busy: &[(u32, u32)]| {
            let near = bits::find_run(bytes, from, len, want, busy);
            let run = match near {
                Some(run) if run.1 >= want || from == 0 => Some(run),
                near => bits::find_run(bytes, 0, len, want, busy).max_by_len(near),
            };
            run.filter(|run| run.1 >= least)
        };
        let state = place.state.lock();
        let found = bitmap.with(|bytes| search(bytes, &state.busy));
        drop(state);
        if found.is_none() {
            return Ok(None);
        }
        handle.join(&bitmap)?;
        handle.join(self.descriptor(group))?;
        let mut state = place.state.lock();
        let busy = &state.busy;
        let found = bitmap.change(|bytes| {
            let run = search(bytes, busy);
            if let Some((first, len)) = run {
                bits::fill(bytes, first, len, true);
            }
            run
        });
        if let Some((_, len)) = found {
            let left = state.free_blocks().saturating_sub(len);
            state.set_free_blocks(left);
        }
        Ok(found)
    }

    /// Gives a run back. `metadata`: its copies in the log must not be replayed.
    pub(crate) fn free_run(&self, handle: &Handle<E>, first: u64, len: u64, metadata: bool) -> Result<()> {
        if !self.valid_data(first, len) {
            self.fail("freeing blocks outside of the data", 0);
            return Err(DAMAGED);
        }
        let mut at = first;
        while at < first + len {
            let (group, bit) = self.place_of(at);
            let count = (first + len - at).min(u64::from(self.geo.blocks_per_group - bit)) as u32;
            self.free_in(handle, group, bit, count)?;
            at += u64::from(count);
        }
        if metadata {
            (first..first + len).for_each(|nr| handle.revoke(nr));
        }
        Ok(())
    }

    fn free_in(&self, handle: &Handle<E>, group: u32, first: u32, len: u32) -> Result<()> {
        let bitmap = self.block_bitmap(handle, group)?;
        handle.join(&bitmap)?;
        handle.join(self.descriptor(group))?;
        let mut state = self.groups[group as usize].state.lock();
        state.busy.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let was_used = bitmap.change(|bytes| {
            let used = bits::next_zero(bytes, first, first + len) == first + len;
            if used {
                bits::fill(bytes, first, len, false);
            }
            used
        });
        if !was_used {
            drop(state);
            self.fail("freeing blocks that are free", 0);
            return Err(DAMAGED);
        }
        let free = state.free_blocks() + len;
        state.set_free_blocks(free);
        let at = state.busy.partition_point(|run| run.0 < first);
        state.busy.insert(at, (first, len));
        state.busy_blocks += len;
        drop(state);
        self.free_blocks.fetch_add(i64::from(len), Ordering::AcqRel);
        handle.free_later(Freed { group, first, len });
        Ok(())
    }
}

/// The longer of two runs.
trait Longer {
    fn max_by_len(self, other: Self) -> Self;
}

impl Longer for Option<(u32, u32)> {
    fn max_by_len(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if b.1 > a.1 { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}
