//! What a scheduler knows of a request.

/// A request's number in the queue's table: small, dense, reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(pub u32);

impl Id {
    /// As an index into a table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which way the data go. Discards and zeroing are writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dir {
    Read,
    Write,
}

/// The class of ioprio_set(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum IoClass {
    /// Before everybody else.
    RealTime,
    #[default]
    BestEffort,
    /// Only when nobody else wants the disk.
    Idle,
}

/// Class and level of ioprio_set(2); level 0 (most) to 7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IoPrio {
    pub class: IoClass,
    pub level: u8,
}

impl Default for IoPrio {
    /// Best effort, level 4.
    fn default() -> IoPrio {
        IoPrio { class: IoClass::BestEffort, level: 4 }
    }
}

impl IoPrio {
    /// From the number that ioprio_set(2) takes: class in the bits from 13 on, level in the lowest three. 0, no class,
    /// is the default.
    pub fn from_raw(raw: u16) -> IoPrio {
        let level = (raw & 7) as u8;
        match raw >> 13 {
            1 => IoPrio { class: IoClass::RealTime, level },
            2 => IoPrio { class: IoClass::BestEffort, level },
            3 => IoPrio { class: IoClass::Idle, level: 7 },
            _ => IoPrio::default(),
        }
    }

    /// 0 for real time, 1 for best effort, 2 for idle: an index into tables by class.
    pub fn rank(self) -> usize {
        self.class as usize
    }
}

/// One request, as far as scheduling is concerned. Sectors have 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub dir: Dir,
    /// Somebody waits for it: reads, and writes on behalf of fsync or direct I/O.
    pub sync: bool,
    pub start: u64,
    pub sectors: u32,
    /// Who asked: requests of one owner belong together (a process).
    pub owner: u64,
    pub prio: IoPrio,
    /// Others may be joined to it.
    pub mergeable: bool,
}

impl Request {
    /// The sector after the last.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.sectors))
    }
}

/// Which end of a waiting request a new one is joined to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The new one begins where the waiting one ends.
    Back,
    /// The new one ends where the waiting one begins.
    Front,
}
