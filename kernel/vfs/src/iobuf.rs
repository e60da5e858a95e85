//! The memory side of a read or write: a cursor over user segments or a kernel slice (Linux's iov_iter).
//!
//! File operations copy straight between their own memory and the cursor: one copy, whatever is at the
//! other end. A copy may stop short at an unmapped page; the caller reports what arrived, and EFAULT only
//! when nothing did.

use abi::fs::MAX_RW_COUNT;
use abi::{Errno, errno::Result};
use mem::{Folio, user};

/// A piece of user memory: `struct iovec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub addr: usize,
    pub len: usize,
}

enum Memory<'a> {
    User(usize),
    /// The segments left; the first is used up to `skip`.
    Segments {
        list: &'a [Segment],
        skip: usize,
    },
    KernelOut(&'a mut [u8]),
    KernelIn(&'a [u8]),
}

/// The cursor. For a read the memory is filled ([`IoBuf::put`]), for a write it is drained
/// ([`IoBuf::take`]).
pub struct IoBuf<'a> {
    memory: Memory<'a>,
    left: usize,
    done: usize,
    /// RLIMIT_FSIZE of the caller: a write may not go beyond.
    pub size_limit: u64,
    /// RWF_NOWAIT and O_NONBLOCK for this call.
    pub nowait: bool,
    /// The write goes to the end of the file whatever the position says.
    pub append: bool,
    /// RWF_NOAPPEND: not even with O_APPEND.
    pub no_append: bool,
    /// O_DSYNC or O_SYNC for this call (RWF_DSYNC, RWF_SYNC); 0: what the file says.
    pub sync: u32,
}

/// One contiguous part of the memory.
enum Part<'p> {
    User(usize, usize),
    Out(&'p mut [u8]),
    In(&'p [u8]),
}

impl<'a> IoBuf<'a> {
    fn new(memory: Memory<'a>, left: usize) -> IoBuf<'a> {
        IoBuf {
            memory,
            left,
            done: 0,
            size_limit: u64::MAX,
            nowait: false,
            append: false,
            no_append: false,
            sync: 0,
        }
    }

    /// `len` bytes of user memory; more than 2 GiB less a page is cut to that, as on Linux.
    #[inline]
    pub fn user(addr: usize, len: usize) -> IoBuf<'a> {
        IoBuf::new(Memory::User(addr), len.min(MAX_RW_COUNT))
    }

    /// Several pieces of user memory in order. EINVAL when their sum does not fit a ssize_t.
    pub fn segments(list: &'a [Segment]) -> Result<IoBuf<'a>> {
        let mut sum = 0usize;
        for segment in list {
            sum = sum
                .checked_add(segment.len)
                .filter(|sum| *sum <= isize::MAX as usize)
                .ok_or(Errno::EINVAL)?;
        }
        Ok(IoBuf::new(Memory::Segments { list, skip: 0 }, sum.min(MAX_RW_COUNT)))
    }

    /// A kernel buffer to read into.
    pub fn kernel_out(buffer: &'a mut [u8]) -> IoBuf<'a> {
        let len = buffer.len();
        IoBuf::new(Memory::KernelOut(buffer), len)
    }

    /// Kernel bytes to write.
    pub fn kernel_in(bytes: &'a [u8]) -> IoBuf<'a> {
        IoBuf::new(Memory::KernelIn(bytes), bytes.len())
    }

    /// Bytes that still can be put or taken.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.left
    }

    /// Bytes put or taken so far.
    #[inline]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether address and length of every piece of user memory that is left are multiples of `to`, a power of two.
    pub fn is_aligned(&self, to: usize) -> bool {
        match &self.memory {
            Memory::User(addr) => (addr | self.left).is_multiple_of(to),
            Memory::Segments { list, skip } => {
                let pieces = list.iter().fold(*skip, |bits, piece| bits | piece.addr | piece.len);
                pieces.is_multiple_of(to)
            }
            Memory::KernelOut(_) | Memory::KernelIn(_) => self.left.is_multiple_of(to),
        }
    }

    /// Cuts the remaining length.
    pub fn truncate(&mut self, len: usize) {
        self.left = self.left.min(len);
    }

    /// The part in front, at most `limit` long; not empty when `limit` and the remaining length are not.
    fn front(&mut self, limit: usize) -> Part<'_> {
        let limit = limit.min(self.left);
        match &mut self.memory {
            Memory::User(addr) => Part::User(*addr, limit),
            Memory::Segments { list, skip } => {
                while list.first().is_some_and(|segment| segment.len <= *skip) {
                    *list = &list[1..];
                    *skip = 0;
                }
                match list.first() {
                    Some(segment) => {
                        Part::User(segment.addr.wrapping_add(*skip), limit.min(segment.len - *skip))
                    }
                    None => Part::User(0, 0),
                }
            }
            Memory::KernelOut(buffer) => {
                Part::Out(buffer.get_mut(self.done..self.done + limit).unwrap_or(&mut []))
            }
            Memory::KernelIn(bytes) => Part::In(bytes.get(self.done..self.done + limit).unwrap_or(&[])),
        }
    }

    fn advance(&mut self, by: usize) {
        self.left -= by;
        self.done += by;
        match &mut self.memory {
            Memory::User(addr) => *addr = addr.wrapping_add(by),
            Memory::Segments { skip, .. } => *skip += by,
            Memory::KernelOut(_) | Memory::KernelIn(_) => {}
        }
    }

    /// Moves up to `len` bytes by `copy(part, bytes moved before)`, which returns how many it moved.
    #[inline]
    fn transfer(&mut self, len: usize, mut copy: impl FnMut(Part, usize) -> usize) -> Result<usize> {
        let wanted = len.min(self.left);
        // One piece of user memory, as for nearly every call: no loop, 40 instructions fewer.
        if let Memory::User(addr) = &mut self.memory {
            let copied = copy(Part::User(*addr, wanted), 0).min(wanted);
            *addr = addr.wrapping_add(copied);
            self.left -= copied;
            self.done += copied;
            return if copied == 0 && wanted > 0 { Err(Errno::EFAULT) } else { Ok(copied) };
        }
        self.transfer_parts(wanted, copy)
    }

    fn transfer_parts(&mut self, wanted: usize, mut copy: impl FnMut(Part, usize) -> usize) -> Result<usize> {
        let mut moved = 0;
        while moved < wanted {
            let part = self.front(wanted - moved);
            let part_len = match &part {
                Part::User(_, len) => *len,
                Part::Out(bytes) => bytes.len(),
                Part::In(bytes) => bytes.len(),
            };
            let copied = copy(part, moved).min(part_len);
            self.advance(copied);
            moved += copied;
            if copied < part_len || part_len == 0 {
                break;
            }
        }
        if moved == 0 && wanted > 0 { Err(Errno::EFAULT) } else { Ok(moved) }
    }

    /// Copies from `bytes`; returns how many arrived. EFAULT when none did although there was room.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        self.transfer(bytes.len(), |part, at| match part {
            Part::User(addr, len) => user::write_partial(addr, &bytes[at..at + len]),
            Part::Out(out) => {
                out.copy_from_slice(&bytes[at..at + out.len()]);
                out.len()
            }
            Part::In(_) => 0,
        })
    }

    /// Copies into `bytes`; returns how many came.
    #[inline]
    pub fn take(&mut self, bytes: &mut [u8]) -> Result<usize> {
        self.transfer(bytes.len(), |part, at| match part {
            Part::User(addr, len) => user::read_partial(addr, &mut bytes[at..at + len]),
            Part::In(from) => {
                bytes[at..at + from.len()].copy_from_slice(from);
                from.len()
            }
            Part::Out(_) => 0,
        })
    }

    /// Copies from a folio.
    #[inline]
    pub fn put_folio(&mut self, folio: &Folio, offset: usize, len: usize) -> Result<usize> {
        self.transfer(len, |part, at| match part {
            Part::User(addr, len) => folio.copy_to_user_partial(offset + at, addr, len),
            Part::Out(out) => {
                folio.read(offset + at, out);
                out.len()
            }
            Part::In(_) => 0,
        })
    }

    /// Copies into a folio.
    #[inline]
    pub fn take_folio(&mut self, folio: &Folio, offset: usize, len: usize) -> Result<usize> {
        self.transfer(len, |part, at| match part {
            Part::User(addr, len) => folio.copy_from_user_partial(offset + at, addr, len),
            Part::In(from) => {
                folio.write(offset + at, from);
                from.len()
            }
            Part::Out(_) => 0,
        })
    }

    /// Writes zeroes.
    pub fn put_zeros(&mut self, len: usize) -> Result<usize> {
        self.transfer(len, |part, _| match part {
            Part::User(addr, len) => user::clear_partial(addr, len),
            Part::Out(out) => {
                out.fill(0);
                out.len()
            }
            Part::In(_) => 0,
        })
    }

    /// Throws bytes away: what was to be written counts as written.
    pub fn skip(&mut self, len: usize) -> usize {
        let mut skipped = 0;
        while skipped < len.min(self.left + skipped) {
            let part = match self.front(len - skipped) {
                Part::User(_, len) => len,
                Part::Out(bytes) => bytes.len(),
                Part::In(bytes) => bytes.len(),
            };
            if part == 0 {
                break;
            }
            self.advance(part);
            skipped += part;
        }
        skipped
    }

    /// Copies a whole text or fails: for small files of generated content. `pos` is where in the text the
    /// reader stands.
    pub fn put_at(&mut self, text: &[u8], pos: &mut u64) -> Result<usize> {
        let at = usize::try_from(*pos).unwrap_or(usize::MAX).min(text.len());
        if at == text.len() {
            return Ok(0);
        }
        let done = self.put(&text[at..])?;
        *pos += done as u64;
        Ok(done)
    }
}
