//! The 32 bytes of a directory entry.
//!
//! A file has one short entry (`NAME    EXT`, attributes, first cluster, length, dates). Before it may stand up to 20
//! more, each with 13 UTF-16 units of the long name, last piece first, bound to the short entry by its checksum.

use crate::time::{self, TimeNs};

/// Bytes of an entry.
pub const SLOT: u32 = 32;

/// Attributes.
pub const READ_ONLY: u8 = 1;
pub const HIDDEN: u8 = 2;
pub const SYSTEM: u8 = 4;
pub const VOLUME: u8 = 8;
pub const DIRECTORY: u8 = 16;
pub const ARCHIVE: u8 = 32;
/// All of these: a piece of a long name.
pub const LONG: u8 = 15;

/// First bytes: nothing here and in all that follows; nothing here.
pub const END: u8 = 0;
pub const FREE: u8 = 0xe5;
/// Stands for 0xe5 as the first byte of a name.
pub const KANJI: u8 = 5;

/// Units of a long name in an entry, and the most entries that one has.
pub const UNITS: usize = 13;
pub const MAX_PIECES: usize = 20;

/// Nanoseconds since the Epoch. On the medium `read` has a day and `written` two seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    pub read: TimeNs,
    pub written: TimeNs,
    pub made: TimeNs,
}

/// One entry's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(pub [u8; SLOT as usize]);

impl Slot {
    /// An entry with nothing but a name.
    pub fn new(short: &[u8; 11]) -> Slot {
        let mut bytes = [0; SLOT as usize];
        bytes[..11].copy_from_slice(short);
        Slot(bytes)
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn set_word(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub fn short(&self) -> [u8; 11] {
        let mut short = [0; 11];
        short.copy_from_slice(&self.0[..11]);
        short
    }

    pub fn attributes(&self) -> u8 {
        self.0[11]
    }

    pub fn set_attributes(&mut self, attributes: u8) {
        self.0[11] = attributes;
    }

    pub fn is_free(&self) -> bool {
        self.0[0] == END || self.0[0] == FREE
    }

    pub fn is_long(&self) -> bool {
        self.attributes() & 0x3f == LONG
    }

    pub fn is_dir(&self) -> bool {
        self.attributes() & DIRECTORY != 0
    }

    /// `.` and `..`, which every directory but the root has first.
    pub fn is_dot(&self) -> bool {
        &self.0[..11] == b".          " || &self.0[..11] == b"..         "
    }

    /// Base and extension are to be shown in lower case.
    pub fn lower(&self) -> (bool, bool) {
        (self.0[12] & 8 != 0, self.0[12] & 16 != 0)
    }

    /// The first cluster; 0: none. Only FAT32 has the upper half.
    pub fn start(&self, wide: bool) -> u32 {
        let high = if wide { u32::from(self.word(20)) << 16 } else { 0 };
        high | u32::from(self.word(26))
    }

    pub fn set_start(&mut self, start: u32, wide: bool) {
        self.set_word(26, start as u16);
        if wide {
            self.set_word(20, (start >> 16) as u16);
        }
    }

    pub fn size(&self) -> u32 {
        u32::from(self.word(28)) | u32::from(self.word(30)) << 16
    }

    pub fn set_size(&mut self, size: u32) {
        self.0[28..32].copy_from_slice(&size.to_le_bytes());
    }

    pub fn times(&self) -> Times {
        Times {
            read: time::from_dos(self.word(18), 0, 0),
            written: time::from_dos(self.word(24), self.word(22), 0),
            made: time::from_dos(self.word(16), self.word(14), self.0[13]),
        }
    }

    pub fn set_times(&mut self, times: &Times) {
        self.set_word(18, time::to_dos(times.read).0);
        let (date, clock, _) = time::to_dos(times.written);
        (self.set_word(24, date), self.set_word(22, clock));
        let (date, clock, hundredths) = time::to_dos(times.made);
        (self.set_word(16, date), self.set_word(14, clock));
        self.0[13] = hundredths;
    }

    // ---- pieces of long names ----

    const PLACES: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

    /// Piece `number`, from 1, of a name; `last`: none of a higher number follows (they stand before it).
    pub fn piece(units: &[u16], number: usize, last: bool, checksum: u8) -> Slot {
        let mut slot = Slot([0; SLOT as usize]);
        slot.0[0] = number as u8 | if last { 0x40 } else { 0 };
        slot.set_attributes(LONG);
        slot.0[13] = checksum;
        let rest = &units[(number - 1) * UNITS..];
        for (at, place) in Self::PLACES.into_iter().enumerate() {
            let unit = if at == rest.len() { 0 } else { rest.get(at).copied().unwrap_or(0xffff) };
            slot.set_word(place, unit);
        }
        slot
    }

    /// Number, whether it is the last, and checksum of a piece.
    pub fn piece_head(&self) -> (usize, bool, u8) {
        (usize::from(self.0[0] & 0x3f), self.0[0] & 0x40 != 0, self.0[13])
    }

    pub fn units(&self) -> [u16; UNITS] {
        Self::PLACES.map(|place| self.word(place))
    }
}

/// The sum that binds pieces to their short entry.
pub fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}
