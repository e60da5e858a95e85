//! A zone: frames that are alike in what devices can reach them, with marks that say how low the free
//! count may fall for whom.

use crate::{Buddy, Frames};

/// What a zone is for. The names are Linux's, as `/proc/buddyinfo` and `/proc/zoneinfo` show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZoneKind {
    /// Frames below 4 GiB, which devices with 32-bit addresses reach.
    Dma32,
    /// Everything else.
    Normal,
}

impl ZoneKind {
    /// Linux's name.
    pub const fn name(self) -> &'static str {
        match self {
            ZoneKind::Dma32 => "DMA32",
            ZoneKind::Normal => "Normal",
        }
    }
}

/// How deep a request may dig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Stays above the low mark: what can be refused with ENOMEM or an OOM kill (user memory, page
    /// tables, stacks, page cache).
    Keep,
    /// Stays above the minimum: kernel memory whose failure is handled, but hurts.
    Dig,
    /// Stays above half the minimum: what cannot wait for reclaim (interrupt handlers).
    Deep,
    /// Takes the last frame: what has no way to fail.
    Drain,
}

/// Free frame counts at which a zone is called short of memory.
///
/// The rule is Linux's (`mm/page_alloc.c`): the minimum over all zones is `4 * sqrt(KiB of memory)`
/// KiB, between 128 KiB and 256 MiB, shared out by size; low and high are each a quarter of it, or a
/// thousandth of the zone, further up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    pub min: u32,
    pub low: u32,
    pub high: u32,
}

const FRAME_KIB: u64 = 4;

impl Watermarks {
    /// Marks for a zone of `managed` frames on a machine with `total` frames in all zones.
    pub fn for_zone(managed: u32, total: u32) -> Watermarks {
        if total == 0 {
            return Watermarks::default();
        }
        let min_kib = (u64::from(total) * FRAME_KIB * 16).isqrt().clamp(128, 256 << 10);
        Watermarks::with_min(managed, total, (min_kib / FRAME_KIB) as u32)
    }

    /// Marks for a zone when all zones are to keep `min_all` frames for the kernel.
    pub fn with_min(managed: u32, total: u32, min_all: u32) -> Watermarks {
        if total == 0 {
            return Watermarks::default();
        }
        // A tiny machine keeps an eighth at most; Linux would keep its 128 KiB of 1 MiB.
        let min_all = u64::from(min_all).min(u64::from(total) / 8);
        let min = min_all * u64::from(managed) / u64::from(total);
        let step = (min / 4).max(u64::from(managed) / 1000);
        Watermarks { min: min as u32, low: (min + step) as u32, high: (min + 2 * step) as u32 }
    }

    /// The count below which a request with this reserve is refused.
    pub fn floor(&self, reserve: Reserve) -> u32 {
        match reserve {
            Reserve::Keep => self.low,
            Reserve::Dig => self.min,
            Reserve::Deep => self.min / 2,
            Reserve::Drain => 0,
        }
    }
}

/// A range of frames with its free lists and watermarks.
#[derive(Debug, Clone)]
pub struct Zone {
    kind: ZoneKind,
    buddy: Buddy,
    managed: u32,
    marks: Watermarks,
}

impl Zone {
    /// An empty zone over `start..end`; [`Zone::add`] fills it.
    pub const fn new(kind: ZoneKind, start: u32, end: u32) -> Zone {
        let marks = Watermarks { min: 0, low: 0, high: 0 };
        Zone { kind, buddy: Buddy::new(start, end), managed: 0, marks }
    }

    /// Hands the frames `start..end` to the zone for good.
    pub fn add<F: Frames>(&mut self, frames: &mut F, start: u32, end: u32) {
        self.managed += end - start;
        self.buddy.free_range(frames, start, end);
    }

    /// Sets the marks, once the size of the machine is known.
    pub fn set_watermarks(&mut self, marks: Watermarks) {
        self.marks = marks;
    }

    /// Allocates 2^`order` frames unless that would leave fewer than the reserve's floor.
    pub fn alloc<F: Frames>(&mut self, frames: &mut F, order: u8, reserve: Reserve) -> Option<u32> {
        self.allows(order, reserve).then(|| self.buddy.alloc(frames, order)).flatten()
    }

    /// Gives back 2^`order` frames.
    pub fn free<F: Frames>(&mut self, frames: &mut F, frame: u32, order: u8) {
        self.buddy.free(frames, frame, order);
    }

    /// Whether the count allows such an allocation; a block that large may still be missing.
    pub fn allows(&self, order: u8, reserve: Reserve) -> bool {
        self.buddy.free_frames() >= self.marks.floor(reserve) + (1 << order)
    }

    /// Whether the free count has fallen below the low mark, so that reclaim should start.
    pub fn is_low(&self) -> bool {
        self.buddy.free_frames() < self.marks.low
    }

    /// Whether the free count is below the high mark, so that reclaim in advance has something to do.
    pub fn is_below_high(&self) -> bool {
        self.buddy.free_frames() < self.marks.high
    }

    /// What the zone is for.
    pub fn kind(&self) -> ZoneKind {
        self.kind
    }

    /// Frames ever handed to the zone.
    pub fn managed(&self) -> u32 {
        self.managed
    }

    /// The marks.
    pub fn watermarks(&self) -> Watermarks {
        self.marks
    }

    /// The free lists.
    pub fn buddy(&self) -> &Buddy {
        &self.buddy
    }
}
