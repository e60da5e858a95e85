//! A mounted file system: geometry, superblock, mount and unmount.

use crate::cache::{BlockRef, Cache, Seal};
use crate::crc::crc32c;
use crate::env::{Env, Lock, Write};
use crate::group::Group;
use crate::journal::{self, Journal};
use crate::layout::*;
use crate::orphan::Orphans;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use zerocopy::{FromBytes, IntoBytes};

/// What never changes while it is mounted.
#[derive(Debug, Clone)]
pub struct Geometry {
    pub block_size: usize,
    pub block_bits: u32,
    pub blocks: u64,
    pub first_data_block: u64,
    pub blocks_per_group: u32,
    pub inodes_per_group: u32,
    pub inodes: u32,
    pub groups: u32,
    pub inode_size: usize,
    pub desc_size: usize,
    pub first_ino: u32,
    pub journal_ino: u32,
    pub orphan_ino: u32,
    pub compat: Compat,
    pub incompat: Incompat,
    pub ro_compat: RoCompat,
    /// Seed of all checksums.
    pub csum_seed: u32,
    pub uuid: [u8; 16],
    pub hash_seed: [u32; 4],
    /// Kind of hash of new indexed directories, unsigned or not.
    pub hash_version: u8,
    pub hash_unsigned: bool,
    pub reserved_blocks: u64,
    pub reserved_uid: u32,
    pub reserved_gid: u32,
    pub reserved_gdt: u32,
    pub first_meta_bg: u32,
    pub flex_bits: u32,
    pub want_extra_isize: u16,
    /// Behaviour on errors: 1 continue, 2 remount read-only, 3 panic.
    pub errors: u16,
    /// Blocks that hold metadata since the file system was made (statfs' overhead).
    pub overhead: u64,
    pub default_mount_opts: u32,
}

impl Geometry {
    pub fn has_csum(&self) -> bool {
        self.ro_compat.contains(RoCompat::METADATA_CSUM)
    }

    /// Whether groups say what of their bitmaps and tables was never written.
    pub fn has_group_csum(&self) -> bool {
        self.ro_compat.intersects(RoCompat::METADATA_CSUM | RoCompat::GDT_CSUM)
    }

    /// The seed of the checksums of an inode and of the blocks that belong to it.
    pub fn inode_seed(&self, ino: u32, generation: u32) -> u32 {
        crc32c(crc32c(self.csum_seed, &ino.to_le_bytes()), &generation.to_le_bytes())
    }

    /// Whether `len` blocks from `first` lie inside the file system and after its superblock.
    pub fn valid_blocks(&self, first: u64, len: u64) -> bool {
        first > self.first_data_block && first.checked_add(len).is_some_and(|end| end <= self.blocks)
    }

    /// Longest file of extents, in bytes.
    pub fn max_bytes(&self) -> u64 {
        (1u64 << (32 + self.block_bits)) - self.block_size as u64
    }
}

/// How to mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub read_only: bool,
    /// Do not replay the journal; only with `read_only` (noload).
    pub no_replay: bool,
    /// Overrides the superblock's behaviour on errors: 1 continue, 2 read-only, 3 panic.
    pub errors: Option<u16>,
    /// Discard blocks as they become free.
    pub discard: bool,
    /// Most metadata blocks kept without need; 0: a default.
    pub cache_blocks: usize,
}

/// What statfs(2) tells.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub blocks: u64,
    pub free_blocks: u64,
    /// For users who may not take the reserve.
    pub available_blocks: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

/// A mounted file system. Its methods are spread over the modules of this crate.
pub struct Fs<E: Env> {
    pub env: E,
    pub geo: Geometry,
    pub(crate) cache: Arc<Cache<E>>,
    pub(crate) journal: Journal<E>,
    pub(crate) super_block: BlockRef<E>,
    pub(crate) groups: Vec<Group<E>>,
    pub(crate) descriptors: Vec<BlockRef<E>>,
    /// Where data may not be: see [`Fs::valid_data`].
    pub(crate) system: Vec<(u64, u64)>,
    pub(crate) orphans: E::LogLock<Orphans<E>>,
    /// Sums over the groups, and blocks promised to data that has no place yet.
    pub(crate) free_blocks: AtomicI64,
    pub(crate) free_inodes: AtomicI64,
    pub(crate) promised: AtomicI64,
    pub(crate) next_dir_group: AtomicU32,
    read_only: AtomicBool,
    failed: AtomicBool,
    /// Blocks are discarded as they become free.
    pub(crate) discards: AtomicBool,
}

/// On the heap: a kilobyte of it more than once would be half a kernel stack.
#[inline(never)]
fn read_super<E: Env>(env: &E) -> Result<Box<SuperRaw>> {
    let mut bytes = alloc::vec![0; SUPER_LEN];
    env.read_raw(SUPER_OFFSET as u64, &mut bytes)?;
    SuperRaw::read_from_bytes(&bytes).map(Box::new).map_err(|_| Errno::EIO)
}

/// The checks without which nothing can be done. EINVAL: no ext file system, or one with features that we do
/// not know; EUCLEAN: damaged.
fn geometry(sb: &SuperRaw, device_bytes: u64) -> Result<Geometry> {
    if sb.magic.get() != MAGIC {
        return Err(Errno::EINVAL);
    }
    let old = sb.rev_level.get() == 0;
    let word = |value: u32| if old { 0 } else { value };
    let compat = Compat::from_bits_retain(word(sb.feature_compat.get()));
    let incompat = Incompat::from_bits_retain(word(sb.feature_incompat.get()));
    let ro_compat = RoCompat::from_bits_retain(word(sb.feature_ro_compat.get()));
    if !KNOWN_INCOMPAT.contains(incompat) {
        return Err(Errno::EINVAL);
    }
    let has_csum = ro_compat.contains(RoCompat::METADATA_CSUM);
    if has_csum && (sb.checksum_type != 1 || crc32c(!0, &sb.as_bytes()[..SUPER_LEN - 4]) != sb.checksum.get())
    {
        return Err(Errno::EUCLEAN);
    }
    let log = sb.log_block_size.get();
    if log > 6 {
        return Err(Errno::EUCLEAN);
    }
    let block_bits = 10 + log;
    let block_size = 1usize << block_bits;
    let bit64 = incompat.contains(Incompat::BIT64);
    let high = |value: u32| if bit64 { value } else { 0 };
    let blocks = join(sb.blocks_count_lo, high(sb.blocks_count_hi.get()));
    let first_data_block = u64::from(sb.first_data_block.get());
    let blocks_per_group = sb.blocks_per_group.get();
    let inodes_per_group = sb.inodes_per_group.get();
    let inode_size = if old { INODE_OLD_LEN } else { usize::from(sb.inode_size.get()) };
    let desc_size = if bit64 { usize::from(sb.desc_size.get()) } else { 32 };
    let bits = (block_size * 8) as u32;
    let sane = first_data_block == u64::from(block_size == 1024)
        && (8..=bits).contains(&blocks_per_group)
        && blocks_per_group.is_multiple_of(8)
        && (1..=bits).contains(&inodes_per_group)
        && inodes_per_group.is_multiple_of(8)
        && inode_size.is_power_of_two()
        && (INODE_OLD_LEN..=block_size).contains(&inode_size)
        && inodes_per_group as usize * inode_size <= usize::MAX / 2
        && desc_size.is_power_of_two()
        && (if bit64 { 64..=1024 } else { 32..=32 }).contains(&desc_size)
        && desc_size <= block_size
        && blocks > first_data_block + 1
        && blocks <= 1 << 48
        && blocks <= device_bytes >> block_bits;
    if !sane {
        return Err(Errno::EUCLEAN);
    }
    let groups = (blocks - first_data_block).div_ceil(u64::from(blocks_per_group));
    let groups = u32::try_from(groups).map_err(|_| Errno::EUCLEAN)?;
    let inodes = groups.checked_mul(inodes_per_group).ok_or(Errno::EUCLEAN)?;
    if inodes != sb.inodes_count.get() {
        return Err(Errno::EUCLEAN);
    }
    let seeded = incompat.contains(Incompat::CSUM_SEED);
    Ok(Geometry {
        block_size,
        block_bits,
        blocks,
        first_data_block,
        blocks_per_group,
        inodes_per_group,
        inodes,
        groups,
        inode_size,
        desc_size,
        first_ino: if old { 11 } else { sb.first_ino.get() },
        journal_ino: sb.journal_inum.get(),
        orphan_ino: sb.orphan_file_inum.get(),
        compat,
        incompat,
        ro_compat,
        csum_seed: if seeded { sb.checksum_seed.get() } else { crc32c(!0, &sb.uuid) },
        uuid: sb.uuid,
        hash_seed: sb.hash_seed.map(|word| word.get()),
        hash_version: sb.def_hash_version,
        hash_unsigned: sb.flags.get() & FLAG_UNSIGNED_HASH != 0,
        reserved_blocks: join(sb.r_blocks_count_lo, high(sb.r_blocks_count_hi.get())).min(blocks),
        reserved_uid: u32::from(sb.def_resuid.get()),
        reserved_gid: u32::from(sb.def_resgid.get()),
        reserved_gdt: u32::from(sb.reserved_gdt_blocks.get()),
        first_meta_bg: sb.first_meta_bg.get(),
        flex_bits: if incompat.contains(Incompat::FLEX_BG) {
            u32::from(sb.log_groups_per_flex).min(16)
        } else {
            0
        },
        want_extra_isize: sb.want_extra_isize.get().max(sb.min_extra_isize.get()).clamp(0, 32) & !3,
        errors: sb.errors.get(),
        overhead: u64::from(sb.overhead_blocks.get()),
        default_mount_opts: sb.default_mount_opts.get(),
    })
}

impl<E: Env> Fs<E> {
    /// Reads superblock and group descriptors, as they are.
    #[inline(never)]
    fn load(env: E, options: &Options) -> Result<Box<Fs<E>>> {
        let sb = read_super(&env)?;
        let geo = geometry(&sb, env.device_bytes())?;
        env.set_block_size(geo.block_size)?;
        let limit = if options.cache_blocks == 0 { 2048 } else { options.cache_blocks };
        let cache = Arc::new(Cache::new(limit));
        let super_block = cache.read(&env, (SUPER_OFFSET >> geo.block_bits) as u64)?;
        super_block.set_seal(Seal::Super);
        let mut fs = Box::new(Fs {
            env,
            cache,
            journal: Journal::none(),
            super_block,
            groups: Vec::new(),
            descriptors: Vec::new(),
            system: Vec::new(),
            orphans: E::LogLock::new(Orphans::new()),
            free_blocks: AtomicI64::new(0),
            free_inodes: AtomicI64::new(0),
            promised: AtomicI64::new(0),
            next_dir_group: AtomicU32::new(0),
            read_only: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            discards: AtomicBool::new(options.discard),
            geo,
        });
        if let Some(errors) = options.errors {
            fs.geo.errors = errors;
        }
        fs.load_groups()?;
        fs.system = fs.system_zones();
        if fs.geo.overhead == 0 {
            fs.geo.overhead = fs.count_overhead();
        }
        Ok(fs)
    }

    /// Mounts what is on the medium. Replays the journal when it has to, even for reading only, as Linux does.
    /// EINVAL: not ext4, or features that are not known; EROFS: features that only reading knows; EUCLEAN.
    /// In a box, as it is large and mounting must fit a kernel stack.
    pub fn mount(env: E, options: Options) -> Result<Box<Fs<E>>> {
        let mut fs = Fs::load(env, &options)?;
        let mut found = if options.no_replay && options.read_only { None } else { journal::find(&fs)? };
        if let Some(journal) = &mut found
            && (journal.is_dirty() || fs.geo.incompat.contains(Incompat::RECOVER))
        {
            if journal.is_dirty() {
                let count = journal.replay(&fs)?;
                fs.env.warn(format_args!("recovery complete: {count} transactions"));
            }
            if !options.read_only {
                // What was read before may be older than what the journal brought.
                fs = Fs::load(fs.env, &options)?;
            } else {
                fs = Fs::load(fs.env, &options)?;
                fs.clear_recover()?;
            }
        }
        if !options.read_only && !KNOWN_RO_COMPAT.contains(fs.geo.ro_compat) {
            return Err(Errno::EROFS);
        }
        if let Some(journal) = found {
            if journal.had_error() {
                fs.env.warn(format_args!("the journal says that there was an error before"));
            }
            fs.journal = journal.start(&fs)?;
        }
        if !options.read_only {
            fs.start_writing()?;
        }
        Ok(fs)
    }

    /// From reading to writing: marks the superblock, clears orphans up.
    fn start_writing(&self) -> Result<()> {
        self.open_log()?;
        self.read_only.store(false, Ordering::Release);
        let now = self.env.now_ns();
        let journal = self.journal.on_disk();
        self.edit_super(|sb| {
            sb.mtime.set(now.div_euclid(1_000_000_000) as u32);
            sb.mnt_count.set(sb.mnt_count.get().wrapping_add(1));
            if journal {
                sb.feature_incompat.set(sb.feature_incompat.get() | Incompat::RECOVER.bits());
            } else {
                sb.state.set(sb.state.get() & !STATE_CLEAN);
            }
        });
        self.write_super()?;
        self.clear_orphans()?;
        self.commit_all()
    }

    /// mount -o remount,ro. The caller has written what is dirty and keeps writers away.
    pub fn remount_read_only(&self) -> Result<()> {
        if self.read_only.swap(true, Ordering::AcqRel) || self.is_failed() {
            return Ok(());
        }
        self.finish_writing()
    }

    /// mount -o remount,rw. EROFS: after an error, with features that only reading knows, and when the journal was not
    /// looked at (noload).
    pub fn remount_writable(&self) -> Result<()> {
        let without_log = self.geo.compat.contains(Compat::HAS_JOURNAL) && !self.journal.on_disk();
        if self.is_failed() || without_log || !KNOWN_RO_COMPAT.contains(self.geo.ro_compat) {
            return Err(Errno::EROFS);
        }
        if self.is_read_only() { self.start_writing() } else { Ok(()) }
    }

    fn clear_recover(&self) -> Result<()> {
        self.edit_super(|sb| {
            sb.feature_incompat.set(sb.feature_incompat.get() & !Incompat::RECOVER.bits());
        });
        self.write_super()
    }

    /// Everything to its home, log empty, superblock clean. No operation runs.
    fn finish_writing(&self) -> Result<()> {
        self.commit_all()?;
        self.empty_log()?;
        self.edit_super(|sb| {
            sb.feature_incompat.set(sb.feature_incompat.get() & !Incompat::RECOVER.bits());
            if sb.state.get() & STATE_ERRORS == 0 {
                sb.state.set(sb.state.get() | STATE_CLEAN);
            }
        });
        self.write_super()
    }

    /// Ends the mount. After an error only what is safe is written.
    pub fn unmount(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        self.finish_writing()?;
        self.read_only.store(true, Ordering::Release);
        Ok(())
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Changes the superblock in memory.
    pub(crate) fn edit_super(&self, edit: impl FnOnce(&mut SuperRaw)) {
        let at = SUPER_OFFSET % self.geo.block_size;
        self.super_block.change(|bytes| {
            if let Ok((sb, _)) = SuperRaw::mut_from_prefix(&mut bytes[at..]) {
                edit(sb);
            }
        });
    }

    /// Writes the superblock past the journal: at mount, unmount and after errors.
    pub(crate) fn write_super(&self) -> Result<()> {
        self.seal_super();
        let mut bytes = vec![0; self.geo.block_size];
        self.super_block.with(|from| bytes.copy_from_slice(from));
        self.env.write_raw(&[Write { block: self.super_block.nr, bytes }])?;
        self.env.flush()
    }

    /// Sums, time and checksum of the superblock.
    pub(crate) fn seal_super(&self) {
        let now = self.env.now_ns();
        let blocks = self.free_blocks.load(Ordering::Relaxed).max(0) as u64;
        let inodes = self.free_inodes.load(Ordering::Relaxed).max(0) as u32;
        let (has_csum, bit64) = (self.geo.has_csum(), self.geo.incompat.contains(Incompat::BIT64));
        self.edit_super(|sb| {
            sb.wtime.set(now.div_euclid(1_000_000_000) as u32);
            sb.free_blocks_lo.set(blocks as u32);
            if bit64 {
                sb.free_blocks_hi.set((blocks >> 32) as u32);
            }
            sb.free_inodes.set(inodes);
            if has_csum {
                let crc = crc32c(!0, &sb.as_bytes()[..SUPER_LEN - 4]);
                sb.checksum.set(crc);
            }
        });
    }

    /// The file system is damaged, or its device: notes it in the superblock and stops writing, unless it is to
    /// go on. `ino`: where, 0 if that is not known. Takes no lock of the log.
    pub(crate) fn fail(&self, what: &'static str, ino: u32) {
        self.env.warn(format_args!("error: {what}, inode {ino}"));
        let now = self.env.now_ns().div_euclid(1_000_000_000) as u32;
        let goes_on = self.geo.errors == 1 && !self.is_aborted();
        if self.is_read_only() {
            return;
        }
        self.edit_super(|sb| {
            sb.state.set(sb.state.get() | STATE_ERRORS);
            if sb.error_count.get() == 0 {
                sb.first_error_time.set(now);
                sb.first_error_ino.set(ino);
            }
            sb.error_count.set(sb.error_count.get().saturating_add(1));
            sb.last_error_time.set(now);
            sb.last_error_ino.set(ino);
        });
        if goes_on {
            return;
        }
        self.failed.store(true, Ordering::Release);
        self.read_only.store(true, Ordering::Release);
        if self.abort_journal() {
            self.env.failed(self.geo.errors);
        }
    }

    /// Makes the error durable; apart from [`Fs::fail`], because it waits for the log. The superblock goes out as
    /// the medium has it but for the error fields: its sums and orphans are those of the last commit.
    pub fn store_failure(&self) {
        self.mark_journal_failed();
        let Ok(mut sb) = read_super(&self.env) else { return };
        self.edit_super(|now| {
            sb.state.set(sb.state.get() | STATE_ERRORS);
            sb.error_count = now.error_count;
            sb.first_error_time = now.first_error_time;
            sb.first_error_ino = now.first_error_ino;
            sb.last_error_time = now.last_error_time;
            sb.last_error_ino = now.last_error_ino;
        });
        if self.geo.has_csum() {
            let crc = crc32c(!0, &sb.as_bytes()[..SUPER_LEN - 4]);
            sb.checksum.set(crc);
        }
        let mut bytes = vec![0; self.geo.block_size];
        let nr = self.super_block.nr;
        if self.env.read_raw(nr * self.geo.block_size as u64, &mut bytes).is_err() {
            return;
        }
        let at = SUPER_OFFSET % self.geo.block_size;
        bytes[at..at + SUPER_LEN].copy_from_slice(sb.as_bytes());
        let _ = self.env.write_raw(&[Write { block: nr, bytes }]);
        let _ = self.env.flush();
    }

    /// The blocks of metadata in memory, for whoever wants some of it back ([`Cache::shrink`]).
    pub fn cache(&self) -> &Arc<Cache<E>> {
        &self.cache
    }

    pub fn usage(&self) -> Usage {
        let free = self.free_blocks.load(Ordering::Relaxed) - self.promised.load(Ordering::Relaxed);
        let free = free.max(0) as u64;
        Usage {
            blocks: self.geo.blocks.saturating_sub(self.geo.overhead),
            free_blocks: free,
            available_blocks: free.saturating_sub(self.geo.reserved_blocks + self.held_back() as u64),
            inodes: u64::from(self.geo.inodes),
            free_inodes: self.free_inodes.load(Ordering::Relaxed).max(0) as u64,
        }
    }

    /// Reads a metadata block; EUCLEAN outside the file system.
    pub(crate) fn read(&self, nr: u64) -> Result<BlockRef<E>> {
        if nr >= self.geo.blocks {
            return Err(Errno::EUCLEAN);
        }
        self.cache.read(&self.env, nr)
    }

    /// As [`Fs::read`], with the blocks of `around` if it must be read from the medium.
    pub(crate) fn read_around(&self, nr: u64, around: Range<u64>) -> Result<BlockRef<E>> {
        if nr >= self.geo.blocks || around.end > self.geo.blocks {
            return Err(Errno::EUCLEAN);
        }
        self.cache.read_around(&self.env, nr, around)
    }
}
