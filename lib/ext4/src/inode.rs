//! Inodes: their bytes, and the [`Node`] that a file system in use keeps of each.

use crate::cache::BlockRef;
use crate::crc::crc32c;
use crate::delayed::Delayed;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::journal::{Handle, Tid};
use crate::layout::*;
use crate::{BAD_CSUM, DAMAGED};
use abi::Errno;
use abi::errno::Result;
use abi::stat::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// An inode as it is on the medium, with what is derived from it.
#[derive(Clone)]
pub struct Inode {
    pub ino: u32,
    pub(crate) raw: Vec<u8>,
    /// The seed of its checksums.
    pub(crate) seed: u32,
}

/// What stat(2) tells, as the medium has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    pub rdev: (u32, u32),
    pub flags: InodeFlags,
    pub generation: u32,
    pub times: Times,
}

/// Nanoseconds since the Epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Times {
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub btime: i64,
}

/// A change of attributes; `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub atime: Option<i64>,
    pub mtime: Option<i64>,
    pub ctime: Option<i64>,
}

const NS: i64 = 1_000_000_000;
/// Blocks of an inode table that are read at once (Linux's inode_readahead_blks).
const TABLE_AHEAD: u64 = 32;

/// Seconds from the old field and the two bits that extend it, and nanoseconds.
fn join_time(seconds: u32, extra: u32) -> i64 {
    let seconds = i64::from(seconds as i32) + (i64::from(extra & 3) << 32);
    seconds.saturating_mul(NS).saturating_add(i64::from((extra >> 2).min(NS as u32 - 1)))
}

/// The old field and the extension. Without the latter, seconds are cut to what 32 bits hold.
fn split_time(at: i64, extended: bool) -> (u32, u32) {
    let (seconds, ns) = (at.div_euclid(NS), at.rem_euclid(NS) as u32);
    if !extended {
        return (seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32 as u32, 0);
    }
    let low = seconds as i32;
    let epoch = ((seconds - i64::from(low)) >> 32) as u32 & 3;
    (low as u32, ns << 2 | epoch)
}

impl Inode {
    /// Zeroes, for a new file.
    pub(crate) fn empty(ino: u32, len: usize, seed: u32) -> Inode {
        Inode { ino, raw: vec![0; len], seed }
    }

    pub(crate) fn base(&self) -> &InodeRaw {
        // Its length was checked when it was made.
        InodeRaw::ref_from_prefix(&self.raw).map(|(base, _)| base).expect("an inode has 128 bytes at least")
    }

    pub(crate) fn base_mut(&mut self) -> &mut InodeRaw {
        InodeRaw::mut_from_prefix(&mut self.raw)
            .map(|(base, _)| base)
            .expect("an inode has 128 bytes at least")
    }

    /// Bytes of the second part that are in use.
    pub(crate) fn extra_len(&self) -> usize {
        let len = usize::from(le16(&self.raw, INODE_OLD_LEN));
        len.min(self.raw.len() - INODE_OLD_LEN)
    }

    fn extra_field(&self, at: usize) -> Option<u32> {
        (self.extra_len() >= at + 4).then(|| le32(&self.raw, INODE_OLD_LEN + at))
    }

    fn set_extra_field(&mut self, at: usize, value: u32) {
        if self.extra_len() >= at + 4 {
            put32(&mut self.raw, INODE_OLD_LEN + at, value);
        }
    }

    pub fn mode(&self) -> u32 {
        u32::from(self.base().mode.get())
    }

    pub fn is_dir(&self) -> bool {
        self.mode() & S_IFMT == S_IFDIR
    }

    pub fn is_regular(&self) -> bool {
        self.mode() & S_IFMT == S_IFREG
    }

    pub fn is_symlink(&self) -> bool {
        self.mode() & S_IFMT == S_IFLNK
    }

    pub fn size(&self) -> u64 {
        let high = if self.is_regular() || self.is_dir() { self.base().size_hi.get() } else { 0 };
        join(self.base().size_lo, high)
    }

    pub fn set_size(&mut self, size: u64) {
        self.base_mut().size_lo.set(size as u32);
        self.base_mut().size_hi.set((size >> 32) as u32);
    }

    pub fn nlink(&self) -> u32 {
        u32::from(self.base().links_count.get())
    }

    pub fn set_nlink(&mut self, count: u32) {
        self.base_mut().links_count.set(count as u16);
    }

    pub fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(self.base().flags.get())
    }

    pub fn set_flags(&mut self, flags: InodeFlags) {
        self.base_mut().flags.set(flags.bits());
    }

    pub fn generation(&self) -> u32 {
        self.base().generation.get()
    }

    /// The block of extended attributes; 0: none.
    pub(crate) fn file_acl(&self) -> u64 {
        join(self.base().file_acl_lo, u32::from(self.base().file_acl_hi.get()))
    }

    pub(crate) fn set_file_acl(&mut self, block: u64) {
        self.base_mut().file_acl_lo.set(block as u32);
        self.base_mut().file_acl_hi.set((block >> 32) as u16);
    }

    /// A symbolic link whose text is in the inode itself.
    pub fn is_fast_symlink(&self, block_size: usize) -> bool {
        let attributes = if self.file_acl() != 0 { block_size as u64 / 512 } else { 0 };
        self.is_symlink()
            && !self.flags().intersects(InodeFlags::EXTENTS | InodeFlags::INLINE_DATA)
            && self.size() < 60
            && self.blocks_512(block_size) == attributes
    }

    pub fn blocks_512(&self, block_size: usize) -> u64 {
        let count = join(self.base().blocks_lo, u32::from(self.base().blocks_hi.get()));
        if self.flags().contains(InodeFlags::HUGE_FILE) { count * (block_size as u64 / 512) } else { count }
    }

    /// Adds (or takes) blocks of the file system to what the inode says it has.
    pub(crate) fn add_blocks(&mut self, blocks: i64, geo: &crate::fs::Geometry) {
        let per = geo.block_size as i64 / 512;
        let count = (self.blocks_512(geo.block_size) as i64 + blocks * per).max(0) as u64;
        let huge = count >= 1 << 48;
        let stored = if huge { count / per as u64 } else { count };
        let mut flags = self.flags();
        flags.set(InodeFlags::HUGE_FILE, huge);
        self.set_flags(flags);
        self.base_mut().blocks_lo.set(stored as u32);
        self.base_mut().blocks_hi.set((stored >> 32) as u16);
    }

    pub fn times(&self) -> Times {
        let base = self.base();
        let extra = |at| self.extra_field(at).unwrap_or(0);
        let btime = self.extra_field(16).map_or(0, |seconds| join_time(seconds, extra(20)));
        Times {
            atime: join_time(base.atime.get(), extra(12)),
            mtime: join_time(base.mtime.get(), extra(8)),
            ctime: join_time(base.ctime.get(), extra(4)),
            btime,
        }
    }

    pub fn set_times(&mut self, times: &Times) {
        let extended = self.extra_len() >= 16;
        let (atime, mtime, ctime) = (
            split_time(times.atime, extended),
            split_time(times.mtime, extended),
            split_time(times.ctime, extended),
        );
        let base = self.base_mut();
        base.atime.set(atime.0);
        base.mtime.set(mtime.0);
        base.ctime.set(ctime.0);
        self.set_extra_field(12, atime.1);
        self.set_extra_field(8, mtime.1);
        self.set_extra_field(4, ctime.1);
        if self.extra_len() >= 24 {
            let btime = split_time(times.btime, true);
            self.set_extra_field(16, btime.0);
            self.set_extra_field(20, btime.1);
        }
    }

    pub fn uid(&self) -> u32 {
        u32::from(self.base().uid_lo.get()) | u32::from(self.base().uid_hi.get()) << 16
    }

    pub fn gid(&self) -> u32 {
        u32::from(self.base().gid_lo.get()) | u32::from(self.base().gid_hi.get()) << 16
    }

    pub(crate) fn set_owner(&mut self, uid: u32, gid: u32) {
        let base = self.base_mut();
        base.uid_lo.set(uid as u16);
        base.uid_hi.set((uid >> 16) as u16);
        base.gid_lo.set(gid as u16);
        base.gid_hi.set((gid >> 16) as u16);
    }

    /// The device of a device file: Linux's two encodings.
    pub fn rdev(&self) -> (u32, u32) {
        if !matches!(self.mode() & S_IFMT, S_IFCHR | S_IFBLK) {
            return (0, 0);
        }
        let old = le32(&self.base().block, 0);
        if old != 0 {
            return (old >> 8 & 0xff, old & 0xff);
        }
        let new = le32(&self.base().block, 4);
        (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xfff00)
    }

    pub(crate) fn set_rdev(&mut self, major: u32, minor: u32) {
        let block = &mut self.base_mut().block;
        if major < 256 && minor < 256 {
            put32(block, 0, major << 8 | minor);
        } else {
            put32(block, 4, minor & 0xff | major << 8 | (minor & !0xff) << 12);
        }
    }

    pub fn stat(&self, block_size: usize) -> Stat {
        Stat {
            mode: self.mode(),
            uid: self.uid(),
            gid: self.gid(),
            nlink: self.nlink(),
            size: self.size(),
            blocks: self.blocks_512(block_size),
            rdev: self.rdev(),
            flags: self.flags(),
            generation: self.generation(),
            times: self.times(),
        }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        if let Some(mode) = change.mode {
            let kind = self.base().mode.get() & S_IFMT as u16;
            self.base_mut().mode.set(kind | mode as u16 & 0o7777);
        }
        let (uid, gid) = (change.uid.unwrap_or(self.uid()), change.gid.unwrap_or(self.gid()));
        self.set_owner(uid, gid);
        let mut times = self.times();
        times.atime = change.atime.unwrap_or(times.atime);
        times.mtime = change.mtime.unwrap_or(times.mtime);
        times.ctime = change.ctime.unwrap_or(times.ctime);
        self.set_times(&times);
    }

    /// The checksum that it should have: the low 16 bits only in inodes without room for the rest.
    fn checksum(&self) -> u32 {
        let zero = [0; 2];
        let raw = &self.raw;
        let mut crc = crc32c(self.seed, &raw[..INODE_CSUM_LO]);
        crc = crc32c(crc, &zero);
        crc = crc32c(crc, &raw[INODE_CSUM_LO + 2..INODE_OLD_LEN]);
        if raw.len() == INODE_OLD_LEN {
            return crc & 0xffff;
        }
        if !self.has_csum_hi() {
            return crc32c(crc, &raw[INODE_OLD_LEN..]) & 0xffff;
        }
        crc = crc32c(crc, &raw[INODE_OLD_LEN..INODE_CSUM_HI]);
        crc = crc32c(crc, &zero);
        crc32c(crc, &raw[INODE_CSUM_HI + 2..])
    }

    fn has_csum_hi(&self) -> bool {
        self.extra_len() >= 4
    }

    fn stored_checksum(&self) -> u32 {
        let high = if self.has_csum_hi() { u32::from(le16(&self.raw, INODE_CSUM_HI)) } else { 0 };
        u32::from(le16(&self.raw, INODE_CSUM_LO)) | high << 16
    }

    fn seal(&mut self) {
        let crc = self.checksum();
        put16(&mut self.raw, INODE_CSUM_LO, crc as u16);
        if self.has_csum_hi() {
            put16(&mut self.raw, INODE_CSUM_HI, (crc >> 16) as u16);
        }
    }
}

/// An inode in use. One exists per inode; who has it sees every change.
pub struct Node<E: Env> {
    pub ino: u32,
    pub generation: u32,
    pub(crate) state: E::NodeLock<NodeState>,
    /// The file's length as programs see it; the inode's own follows when data is placed.
    size: AtomicU64,
    /// The last transaction that changed the inode.
    tid: AtomicU32,
    /// While it is in the chain of orphans: the next, whose number takes the place of the time of deletion. Changed
    /// and read under the lock of the table's block, see [`crate::orphan`].
    pub(crate) next_orphan: AtomicU32,
    pub(crate) is_orphan: AtomicBool,
    /// Its place in that chain, under the lock of the orphans.
    pub(crate) orphan_key: AtomicU64,
    /// Room was promised to it at some time.
    pub(crate) promised: AtomicBool,
}

/// What the node's lock guards.
pub(crate) struct NodeState {
    pub inode: Inode,
    /// Blocks written to memory that have no place yet.
    pub delayed: Delayed,
    /// The inode was given back; write-back that comes late finds nothing to do.
    pub deleted: bool,
}

impl<E: Env> Node<E> {
    pub(crate) fn new(inode: Inode) -> Arc<Node<E>> {
        Arc::new(Node {
            ino: inode.ino,
            generation: inode.generation(),
            size: AtomicU64::new(inode.size()),
            tid: AtomicU32::new(0),
            next_orphan: AtomicU32::new(0),
            is_orphan: AtomicBool::new(false),
            orphan_key: AtomicU64::new(0),
            promised: AtomicBool::new(false),
            state: E::NodeLock::new(NodeState { inode, delayed: Delayed::new(), deleted: false }),
        })
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The file grew in memory, or shrinks; see [`Fs::truncate`].
    pub fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Grows the file in memory to at least `size`.
    pub fn grow(&self, size: u64) {
        self.size.fetch_max(size, Ordering::AcqRel);
    }

    pub fn stat(&self, fs: &Fs<E>) -> Stat {
        self.state.lock().inode.stat(fs.geo.block_size)
    }

    /// Whether room was ever promised to it: then [`Fs::forget_promises`] when it goes out of use.
    pub fn was_promised(&self) -> bool {
        self.promised.load(Ordering::Relaxed)
    }

    /// 512-byte units, those included that wait in memory for a place.
    pub fn blocks_512(&self, fs: &Fs<E>) -> u64 {
        let state = self.state.lock();
        let waiting = state.delayed.total() * (fs.geo.block_size as u64 / 512);
        state.inode.blocks_512(fs.geo.block_size) + waiting
    }

    /// The last transaction that changed the inode; 0: none since it was read.
    pub fn tid(&self) -> Tid {
        self.tid.load(Ordering::Acquire)
    }
}

impl<E: Env> Fs<E> {
    /// The table's block of an inode, and its place there. EUCLEAN outside the table.
    fn inode_place(&self, ino: u32) -> Result<(u64, usize)> {
        if ino == 0 || ino > self.geo.inodes {
            return Err(DAMAGED);
        }
        let group = self.group_of_inode(ino);
        let at = u64::from((ino - 1) % self.geo.inodes_per_group) * self.geo.inode_size as u64;
        let block = self.groups[group as usize].inode_table + (at >> self.geo.block_bits);
        Ok((block, at as usize & (self.geo.block_size - 1)))
    }

    /// The table's block of an inode, and its place there. What is read from the medium comes with its neighbours: who
    /// looks at one file of a directory looks at the others next, and their inodes lie there.
    fn table_block(&self, ino: u32) -> Result<(BlockRef<E>, usize)> {
        let (nr, at) = self.inode_place(ino)?;
        let group = &self.groups[self.group_of_inode(ino) as usize];
        let first = group.inode_table + (nr - group.inode_table) / TABLE_AHEAD * TABLE_AHEAD;
        // Behind the last inode that was ever used the table may never have been written.
        let unused = if self.geo.has_group_csum() { group.state.lock().itable_unused() } else { 0 };
        let used = u64::from(self.geo.inodes_per_group - unused) * self.geo.inode_size as u64;
        let end = group.inode_table + used.div_ceil(self.geo.block_size as u64);
        let around = first..end.min(first + TABLE_AHEAD).max(nr + 1);
        Ok((self.cache.read_around(&self.env, nr, around)?, at))
    }

    /// A new inode is the only one in use of its table's block: that need not be read.
    pub(crate) fn begin_table_block(&self, ino: u32) -> Result<()> {
        let (nr, _) = self.inode_place(ino)?;
        self.cache.blank_if_absent(&self.env, nr)
    }

    /// Inodes that share the table's block of inode `bit` of a group.
    pub(crate) fn table_neighbours(&self, bit: u32) -> Range<u32> {
        let per = (self.geo.block_size / self.geo.inode_size) as u32;
        let first = bit / per * per;
        first..(first + per).min(self.geo.inodes_per_group)
    }

    /// Reads and checks an inode. ESTALE when it is not in use.
    pub(crate) fn read_inode(&self, ino: u32) -> Result<Inode> {
        let (block, at) = self.table_block(ino)?;
        let raw = block.with(|bytes| bytes[at..at + self.geo.inode_size].to_vec());
        let mut inode = Inode { ino, raw, seed: 0 };
        inode.seed = self.geo.inode_seed(ino, inode.generation());
        let bad = self.geo.has_csum() && inode.stored_checksum() != inode.checksum();
        if inode.nlink() == 0 && inode.mode() == 0 {
            return Err(Errno::ESTALE);
        }
        if bad {
            self.fail("inode checksum", ino);
            return Err(BAD_CSUM);
        }
        if self.geo.inode_size > INODE_OLD_LEN {
            let extra = usize::from(le16(&inode.raw, INODE_OLD_LEN));
            if extra % 4 != 0 || extra > self.geo.inode_size - INODE_OLD_LEN {
                self.fail("inode's extra length", ino);
                return Err(DAMAGED);
            }
        }
        Ok(inode)
    }

    /// Writes a node's inode into its table's block and notes which transaction has it.
    pub(crate) fn store(&self, handle: &Handle<E>, node: &Node<E>, state: &mut NodeState) -> Result<()> {
        let (block, at) = self.table_block(node.ino)?;
        handle.join(&block)?;
        node.tid.store(handle.tid(), Ordering::Release);
        let inode = &mut state.inode;
        block.change(|bytes| {
            if node.is_orphan.load(Ordering::Acquire) {
                inode.base_mut().dtime.set(node.next_orphan.load(Ordering::Acquire));
            }
            if self.geo.has_csum() {
                inode.seal();
            }
            bytes[at..at + inode.raw.len()].copy_from_slice(&inode.raw);
        });
        Ok(())
    }

    /// Changes the successor of an inode in the chain of orphans, on the medium and for later stores.
    pub(crate) fn store_next_orphan(&self, handle: &Handle<E>, node: &Node<E>, next: u32) -> Result<()> {
        let (block, at) = self.table_block(node.ino)?;
        handle.join(&block)?;
        block.change(|bytes| {
            node.next_orphan.store(next, Ordering::Release);
            let raw = bytes[at..at + self.geo.inode_size].to_vec();
            let mut inode =
                Inode { ino: node.ino, raw, seed: self.geo.inode_seed(node.ino, node.generation) };
            inode.base_mut().dtime.set(next);
            if self.geo.has_csum() {
                inode.seal();
            }
            bytes[at..at + inode.raw.len()].copy_from_slice(&inode.raw);
        });
        Ok(())
    }

    /// The node of an inode; the caller keeps at most one per inode. EUCLEAN for what no name may lead to.
    pub fn node(&self, ino: u32) -> Result<Arc<Node<E>>> {
        if ino != ROOT_INO && ino < self.geo.first_ino {
            return Err(DAMAGED);
        }
        let inode = self.read_inode(ino)?;
        self.check_inode(&inode)?;
        Ok(Node::new(inode))
    }

    /// Whether a number and generation that were kept outside are those of a file: ESTALE when not. Looks before anything
    /// is believed: what lies there may never have been an inode.
    pub fn check_handle(&self, ino: u32, generation: u32) -> Result<()> {
        if ino != ROOT_INO && !(self.geo.first_ino..=self.geo.inodes).contains(&ino) {
            return Err(Errno::ESTALE);
        }
        let (block, at) = self.table_block(ino)?;
        let raw = block.with(|bytes| bytes[at..at + self.geo.inode_size].to_vec());
        let inode = Inode { ino, raw, seed: 0 };
        if inode.nlink() > 0 && inode.generation() == generation { Ok(()) } else { Err(Errno::ESTALE) }
    }

    fn check_inode(&self, inode: &Inode) -> Result<()> {
        let kind = inode.mode() & S_IFMT;
        let known = matches!(kind, S_IFREG | S_IFDIR | S_IFLNK | S_IFCHR | S_IFBLK)
            || matches!(kind, abi::stat::S_IFIFO | abi::stat::S_IFSOCK);
        let acl = inode.file_acl();
        let good = known
            && inode.size() <= i64::MAX as u64
            && (acl == 0 || self.valid_data(acl, 1))
            && !inode.flags().contains(InodeFlags::INLINE_DATA)
            && (inode.ino != ROOT_INO || inode.is_dir())
            && !(inode.is_dir() && inode.size() % self.geo.block_size as u64 != 0);
        if good {
            return Ok(());
        }
        self.fail("inode", inode.ino);
        Err(DAMAGED)
    }

    /// Changes the flags that `mask` names.
    pub fn change_flags(&self, node: &Node<E>, flags: InodeFlags, mask: InodeFlags) -> Result<()> {
        let handle = self.begin(2)?;
        let mut state = node.state.lock();
        let old = state.inode.flags();
        state.inode.set_flags((old & !mask) | (flags & mask));
        let times = Times { ctime: self.now(), ..state.inode.times() };
        state.inode.set_times(&times);
        self.store(&handle, node, &mut state)
    }

    /// Changes attributes.
    pub fn set_attributes(&self, node: &Node<E>, change: &Change) -> Result<()> {
        let handle = self.begin(12)?;
        let mut state = node.state.lock();
        if let Some(mode) = change.mode {
            self.chmod_acl(&handle, &mut state.inode, mode)?;
        }
        state.inode.apply(change);
        self.store(&handle, node, &mut state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_survive(at in -2_147_483_648i64 * NS..7_500_000_000 * NS) {
            let (low, extra) = split_time(at, true);
            prop_assert_eq!(join_time(low, extra), at);
        }

        #[test]
        fn devices_survive(major in 0u32..4096, minor in 0u32..1 << 20) {
            let mut inode = Inode::empty(1, 128, 0);
            inode.base_mut().mode.set(S_IFCHR as u16);
            inode.set_rdev(major, minor);
            prop_assert_eq!(inode.rdev(), (major, minor));
        }
    }
}
