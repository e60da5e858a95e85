//! Directories: a row of entries in a chain of clusters (the root of FAT12 and FAT16: in a place of its own).

use crate::Disk;
use crate::boot::Root;
use crate::fs::{Node, ROOT};
use crate::name::{self, Basis, LongName, ShortUnits};
use crate::slot::{DIRECTORY, END, FREE, LONG, MAX_PIECES, SLOT, Slot, UNITS, VOLUME, checksum};
use crate::table::Volume;
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes that a directory may have: 65536 entries.
const MAX_BYTES: u32 = 65536 * SLOT;
/// Bytes that are read at once; no cluster is smaller.
const BLOCK: u32 = 512;

static ZEROES: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its first slot, of a long name or its own, in bytes from the start of its directory.
    pub first: u32,
    /// Slots it has.
    pub slots: u32,
    /// The byte of the disk where its short entry is.
    pub at: u64,
}

/// A walk over the slots of a directory.
pub struct Scan {
    /// Where the next slot is.
    pub offset: u32,
    block: Box<[u8; BLOCK as usize]>,
    /// What the block holds: which part of the directory, from where on the disk.
    loaded: Option<(u32, u64)>,
    long: LongName,
}

/// An entry that names a file.
pub struct Item {
    pub slot: Slot,
    pub place: Place,
    short: ShortUnits,
}

impl Scan {
    /// From the slot at byte `offset` on.
    pub fn new(offset: u32) -> Scan {
        let block = Box::new([0; BLOCK as usize]);
        Scan { offset: offset / SLOT * SLOT, block, loaded: None, long: LongName::new() }
    }

    /// The next slot, whatever it is, and where it is; `None` at the end of the directory's clusters.
    fn slot<D: Disk>(&mut self, volume: &mut Volume<D>, dir: &mut Node) -> Result<Option<(Slot, u64)>> {
        let block = self.offset / BLOCK;
        let start = match self.loaded {
            Some((loaded, start)) if loaded == block => start,
            _ => {
                let Some(start) = volume.dir_place(dir, block * BLOCK)? else { return Ok(None) };
                self.loaded = None;
                volume.disk.read(start, &mut self.block[..])?;
                self.loaded = Some((block, start));
                start
            }
        };
        let inside = self.offset % BLOCK;
        let mut slot = Slot([0; SLOT as usize]);
        slot.0.copy_from_slice(&self.block[inside as usize..(inside + SLOT) as usize]);
        self.offset += SLOT;
        Ok(Some((slot, start + u64::from(inside))))
    }

    /// The next entry that names a file; not `.` and `..`.
    pub fn next<D: Disk>(&mut self, volume: &mut Volume<D>, dir: &mut Node) -> Result<Option<Item>> {
        while let Some((slot, at)) = self.slot(volume, dir)? {
            if slot.0[0] == END {
                // What follows is not even free, and the next call must not get there.
                self.offset -= SLOT;
                return Ok(None);
            }
            if slot.0[0] == FREE {
                self.long.clear();
            } else if slot.is_long() {
                self.long.push(&slot);
            } else if slot.attributes() & VOLUME != 0 || slot.is_dot() {
                self.long.clear();
            } else {
                let short = ShortUnits::of(&slot);
                let pieces = self.long.finish(&slot.short()).map_or(0, |(_, pieces)| pieces as u32);
                if pieces == 0 {
                    self.long.clear();
                }
                let place = Place { first: self.offset - (pieces + 1) * SLOT, slots: pieces + 1, at };
                return Ok(Some(Item { slot, place, short }));
            }
        }
        Ok(None)
    }

    /// The names of the item that [`Scan::next`] gave last: the one to show, and the short one.
    fn names<'a>(&'a self, item: &'a Item) -> (&'a [u16], &'a [u16]) {
        let short = item.short.as_slice();
        (self.long.finish(&item.slot.short()).map_or(short, |(long, _)| long), short)
    }

    /// The name to show of the item that [`Scan::next`] gave last. ENOMEM.
    pub fn name(&self, item: &Item) -> Result<Vec<u8>> {
        name::to_utf8(self.names(item).0)
    }

    /// The item is passed: its long name is not the next one's.
    pub fn pass(&mut self) {
        self.long.clear();
    }
}

/// A new entry's slots and where they go.
pub struct NewEntry {
    slots: Vec<Slot>,
    first: u32,
    /// The row of entries ended before its last slot.
    moves_end: bool,
}

impl<D: Disk> Volume<D> {
    /// Where byte `offset` of a directory is on the disk; `None` behind its end.
    fn dir_place(&mut self, dir: &mut Node, offset: u32) -> Result<Option<u64>> {
        if offset >= MAX_BYTES {
            return Ok(None);
        }
        if let (Root::Fixed { at, len }, ROOT) = (self.geo.root, dir.ino) {
            return Ok((offset < len).then_some(at + u64::from(offset)));
        }
        let found = self.find(&mut dir.chain, offset >> self.geo.cluster_bits, 1)?;
        let inside = u64::from(offset & (self.geo.cluster_bytes() - 1));
        Ok(found.map(|(cluster, _)| self.geo.place(cluster) + inside))
    }

    /// Finds a name among long and short ones; the name to show comes with it.
    pub fn find_entry(&mut self, dir: &mut Node, wanted: &[u8]) -> Result<Option<(Item, Vec<u8>)>> {
        let Some(wanted) = name::to_units(wanted) else { return Ok(None) };
        let mut scan = Scan::new(0);
        while let Some(item) = scan.next(self, dir)? {
            let (shown, short) = scan.names(&item);
            if name::same(shown, &wanted) || name::same(short, &wanted) {
                let shown = scan.name(&item)?;
                return Ok(Some((item, shown)));
            }
            scan.pass();
        }
        Ok(None)
    }

    /// How many directories a directory has.
    pub fn subdirectories(&mut self, dir: &mut Node) -> Result<u32> {
        let (mut scan, mut count) = (Scan::new(0), 0);
        while let Some(item) = scan.next(self, dir)? {
            count += u32::from(item.slot.is_dir());
            scan.pass();
        }
        Ok(count)
    }

    pub fn is_empty_dir(&mut self, dir: &mut Node) -> Result<bool> {
        Ok(Scan::new(0).next(self, dir)?.is_none())
    }

    /// Chooses short name, slots and room for an entry called `name`; nothing but the length of the directory
    /// changes. Entries whose short one is at a place of `gone` are about to go. ENOSPC, EEXIST, EINVAL.
    pub fn plan_entry(&mut self, dir: &mut Node, name: &[u8], gone: [Option<u64>; 2]) -> Result<NewEntry> {
        let units = name::to_new_units(name)?;
        let basis = name::basis(&units)?;
        let short = self.choose_short(dir, &units, &basis, gone)?;
        let pieces = if basis.exact { 0 } else { units.len().div_ceil(UNITS).min(MAX_PIECES) };
        let mut slots = Vec::new();
        slots.try_reserve_exact(pieces + 1).map_err(|_| Errno::ENOMEM)?;
        let sum = checksum(&short);
        slots.extend((1..=pieces).rev().map(|number| Slot::piece(&units, number, number == pieces, sum)));
        slots.push(Slot::new(&short));
        let (first, moves_end) = self.find_room(dir, slots.len() as u32)?;
        Ok(NewEntry { slots, first, moves_end })
    }

    fn choose_short(
        &mut self,
        dir: &mut Node,
        units: &[u16],
        basis: &Basis,
        gone: [Option<u64>; 2],
    ) -> Result<[u8; 11]> {
        let plain = self.taken(dir, &[basis.short], gone)? & 1 != 0;
        if basis.exact && plain {
            return Err(Errno::EEXIST);
        }
        if basis.fits && !plain {
            return Ok(basis.short);
        }
        // As others do it: nine that can be guessed, and then some that depend on the name.
        let mut hash = units.iter().fold(0x1505u16, |hash, unit| hash.wrapping_mul(33) ^ unit);
        let mut from = *basis;
        for _ in 0..64 {
            let tails: [[u8; 11]; 9] = core::array::from_fn(|at| from.with_tail(&[b'~', b'1' + at as u8]));
            let taken = self.taken(dir, &tails, gone)?;
            if let Some(free) = (0..tails.len()).find(|at| taken >> at & 1 == 0) {
                return Ok(tails[free]);
            }
            hash = hash.wrapping_mul(0x6255).wrapping_add(0x3619);
            from = basis.hashed(hash);
        }
        Err(Errno::EEXIST)
    }

    /// Which of the short names are in use: a bit each.
    fn taken(&mut self, dir: &mut Node, shorts: &[[u8; 11]], gone: [Option<u64>; 2]) -> Result<u32> {
        let (mut scan, mut taken) = (Scan::new(0), 0);
        while let Some((slot, at)) = scan.slot(self, dir)? {
            if slot.0[0] == END {
                break;
            }
            if slot.is_free() || slot.attributes() & VOLUME != 0 || gone.contains(&Some(at)) {
                continue;
            }
            for (bit, short) in shorts.iter().enumerate() {
                taken |= u32::from(slot.short() == *short) << bit;
            }
        }
        Ok(taken)
    }

    /// Finds `count` free slots in a row, in a longer directory if need be, and whether the row of entries ends
    /// before the last of them. ENOSPC.
    fn find_room(&mut self, dir: &mut Node, count: u32) -> Result<(u32, bool)> {
        let (mut scan, mut run, mut ended) = (Scan::new(0), 0, false);
        while run < count {
            let Some((slot, _)) = scan.slot(self, dir)? else { break };
            ended |= slot.0[0] == END;
            run = if ended || slot.is_free() { run + 1 } else { 0 };
        }
        let first = scan.offset - run * SLOT;
        if run < count {
            self.lengthen(dir, scan.offset, first + count * SLOT)?;
            // The new clusters are zeroes.
            ended = true;
        }
        Ok((first, ended))
    }

    /// Adds empty clusters to a directory of `len` bytes until it has `wanted`.
    fn lengthen(&mut self, dir: &mut Node, len: u32, wanted: u32) -> Result<()> {
        let fixed = matches!(self.geo.root, Root::Fixed { .. }) && dir.ino == ROOT;
        if fixed || wanted > MAX_BYTES {
            return Err(Errno::ENOSPC);
        }
        let have = len >> self.geo.cluster_bits;
        let want = self.geo.clusters_for(wanted.into());
        for number in have..want {
            let near = match number.checked_sub(1) {
                Some(last) => self.find(&mut dir.chain, last, 1)?.map(|found| found.0),
                None => None,
            };
            let cluster = self.allocate(near)?;
            if let Err(error) = self.clear(cluster).and_then(|()| self.link(dir, cluster)) {
                let _ = self.free_chain(cluster);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts a cluster at the end of a directory.
    fn link(&mut self, dir: &mut Node, cluster: u32) -> Result<()> {
        self.append(&mut dir.chain, cluster)?;
        if dir.chain.start() == cluster { self.store_node(dir) } else { Ok(()) }
    }

    /// Fills a cluster with zeroes.
    pub fn clear(&mut self, cluster: u32) -> Result<()> {
        let start = self.geo.place(cluster);
        let end = start + u64::from(self.geo.cluster_bytes());
        (start..end).step_by(BLOCK as usize).try_for_each(|at| self.disk.write(at, &ZEROES))
    }

    /// Makes the cluster of a new directory empty but for the two entries that it begins with.
    pub fn write_dots(&mut self, node: &Node, parent_start: u32) -> Result<()> {
        self.clear(node.chain.start())?;
        let names = [(b".          ", node.chain.start()), (b"..         ", parent_start)];
        for (at, (name, start)) in names.into_iter().enumerate() {
            let mut slot = Slot::new(name);
            slot.set_attributes(DIRECTORY);
            slot.set_times(&node.times);
            slot.set_start(start, self.is_wide());
            let place = self.geo.place(node.chain.start()) + at as u64 * u64::from(SLOT);
            self.disk.write(place, &slot.0)?;
        }
        Ok(())
    }

    /// A moved directory's `..` leads to its new parent.
    pub fn set_dot_dot(&mut self, node: &mut Node, parent_start: u32) -> Result<()> {
        let mut scan = Scan::new(SLOT);
        let Some((mut slot, at)) = scan.slot(self, node)? else { return Ok(()) };
        if &slot.short() != b"..         " {
            return Ok(());
        }
        slot.set_start(parent_start, self.is_wide());
        self.disk.write(at, &slot.0)
    }

    /// Writes the planned entry for a node, which is then at the place that is returned.
    pub fn write_entry(&mut self, dir: &mut Node, mut new: NewEntry, node: &Node) -> Result<Place> {
        let count = new.slots.len() as u32;
        let behind = new.first + count * SLOT;
        if new.moves_end
            && let Some(at) = self.dir_place(dir, behind)?
        {
            self.disk.write(at, &[END])?;
        }
        if let Some(last) = new.slots.last_mut() {
            node.fill(last, self.is_wide());
        }
        let mut place = Place { first: new.first, slots: count, at: 0 };
        for (number, slot) in (0..).zip(&new.slots) {
            let Some(at) = self.dir_place(dir, new.first + number * SLOT)? else { return Err(self.damage()) };
            self.disk.write(at, &slot.0)?;
            place.at = at;
        }
        Ok(place)
    }

    /// Frees the slots of an entry; the short one first, without which the others mean nothing.
    pub fn erase_entry(&mut self, dir: &mut Node, place: &Place) -> Result<()> {
        for number in (0..place.slots).rev() {
            let Some(at) = self.dir_place(dir, place.first + number * SLOT)? else {
                return Err(self.damage());
            };
            self.disk.write(at, &[FREE])?;
        }
        Ok(())
    }

    /// Writes what an entry says of its file.
    pub fn store_node(&mut self, node: &Node) -> Result<()> {
        let Some(place) = node.place else { return Ok(()) };
        let mut slot = Slot([0; SLOT as usize]);
        self.disk.read(place.at, &mut slot.0)?;
        if slot.is_free() || slot.attributes() & LONG == LONG {
            return Err(self.damage());
        }
        node.fill(&mut slot, self.is_wide());
        self.disk.write(place.at, &slot.0)
    }
}
