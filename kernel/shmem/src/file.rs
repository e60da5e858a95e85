//! Open files and directories in memory; memfd_create(2) and its seals.

use crate::node::{Kind, Node, build, new_content};
use crate::space::Space;
use abi::fcntl::*;
use abi::stat::{S_IFREG, TMPFS_MAGIC};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use sync::Once;
use vfs::{
    Cred, DirSink, File, FileOps, FileTraits, InodeFlags, IoBuf, NewInode, NewSuper, OpsRef, PlainSuper,
    SuperBlock, cached, emit_dots,
};
use vm::{MapSource, Mapping};

/// All regular files.
pub(crate) struct RegularFile;

fn node(file: &File) -> Result<&Node> {
    file.inode().ops_as::<Node>().ok_or(Errno::EINVAL)
}

impl FileOps for RegularFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        // There is no medium: what the cache has is all there is.
        FileTraits::REGULAR | FileTraits::DIRECT
    }

    /// The pages of a file without a name.
    fn held_bytes(&self, file: &File) -> u64 {
        let mapping = node(file).and_then(|node| node.mapping());
        match mapping {
            Ok(mapping) if file.inode().nlink() == 0 => mapping.held_pages() * arch::PAGE_SIZE as u64,
            _ => 0,
        }
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        cached::read(file, node(file)?.mapping()?, pos, buf)
    }

    fn write(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let node = node(file)?;
        let mapping = node.mapping()?;
        let seals = node.seals.load(Ordering::Relaxed);
        if seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_GROW) != 0 {
            check_write_seals(seals, file, *pos, buf)?;
        }
        cached::write(file, mapping, pos, buf)
    }

    fn map_source(&self, file: &File) -> Result<MapSource> {
        Ok(MapSource::Cache(node(file)?.mapping()?.clone()))
    }

    fn mapping(&self, file: &File) -> Option<Arc<Mapping>> {
        node(file).ok()?.mapping().ok().cloned()
    }

    fn fsync(&self, _file: &File, _start: u64, _end: u64, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        if mode & !(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let inode = file.inode();
        let node = node(file)?;
        let mapping = node.mapping()?;
        let end = offset.checked_add(len).filter(|end| *end <= inode.sb.max_bytes).ok_or(Errno::EFBIG)?;
        let _contents = inode.contents.write();
        let seals = node.seals.load(Ordering::Relaxed);
        if mode & FALLOC_FL_PUNCH_HOLE != 0 {
            if mode & FALLOC_FL_KEEP_SIZE == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            mapping.punch_hole(offset, end);
        } else {
            let grows = mode & FALLOC_FL_KEEP_SIZE == 0 && end > inode.size();
            if grows && seals & F_SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            check_room(inode.ops_as::<Node>(), mapping, offset, end)?;
            mapping.allocate(offset, end)?;
            if grows {
                mapping.truncate(end);
                inode.set_size(end);
            }
        }
        inode.touch_modified();
        Ok(())
    }
}

/// Refuses at once what the instance can never hold, rather than after filling it.
fn check_room(node: Option<&Node>, mapping: &Mapping, offset: u64, end: u64) -> Result<()> {
    let Some(node) = node else { return Ok(()) };
    let (limit, used) = node.space().pages();
    let wanted = (end - offset).div_ceil(arch::PAGE_SIZE as u64);
    let held = mapping.held_pages();
    if limit != 0 && wanted > limit - used.min(limit) + held { Err(Errno::ENOSPC) } else { Ok(()) }
}

fn check_write_seals(seals: u32, file: &File, pos: u64, buf: &mut IoBuf) -> Result<()> {
    if seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
        return Err(Errno::EPERM);
    }
    // Linux looks page by page: what fits in whole pages is written, a page that would grow the file is not.
    let size = file.inode().size();
    let start = if buf.append { size } else { pos };
    let end = start.saturating_add(buf.remaining() as u64);
    if end <= size {
        return Ok(());
    }
    let whole = size / arch::PAGE_SIZE as u64 * arch::PAGE_SIZE as u64;
    match whole.checked_sub(start) {
        None | Some(0) if buf.remaining() > 0 => Err(Errno::EPERM),
        room => {
            buf.truncate(usize::try_from(room.unwrap_or(0)).unwrap_or(usize::MAX));
            Ok(())
        }
    }
}

/// All directories.
pub(crate) struct DirFile;

impl FileOps for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        let Kind::Directory(entries) = &node(file)?.kind else { return Err(Errno::ENOTDIR) };
        if emit_dots(file, pos, sink) {
            entries.lock().list(pos, sink);
        }
        Ok(())
    }

    fn fsync(&self, _file: &File, _start: u64, _end: u64, _data_only: bool) -> Result<()> {
        Ok(())
    }
}

/// The instance behind memfd files: no limit, no mount.
static ANONYMOUS: Once<(Arc<SuperBlock>, Arc<Space>)> = Once::new();

fn anonymous() -> &'static (Arc<SuperBlock>, Arc<Space>) {
    if ANONYMOUS.get().is_none() {
        let ops = Box::new(PlainSuper);
        let new =
            NewSuper { fs_name: "tmpfs", source: String::new(), magic: TMPFS_MAGIC, read_only: false, ops };
        let _ = ANONYMOUS.set((new.build(), Arc::new(Space::new(0, 0))));
    }
    ANONYMOUS.get_expect()
}

/// memfd_create(2): a file in memory without a name in any directory. `flags`: `MFD_*`, checked.
pub fn memfd(name: &[u8], flags: u32, cred: &Cred) -> Result<Arc<File>> {
    let (sb, space) = anonymous();
    let executable = flags & MFD_NOEXEC_SEAL == 0;
    let mut new = NewInode::new(sb.next_ino(), S_IFREG | if executable { 0o777 } else { 0o666 });
    (new.uid, new.gid, new.nlink) = (cred.fsuid, cred.fsgid, 0);
    new.flags = InodeFlags::PSEUDO;
    let inode = build(sb, space, new, new_content(space))?;
    if let Some(node) = inode.ops_as::<Node>() {
        let sealable = flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL) != 0;
        let mut seals = if sealable { 0 } else { F_SEAL_SEAL };
        if !executable {
            seals |= F_SEAL_EXEC;
        }
        node.seals.store(seals, Ordering::Relaxed);
    }
    let mut shown = b"/memfd:".to_vec();
    shown.extend_from_slice(name);
    shown.extend_from_slice(b" (deleted)");
    Ok(vfs::open::pseudo_file(&shown, inode, OpsRef::Static(&RegularFile), O_RDWR | O_LARGEFILE))
}

/// fcntl(F_GET_SEALS). EINVAL for files that cannot be sealed.
pub fn seals(file: &File) -> Result<u32> {
    let node = node(file)?;
    node.mapping()?;
    Ok(node.seals.load(Ordering::Relaxed))
}

/// fcntl(F_ADD_SEALS).
pub fn add_seals(file: &File, new: u32) -> Result<()> {
    const KNOWN: u32 =
        F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
    if !file.mode().contains(vfs::FileMode::WRITE) {
        return Err(Errno::EPERM);
    }
    if new & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let node = node(file)?;
    let mapping = node.mapping()?;
    let _contents = file.inode().contents.write();
    let seals = node.seals.load(Ordering::Relaxed);
    if seals & F_SEAL_SEAL != 0 {
        return Err(Errno::EPERM);
    }
    if new & F_SEAL_WRITE != 0 && seals & F_SEAL_WRITE == 0 {
        mapping.deny_writable()?;
    }
    node.seals.store(seals | new, Ordering::Relaxed);
    Ok(())
}
