//! Opening a journal at mount: its place, its format, and replay if the last mount did not end well.

use super::format::{self, Features, Format, JournalSuper};
use super::replay::Replay;
use super::{Disk, Journal, Log, LogMap, State, Transaction};
use crate::crc::crc32c;
use crate::env::{Env, Event, Lock};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::layout::{Compat, Incompat, RoCompat};
use crate::map::Place;
use abi::Errno;
use abi::errno::Result;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::FromBytes;
use zerocopy::big_endian::U32;

/// The smallest log that jbd2 takes, in blocks.
const MIN_BLOCKS: u32 = 1024;
/// Blocks of a transaction when there is no log.
const NO_LOG_MAX: usize = 4096;
/// The most blocks of a transaction, however long the log is: they are pinned in memory.
const MAX: usize = 8192;

impl<E: Env> Journal<E> {
    fn new(disk: Option<Disk>, tid: u32, max: usize) -> Journal<E> {
        Journal {
            state: E::Lock::new(State {
                running: Transaction::new(tid),
                committing: None,
                open: 0,
                reserved: 0,
                locked: false,
                committed: tid.wrapping_sub(1),
                aborted: false,
            }),
            event: E::Event::new(),
            on_disk: disk.is_some(),
            log: E::LogLock::new(Log { disk, checkpoints: VecDeque::new() }),
            max,
        }
    }

    /// No log: commits write home.
    pub(crate) fn none() -> Journal<E> {
        Journal::new(None, 1, NO_LOG_MAX)
    }
}

/// A journal that was read, not used yet.
pub(crate) struct Found {
    disk: Disk,
}

/// Reads the journal's superblock. EINVAL: a kind we do not know; EUCLEAN: damaged.
pub(crate) fn find<E: Env>(fs: &Fs<E>) -> Result<Option<Found>> {
    if !fs.geo.compat.contains(Compat::HAS_JOURNAL) {
        return Ok(None);
    }
    let ino = fs.geo.journal_ino;
    if ino == 0 {
        // On another device.
        return Err(Errno::EINVAL);
    }
    let inode = fs.read_inode(ino)?;
    let map = log_map(fs, &inode)?;
    let mut bytes = vec![0; fs.geo.block_size];
    fs.env.read_raw(map.find(0).ok_or(Errno::EUCLEAN)? * fs.geo.block_size as u64, &mut bytes)?;
    let (sb, _) = JournalSuper::read_from_prefix(&bytes).map_err(|_| Errno::EUCLEAN)?;
    let blocks = map.0.last().map_or(0, |run| run.0 + run.2);
    check_super(&sb, fs.geo.block_size, blocks)?;
    let features = sb.features();
    let fast = match sb.num_fc_blocks.get() {
        _ if !features.contains(Features::FAST_COMMIT) => 0,
        0 => 256,
        count => count,
    };
    let last = sb.maxlen.get();
    let last = if last > fast + MIN_BLOCKS { last - fast } else { last };
    let format = Format { features, seed: crc32c(!0, &sb.uuid), block_size: fs.geo.block_size };
    let first = sb.first.get();
    if first >= last || sb.start.get() >= last {
        return Err(Errno::EUCLEAN);
    }
    Ok(Some(Found { disk: Disk { map, format, first, last, head: first, sb } }))
}

fn check_super(sb: &JournalSuper, block_size: usize, blocks: u32) -> Result<()> {
    let kind = sb.blocktype.get();
    if sb.magic.get() != format::MAGIC || !matches!(kind, format::SUPER_V1 | format::SUPER_V2) {
        return Err(Errno::EUCLEAN);
    }
    let features = sb.features();
    let unknown =
        kind == format::SUPER_V2 && (!format::KNOWN.contains(features) || sb.feature_ro_compat.get() != 0);
    if unknown || kind == format::SUPER_V1 {
        return Err(Errno::EINVAL);
    }
    if features.intersects(Features::CSUM_V2 | Features::CSUM_V3) && sb.checksum.get() != sb.checksum() {
        return Err(Errno::EUCLEAN);
    }
    let bounds = sb.blocksize.get() as usize == block_size
        && sb.maxlen.get() <= blocks
        && sb.maxlen.get() >= MIN_BLOCKS
        && sb.first.get() >= 1;
    if bounds { Ok(()) } else { Err(Errno::EUCLEAN) }
}

/// The runs of the journal's blocks; a hole is damage.
fn log_map<E: Env>(fs: &Fs<E>, inode: &Inode) -> Result<LogMap> {
    let blocks = u32::try_from(inode.size() >> fs.geo.block_bits).map_err(|_| Errno::EUCLEAN)?;
    let mut runs: Vec<(u32, u64, u32)> = Vec::new();
    let mut at = 0;
    while at < blocks {
        let run = fs.map_inode(inode, at, blocks - at)?;
        let Place::At(home) = run.place else { return Err(Errno::EUCLEAN) };
        match runs.last_mut() {
            Some(last) if last.1 + u64::from(last.2) == home => last.2 += run.len,
            _ => runs.push((at, home, run.len)),
        }
        at += run.len;
    }
    Ok(LogMap(runs))
}

impl Found {
    /// Whether the last mount left something to replay.
    pub fn is_dirty(&self) -> bool {
        self.disk.sb.start.get() != 0
    }

    /// Whether the file system failed while it was mounted.
    pub fn had_error(&self) -> bool {
        self.disk.sb.errno.get() != 0
    }

    /// Replays the log and marks it empty. How many transactions there were.
    pub fn replay<E: Env>(&mut self, fs: &Fs<E>) -> Result<u32> {
        let disk = &mut self.disk;
        if disk.format.features.contains(Features::FAST_COMMIT) {
            // Its tail is in records of another kind, which we do not read: rather none than half.
            return Err(Errno::EOPNOTSUPP);
        }
        let replay = Replay {
            env: &fs.env,
            map: &disk.map,
            format: disk.format,
            first: disk.first,
            last: disk.last,
            blocks: fs.geo.blocks,
        };
        let (next, count) = replay.run(disk.sb.start.get(), disk.sb.sequence.get())?;
        // The number is raised once more, as jbd2 does, so that no old record fits what comes next.
        fs.write_journal_super(disk, 0, next.wrapping_add(1))?;
        Ok(count)
    }

    /// Makes it the journal of a file system, with the features that Linux would turn on; [`Fs::open_log`] writes that.
    pub fn start<E: Env>(mut self, fs: &Fs<E>) -> Result<Journal<E>> {
        let disk = &mut self.disk;
        let mut features = disk.format.features | Features::REVOKE;
        features.remove(Features::ASYNC_COMMIT | Features::FAST_COMMIT);
        if fs.geo.incompat.contains(Incompat::BIT64) {
            features |= Features::BIT64;
        }
        if fs.geo.ro_compat.contains(RoCompat::METADATA_CSUM) {
            features |= Features::CSUM_V3;
            features.remove(Features::CSUM_V2);
            disk.sb.checksum_type = 4;
        }
        disk.format.features = features;
        disk.sb.feature_incompat = U32::new(features.bits());
        disk.sb.feature_compat = U32::new(disk.sb.feature_compat.get() & !format::COMPAT_CHECKSUM);
        disk.sb.errno = U32::new(0);
        let sequence = disk.sb.sequence.get().max(1);
        let max = (((disk.last - disk.first) / 4) as usize - 8).min(MAX);
        Ok(Journal::new(Some(self.disk), sequence, max))
    }
}
