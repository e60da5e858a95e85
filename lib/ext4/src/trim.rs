//! Telling the device which blocks hold nothing: FITRIM for all that are free, and `-o discard` for those that
//! become free.
//!
//! A discarded block may read as anything, so nobody may get it before the device is done. Free blocks that are being
//! discarded are therefore set aside as those are that a transaction freed which is not durable yet; a promise of as
//! many keeps room for data that was promised some. Freed blocks are discarded when their transaction is durable, and
//! only then can they be had.

use crate::bits;
use crate::cache::BlockRef;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::journal::Freed;
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Blocks set aside at once.
const PIECE: u32 = 1024;

impl<E: Env> Fs<E> {
    /// Whether blocks are discarded as they become free.
    pub fn discards(&self) -> bool {
        self.discards.load(Ordering::Relaxed)
    }

    /// Sets what [`Fs::discards`] says: mount and remount.
    pub fn set_discards(&self, discards: bool) {
        self.discards.store(discards, Ordering::Relaxed);
    }

    /// Discards the free blocks of `start..end`, runs of at least `least`; how many those were. EROFS; errors of the
    /// device; ERESTARTSYS when the caller is to end. May take long.
    pub fn trim(&self, start: u64, end: u64, least: u32) -> Result<u64> {
        let end = end.min(self.geo.blocks);
        let mut at = start.max(self.geo.first_data_block);
        let mut trimmed = 0;
        while at < end {
            self.go_on()?;
            let (group, bit) = self.place_of(at);
            let first = self.group_first(group);
            let stop = u64::from(self.group_len(group)).min(end - first) as u32;
            trimmed += self.trim_group(group, (bit, stop), least.max(1))?;
            at = first + u64::from(self.geo.blocks_per_group);
        }
        Ok(trimmed)
    }

    fn trim_group(&self, group: u32, (from, to): (u32, u32), least: u32) -> Result<u64> {
        if self.groups[group as usize].state.lock().usable_blocks() < least {
            return Ok(0);
        }
        // A bitmap that was never made is made, and becomes part of a transaction.
        let handle = self.begin(4)?;
        let bitmap = self.block_bitmap(&handle, group)?;
        drop(handle);
        let (mut at, mut trimmed) = (from, 0);
        while let Some((first, len)) = self.free_run_from(group, &bitmap, at, to, least) {
            at = first + len;
            trimmed += self.trim_run(group, &bitmap, first, at)?;
        }
        Ok(trimmed)
    }

    /// Discards what is free of a part of a group, a piece at a time.
    fn trim_run(&self, group: u32, bitmap: &BlockRef<E>, mut at: u32, end: u32) -> Result<u64> {
        let mut trimmed = 0;
        while at < end {
            self.go_on()?;
            let wanted = u64::from((end - at).min(PIECE));
            if self.promise(wanted, true).is_err() {
                // All that is free was promised to data: it will not be free for long.
                break;
            }
            let aside = self.set_aside(group, bitmap, at, end);
            let done = match &aside {
                Ok(Some(run)) => {
                    let first = self.group_first(group) + u64::from(run.first);
                    let done = self.env.discard(&[(first, u64::from(run.len))]);
                    self.release_freed(core::slice::from_ref(run));
                    done
                }
                _ => Ok(()),
            };
            self.unpromise(wanted);
            done?;
            let Some(run) = aside? else { break };
            trimmed += u64::from(run.len);
            at = run.first + run.len;
        }
        Ok(trimmed)
    }

    /// The next run of free blocks that is long enough.
    fn free_run_from(
        &self,
        group: u32,
        bitmap: &BlockRef<E>,
        from: u32,
        to: u32,
        least: u32,
    ) -> Option<(u32, u32)> {
        let state = self.groups[group as usize].state.lock();
        bitmap.with(|bytes| bits::free_run(bytes, from, to, least, &state.busy))
    }

    /// Puts the next free blocks out of reach, until [`Fs::release_freed`].
    fn set_aside(&self, group: u32, bitmap: &BlockRef<E>, from: u32, to: u32) -> Result<Option<Freed>> {
        let mut state = self.groups[group as usize].state.lock();
        let Some((first, len)) = bitmap.with(|bytes| bits::free_run(bytes, from, to, 1, &state.busy)) else {
            return Ok(None);
        };
        let len = len.min(PIECE);
        state.busy.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let at = state.busy.partition_point(|run| run.0 < first);
        state.busy.insert(at, (first, len));
        state.busy_blocks += len;
        Ok(Some(Freed { group, first, len }))
    }

    /// Discards what a durable transaction freed, before it can be had again.
    pub(crate) fn discard_freed(&self, freed: &[Freed]) {
        if !self.discards() || freed.is_empty() {
            return;
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        if runs.try_reserve_exact(freed.len()).is_err() {
            // The blocks stay as they are; FITRIM finds them.
            return;
        }
        for run in freed {
            runs.push((self.group_first(run.group) + u64::from(run.first), u64::from(run.len)));
        }
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let follows = run.0 + run.1 == next.0;
            run.1 += if follows { next.1 } else { 0 };
            follows
        });
        match self.env.discard(&runs) {
            Err(Errno::EOPNOTSUPP) => {
                self.set_discards(false);
                self.env.warn(format_args!("discard not supported by the device, switched off"));
            }
            Err(error) => self.env.warn(format_args!("discard: {error:?}")),
            Ok(()) => {}
        }
    }
}
