//! Open regular files: files of a layer, and of the upper one once there is a copy.

use crate::node::{Node, node};
use abi::errno::Result;
use abi::fcntl::{O_ACCMODE, O_CREAT, O_EXCL, O_NOCTTY, O_RDONLY, O_TRUNC};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use core::any::Any;
use sync::Once;
use vfs::open::open_at_place;
use vfs::{File, FileOps, FileTraits, IoBuf};
use vm::{MapSource, Mapping};

/// What was done by the overlay's own open.
const DONE: u32 = O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY;

pub(crate) struct OverlayFile {
    real: Arc<File>,
    /// The copy's, when `real` was opened for reading before there was one.
    copied: Once<Arc<File>>,
    is_upper: bool,
    flags: u32,
}

impl OverlayFile {
    pub fn open(node: &Node, flags: u32) -> Result<OverlayFile> {
        let flags = flags & !DONE;
        let top = node.real()?;
        let path = node.fs.path(&top);
        let real = node.fs.as_mounter(|caller| open_at_place(caller, path, flags))?;
        Ok(OverlayFile { real, copied: Once::new(), is_upper: node.upper().is_some(), flags })
    }

    /// The file that has the contents now.
    fn real(&self, file: &File) -> Result<&Arc<File>> {
        if let Some(copied) = self.copied.get() {
            return Ok(copied);
        }
        let node = node(file.inode())?;
        if self.is_upper || self.flags & O_ACCMODE != O_RDONLY || node.upper().is_none() {
            return Ok(&self.real);
        }
        let newer = OverlayFile::open(node, self.flags)?;
        // Two may both open it; the first that is set stays.
        let _ = self.copied.set(newer.real);
        Ok(self.copied.get_expect())
    }
}

impl FileOps for OverlayFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        self.real.traits() & (FileTraits::REGULAR | FileTraits::DIRECT)
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let _layers = task::stacked();
        let real = self.real(file)?;
        real.ops().read(real, pos, buf)
    }

    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let _layers = task::stacked();
        let real = self.real(file)?;
        let result = real.ops().write(real, pos, buf);
        node(file.inode())?.mirror(&**file.inode());
        result
    }

    fn poll(&self, _file: &File, _table: Option<&mut vfs::PollTable>) -> PollEvents {
        PollEvents::REGULAR
    }

    fn seek(&self, file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        let _layers = task::stacked();
        let real = self.real(file)?;
        real.ops().seek(real, pos, offset, whence)
    }

    fn map_source(&self, file: &File) -> Result<MapSource> {
        let _layers = task::stacked();
        let real = self.real(file)?;
        real.ops().map_source(real)
    }

    fn shares_stores(&self) -> bool {
        self.real.ops().shares_stores()
    }

    fn mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        let real = self.real(file).ok()?;
        real.ops().mapping(real)
    }

    fn fsync(&self, file: &File, start: u64, end: u64, data_only: bool) -> Result<()> {
        let _layers = task::stacked();
        let node = node(file.inode())?;
        // What is below does not change, and what need not survive is not waited for.
        if node.upper().is_none() || node.fs.volatile {
            return Ok(());
        }
        let real = self.real(file)?;
        real.fsync_range(start, end, data_only)
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        let _layers = task::stacked();
        let real = self.real(file)?;
        let result = real.ops().fallocate(real, mode, offset, len);
        node(file.inode())?.mirror(&**file.inode());
        result
    }

    fn flush(&self, file: &File) -> Result<()> {
        let _layers = task::stacked();
        let real = self.real(file)?;
        real.ops().flush(real)
    }

    fn flags_changed(&self, file: &File, flags: u32) -> Result<()> {
        self.real(file)?.set_flags(flags)
    }
}
