//! Committing: from the running transaction to the log.

use super::checkpoint::Writer;
use super::format::{self, Tag};
use super::{Checkpoint, Committing, Disk, Freed, Journal, Log, Tid, Transaction, reached};
use crate::cache::BlockRef;
use crate::env::{Env, Event, Lock, Write};
use crate::fs::Fs;
use abi::Errno;
use abi::errno::Result;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

/// What is left of a transaction once its blocks are in `Committing`.
struct Closed {
    tid: Tid,
    revoked: BTreeSet<u64>,
    freed: Vec<Freed>,
}

impl<E: Env> Fs<E> {
    /// Makes transaction `tid` durable, and all before it. Whoever comes first does the work; others find it done.
    pub fn commit(&self, tid: Tid) -> Result<()> {
        let mut log = self.journal.log.lock();
        let state = self.journal.state.lock();
        if reached(state.committed, tid) {
            return Ok(());
        }
        if state.aborted {
            return Err(Errno::EIO);
        }
        drop(state);
        let result = self.commit_running(&mut log);
        drop(log);
        if result.is_err() {
            self.fail("journal commit", 0);
        }
        result
    }

    /// Makes all operations that have ended durable.
    pub fn commit_all(&self) -> Result<()> {
        let state = self.journal.state.lock();
        let (tid, used) = (state.running.tid, state.running.used);
        drop(state);
        self.commit(if used { tid } else { tid.wrapping_sub(1) })
    }

    fn commit_running(&self, log: &mut Log<E>) -> Result<()> {
        let (closed, blocks) = self.close_running()?;
        let written = match &mut log.disk {
            _ if blocks.is_empty() && closed.revoked.is_empty() => Ok(None),
            Some(disk) => self.write_log(disk, &closed, blocks.len()).map(Some),
            None => self.write_homes(blocks.len()).map(|()| None),
        };
        let mut state = self.journal.state.lock();
        state.committing = None;
        if written.is_ok() && state.running.tid != closed.tid {
            state.committed = closed.tid;
        }
        drop(state);
        self.journal.event.wake();
        let start = written?;
        self.retire(log, &closed);
        if let Some(start) = start {
            for checkpoint in &mut log.checkpoints {
                checkpoint.blocks.retain(|nr, _| !blocks.contains_key(nr));
            }
            log.checkpoints.push_back(Checkpoint { tid: closed.tid, start, blocks });
            self.make_room(log)?;
        }
        Ok(())
    }

    /// Waits for the open handles, seals the checksums, and starts the next transaction.
    fn close_running(&self) -> Result<(Closed, BTreeMap<u64, BlockRef<E>>)> {
        let journal = &self.journal;
        journal.state.lock().locked = true;
        journal.event.wait(&mut || journal.state.lock().open == 0);
        let sealed = self.seal_running();
        let mut state = journal.state.lock();
        // The log has no gaps: a transaction without blocks keeps its number.
        let empty = state.running.blocks.is_empty() && state.running.revoked.is_empty();
        let next = state.running.tid.wrapping_add(u32::from(!empty));
        let closed = core::mem::replace(&mut state.running, Transaction::new(next));
        state.locked = false;
        state.committing = Some(Committing { pending: closed.blocks.clone(), frozen: BTreeMap::new() });
        drop(state);
        journal.event.wake();
        sealed?;
        Ok((Closed { tid: closed.tid, revoked: closed.revoked, freed: closed.freed }, closed.blocks))
    }

    /// Computes the checksums of the running transaction's blocks; no handle is open.
    fn seal_running(&self) -> Result<()> {
        let state = self.journal.state.lock();
        let used = !state.running.blocks.is_empty();
        drop(state);
        if used {
            self.join_super()?;
        }
        let blocks: Vec<BlockRef<E>> = self.journal.state.lock().running.blocks.values().cloned().collect();
        self.seal_blocks(&blocks);
        Ok(())
    }

    /// Puts the superblock, whose counts change with every transaction, into the running one.
    fn join_super(&self) -> Result<()> {
        let mut state = self.journal.state.lock();
        let tid = state.running.tid;
        state.running.blocks.insert(self.super_block.nr, self.super_block.clone());
        self.super_block.set_tid(tid);
        Ok(())
    }

    /// The freed blocks may be used again; freed metadata is metadata no more.
    fn retire(&self, log: &mut Log<E>, closed: &Closed) {
        for nr in &closed.revoked {
            self.cache.forget(*nr);
            for checkpoint in &mut log.checkpoints {
                checkpoint.blocks.remove(nr);
            }
        }
        self.discard_freed(&closed.freed);
        self.release_freed(&closed.freed);
    }

    /// Without a journal: the blocks go to their homes.
    fn write_homes(&self, count: usize) -> Result<()> {
        let mut writer = Writer::new(self, count);
        while let Some((nr, bytes)) = self.take_pending()? {
            writer.push(nr, bytes)?;
        }
        writer.finish()?;
        self.env.flush()
    }

    /// The next block for the log, as it was when its transaction closed.
    fn take_pending(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(self.geo.block_size).map_err(|_| Errno::ENOMEM)?;
        let mut state = self.journal.state.lock();
        let Some(committing) = &mut state.committing else { return Ok(None) };
        if let Some(frozen) = committing.frozen.pop_first() {
            return Ok(Some(frozen));
        }
        let Some((nr, block)) = committing.pending.pop_first() else { return Ok(None) };
        block.with(|bytes| copy.extend_from_slice(bytes));
        drop(state);
        Ok(Some((nr, copy)))
    }

    /// Writes the records of a transaction. Returns the log block where it begins.
    fn write_log(&self, disk: &mut Disk, closed: &Closed, count: usize) -> Result<u32> {
        let start = disk.head;
        if self.log_need(disk, closed, count) >= (disk.last - disk.first) as usize / 2 {
            return Err(Errno::EIO);
        }
        if disk.sb.start.get() == 0 {
            self.write_journal_super(disk, start, closed.tid)?;
        }
        let mut records = Records { fs: self, disk, lot: Vec::new() };
        records.revokes(closed)?;
        let mut left = count;
        while left > 0 {
            left -= records.descriptor(closed.tid, left)?;
        }
        records.write_out()?;
        self.journal.event.wake();
        let commit = records.commit(closed.tid)?;
        self.env.write_in_order(&commit)?;
        Ok(start)
    }
}

impl<E: Env> Fs<E> {
    /// The blocks of the log that a transaction takes: far less than the half that is always free.
    fn log_need(&self, disk: &Disk, closed: &Closed, count: usize) -> usize {
        let revokes = closed.revoked.len().div_ceil(disk.format.revokes_per_block());
        count + count.div_ceil(disk.format.tags_per_block()) + revokes + 1
    }
}

/// Records on their way into the log.
struct Records<'a, E: Env> {
    fs: &'a Fs<E>,
    disk: &'a mut Disk,
    lot: Vec<Write>,
}

impl<E: Env> Records<'_, E> {
    /// Where the log's next block lies, which is taken.
    fn next_place(&mut self) -> Result<u64> {
        let home = self.disk.map.find(self.disk.head).ok_or(Errno::EUCLEAN)?;
        self.disk.head = self.disk.next(self.disk.head);
        Ok(home)
    }

    /// Appends one block.
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let home = self.next_place()?;
        let size = self.fs.geo.block_size;
        match self.lot.last_mut() {
            Some(last)
                if last.block + (last.bytes.len() / size) as u64 == home && last.bytes.len() < 64 * size =>
            {
                last.bytes.try_reserve(size).map_err(|_| Errno::ENOMEM)?;
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.lot.push(Write { block: home, bytes: bytes.to_vec() }),
        }
        if self.lot.len() >= 4 { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<()> {
        let result = self.fs.env.write_raw(&self.lot);
        self.lot.clear();
        result
    }

    /// A descriptor and the blocks that it describes, at most `left`; how many.
    fn descriptor(&mut self, tid: Tid, left: usize) -> Result<usize> {
        let format = self.disk.format;
        let count = left.min(format.tags_per_block());
        let mut record = vec![0; format.block_size];
        format::put_header(&mut record, format::DESCRIPTOR, tid);
        let mut bodies = Vec::new();
        let mut at = format::HEADER_LEN;
        for index in 0..count {
            let (nr, mut bytes) = self.fs.take_pending()?.ok_or(Errno::EIO)?;
            let mut flags = if index > 0 { format::TAG_SAME_UUID } else { 0 };
            if index + 1 == count {
                flags |= format::TAG_LAST;
            }
            if format::be32(&bytes, 0) == format::MAGIC {
                flags |= format::TAG_ESCAPE;
                format::put_be32(&mut bytes, 0, 0);
            }
            let checksum = format.data_csum(tid, &bytes);
            format.put_tag(&mut record, at, Tag { block: nr, flags, checksum });
            at += format.tag_len();
            if index == 0 {
                record[at..at + 16].copy_from_slice(&self.disk.sb.uuid);
                at += 16;
            }
            bodies.push(bytes);
        }
        format.seal_tail(&mut record);
        self.push(&record)?;
        for bytes in &bodies {
            self.push(bytes)?;
        }
        Ok(count)
    }

    fn revokes(&mut self, closed: &Closed) -> Result<()> {
        let format = self.disk.format;
        let all: Vec<u64> = closed.revoked.iter().copied().collect();
        for part in all.chunks(format.revokes_per_block()) {
            let mut record = vec![0; format.block_size];
            format::put_header(&mut record, format::REVOKE, closed.tid);
            let mut at = format::REVOKE_HEADER_LEN;
            for nr in part {
                if format.revoke_len() == 8 {
                    format::put_be32(&mut record, at, (*nr >> 32) as u32);
                }
                format::put_be32(&mut record, at + format.revoke_len() - 4, *nr as u32);
                at += format.revoke_len();
            }
            format::put_be32(&mut record, 12, at as u32);
            format.seal_tail(&mut record);
            self.push(&record)?;
        }
        Ok(())
    }

    /// The record that makes the transaction valid, which goes into the log by itself.
    fn commit(&mut self, tid: Tid) -> Result<Write> {
        let format = self.disk.format;
        let mut record = vec![0; format.block_size];
        format::put_header(&mut record, format::COMMIT, tid);
        let now = self.fs.env.now_ns();
        let seconds = now.div_euclid(1_000_000_000) as u64;
        format::put_be32(&mut record, format::COMMIT_TIME, (seconds >> 32) as u32);
        format::put_be32(&mut record, format::COMMIT_TIME + 4, seconds as u32);
        format::put_be32(&mut record, format::COMMIT_TIME + 8, now.rem_euclid(1_000_000_000) as u32);
        format.seal_commit(&mut record);
        Ok(Write { block: self.next_place()?, bytes: record })
    }
}

impl Disk {
    pub(super) fn next(&self, at: u32) -> u32 {
        if at + 1 >= self.last { self.first } else { at + 1 }
    }
}

impl<E: Env> Journal<E> {
    /// Whether there is a log, so that a transaction survives a crash as a whole.
    pub fn on_disk(&self) -> bool {
        self.on_disk
    }
}
