//! Checkpoints: committed blocks go to their homes, and the log's tail moves.
//!
//! A block that the running transaction has changed cannot go home: its bytes are not committed. It stays with
//! the transaction that logged it last, which leaves the log when the running one is committed; so at
//! most three transactions are in the log when room is short, and a transaction takes at most a quarter of it.

use super::{Disk, Log};
use crate::cache::BlockRef;
use crate::env::{Env, Lock, Write};
use crate::fs::Fs;
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

/// Gathers blocks in ascending order into few writes.
pub(super) struct Writer<'a, E: Env> {
    fs: &'a Fs<E>,
    lot: Vec<Write>,
    blocks: usize,
}

/// Blocks that are handed to the device at once.
const LOT: usize = 128;

impl<'a, E: Env> Writer<'a, E> {
    pub fn new(fs: &'a Fs<E>, _expected: usize) -> Writer<'a, E> {
        Writer { fs, lot: Vec::new(), blocks: 0 }
    }

    pub fn push(&mut self, nr: u64, bytes: Vec<u8>) -> Result<()> {
        let size = self.fs.geo.block_size;
        match self.lot.last_mut() {
            Some(last) if last.block + (last.bytes.len() / size) as u64 == nr => {
                last.bytes.try_reserve(size).map_err(|_| Errno::ENOMEM)?;
                last.bytes.extend_from_slice(&bytes);
            }
            _ => self.lot.push(Write { block: nr, bytes }),
        }
        self.blocks += 1;
        if self.blocks >= LOT { self.finish() } else { Ok(()) }
    }

    pub fn finish(&mut self) -> Result<()> {
        let result = self.fs.env.write_raw(&self.lot);
        self.lot.clear();
        self.blocks = 0;
        result
    }
}

impl<E: Env> Fs<E> {
    /// After a commit: a pass when less than half of the log is free.
    pub(super) fn make_room(&self, log: &mut Log<E>) -> Result<()> {
        let Some(disk) = &log.disk else { return Ok(()) };
        let Some(oldest) = log.checkpoints.front() else { return Ok(()) };
        let len = disk.last - disk.first;
        let used = (disk.head + len - oldest.start) % len;
        if used < len / 2 { Ok(()) } else { self.checkpoint(log) }
    }

    /// Brings home what may go, and moves the tail.
    pub(super) fn checkpoint(&self, log: &mut Log<E>) -> Result<()> {
        let mut all: Vec<BlockRef<E>> = Vec::new();
        for checkpoint in &log.checkpoints {
            all.extend(checkpoint.blocks.values().cloned());
        }
        all.sort_unstable_by_key(|block| block.nr);
        let mut writer = Writer::new(self, all.len());
        let mut done = Vec::new();
        for block in all {
            if let Some(bytes) = self.committed_bytes(&block)? {
                writer.push(block.nr, bytes)?;
                done.push(block.nr);
            }
        }
        writer.finish()?;
        self.env.flush()?;
        for checkpoint in &mut log.checkpoints {
            checkpoint.blocks.retain(|nr, _| done.binary_search(nr).is_err());
        }
        self.move_tail(log)
    }

    /// A copy of a block, unless the running transaction has changed it.
    fn committed_bytes(&self, block: &BlockRef<E>) -> Result<Option<Vec<u8>>> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(self.geo.block_size).map_err(|_| Errno::ENOMEM)?;
        let state = self.journal.state.lock();
        if state.running.blocks.contains_key(&block.nr) {
            return Ok(None);
        }
        block.with(|bytes| copy.extend_from_slice(bytes));
        drop(state);
        Ok(Some(copy))
    }

    /// Forgets transactions that are home altogether, oldest first, and says so in the log's superblock.
    fn move_tail(&self, log: &mut Log<E>) -> Result<()> {
        while log.checkpoints.front().is_some_and(|oldest| oldest.blocks.is_empty()) {
            log.checkpoints.pop_front();
        }
        let running = self.journal.state.lock().running.tid;
        let Some(disk) = &mut log.disk else { return Ok(()) };
        match log.checkpoints.front() {
            Some(oldest) => self.write_journal_super(disk, oldest.start, oldest.tid),
            None => self.write_journal_super(disk, 0, running),
        }
    }

    /// Everything committed goes home and the log is empty: before an unmount. No handle is open.
    pub(crate) fn empty_log(&self) -> Result<()> {
        let mut log = self.journal.log.lock();
        if log.disk.is_none() {
            return Ok(());
        }
        self.checkpoint(&mut log)?;
        if log.checkpoints.is_empty() { Ok(()) } else { Err(Errno::EBUSY) }
    }

    /// Before the first write: the log's superblock says how it is written from now on, and that it is empty.
    pub(crate) fn open_log(&self) -> Result<()> {
        let mut log = self.journal.log.lock();
        let running = self.journal.state.lock().running.tid;
        match &mut log.disk {
            Some(disk) => self.write_journal_super(disk, 0, running),
            None => Ok(()),
        }
    }

    /// Brings home what may go, when the log is long or on request of a flusher.
    pub fn checkpoint_now(&self) -> Result<()> {
        let mut log = self.journal.log.lock();
        if log.checkpoints.is_empty() { Ok(()) } else { self.checkpoint(&mut log) }
    }

    /// Writes the log's superblock: where the oldest transaction begins (0: empty) and its number.
    pub(super) fn write_journal_super(&self, disk: &mut Disk, start: u32, sequence: u32) -> Result<()> {
        disk.sb.start = U32::new(start);
        disk.sb.sequence = U32::new(sequence);
        disk.sb.head = U32::new(disk.head);
        self.store_journal_super(disk)
    }

    pub(super) fn store_journal_super(&self, disk: &mut Disk) -> Result<()> {
        if disk.format.has_csum() {
            disk.sb.checksum = U32::new(disk.sb.checksum());
        }
        let home = disk.map.find(0).ok_or(Errno::EUCLEAN)?;
        let mut bytes = alloc::vec![0; self.geo.block_size];
        bytes[..1024].copy_from_slice(disk.sb.as_bytes());
        self.env.write_raw(&[Write { block: home, bytes }])?;
        self.env.flush()
    }

    /// Notes an error in the log's superblock, as far as that still works.
    pub(crate) fn mark_journal_failed(&self) {
        let mut log = self.journal.log.lock();
        if let Some(disk) = &mut log.disk {
            disk.sb.errno = U32::new(Errno::EIO.number().wrapping_neg() as u32);
            let _ = self.store_journal_super(disk);
        }
    }
}
