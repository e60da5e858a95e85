//! The allocation table: an entry for each cluster, which says what cluster follows it in its file.

use crate::Disk;
use crate::boot::{Geometry, Kind};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;

/// What the table says of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    Free,
    Next(u32),
    End,
    Bad,
}

/// Bytes of the table that are kept at hand.
const WINDOW: u64 = 512;

/// The medium with its table.
pub struct Volume<D> {
    pub disk: D,
    pub geo: Geometry,
    /// A piece of the first copy, and where in the copy it begins.
    window: Box<[u8; WINDOW as usize]>,
    window_at: Option<u64>,
    /// Free clusters, when that is known, and whether a search found none: what a medium says may be wrong.
    free: Option<u32>,
    full: bool,
    /// Where the search for a free one begins.
    next: u32,
    info_changed: bool,
    damaged: bool,
}

const LEAD: u32 = 0x4161_5252;
const MIDDLE: u32 = 0x6141_7272;
/// Places in the sector with the number of free clusters.
const MIDDLE_AT: u64 = 484;

impl<D: Disk> Volume<D> {
    pub fn new(disk: D, geo: Geometry) -> Volume<D> {
        Volume {
            disk,
            geo,
            window: Box::new([0; WINDOW as usize]),
            window_at: None,
            free: None,
            full: false,
            next: 2,
            info_changed: false,
            damaged: false,
        }
    }

    /// What is on the medium contradicts itself: nothing is written any more. The error to return.
    pub fn damage(&mut self) -> Errno {
        self.damaged = true;
        Errno::EIO
    }

    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Where an entry is in a copy of the table, and its bytes.
    fn entry_at(&self, cluster: u32) -> (u64, usize) {
        let number = u64::from(cluster);
        match self.geo.kind {
            Kind::Fat12 => (number + number / 2, 2),
            Kind::Fat16 => (number * 2, 2),
            Kind::Fat32 => (number * 4, 4),
        }
    }

    /// The bytes of an entry, with what they share with others.
    fn raw(&mut self, cluster: u32) -> Result<u32> {
        let (at, len) = self.entry_at(cluster);
        let (start, inside) = (at / WINDOW * WINDOW, (at % WINDOW) as usize);
        let mut bytes = [0; 4];
        if inside + len > WINDOW as usize {
            self.disk.read(self.geo.table_at + at, &mut bytes[..len])?;
            return Ok(u32::from_le_bytes(bytes));
        }
        if self.window_at != Some(start) {
            self.window_at = None;
            self.disk.read(self.geo.table_at + start, &mut self.window[..])?;
            self.window_at = Some(start);
        }
        bytes[..len].copy_from_slice(&self.window[inside..inside + len]);
        Ok(u32::from_le_bytes(bytes))
    }

    fn value(&mut self, cluster: u32) -> Result<u32> {
        let raw = self.raw(cluster)?;
        Ok(match self.geo.kind {
            Kind::Fat12 if cluster % 2 == 1 => raw >> 4 & 0xfff,
            Kind::Fat12 => raw & 0xfff,
            Kind::Fat16 => raw,
            Kind::Fat32 => raw & 0x0fff_ffff,
        })
    }

    /// What follows a cluster. EIO, and the volume is damaged, for one that does not exist.
    pub fn get(&mut self, cluster: u32) -> Result<Link> {
        if !self.geo.is_cluster(cluster) {
            return Err(self.damage());
        }
        let (value, end) = (self.value(cluster)?, self.geo.kind.end());
        match value {
            0 => Ok(Link::Free),
            next if self.geo.is_cluster(next) => Ok(Link::Next(next)),
            last if last >= end - 7 => Ok(Link::End),
            bad if bad == end - 8 => Ok(Link::Bad),
            _ => Err(self.damage()),
        }
    }

    /// Sets an entry in all copies.
    pub fn put(&mut self, cluster: u32, link: Link) -> Result<()> {
        let end = self.geo.kind.end();
        let value = match link {
            Link::Free => 0,
            Link::Next(next) => next,
            Link::End => end,
            Link::Bad => end - 8,
        };
        let old = self.raw(cluster)?;
        let new = match self.geo.kind {
            Kind::Fat12 if cluster % 2 == 1 => old & 0xf | value << 4,
            Kind::Fat12 => old & 0xf000 | value,
            Kind::Fat16 => value,
            Kind::Fat32 => old & 0xf000_0000 | value,
        };
        let (at, len) = self.entry_at(cluster);
        let bytes = new.to_le_bytes();
        let (start, inside) = (at / WINDOW * WINDOW, (at % WINDOW) as usize);
        if inside + len > WINDOW as usize {
            self.window_at = None;
        } else if self.window_at == Some(start) {
            self.window[inside..inside + len].copy_from_slice(&bytes[..len]);
        }
        for copy in 0..u64::from(self.geo.tables) {
            let place = self.geo.table_at + copy * self.geo.table_len + at;
            self.disk.write(place, &bytes[..len])?;
        }
        Ok(())
    }

    /// Takes a free cluster, if possible the one after `near`, and makes it the end of a chain. ENOSPC.
    pub fn allocate(&mut self, near: Option<u32>) -> Result<u32> {
        if self.full {
            return Err(Errno::ENOSPC);
        }
        let wanted = near.map_or(self.next, |near| near + 1);
        let start = if self.geo.is_cluster(wanted) { wanted } else { 2 };
        let last = self.geo.clusters + 1;
        for cluster in (start..=last).chain(2..start) {
            if self.value(cluster)? == 0 {
                self.put(cluster, Link::End)?;
                self.next = cluster + 1;
                self.count(-1);
                return Ok(cluster);
            }
        }
        (self.free, self.full, self.info_changed) = (Some(0), true, true);
        Err(Errno::ENOSPC)
    }

    /// Gives the chain that begins at `cluster` back. It ends where the table makes no sense.
    pub fn free_chain(&mut self, mut cluster: u32) -> Result<()> {
        for _ in 0..self.geo.clusters {
            let link = self.get(cluster)?;
            if link == Link::Free || link == Link::Bad {
                return Err(self.damage());
            }
            self.put(cluster, Link::Free)?;
            self.disk.forget(self.geo.place(cluster), self.geo.cluster_bytes().into());
            self.count(1);
            match link {
                Link::Next(next) => cluster = next,
                _ => return Ok(()),
            }
        }
        Err(self.damage())
    }

    fn count(&mut self, change: i32) {
        let most = self.geo.clusters;
        self.free = self.free.and_then(|free| free.checked_add_signed(change)).filter(|free| *free <= most);
        self.full &= change < 0;
        self.info_changed = true;
    }

    /// Free clusters; counted when nobody knows.
    pub fn free_clusters(&mut self) -> Result<u32> {
        if let Some(free) = self.free {
            return Ok(free);
        }
        let mut free = 0;
        for cluster in 2..self.geo.clusters + 2 {
            free += u32::from(self.value(cluster)? == 0);
        }
        self.free = Some(free);
        Ok(free)
    }

    // ---- what a volume says of itself ----

    fn word(&mut self, at: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.disk.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Believes the count of a volume that was unmounted.
    pub fn load_info(&mut self) -> Result<()> {
        let Some(at) = self.geo.info_at else { return Ok(()) };
        if self.word(at)? != LEAD || self.word(at + MIDDLE_AT)? != MIDDLE {
            self.geo.info_at = None;
            return Ok(());
        }
        let (free, next) = (self.word(at + MIDDLE_AT + 4)?, self.word(at + MIDDLE_AT + 8)?);
        self.free = (free <= self.geo.clusters).then_some(free);
        if self.geo.is_cluster(next) {
            self.next = next;
        }
        Ok(())
    }

    /// Writes the count, if it has changed.
    pub fn store_info(&mut self) -> Result<()> {
        let Some(at) = self.geo.info_at.filter(|_| self.info_changed) else { return Ok(()) };
        self.info_changed = false;
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.free.unwrap_or(u32::MAX).to_le_bytes());
        bytes[4..].copy_from_slice(&self.next.to_le_bytes());
        self.disk.write(at + MIDDLE_AT + 4, &bytes)
    }

    /// Whether the volume says that it was not unmounted.
    pub fn is_dirty(&mut self) -> Result<bool> {
        let mut state = [0];
        self.disk.read(self.geo.state_at, &mut state)?;
        Ok(state[0] & 1 != 0)
    }

    pub fn set_dirty(&mut self, dirty: bool) -> Result<()> {
        let mut state = [0];
        self.disk.read(self.geo.state_at, &mut state)?;
        state[0] = state[0] & !1 | u8::from(dirty);
        self.disk.write(self.geo.state_at, &state)
    }
}
