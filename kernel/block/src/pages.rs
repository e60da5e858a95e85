//! Pages of a file between the page cache and the places that a file system gives them.
//!
//! A page may lie in several pieces, and several pages in one. [`read_pages`] and [`write_pages`] ask where each stretch
//! of a run is, make one bio for what is consecutive on the device, and finish the pages when the last bio is done.

use crate::bio::{Bio, BioFlags, EndBio, Op, SECTOR, SECTOR_SHIFT};
use crate::device::BlockDevice;
use crate::plug::Plug;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use mem::Folio;
use sync::SpinLock;
use sync::levels::BlockPool;
use vm::{FolioRead, FolioWrite, ReadRun, WriteRun};

const PAGE: u64 = arch::PAGE_SIZE as u64;

/// A stretch of a file.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The byte of the device where it begins, at a sector's start; `None`: nowhere, it reads as zeroes.
    pub place: Option<u64>,
    /// Bytes, whole sectors.
    pub len: u64,
}

/// Tells where at most `len` bytes of a file from byte `at` on are; both are whole sectors.
pub type MapPiece<'a> = &'a mut dyn FnMut(u64, u64) -> Result<Piece>;

/// A page that somebody waits for.
pub(crate) trait Page: Send + 'static {
    fn done(self, result: Result<()>);
}

impl Page for FolioRead {
    fn done(self, result: Result<()>) {
        self.finish(result);
    }
}

impl Page for FolioWrite {
    fn done(self, result: Result<()>) {
        self.finish(result);
    }
}

/// Pages that one or several bios move; they are told when all are done.
pub(crate) struct Pages<T> {
    pages: SpinLock<Vec<T>, BlockPool>,
    left: AtomicU32,
    error: AtomicI32,
}

impl<T: Page> Pages<T> {
    /// With one part to be done, which is the submitter's own.
    pub fn new(pages: Vec<T>) -> Arc<Pages<T>> {
        Arc::new(Pages { pages: SpinLock::new(pages), left: AtomicU32::new(1), error: AtomicI32::new(0) })
    }

    /// One part more will be done.
    pub fn add_part(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    pub fn part_done(&self, result: Result<()>) {
        if let Err(error) = result {
            self.error.store(error.number(), Ordering::Relaxed);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let result = Errno::from_number(self.error.load(Ordering::Relaxed)).map_or(Ok(()), Err);
            let pages = core::mem::take(&mut *self.pages.lock());
            pages.into_iter().for_each(|one| one.done(result));
        }
    }
}

impl<T: Page> EndBio for Pages<T> {
    fn ended(&self, bio: Box<Bio>) {
        let result = bio.result();
        drop(bio);
        self.part_done(result);
    }
}

/// Bios for the bytes `at..end` of a file whose page `number` is `folio(number)`; `blank` gets the parts that are
/// nowhere.
fn bios<'a>(
    op: Op,
    (mut at, end): (u64, u64),
    map: MapPiece,
    folio: &dyn Fn(u64) -> &'a Folio,
    blank: &dyn Fn(&Folio, usize, usize) -> Result<()>,
) -> Result<Vec<Box<Bio>>> {
    let mut bios = Vec::new();
    while at < end {
        let piece = map(at, end - at)?;
        let stop = at + piece.len.clamp(SECTOR, end - at);
        let mut bio = piece.place.map(|place| Bio::new(op, place >> SECTOR_SHIFT)).transpose()?;
        while at < stop {
            let (offset, len) = ((at % PAGE) as usize, (stop - at).min(PAGE - at % PAGE) as usize);
            match &mut bio {
                Some(bio) => bio.push(folio(at / PAGE), offset, len)?,
                None => blank(folio(at / PAGE), offset, len)?,
            }
            at += len as u64;
        }
        if let Some(bio) = bio {
            bios.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            bios.push(bio);
        }
    }
    Ok(bios)
}

fn submit<T: Page>(
    plug: &mut Plug,
    device: &Arc<BlockDevice>,
    bios: Vec<Box<Bio>>,
    pages: Vec<T>,
    flags: BioFlags,
) {
    let pages = Pages::new(pages);
    for mut bio in bios {
        pages.add_part();
        bio.flags |= flags;
        bio.set_end(pages.clone());
        plug.submit(device, bio);
    }
    pages.part_done(Ok(()));
}

/// Fills pages; for [`vm::MappingOps::read_run`]. Returns when the device knows of it.
pub fn read_pages(device: &Arc<BlockDevice>, run: ReadRun, map: MapPiece) {
    let first = run.index();
    let range = (first * PAGE, (first + run.len() as u64) * PAGE);
    let made = bios(
        Op::Read,
        range,
        map,
        &|number| run.folios()[(number - first) as usize].folio(),
        &|folio, offset, len| {
            folio.fill(offset, len, 0);
            Ok(())
        },
    );
    match made {
        Ok(bios) => {
            submit(&mut Plug::new(), device, bios, run.into_iter().collect(), BioFlags::empty());
        }
        Err(error) => run.finish(Err(error)),
    }
}

/// Writes the bytes of pages up to `end`, which is in or right behind the last page written, at a sector's start; pages
/// beyond are finished and not written. For [`vm::MappingOps::write_run`]. EIO for what has no place. Returns when the
/// device, or the plug, knows of it.
pub fn write_pages(plug: &mut Plug, device: &Arc<BlockDevice>, run: WriteRun, end: u64, map: MapPiece) {
    let flags = if run.is_sync() { BioFlags::SYNC } else { BioFlags::empty() };
    let first = run.index();
    let made = bios(
        Op::Write,
        (first * PAGE, end),
        map,
        &|number| run.folios()[(number - first) as usize].folio(),
        &|_, _, _| Err(Errno::EIO),
    );
    match made {
        Ok(bios) => submit(plug, device, bios, run.into_iter().collect(), flags),
        Err(error) => run.finish(Err(error)),
    }
}
