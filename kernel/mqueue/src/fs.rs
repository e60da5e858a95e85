//! The file system `mqueue`: one directory of queues.

use crate::limits::{self, Charge};
use crate::queue::Queue;
use crate::{Capacity, of_file};
use abi::fcntl::{O_ACCMODE, O_CREAT, O_EXCL, O_NONBLOCK};
use abi::poll::PollEvents;
use abi::stat::{S_IFDIR, S_IFREG, S_ISVTX};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Bound;
use kcore::Thread;
use sync::levels::MessageQueues;
use sync::{Once, SpinLock};
use vfs::{
    Caller, Cred, Dentry, DirSink, File, FileOps, FileTraits, FsType, InodeFlags, InodeOps, InodeRef, IoBuf,
    NewInode, NewSuper, OpenHow, OpsRef, Path, PlainSuper, PollTable, Start, emit_dots, register_filesystem,
};

/// `f_type` of statfs(2).
const MQUEUE_MAGIC: u32 = 0x1980_0202;
/// The size that every queue's file shows.
const FILE_BYTES: u64 = 80;
/// What a directory's size counts for each entry.
const ENTRY_BYTES: u64 = 20;

static ROOT: Once<(Arc<Dentry>, Path)> = Once::new();
/// What [`open`] wants a new queue to hold, by thread.
static WANTED: SpinLock<BTreeMap<u32, Capacity>, MessageQueues> = SpinLock::new(BTreeMap::new());

struct Mqueue;

impl FsType for Mqueue {
    fn name(&self) -> &'static str {
        "mqueue"
    }

    /// Every mount shows the same queues.
    fn mount(&self, _source: &[u8], _flags: u64, data: &[u8], _caller: &Caller) -> Result<Arc<Dentry>> {
        if vfs::mount_options(data).next().is_some() {
            return Err(Errno::EINVAL);
        }
        Ok(ROOT.get_expect().0.clone())
    }
}

/// Makes the instance, mountable, and its settings. At boot, once.
pub fn init() -> Result<()> {
    let sb = NewSuper {
        fs_name: "mqueue",
        source: String::from("mqueue"),
        magic: MQUEUE_MAGIC,
        read_only: false,
        ops: Box::new(PlainSuper),
    };
    let sb = sb.build();
    let new = NewInode::new(sb.next_ino(), S_IFDIR | S_ISVTX | 0o777);
    let root = NewInode { flags: InodeFlags::NO_NEGATIVE, ..new };
    let root = Dentry::root(b"/", root.build(&sb, Directory::default()));
    let mount = vfs::mount::kernel_mount(root.clone());
    let _ = ROOT.set((root.clone(), Path::new(mount, root)));
    limits::init();
    register_filesystem(&Mqueue)
}

/// EACCES for what is no name of a queue: one component of a path.
fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        _ if name.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// mq_open(2): `flags` are those of open(2). `capacity` counts for a queue that is made.
pub fn open(
    caller: &Caller,
    name: &[u8],
    flags: u32,
    mode: u32,
    capacity: Option<Capacity>,
) -> Result<Arc<File>> {
    check_name(name)?;
    if flags & O_ACCMODE == O_ACCMODE {
        return Err(Errno::EINVAL);
    }
    let how = OpenHow::lenient(flags & (O_ACCMODE | O_CREAT | O_EXCL | O_NONBLOCK), mode)?;
    let wanted = capacity.filter(|_| flags & O_CREAT != 0);
    if let Some(capacity) = wanted {
        WANTED.lock().insert(caller.tid, capacity);
    }
    let result = vfs::open::open(caller, Start::At(&ROOT.get_expect().1), name, how);
    if wanted.is_some() {
        WANTED.lock().remove(&caller.tid);
    }
    result
}

/// mq_unlink(2). Who has the queue open keeps it.
pub fn unlink(caller: &Caller, name: &[u8]) -> Result<()> {
    check_name(name)?;
    vfs::namei::unlink(caller, Start::At(&ROOT.get_expect().1), name)
}

/// The directory: queues by name, each with a number that listings go on from.
#[derive(Default)]
struct Directory {
    entries: SpinLock<Entries, MessageQueues>,
}

#[derive(Default)]
struct Entries {
    by_name: BTreeMap<Vec<u8>, (u64, InodeRef)>,
    by_number: BTreeMap<u64, Vec<u8>>,
}

impl InodeOps for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn lookup(&self, _dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        Ok(self.entries.lock().by_name.get(name).map(|(_, inode)| inode.clone()))
    }

    fn create(&self, dir: &InodeRef, name: &[u8], mode: u32, cred: &Cred) -> Result<InodeRef> {
        let asked = Thread::with_current(|thread| WANTED.lock().get(&thread.tid()).copied()).flatten();
        let capacity = match asked {
            Some(asked) => limits::check(asked, cred).map(|()| asked)?,
            None => limits::default_capacity(),
        };
        let charge = Charge::new(capacity, cred)?;
        let number = dir.sb.next_ino();
        let new = NewInode { size: FILE_BYTES, ..NewInode::new(number, S_IFREG | mode & 0o7777) };
        let inode: InodeRef = new.owned_in(dir, cred).build(&dir.sb, Queue::new(capacity, charge));
        let mut entries = self.entries.lock();
        entries.by_name.insert(name.into(), (number, inode.clone()));
        entries.by_number.insert(number, name.into());
        drop(entries);
        dir.set_size(dir.size() + ENTRY_BYTES);
        dir.touch_modified();
        Ok(inode)
    }

    fn unlink(&self, dir: &InodeRef, name: &[u8], inode: &InodeRef) -> Result<()> {
        let mut entries = self.entries.lock();
        let gone = entries.by_name.remove(name);
        if let Some((number, _)) = &gone {
            entries.by_number.remove(number);
        }
        drop(entries);
        inode.set_nlink(0);
        dir.set_size(dir.size().saturating_sub(ENTRY_BYTES));
        dir.touch_modified();
        drop(gone);
        Ok(())
    }

    fn open(&self, _inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        Ok(OpsRef::Static(&OpenDirectory))
    }
}

struct OpenDirectory;

impl FileOps for OpenDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        let Some(dir) = file.inode().ops_as::<Directory>() else { return Err(Errno::ENOTDIR) };
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        // Positions are numbers plus two, as the dots come first.
        loop {
            let next = {
                let entries = dir.entries.lock();
                let mut rest = entries.by_number.range((Bound::Included(*pos - 2), Bound::Unbounded));
                rest.next().map(|(number, name)| (*number, name.clone()))
            };
            let Some((number, name)) = next else { return Ok(()) };
            if !sink.add(&name, number, S_IFREG, number + 3) {
                return Ok(());
            }
            *pos = number + 3;
        }
    }
}

impl InodeOps for Queue {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn open(&self, _inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        Ok(OpsRef::Static(&OpenQueue))
    }
}

struct OpenQueue;

impl FileOps for OpenQueue {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::POLLABLE
    }

    fn read(&self, file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = of_file(file)?.show(&mut text);
        buf.put_at(text.as_bytes(), pos)
    }

    fn poll(&self, file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let Ok(queue) = of_file(file) else { return PollEvents::ERR };
        if let Some(table) = table {
            table.add(queue.queue(false));
            table.add(queue.queue(true));
        }
        queue.ready()
    }

    /// A process that closes a descriptor is not told any more.
    fn flush(&self, file: &File) -> Result<()> {
        let queue = of_file(file)?;
        if let Some(pid) = Thread::with_current(|thread| thread.process().pid()) {
            queue.clear_notify(pid);
        }
        Ok(())
    }
}
