//! Files in use, by number, and what is done with them.

use crate::Disk;
use crate::boot::{Geometry, Kind, Root};
use crate::chain::Chain;
use crate::dir::{Place, Scan};
use crate::name;
use crate::slot::{ARCHIVE, DIRECTORY, READ_ONLY, Slot, Times};
use crate::table::Volume;
use crate::time::TimeNs;
use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The root directory's number.
pub const ROOT: u64 = 1;
/// Numbers for entries whose place has given its number to another file.
const SPARE: u64 = 1 << 60;

/// The longest that a file may be.
pub const MAX_BYTES: u64 = u32::MAX as u64;

/// A file or directory in use.
#[derive(Debug)]
pub struct Node {
    pub ino: u64,
    /// The directory it is in.
    parent: u64,
    pub(crate) chain: Chain,
    size: u32,
    attributes: u8,
    pub times: Times,
    /// Its entry; the root has none, nor has a file that was removed.
    pub(crate) place: Option<Place>,
    /// The name to show.
    name: Vec<u8>,
}

impl Node {
    fn root(geo: &Geometry) -> Node {
        let start = match geo.root {
            Root::Cluster(start) => start,
            Root::Fixed { .. } => 0,
        };
        Node {
            ino: ROOT,
            parent: ROOT,
            chain: Chain::new(start),
            size: 0,
            attributes: DIRECTORY,
            times: Times::default(),
            place: None,
            name: Vec::new(),
        }
    }

    fn is_dir(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }

    /// The first cluster as `..` names it: the root is 0.
    fn dot_dot_start(&self) -> u32 {
        if self.ino == ROOT { 0 } else { self.chain.start() }
    }

    /// Writes into an entry what is known here.
    pub(crate) fn fill(&self, slot: &mut Slot, wide: bool) {
        slot.set_attributes(self.attributes);
        slot.set_start(self.chain.start(), wide);
        slot.set_size(if self.is_dir() { 0 } else { self.size });
        slot.set_times(&self.times);
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub is_dir: bool,
    pub read_only: bool,
    /// Bytes; of a directory those of its clusters.
    pub size: u64,
    pub times: Times,
    /// Directories: those in it.
    pub subdirectories: u32,
}

/// Room, in clusters.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub clusters: u32,
    pub free: u32,
}

/// One entry of [`Fs::read_dir`].
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    pub is_dir: bool,
    /// Where the next one is.
    pub next: u32,
}

/// What [`Fs::rename`] is asked for.
pub struct Rename<'a> {
    pub old_dir: u64,
    pub ino: u64,
    pub new_dir: u64,
    pub name: &'a [u8],
    /// The file of that name, which goes.
    pub target: Option<u64>,
    pub now: TimeNs,
}

/// A mounted volume.
pub struct Fs<D> {
    volume: Volume<D>,
    nodes: BTreeMap<u64, Node>,
    /// Numbers of files in use by the place of their entry.
    places: BTreeMap<u64, u64>,
    spare: u64,
    read_only: bool,
    /// It was not unmounted the last time.
    was_dirty: bool,
}

impl<D> Volume<D> {
    /// First clusters have 32 bits.
    pub(crate) fn is_wide(&self) -> bool {
        self.geo.kind == Kind::Fat32
    }
}

impl<D: Disk> Fs<D> {
    /// Reads the volume's boot sector. EINVAL when it is no FAT. Nothing is written before
    /// [`Fs::set_writable`].
    pub fn mount(mut disk: D) -> Result<Fs<D>> {
        let mut boot = [0; 512];
        disk.read(0, &mut boot)?;
        let mut volume = Volume::new(disk, Geometry::parse(&boot)?);
        let was_dirty = volume.is_dirty()?;
        if !was_dirty {
            volume.load_info()?;
        }
        let root = Node::root(&volume.geo);
        let nodes = BTreeMap::from([(ROOT, root)]);
        Ok(Fs { volume, nodes, places: BTreeMap::new(), spare: SPARE, read_only: true, was_dirty })
    }

    pub fn geometry(&self) -> &Geometry {
        &self.volume.geo
    }

    pub fn disk(&mut self) -> &mut D {
        &mut self.volume.disk
    }

    /// Whether it was in use when it was used last.
    pub fn was_dirty(&self) -> bool {
        self.was_dirty
    }

    /// Whether something was found that cannot be; nothing is written any more then.
    pub fn is_damaged(&self) -> bool {
        self.volume.is_damaged()
    }

    /// Allows changes, and notes on the medium that it is in use; or forbids them, and notes that all is well, if
    /// that is so.
    pub fn set_writable(&mut self, writable: bool) -> Result<()> {
        if writable == !self.read_only {
            return Ok(());
        }
        if writable {
            if self.is_damaged() {
                return Err(Errno::EROFS);
            }
            self.volume.set_dirty(true)?;
        } else {
            self.store_info()?;
            self.volume.set_dirty(self.was_dirty || self.is_damaged())?;
        }
        self.read_only = !writable;
        Ok(())
    }

    fn writable(&self) -> Result<()> {
        if self.read_only || self.is_damaged() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Writes the number of free clusters.
    pub fn store_info(&mut self) -> Result<()> {
        if self.read_only { Ok(()) } else { self.volume.store_info() }
    }

    /// A file in use with the volume it is on. EIO for a number that nothing has.
    fn node(&mut self, ino: u64) -> Result<(&mut Volume<D>, &mut Node)> {
        let node = self.nodes.get_mut(&ino).ok_or(Errno::EIO)?;
        Ok((&mut self.volume, node))
    }

    // ---- finding ----

    /// The file of a name; it is in use from now on.
    pub fn lookup(&mut self, dir: u64, name: &[u8]) -> Result<Option<u64>> {
        let (volume, node) = self.node(dir)?;
        match volume.find_entry(node, name)? {
            Some((item, shown)) => self.enter(dir, &item.slot, item.place, shown).map(Some),
            None => Ok(None),
        }
    }

    fn enter(&mut self, dir: u64, slot: &Slot, place: Place, name: Vec<u8>) -> Result<u64> {
        if let Some(ino) = self.places.get(&place.at).copied() {
            let known = self.nodes.get(&ino).is_some_and(|node| node.parent == dir);
            // A directory that is in two others could be below itself.
            return if known { Ok(ino) } else { Err(self.volume.damage()) };
        }
        let start = slot.start(self.volume.is_wide());
        let node = Node {
            ino: self.new_ino(place.at),
            parent: dir,
            chain: Chain::new(start),
            size: slot.size(),
            attributes: slot.attributes(),
            times: slot.times(),
            place: Some(place),
            name,
        };
        Ok(self.insert(node))
    }

    fn insert(&mut self, node: Node) -> u64 {
        let ino = node.ino;
        if let Some(place) = node.place {
            self.places.insert(place.at, ino);
        }
        self.nodes.insert(ino, node);
        ino
    }

    fn new_ino(&mut self, at: u64) -> u64 {
        let usual = at >> 5;
        if !self.nodes.contains_key(&usual) {
            return usual;
        }
        self.spare += 1;
        self.spare
    }

    /// Tells the entries of a directory from `offset` on (0: all), until `each` says false; where it stopped.
    pub fn read_dir(
        &mut self,
        dir: u64,
        offset: u32,
        each: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<u32> {
        let mut scan = Scan::new(offset);
        loop {
            let (volume, node) = self.node(dir)?;
            let Some(item) = scan.next(volume, node)? else { return Ok(scan.offset) };
            let name = scan.name(&item)?;
            scan.pass();
            let ino = self.places.get(&item.place.at).copied().unwrap_or(item.place.at >> 5);
            let entry = DirEntry { name: &name, ino, is_dir: item.slot.is_dir(), next: scan.offset };
            if !name.is_empty() && !each(&entry) {
                return Ok(item.place.first);
            }
        }
    }

    pub fn stat(&mut self, ino: u64) -> Result<Stat> {
        let bits = self.volume.geo.cluster_bits;
        let fixed = self.volume.geo.root;
        let (volume, node) = self.node(ino)?;
        let (mut size, mut subdirectories) = (u64::from(node.size), 0);
        if node.is_dir() {
            size = match fixed {
                Root::Fixed { len, .. } if ino == ROOT => len.into(),
                _ => u64::from(volume.count_chain(&mut node.chain)?) << bits,
            };
            subdirectories = volume.subdirectories(node)?;
        }
        let read_only = node.attributes & READ_ONLY != 0;
        Ok(Stat { is_dir: node.is_dir(), read_only, size, times: node.times, subdirectories })
    }

    /// The name of a file in use, as its directory shows it.
    pub fn name(&self, ino: u64) -> Option<&[u8]> {
        self.nodes.get(&ino).map(|node| &node.name[..])
    }

    /// Free clusters are counted when nobody knows.
    pub fn usage(&mut self) -> Result<Usage> {
        Ok(Usage { clusters: self.volume.geo.clusters, free: self.volume.free_clusters()? })
    }

    // ---- names ----

    /// Makes a file or directory; EEXIST, ENOSPC, EINVAL for a name that cannot be.
    pub fn create(&mut self, dir: u64, name: &[u8], is_dir: bool, now: TimeNs) -> Result<u64> {
        self.writable()?;
        let shown = copy(name::trim_dots(name))?;
        let (volume, parent) = self.node(dir)?;
        if volume.find_entry(parent, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let plan = volume.plan_entry(parent, name, [None; 2])?;
        let mut node = Node {
            ino: 0,
            parent: dir,
            chain: Chain::default(),
            size: 0,
            attributes: if is_dir { DIRECTORY } else { ARCHIVE },
            times: Times { read: now, written: now, made: now },
            place: None,
            name: shown,
        };
        if is_dir {
            node.chain = Chain::new(volume.allocate(None)?);
        }
        let written = match is_dir {
            true => volume.write_dots(&node, parent.dot_dot_start()),
            false => Ok(()),
        };
        let place = match written.and_then(|()| volume.write_entry(parent, plan, &node)) {
            Ok(place) => place,
            Err(error) => {
                let _ = volume.cut(&mut node.chain, 0);
                return Err(error);
            }
        };
        parent.times.written = now;
        volume.store_node(parent)?;
        node.place = Some(place);
        node.ino = self.new_ino(place.at);
        Ok(self.insert(node))
    }

    /// Removes the name of a file or of an empty directory (ENOTEMPTY); the clusters go with [`Fs::forget`].
    pub fn unlink(&mut self, dir: u64, ino: u64, now: TimeNs) -> Result<()> {
        self.writable()?;
        let (volume, node) = self.node(ino)?;
        if node.is_dir() && !volume.is_empty_dir(node)? {
            return Err(Errno::ENOTEMPTY);
        }
        let place = node.place.ok_or(Errno::ENOENT)?;
        let (volume, parent) = self.node(dir)?;
        volume.erase_entry(parent, &place)?;
        parent.times.written = now;
        volume.store_node(parent)?;
        self.displace(ino);
        Ok(())
    }

    /// A file has no entry any more.
    fn displace(&mut self, ino: u64) {
        if let Some(place) = self.nodes.get_mut(&ino).and_then(|node| node.place.take()) {
            self.places.remove(&place.at);
        }
    }

    /// Moves a file to another name, over what has it.
    pub fn rename(&mut self, request: &Rename) -> Result<()> {
        self.writable()?;
        let Rename { old_dir, ino, new_dir, name, target, now } = *request;
        let shown = copy(name::trim_dots(name))?;
        if let Some(target) = target {
            let (volume, node) = self.node(target)?;
            if node.is_dir() && !volume.is_empty_dir(node)? {
                return Err(Errno::ENOTEMPTY);
            }
        }
        let old = self.node(ino)?.1.place.ok_or(Errno::ENOENT)?;
        let replaced = match target {
            Some(target) => self.node(target)?.1.place,
            None => None,
        };
        let gone = [Some(old.at), replaced.map(|place| place.at)];
        let (volume, parent) = self.node(new_dir)?;
        let plan = volume.plan_entry(parent, name, gone)?;
        // Here it cannot fail any more but by an error of the device. Two names for a moment are better than none.
        let node = self.nodes.remove(&ino).ok_or(Errno::EIO)?;
        let written = self.node(new_dir).and_then(|(volume, parent)| volume.write_entry(parent, plan, &node));
        self.nodes.insert(ino, node);
        let place = written?;
        if let (Some(target), Some(place)) = (target, replaced) {
            let (volume, parent) = self.node(new_dir)?;
            volume.erase_entry(parent, &place)?;
            self.displace(target);
        }
        let (volume, parent) = self.node(old_dir)?;
        volume.erase_entry(parent, &old)?;
        self.displace(ino);
        let (_, node) = self.node(ino)?;
        (node.place, node.name) = (Some(place), shown);
        self.places.insert(place.at, ino);
        self.moved(ino, new_dir)?;
        self.touch(old_dir, now)?;
        self.touch(new_dir, now)
    }

    /// Exchanges the names of two files.
    pub fn exchange(&mut self, (a_dir, a): (u64, u64), (b_dir, b): (u64, u64), now: TimeNs) -> Result<()> {
        self.writable()?;
        let (_, first) = self.node(a)?;
        let (a_place, a_name) = (first.place.ok_or(Errno::ENOENT)?, core::mem::take(&mut first.name));
        let (_, second) = self.node(b)?;
        let b_place = second.place.ok_or(Errno::ENOENT)?;
        second.place = Some(a_place);
        let b_name = core::mem::replace(&mut second.name, a_name);
        let (_, first) = self.node(a)?;
        (first.place, first.name) = (Some(b_place), b_name);
        self.places.insert(a_place.at, b);
        self.places.insert(b_place.at, a);
        for (ino, dir) in [(a, b_dir), (b, a_dir)] {
            self.store(ino)?;
            self.moved(ino, dir)?;
            self.touch(dir, now)?;
        }
        Ok(())
    }

    /// A file is in `dir` now.
    fn moved(&mut self, ino: u64, dir: u64) -> Result<()> {
        let start = self.node(dir)?.1.dot_dot_start();
        let (volume, node) = self.node(ino)?;
        let elsewhere = core::mem::replace(&mut node.parent, dir) != dir;
        if elsewhere && node.is_dir() { volume.set_dot_dot(node, start) } else { Ok(()) }
    }

    fn touch(&mut self, dir: u64, now: TimeNs) -> Result<()> {
        self.node(dir)?.1.times.written = now;
        self.store(dir)
    }

    /// Nobody uses the file any more. One without a name gives its clusters back.
    pub fn forget(&mut self, ino: u64) -> Result<()> {
        if ino == ROOT {
            return Ok(());
        }
        let Some(mut node) = self.nodes.remove(&ino) else { return Ok(()) };
        match node.place {
            Some(place) => {
                self.places.remove(&place.at);
                Ok(())
            }
            None if self.writable().is_err() => Ok(()),
            None => self.volume.cut(&mut node.chain, 0),
        }
    }

    // ---- contents ----

    /// Where cluster `number` of a file is, in bytes of the disk, and how many from it on are consecutive, at most
    /// `want`; `None` behind its last.
    pub fn map(&mut self, ino: u64, number: u32, want: u32) -> Result<Option<(u64, u32)>> {
        let (volume, node) = self.node(ino)?;
        let found = volume.find(&mut node.chain, number, want)?;
        Ok(found.map(|(cluster, len)| (volume.geo.place(cluster), len)))
    }

    /// Gives a file clusters for `bytes`, or as many as there are; for how many bytes it has some then. What they hold
    /// is whatever was there.
    pub fn reserve(&mut self, ino: u64, bytes: u64) -> Result<u64> {
        self.writable()?;
        let (volume, node) = self.node(ino)?;
        let had_none = node.chain.start() == 0;
        let count = volume.geo.clusters_for(bytes.min(MAX_BYTES));
        let have = volume.extend(&mut node.chain, count)?;
        let bits = volume.geo.cluster_bits;
        if had_none && have > 0 {
            volume.store_node(node)?;
        }
        Ok(u64::from(have) << bits)
    }

    /// Sets the length of a file, gives back what it has beyond, and writes its entry. The clusters up to there are
    /// there already ([`Fs::reserve`]). EFBIG.
    pub fn resize(&mut self, ino: u64, size: u64, now: Option<TimeNs>) -> Result<()> {
        self.writable()?;
        let (volume, node) = self.node(ino)?;
        node.size = u32::try_from(size).map_err(|_| Errno::EFBIG)?;
        if let Some(now) = now {
            node.times.written = now;
            node.attributes |= ARCHIVE;
        }
        let count = volume.geo.clusters_for(size);
        if count > 0 {
            volume.store_node(node)?;
            return volume.cut(&mut node.chain, count);
        }
        // No entry may name a cluster that is free.
        let mut chain = core::mem::take(&mut node.chain);
        let stored = volume.store_node(node);
        stored.and_then(|()| volume.cut(&mut chain, 0))
    }

    /// Sets times, and whether it may be written.
    pub fn set_attributes(&mut self, ino: u64, times: Times, read_only: Option<bool>) -> Result<()> {
        self.writable()?;
        let (_, node) = self.node(ino)?;
        node.times = times;
        if let Some(read_only) = read_only {
            node.attributes = node.attributes & !READ_ONLY | if read_only { READ_ONLY } else { 0 };
        }
        self.store(ino)
    }

    fn store(&mut self, ino: u64) -> Result<()> {
        let (volume, node) = self.node(ino)?;
        volume.store_node(node)
    }
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
