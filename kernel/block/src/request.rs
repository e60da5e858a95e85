//! A request: what the device is given, made of one or several bios for consecutive sectors.

use crate::bio::{Bio, BioFlags, Op, Segment};
use crate::device::BlockDevice;
use crate::disk::Limits;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use iosched_api::{Dir, Id, IoPrio, Side};

/// How far a request that must be ordered by flushes has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stage {
    /// No part of the flush machine.
    #[default]
    Plain,
    /// Waits for the cache to be flushed first.
    Pre,
    /// Its own data are under way.
    Data,
    /// Waits for the cache to be flushed afterwards.
    Post,
    /// The flush itself, which the flush machine sent.
    Flush,
}

/// A request. Lives in its disk's pool between uses, so that doing I/O needs no memory.
pub struct Request {
    pub(crate) op: Op,
    pub(crate) flags: BioFlags,
    pub(crate) start: u64,
    pub(crate) sectors: u32,
    pub(crate) segments: u32,
    pub(crate) bios: Vec<Box<Bio>>,
    pub(crate) prio: u16,
    pub(crate) owner: u64,
    /// Disk or partition that is charged.
    pub(crate) device: Option<Arc<BlockDevice>>,
    pub(crate) began_ns: u64,
    pub(crate) started_ns: u64,
    /// Its number in the elevator, and which elevator that was.
    pub(crate) elevator: Option<(Id, u32)>,
    pub(crate) stage: Stage,
    /// What the data step ended with, kept while the last flush runs.
    pub(crate) outcome: Result<()>,
    pub(crate) warned: bool,
}

impl Request {
    pub(crate) fn empty() -> Request {
        Request {
            op: Op::Flush,
            flags: BioFlags::empty(),
            start: 0,
            sectors: 0,
            segments: 0,
            bios: Vec::new(),
            prio: 0,
            owner: 0,
            device: None,
            began_ns: 0,
            started_ns: 0,
            elevator: None,
            stage: Stage::Plain,
            outcome: Ok(()),
            warned: false,
        }
    }

    /// Becomes a request of this bio alone. The vector's room is kept from the last use; it has at least one place.
    pub(crate) fn begin(&mut self, bio: Box<Bio>, now_ns: u64) {
        self.op = bio.op;
        self.flags = bio.flags;
        self.start = bio.sector;
        self.sectors = bio.sectors();
        self.segments = bio.segments().len() as u32;
        self.prio = bio.prio;
        self.owner = bio.owner;
        self.device = bio.device.clone();
        (self.began_ns, self.started_ns) = (now_ns, 0);
        (self.elevator, self.stage, self.outcome, self.warned) = (None, Stage::Plain, Ok(()), false);
        self.bios.push(bio);
    }

    /// Nothing of the last use is left.
    pub(crate) fn clear(&mut self) {
        self.bios.clear();
        self.device = None;
        self.elevator = None;
        self.stage = Stage::Plain;
    }

    /// What is to be done.
    pub fn op(&self) -> Op {
        self.op
    }

    /// The first sector, counted from the start of the disk.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn sectors(&self) -> u32 {
        self.sectors
    }

    /// The sector after the last.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.sectors.into())
    }

    /// Bytes of data.
    pub fn bytes(&self) -> u64 {
        if self.op.has_data() { u64::from(self.sectors) << crate::SECTOR_SHIFT } else { 0 }
    }

    /// Whether the device itself must have it on the medium before it says done (only with [`Limits::fua`]).
    pub fn is_fua(&self) -> bool {
        self.flags.contains(BioFlags::FUA) && matches!(self.stage, Stage::Plain | Stage::Data)
    }

    /// I/O priority as ioprio_set(2) takes it.
    pub fn prio(&self) -> u16 {
        self.prio
    }

    /// The pieces of memory in the order of the sectors.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.bios.iter().flat_map(|bio| bio.segments())
    }

    pub(crate) fn dir(&self) -> Dir {
        if self.op == Op::Read { Dir::Read } else { Dir::Write }
    }

    /// As a scheduler sees it.
    pub(crate) fn describe(&self) -> iosched_api::Request {
        iosched_api::Request {
            dir: self.dir(),
            sync: self.op == Op::Read || self.flags.contains(BioFlags::SYNC),
            start: self.start,
            sectors: self.sectors,
            owner: self.owner,
            prio: IoPrio::from_raw(self.prio),
            mergeable: self.may_grow(),
        }
    }

    fn may_grow(&self) -> bool {
        self.op.has_data() && self.stage == Stage::Plain && !self.flags.intersects(UNMERGEABLE)
    }

    /// At which side a bio for the same device would join it, if it may.
    pub(crate) fn side_for(&self, bio: &Bio) -> Option<Side> {
        let alike = self.may_grow()
            && bio_may_merge(bio)
            && self.op == bio.op
            && self.prio == bio.prio
            && same_device(self.device.as_ref(), bio.device());
        match alike {
            true if self.end() == bio.sector => Some(Side::Back),
            true if bio.end_sector() == self.start => Some(Side::Front),
            _ => None,
        }
    }

    /// Joins a bio; it comes back when the request would grow beyond what the device takes.
    pub(crate) fn join(
        &mut self,
        bio: Box<Bio>,
        side: Side,
        limits: &Limits,
    ) -> core::result::Result<(), Box<Bio>> {
        let sectors = self.sectors.saturating_add(bio.sectors());
        let segments = self.segments.saturating_add(bio.segments().len() as u32);
        let fits = sectors <= limits.max_sectors && segments <= limits.max_segments;
        if !fits || self.bios.try_reserve(1).is_err() {
            return Err(bio);
        }
        (self.sectors, self.segments) = (sectors, segments);
        // Read-ahead that somebody waits for now is read-ahead no longer.
        let hints = BioFlags::SYNC | BioFlags::META;
        self.flags |= bio.flags & hints;
        match side {
            Side::Back => self.bios.push(bio),
            Side::Front => {
                self.start = bio.sector;
                self.bios.insert(0, bio);
            }
        }
        Ok(())
    }
}

const UNMERGEABLE: BioFlags = BioFlags::NOMERGE.union(BioFlags::FUA).union(BioFlags::PREFLUSH);

/// Whether a bio may be part of a request of several.
pub(crate) fn bio_may_merge(bio: &Bio) -> bool {
    bio.op.has_data() && !bio.flags.intersects(UNMERGEABLE)
}

fn same_device(a: Option<&Arc<BlockDevice>>, b: Option<&Arc<BlockDevice>>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
}
