//! What an argument is, and values for it: mostly sensible ones, so that calls get past their first check, and
//! a share of the boundary values and plain nonsense.

use crate::arena::{Arena, PLAYGROUND_PAGES};
use crate::names;
use crate::rng::Rng;
use rt::mm::PAGE;
use rt::nr::*;
use rt::process;

/// A structure in memory: its fields by width in bytes, in order.
pub type Fields = &'static [(u8, Kind)];

/// What an argument, or a field of a structure, means.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Fd,
    DirFd,
    Path,
    /// A short string that is no path: a name, a type, an option.
    Text,
    /// Any number.
    Int,
    Len,
    /// A count of structures.
    Count,
    Offset,
    Pid,
    Signal,
    Mode,
    /// A user or group.
    Id,
    /// A page in the playground.
    Page,
    /// A length in pages.
    PageLen,
    /// Any of these bits.
    Bits(&'static [u32]),
    /// One of these.
    One(&'static [u32]),
    /// A pointer to structures that the kernel reads.
    In(Fields),
    /// A pointer to memory that the kernel writes.
    Out,
    /// argv or envp.
    Strings,
    /// Exactly this, mostly.
    Just(usize),
    /// Seconds, and a part of a second small enough to wait for.
    Seconds,
    Fraction,
}

/// Who makes the values.
pub struct Source<'a> {
    pub rng: &'a mut Rng,
    pub arena: Arena,
    /// Children that may be named as a process.
    pub children: &'a [process::Pid],
}

const EDGES: [usize; 24] = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    255,
    256,
    4095,
    4096,
    65535,
    65536,
    i32::MAX as usize,
    i32::MAX as usize + 1,
    u32::MAX as usize - 1,
    u32::MAX as usize,
    u32::MAX as usize + 1,
    i64::MAX as usize,
    i64::MIN as usize,
    usize::MAX,
    usize::MAX - 1,
    usize::MAX - 4095,
    1 << 40,
];

const NONSENSE: [Kind; 8] =
    [Kind::Int, Kind::Len, Kind::Fd, Kind::Out, Kind::Path, Kind::Page, Kind::Pid, Kind::Offset];

impl Source<'_> {
    /// A value for an argument: once in 24 times for one of another kind, once in 64 with a bit turned.
    pub fn argument(&mut self, kind: Kind) -> usize {
        let kind = if self.rng.one_in(24) { self.rng.pick(&NONSENSE) } else { kind };
        let value = self.value(kind, 0);
        if self.rng.one_in(64) { value ^ 1 << self.rng.below(64) } else { value }
    }

    fn value(&mut self, kind: Kind, depth: usize) -> usize {
        match kind {
            Kind::Fd => self.fd(),
            Kind::DirFd => self.dir(),
            Kind::Path => self.path(),
            Kind::Text => self.text(),
            Kind::Int => self.int(),
            Kind::Len => self.len(),
            Kind::Count => self.rng.pick(&[0, 1, 1, 2, 2, 3, 5, 8, 16, 1024, 1025, usize::MAX]),
            Kind::Offset => self.offset(),
            Kind::Pid => self.pid(),
            Kind::Signal => self.signal(),
            Kind::Mode => {
                self.rng.pick(&[0, 0o644, 0o755, 0o777, 0o4755, 0o1777, 0o100644, 0o10644, 0o20644])
            }
            Kind::Id => self.rng.pick(&[0, 1, 1000, 65534, 65534, u32::MAX as usize, usize::MAX]),
            Kind::Page => self.arena.page(self.rng),
            Kind::PageLen => self.page_len(),
            Kind::Bits(bits) => self.bits(bits),
            Kind::One(list) => self.rng.pick(list) as usize,
            Kind::In(fields) => self.structures(fields, depth),
            Kind::Out => self.out(),
            Kind::Strings => self.strings(),
            Kind::Just(value) => value,
            Kind::Seconds => self.rng.pick(&[0, 0, 0, 0, 0, 1, usize::MAX, i64::MAX as usize]),
            Kind::Fraction => self.rng.pick(&[0, 1, 100, 1000, 100_000, 999_999, 999_999_999, 1_000_000_000]),
        }
    }

    fn fd(&mut self) -> usize {
        match self.rng.below(16) {
            0 => self.rng.pick(&[usize::MAX, 1023, 1024, i32::MAX as usize, u32::MAX as usize, 100_000]),
            1 => self.rng.below(64),
            _ => 3 + self.rng.below(32),
        }
    }

    fn dir(&mut self) -> usize {
        if self.rng.one_in(4) { self.fd() } else { AT_FDCWD as usize }
    }

    fn int(&mut self) -> usize {
        match self.rng.below(4) {
            0 => self.rng.word() as usize,
            1 => self.rng.below(64),
            2 => 1 << self.rng.below(64),
            _ => self.rng.pick(&EDGES),
        }
    }

    fn len(&mut self) -> usize {
        match self.rng.below(8) {
            0 => self.rng.pick(&EDGES),
            1 => self.rng.below(1 << 20),
            2 => PAGE * self.rng.below(9),
            _ => self.rng.below(512),
        }
    }

    fn offset(&mut self) -> usize {
        match self.rng.below(8) {
            0 => self.rng.pick(&EDGES),
            1 => PAGE * self.rng.below(64),
            _ => self.rng.below(8192),
        }
    }

    fn page_len(&mut self) -> usize {
        match self.rng.below(16) {
            0 => self.rng.pick(&EDGES),
            1 => PAGE * self.rng.below(PLAYGROUND_PAGES),
            2 => self.rng.below(PAGE * 4),
            _ => PAGE * (1 + self.rng.below(8)),
        }
    }

    /// Never -1 (everybody), and nobody outside of the worker.
    fn pid(&mut self) -> usize {
        match self.rng.below(8) {
            0 => self.rng.pick(&[i32::MAX as usize, 0x40_0000, i32::MIN as usize, 32768]),
            1 => process::gettid() as usize,
            2..=4 if !self.children.is_empty() => self.rng.pick(self.children) as usize,
            5 => process::getpid() as usize,
            _ => 0,
        }
    }

    fn signal(&mut self) -> usize {
        const MILD: [u32; 8] = [SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, 34, 64];
        match self.rng.below(16) {
            0 => self.rng.pick(&EDGES),
            1 => self.rng.below(66),
            2 => 0,
            _ => self.rng.pick(&MILD) as usize,
        }
    }

    fn bits(&mut self, bits: &[u32]) -> usize {
        let mut value = 0;
        for _ in 0..self.rng.below(4) {
            value |= self.rng.pick(bits) as usize;
        }
        if self.rng.one_in(24) { value | 1 << self.rng.below(64) } else { value }
    }

    fn out(&mut self) -> usize {
        match self.rng.below(8) {
            0 => self.arena.bad(self.rng, 64),
            1 => self.arena.page(self.rng),
            _ => self.arena.place(self.rng, 4096),
        }
    }

    fn structures(&mut self, fields: Fields, depth: usize) -> usize {
        let size: usize = fields.iter().map(|(width, _)| usize::from(*width)).sum();
        if self.rng.one_in(16) {
            return self.arena.bad(self.rng, size);
        }
        let count = 1 + self.rng.below(4);
        let start = self.arena.place(self.rng, size * count);
        let mut at = start;
        for _ in 0..count {
            for &(width, kind) in fields {
                let value = match kind {
                    Kind::In(_) | Kind::Path | Kind::Strings if depth > 1 => self.out(),
                    _ if self.rng.one_in(24) => self.int(),
                    _ => self.value(kind, depth + 1),
                };
                self.arena.store(at, usize::from(width), value);
                at += usize::from(width);
            }
        }
        start
    }

    /// Puts a string and its NUL into the arena; now and then so that the NUL is missing.
    fn string(&mut self, parts: &[&[u8]]) -> usize {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.rng.one_in(32) {
            return self.arena.bad(self.rng, len);
        }
        let nul = usize::from(!self.rng.one_in(64));
        let start = self.arena.place(self.rng, len + nul);
        for (i, byte) in parts.iter().flat_map(|part| part.iter()).chain(&[0]).enumerate() {
            self.arena.store(start + i, 1, usize::from(*byte));
        }
        start
    }

    fn path(&mut self) -> usize {
        let first = self.rng.pick(names::PATHS);
        let second = self.rng.pick(names::PATHS);
        let long = self.rng.pick(&[254, 255, 256, 4094, 4095, 4096, 5000]);
        match self.rng.below(16) {
            0 => self.string(&[&names::LONG[..long]]),
            1 => self.string(&[first, b"/", second]),
            2 => self.string(&[first, b"/.."]),
            3 => self.string(&[first, b"/"]),
            _ => self.string(&[first]),
        }
    }

    fn text(&mut self) -> usize {
        let text = self.rng.pick(names::TEXTS);
        self.string(&[text])
    }

    fn strings(&mut self) -> usize {
        if self.rng.one_in(16) {
            return self.out();
        }
        let count = self.rng.below(6);
        let start = self.arena.place(self.rng, (count + 1) * 8);
        for i in 0..count {
            let string = self.text();
            self.arena.store(start + 8 * i, 8, string);
        }
        self.arena.store(start + 8 * count, 8, 0);
        start
    }
}
