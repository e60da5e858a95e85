//! Open files of the server: reading and writing by way of pages.

use crate::client::{Client, Fid, Payload, io_unit};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mem::{AllocFlags, Folio};
use net9p::Piece;
use p9wire::Message;
use task::WaitMode;

/// A file that the server has opened for us.
pub(crate) struct OpenFid {
    pub fid: Fid,
    /// Bytes of one request at most.
    pub unit: usize,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl OpenFid {
    /// Of a file that an answer of open or create described.
    pub fn new(fid: Fid, iounit: u32) -> OpenFid {
        let unit = io_unit(fid.client().msize(), iounit);
        OpenFid { fid, unit }
    }

    /// Opens a file of its own, leaving `file` as it is.
    pub fn open(client: &Arc<Client>, file: &Fid, flags: u32) -> Result<OpenFid> {
        let (fid, _) = client.walk(file, &[])?;
        let open = Message::Tlopen { fid: fid.number(), flags };
        let iounit = client.rpc(&open, |answer| match answer {
            Message::Rlopen { iounit, .. } => Some(*iounit),
            _ => None,
        })?;
        Ok(OpenFid::new(fid, iounit))
    }

    fn client(&self) -> &Arc<Client> {
        self.fid.client()
    }

    /// One request for bytes at `offset`; how many came, 0 at the end.
    fn read_once(&self, offset: u64, into: Vec<Piece>, mode: WaitMode) -> Result<usize> {
        let count: usize = into.iter().map(|piece| piece.len).sum();
        let read = Message::Tread { fid: self.fid.number(), offset, count: count as u32 };
        let payload = Payload { into, mode, ..Payload::none() };
        self.client().call(&read, payload, |received, _| match received.message {
            Message::Rread { .. } => received.payload(count),
            _ => None,
        })
    }

    fn write_once(&self, offset: u64, out: Vec<Piece>, mode: WaitMode) -> Result<usize> {
        let count: usize = out.iter().map(|piece| piece.len).sum();
        let write = Message::Twrite { fid: self.fid.number(), offset, count: count as u32 };
        let payload = Payload { out, mode, ..Payload::none() };
        self.client().call(&write, payload, |received, len| match received.message {
            // A server that takes nothing, or more than there was, is not to be believed.
            Message::Rwrite { count: taken } if (1..=count).contains(&(taken as usize)) => {
                received.is_whole(len).then_some(taken as usize)
            }
            _ => None,
        })
    }

    /// Moves bytes between the server's file at `offset` and pieces of memory until these are full or empty, or the
    /// file ends. How many; an error only when there were none.
    fn transfer(&self, way: Way, offset: u64, pieces: &[Piece], mode: WaitMode) -> Result<usize> {
        let total: usize = pieces.iter().map(|piece| piece.len).sum();
        let mut done = 0;
        while done < total {
            let part = cut(pieces, done, self.unit, self.client().max_pieces())?;
            let at = offset.checked_add(done as u64).ok_or(Errno::EFBIG)?;
            let moved = match way {
                Way::In => self.read_once(at, part, mode),
                Way::Out => self.write_once(at, part, mode),
            };
            match moved {
                Ok(0) => break,
                Ok(moved) => done += moved,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    pub fn read(&self, offset: u64, pieces: &[Piece], mode: WaitMode) -> Result<usize> {
        self.transfer(Way::In, offset, pieces, mode)
    }

    pub fn write(&self, offset: u64, pieces: &[Piece], mode: WaitMode) -> Result<usize> {
        self.transfer(Way::Out, offset, pieces, mode)
    }

    /// One `Treaddir` into `into`; how many bytes of entries came.
    pub fn read_dir(&self, offset: u64, into: Piece) -> Result<usize> {
        let room = into.len;
        let read = Message::Treaddir { fid: self.fid.number(), offset, count: room as u32 };
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        pieces.push(into);
        let payload = Payload { into: pieces, ..Payload::none() };
        self.client().call(&read, payload, |received, _| match received.message {
            Message::Rreaddir { .. } => received.payload(room),
            _ => None,
        })
    }

    pub fn fsync(&self, data_only: bool) -> Result<()> {
        let sync = Message::Tfsync { fid: self.fid.number(), data_only: data_only.into() };
        self.client().ask(&sync, Message::Rfsync {})
    }
}

/// The part of pieces from byte `skip` on that one request takes.
fn cut(pieces: &[Piece], mut skip: usize, mut len: usize, most: usize) -> Result<Vec<Piece>> {
    let mut part = Vec::new();
    part.try_reserve_exact(most.min(pieces.len())).map_err(|_| Errno::ENOMEM)?;
    for piece in pieces {
        if skip >= piece.len {
            skip -= piece.len;
            continue;
        }
        if len == 0 || part.len() == most {
            break;
        }
        let here = (piece.len - skip).min(len);
        part.push(Piece { folio: piece.folio.clone(), offset: piece.offset + skip, len: here });
        (skip, len) = (0, len - here);
    }
    Ok(part)
}

/// Memory for `len` bytes on their way, or for fewer when memory is short.
pub(crate) fn bounce(len: usize) -> Result<Folio> {
    /// 128 KiB: a message of the usual size.
    const LARGEST: u32 = 5;
    let pages = len.max(1).div_ceil(arch::PAGE_SIZE).next_power_of_two();
    let mut order = pages.trailing_zeros().min(LARGEST) as u8;
    loop {
        match Folio::alloc(order, AllocFlags::KERNEL) {
            Ok(folio) => return Ok(folio),
            Err(_) if order > 0 => order -= 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The front of a folio.
pub(crate) fn piece(folio: &Folio, len: usize) -> Piece {
    Piece { folio: folio.clone(), offset: 0, len: len.min(folio.len()) }
}
