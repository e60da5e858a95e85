//! What an open file shows to mmap.

use crate::mapping::Mapping;
use crate::readahead::Readahead;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// Where the pages of a mapped file come from.
pub enum MapSource {
    /// The page cache of a file or memory object.
    Cache(Arc<Mapping>),
    /// Fresh zeroed memory (/dev/zero): private mappings become anonymous, shared ones a new object.
    Anonymous,
}

/// An open file, as far as memory mapping is concerned. The layer above implements it for its files.
///
/// Called with the areas' lock held unless said otherwise: implementations take spin locks only.
pub trait VmFile: Send + Sync {
    /// Where pages come from; ENODEV for files that cannot be mapped. Called without locks.
    fn map_source(&self) -> Result<MapSource>;

    /// Opened for reading.
    fn readable(&self) -> bool;

    /// Opened for writing.
    fn writable(&self) -> bool;

    /// The inode is append-only: shared writable mappings are refused.
    fn append_only(&self) -> bool {
        false
    }

    /// Stores through shared mappings reach the file. Where they do not, a file that is open for writing is not mapped
    /// shared: EINVAL.
    fn shares_stores(&self) -> bool {
        true
    }

    /// On a file system mounted noexec.
    fn no_exec(&self) -> bool {
        false
    }

    /// Major and minor number of the file system's device.
    fn device(&self) -> (u32, u32);

    fn inode_number(&self) -> u64;

    /// The path as /proc/PID/maps shows it, " (deleted)" included.
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// fsync of the bytes `start..end`, for msync(MS_SYNC). Called without locks; may sleep.
    fn sync_range(&self, _start: u64, _end: u64) -> Result<()> {
        Ok(())
    }

    /// Whether the kernel swaps to it, so that nobody may store to it.
    fn is_swap_file(&self) -> bool {
        false
    }

    /// The open file's read-ahead state; `None`: faults read single pages.
    fn readahead(&self) -> Option<&Readahead> {
        None
    }

    /// Frees the bytes `start..start + len` (fallocate's punch hole), for madvise(MADV_REMOVE). Called
    /// without locks; may sleep.
    fn punch_hole(&self, _start: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether the caller may learn by mincore(2) which pages are cached (owner or writer of the file).
    fn may_see_residency(&self) -> bool {
        true
    }

    /// It is mapped at one more place: by mmap, or by fork. Called with the areas' lock held.
    fn mapped(&self) {}

    /// It is mapped at one place less. Process context; no spin lock is held.
    fn unmapped(&self) {}

    /// The file itself, for `/proc/PID/exe` and `/proc/PID/map_files`.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}
