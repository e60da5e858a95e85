//! Mounting by steps: fsopen(2), fsconfig(2), fsmount(2), fspick(2), open_tree(2), move_mount(2), mount_setattr(2).
//!
//! **Problem.** mount(2) does all at once: a program cannot hold a file system that is in no tree yet, nor change one
//! property of a mount and leave the others.
//!
//! **Interface.** [`Context`] is what the descriptor of fsopen and fspick stands for. A mount in no tree is an O_PATH file
//! at its root ([`open_detached`]); [`move_to`] puts it somewhere, and when nobody has it any more, it is gone.
//!
//! **Idea.** File systems take all their options at once, as mount(2) gives them. So the context collects them, and one
//! that the file system does not know is refused when it is created, where Linux does that when it is named.

use crate::anon;
use crate::dentry::Dentry;
use crate::file::{File, FileOps, OpsRef};
use crate::fs_context::Caller;
use crate::mount::{self, Mount, MountFlags};
use crate::open::path_only;
use crate::path::Path;
use crate::superblock::{FsType, find_filesystem};
use abi::cap::CAP_SYS_ADMIN;
use abi::fcntl::{O_PATH, O_RDWR};
use abi::fs::{MS_DIRSYNC, MS_LAZYTIME, MS_MANDLOCK, MS_RDONLY, MS_SYNCHRONOUS};
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use sync::SpinLock;
use sync::levels::OpenFile;

/// All options of a context together, as bytes.
const MAX_OPTIONS: usize = 4096;

/// Where a context stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// fsopen: takes options.
    New,
    /// It is being created or changed.
    Busy,
    /// Made, and not mounted yet.
    Made,
    /// Mounted, or picked: takes options for a change.
    Mounted,
    Failed,
}

struct State {
    phase: Phase,
    source: Option<Vec<u8>>,
    /// In mount(2)'s form.
    options: Vec<u8>,
    /// `MS_*` of the file system as a whole.
    flags: u64,
    root: Option<Arc<Dentry>>,
}

/// A file system that is being made or changed.
pub struct Context {
    kind: Option<&'static dyn FsType>,
    state: SpinLock<State, OpenFile>,
}

impl FileOps for Context {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// Reading gives messages about what went wrong: there are none.
    fn read(&self, _file: &File, _pos: &mut u64, _buf: &mut crate::IoBuf) -> Result<usize> {
        Err(Errno::ENODATA)
    }
}

fn check_right(caller: &Caller) -> Result<()> {
    if caller.capable(CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

fn file(kind: Option<&'static dyn FsType>, phase: Phase, root: Option<Arc<Dentry>>, flags: u64) -> Arc<File> {
    let state = State { phase, source: None, options: Vec::new(), flags, root };
    let context = Context { kind, state: SpinLock::new(state) };
    anon::file("[fscontext]", OpsRef::shared(context), O_RDWR)
}

/// fsopen(2). ENODEV, EPERM.
pub fn open(caller: &Caller, fs_name: &[u8]) -> Result<Arc<File>> {
    check_right(caller)?;
    Ok(file(Some(find_filesystem(fs_name)?), Phase::New, None, 0))
}

/// fspick(2): for changing the file system at a mount's root. EINVAL elsewhere.
pub fn pick(caller: &Caller, place: &Path) -> Result<Arc<File>> {
    check_right(caller)?;
    if !place.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let sb = place.mount.sb();
    let flags = sb.synchronous() | if sb.is_read_only() { MS_RDONLY } else { 0 };
    Ok(file(None, Phase::Mounted, Some(place.dentry.clone()), flags))
}

/// The context of a descriptor. EINVAL for another kind of file.
pub fn context_of(file: &File) -> Result<&Context> {
    file.ops_as::<Context>().ok_or(Errno::EINVAL)
}

/// A flag of the file system as a whole, by option: what it sets and clears.
fn general_flag(key: &[u8]) -> Option<(u64, u64)> {
    Some(match key {
        b"ro" => (MS_RDONLY, 0),
        b"rw" => (0, MS_RDONLY),
        b"sync" => (MS_SYNCHRONOUS, 0),
        b"async" => (0, MS_SYNCHRONOUS),
        b"dirsync" => (MS_DIRSYNC, 0),
        b"lazytime" => (MS_LAZYTIME, 0),
        b"nolazytime" => (0, MS_LAZYTIME),
        b"mand" => (MS_MANDLOCK, 0),
        b"nomand" => (0, MS_MANDLOCK),
        _ => return None,
    })
}

impl Context {
    /// FSCONFIG_SET_FLAG (`value` is none) and FSCONFIG_SET_STRING. EBUSY when it is too late for options, EINVAL for
    /// a second source and for what cannot stand in a list.
    pub fn set(&self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::New | Phase::Mounted) {
            return Err(Errno::EBUSY);
        }
        if let Some((set, clear)) = general_flag(key).filter(|_| value.is_none()) {
            state.flags = state.flags & !clear | set;
            return Ok(());
        }
        if key == b"source" {
            let value = value.filter(|_| state.source.is_none()).ok_or(Errno::EINVAL)?;
            state.source = Some(value.into());
            return Ok(());
        }
        let in_list = |bytes: &[u8]| bytes.contains(&b',');
        let value = value.unwrap_or_default();
        let len = key.len() + value.len() + 2;
        if key.is_empty() || in_list(key) || in_list(value) || state.options.len() + len > MAX_OPTIONS {
            return Err(Errno::EINVAL);
        }
        state.options.try_reserve(len).map_err(|_| Errno::ENOMEM)?;
        if !state.options.is_empty() {
            state.options.push(b',');
        }
        state.options.extend_from_slice(key);
        if !value.is_empty() {
            state.options.push(b'=');
            state.options.extend_from_slice(value);
        }
        Ok(())
    }

    /// Takes what was collected, if the context is in this phase (else EBUSY), which it leaves.
    fn begin(&self, phase: Phase) -> Result<(Vec<u8>, Vec<u8>, u64)> {
        let mut state = self.state.lock();
        if state.phase != phase {
            return Err(Errno::EBUSY);
        }
        state.phase = Phase::Busy;
        let source = state.source.take().unwrap_or_default();
        Ok((source, core::mem::take(&mut state.options), state.flags))
    }

    /// FSCONFIG_CMD_CREATE: makes or finds the instance.
    pub fn create(&self, caller: &Caller) -> Result<()> {
        check_right(caller)?;
        let kind = self.kind.ok_or(Errno::EBUSY)?;
        let (source, options, flags) = self.begin(Phase::New)?;
        let result = mount::make_instance(kind, &source, flags, &options, caller);
        let mut state = self.state.lock();
        match result {
            Ok(root) => {
                (state.phase, state.root) = (Phase::Made, Some(root));
                Ok(())
            }
            Err(errno) => {
                state.phase = Phase::Failed;
                Err(errno)
            }
        }
    }

    /// FSCONFIG_CMD_RECONFIGURE: new options of the instance.
    pub fn reconfigure(&self, caller: &Caller) -> Result<()> {
        check_right(caller)?;
        let (_, options, flags) = self.begin(Phase::Mounted)?;
        let root = self.state.lock().root.clone();
        let sb = root.as_ref().ok_or(Errno::EINVAL)?.inode().sb.clone();
        let result = mount::reconfigure(&sb, flags, &options);
        self.state.lock().phase = if result.is_ok() { Phase::Mounted } else { Phase::Failed };
        result
    }

    /// fsmount(2): a mount of the instance, in no tree. EINVAL before it is made, EBUSY when it was mounted.
    pub fn mount(&self, caller: &Caller, flags: MountFlags) -> Result<Arc<File>> {
        check_right(caller)?;
        let mut state = self.state.lock();
        let root = state.root.clone().ok_or(Errno::EINVAL)?;
        if state.phase != Phase::Made {
            return Err(Errno::EBUSY);
        }
        state.phase = Phase::Mounted;
        drop(state);
        let mount = Mount::new(root.clone(), flags);
        Ok(open_detached(mount))
    }
}

/// A descriptor of a mount's root, as O_PATH opens it.
fn open_detached(mount: Arc<Mount>) -> Arc<File> {
    let root = mount.root.clone();
    open_tree(Path::new(mount, root))
}

/// open_tree(2) without OPEN_TREE_CLONE: a place as O_PATH opens it.
pub fn open_tree(place: Path) -> Arc<File> {
    File::new(place, path_only(), O_PATH)
}

/// open_tree(2) with OPEN_TREE_CLONE: a copy of the mount from this place on, in no tree.
pub fn clone_tree(caller: &Caller, place: &Path, recursive: bool) -> Result<Arc<File>> {
    check_right(caller)?;
    mount::copy_tree(place, recursive).map(open_detached)
}

/// move_mount(2): puts a mount, detached or from elsewhere in the tree, on a place. EINVAL for what is no mount's root
/// or cannot go there, ELOOP below itself.
pub fn move_to(caller: &Caller, from: &Path, target: &Path) -> Result<()> {
    check_right(caller)?;
    mount::move_to(from, target)
}

/// mount_setattr(2): sets and clears properties of the mount at a place, or of all below too. `unbindable`: says so, or
/// not. EINVAL when the place is no mount's root; EBUSY when a mount cannot become read-only: then none has changed.
pub fn set_attributes(
    caller: &Caller,
    place: &Path,
    recursive: bool,
    (set, clear): (MountFlags, MountFlags),
    unbindable: Option<bool>,
) -> Result<()> {
    check_right(caller)?;
    let (mut set, mut clear) = (set, clear);
    match unbindable {
        Some(true) => set |= MountFlags::UNBINDABLE,
        Some(false) => clear |= MountFlags::UNBINDABLE,
        None => {}
    }
    mount::change_flags(place, recursive, set, clear)
}
