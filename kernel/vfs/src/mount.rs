//! The tree of mounts.
//!
//! ```text
//!   Mount "/"   root dentry of the rootfs
//!     children: dentry "proc" -> Mount of procfs
//!               dentry "mnt"  -> Mount of a tmpfs --> its children
//! ```
//!
//! A walk that comes to a dentry with mounts on it asks its mount for the child there, and goes on at the
//! child's root; `..` at a mount's root goes back. Changes are serialised by one sleeping lock, walks take
//! only the spin lock of the one mount they cross. Mounts are private: nothing propagates.
//!
//! References count: the parent's table of children holds one, every path through the mount another. A
//! mount that only its parent holds is not busy.

use crate::dcache;
use crate::dentry::Dentry;
use crate::notify;
use crate::path::Path;
use crate::poll::Changes;
use crate::superblock::{SuperBlock, find_filesystem};
use crate::{Caller, text};
use abi::cap::CAP_SYS_ADMIN;
use abi::fs::*;
use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use sync::levels::{self, MountTree};
use sync::{Once, SpinLock};
use task::Mutex;

bitflags! {
    /// Properties of one mount.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountFlags: u32 {
        const RDONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
        const NOATIME = 16;
        const NODIRATIME = 32;
        const STRICTATIME = 64;
        const NOSYMFOLLOW = 128;
        const UNBINDABLE = 256;
    }
}

impl MountFlags {
    /// From mount(2)'s flags. Without a word about access times it is relatime.
    pub fn from_ms(ms: u64) -> MountFlags {
        const PAIRS: [(u64, MountFlags); 8] = [
            (MS_RDONLY, MountFlags::RDONLY),
            (MS_NOSUID, MountFlags::NOSUID),
            (MS_NODEV, MountFlags::NODEV),
            (MS_NOEXEC, MountFlags::NOEXEC),
            (MS_NOATIME, MountFlags::NOATIME),
            (MS_NODIRATIME, MountFlags::NODIRATIME),
            (MS_STRICTATIME, MountFlags::STRICTATIME),
            (MS_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
        ];
        let mut flags = MountFlags::empty();
        for (bit, flag) in PAIRS {
            flags.set(flag, ms & bit != 0);
        }
        flags
    }

    /// `f_flags` of statfs(2).
    pub fn to_statfs(self) -> i64 {
        let mut out = ST_VALID;
        for (flag, bit) in [
            (MountFlags::RDONLY, ST_RDONLY),
            (MountFlags::NOSUID, ST_NOSUID),
            (MountFlags::NODEV, ST_NODEV),
            (MountFlags::NOEXEC, ST_NOEXEC),
            (MountFlags::NOATIME, ST_NOATIME),
            (MountFlags::NODIRATIME, ST_NODIRATIME),
        ] {
            out |= if self.contains(flag) { bit } else { 0 };
        }
        let relatime = !self.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME);
        out | if relatime { ST_RELATIME } else { 0 }
    }

    /// `general`: what stands behind the first word.
    fn show(self, general: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(if self.contains(MountFlags::RDONLY) { "ro" } else { "rw" })?;
        out.write_str(general)?;
        for (flag, name) in [
            (MountFlags::NOSUID, ",nosuid"),
            (MountFlags::NODEV, ",nodev"),
            (MountFlags::NOEXEC, ",noexec"),
            (MountFlags::NOATIME, ",noatime"),
            (MountFlags::NODIRATIME, ",nodiratime"),
            (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
        ] {
            if self.contains(flag) {
                out.write_str(name)?;
            }
        }
        let relatime = !self.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME);
        if relatime { out.write_str(",relatime") } else { Ok(()) }
    }
}

/// A file system at a place of the tree.
pub struct Mount {
    /// As in /proc/PID/mountinfo.
    pub id: u64,
    /// The dentry that shows at the mount point: the file system's root, or any directory or file (bind).
    pub root: Arc<Dentry>,
    flags: AtomicU32,
    /// Files open for writing through it.
    writers: AtomicU32,
    /// MNT_EXPIRE marked it; any use clears it.
    expiring: AtomicBool,
    links: SpinLock<Links, levels::SuperBlock>,
}

struct Links {
    /// Where it is mounted; `None`: the root of a tree, or taken out of it.
    on: Option<(Weak<Mount>, Arc<Dentry>)>,
    /// By the address of the dentry they are mounted on.
    children: BTreeMap<usize, Arc<Mount>>,
}

static TREE: Mutex<(), MountTree> = Mutex::new(());
static ROOT: Once<Arc<Mount>> = Once::new();
/// The tree or the flags of a mount changed: for who polls /proc/PID/mounts.
pub static CHANGES: Changes = Changes::new();

fn key(dentry: &Arc<Dentry>) -> usize {
    Arc::as_ptr(dentry) as usize
}

impl Mount {
    /// A mount that is nowhere yet.
    pub fn new(root: Arc<Dentry>, flags: MountFlags) -> Arc<Mount> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        root.inode().sb.mounts.fetch_add(1, Relaxed);
        Arc::new(Mount {
            id: NEXT.fetch_add(1, Relaxed),
            root,
            flags: AtomicU32::new(flags.bits()),
            writers: AtomicU32::new(0),
            expiring: AtomicBool::new(false),
            links: SpinLock::new(Links { on: None, children: BTreeMap::new() }),
        })
    }

    pub fn sb(&self) -> &Arc<SuperBlock> {
        &self.root.inode().sb
    }

    #[inline]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Relaxed))
    }

    /// Whether nothing may be written through it.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY) || self.sb().is_read_only()
    }

    /// EROFS unless writing is allowed.
    pub fn check_writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// A file is opened for writing: keeps the mount from becoming read-only.
    pub(crate) fn begin_write(&self) -> Result<()> {
        self.check_writable()?;
        self.writers.fetch_add(1, Relaxed);
        Ok(())
    }

    pub(crate) fn end_write(&self) {
        self.writers.fetch_sub(1, Relaxed);
    }

    /// The place it is mounted on; `None` for a root of a tree.
    pub fn mountpoint(&self) -> Option<Path> {
        let links = self.links.lock();
        let (mount, dentry) = links.on.as_ref()?;
        Some(Path { mount: mount.upgrade()?, dentry: dentry.clone() })
    }

    /// The mount on `dentry`, seen through this one.
    pub(crate) fn child_at(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.links.lock().children.get(&key(dentry)).cloned()
    }

    fn children(&self) -> Vec<Arc<Mount>> {
        let mut children: Vec<_> = self.links.lock().children.values().cloned().collect();
        children.sort_by_key(|mount| mount.id);
        children
    }

    fn attach(self: &Arc<Mount>, on: &Path) {
        self.links.lock().on = Some((Arc::downgrade(&on.mount), on.dentry.clone()));
        on.dentry.add_mount();
        on.mount.links.lock().children.insert(key(&on.dentry), self.clone());
        CHANGES.announce();
    }

    /// Takes it out of its parent.
    fn detach(&self) {
        let Some((parent, dentry)) = self.links.lock().on.take() else { return };
        dentry.remove_mount();
        let held = parent.upgrade().and_then(|parent| parent.links.lock().children.remove(&key(&dentry)));
        drop(held);
        CHANGES.announce();
    }

    /// It and all mounts below, parents first.
    pub fn subtree(self: &Arc<Mount>) -> Vec<Arc<Mount>> {
        let mut all = Vec::from([self.clone()]);
        let mut at = 0;
        while at < all.len() {
            let children = all[at].children();
            all.extend(children);
            at += 1;
        }
        all
    }

    fn is_below(self: &Arc<Mount>, other: &Arc<Mount>) -> bool {
        let mut at = Some(self.clone());
        while let Some(mount) = at {
            if Arc::ptr_eq(&mount, other) {
                return true;
            }
            at = mount.mountpoint().map(|on| on.mount);
        }
        false
    }
}

impl Drop for Mount {
    /// With the last mount of a file system goes what is cached of it. After a lazy umount(2) that is when the last
    /// user leaves.
    fn drop(&mut self) {
        // A tree that was never attached goes with what is mounted in it, however deep: by a list, the stack is short.
        let mut pending: Vec<Arc<Mount>> =
            core::mem::take(&mut self.links.lock().children).into_values().collect();
        while let Some(child) = pending.pop() {
            if let Some((_, dentry)) = child.links.lock().on.take() {
                dentry.remove_mount();
            }
            // Somebody may still stand in it; else it goes here, without children.
            if let Some(child) = Arc::into_inner(child) {
                pending.extend(core::mem::take(&mut child.links.lock().children).into_values());
            }
        }
        let sb = self.root.inode().sb.clone();
        if sb.mounts.fetch_sub(1, Relaxed) == 1 && !sync::preempt::in_atomic() {
            notify::unmounted(&sb);
            dcache::prune_super(&sb);
        }
    }
}

/// Follows mounts on top of `path` down to the uppermost root.
#[inline]
pub(crate) fn follow_down(path: &mut Path) -> bool {
    let mut crossed = false;
    while path.dentry.is_mountpoint() {
        let Some(child) = path.mount.child_at(&path.dentry) else { break };
        path.dentry = child.root.clone();
        path.mount = child;
        crossed = true;
    }
    crossed
}

/// Makes `root` the root of the one tree. Once, at boot.
pub fn set_root(root: Arc<Dentry>) -> Result<Path> {
    let mount = Mount::new(root.clone(), MountFlags::empty());
    ROOT.set(mount.clone()).map_err(|_| Errno::EBUSY)?;
    Ok(Path { mount, dentry: root })
}

/// The root of the tree.
pub fn root() -> Option<Path> {
    ROOT.get().map(|mount| Path { mount: mount.clone(), dentry: mount.root.clone() })
}

/// Mounts a file system on a place of the tree without asking for rights: the kernel's own mounts at boot. Its root.
pub fn mount_at(root: Arc<Dentry>, flags: u64, target: Path) -> Result<Path> {
    let mount = Mount::new(root.clone(), MountFlags::from_ms(flags));
    let _tree = TREE.lock();
    add(mount.clone(), target)?;
    Ok(Path { mount, dentry: root })
}

/// A mount that is in no tree: for kernel objects, and the kernel's own use of a file system.
pub fn kernel_mount(root: Arc<Dentry>) -> Arc<Mount> {
    Mount::new(root, MountFlags::empty())
}

/// mount(2), all of it. `source`, `fs_name` and `data` are what the program gave, `target` is resolved.
pub fn mount(
    caller: &Caller,
    source: &[u8],
    target: Path,
    fs_name: &[u8],
    flags: u64,
    data: &[u8],
) -> Result<()> {
    if !caller.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let flags = if flags & MS_MGC_MSK == MS_MGC_VAL { flags & !MS_MGC_MSK } else { flags };
    const PROPAGATION: u64 = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
    if flags & (MS_REMOUNT | MS_BIND) == MS_REMOUNT | MS_BIND {
        return remount_bind(&target, flags);
    }
    if flags & MS_REMOUNT != 0 {
        return remount(&target, flags, data);
    }
    if flags & MS_BIND != 0 {
        return bind(caller, source, &target, flags & MS_REC != 0);
    }
    if flags & PROPAGATION != 0 {
        return set_propagation(&target, flags);
    }
    if flags & MS_MOVE != 0 {
        return move_mount(caller, source, &target);
    }
    let fs = find_filesystem(fs_name)?;
    let root = make_instance(fs, source, flags, data, caller)?;
    let _tree = TREE.lock();
    add(Mount::new(root, MountFlags::from_ms(flags)), target)
}

/// Makes or finds an instance of a file system and gives its root. One that is mounted keeps its flags.
pub(crate) fn make_instance(
    fs: &dyn crate::FsType,
    source: &[u8],
    flags: u64,
    data: &[u8],
    caller: &Caller,
) -> Result<Arc<Dentry>> {
    let root = fs.mount(source, flags, data, caller)?;
    let sb = &root.inode().sb;
    if sb.mounts.load(Relaxed) == 0 {
        sb.set_synchronous(flags);
    }
    Ok(root)
}

/// Puts a new mount on a place; on top of what is there.
fn add(mount: Arc<Mount>, mut target: Path) -> Result<()> {
    follow_down(&mut target);
    if target.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    if target.inode().is_dir() != mount.root.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let same = Arc::ptr_eq(target.mount.sb(), mount.sb()) && Arc::ptr_eq(&target.mount.root, &mount.root);
    if same && target.is_mount_root() {
        // The same thing again on top of itself.
        return Err(Errno::EBUSY);
    }
    mount.attach(&target);
    Ok(())
}

fn source_path(caller: &Caller, source: &[u8]) -> Result<Path> {
    crate::walk::resolve(caller, crate::walk::Start::Cwd, source, crate::walk::Look::FOLLOW)
}

/// MS_BIND: a second view of a directory or file; with `recursive`, of the mounts below too.
fn bind(caller: &Caller, source: &[u8], target: &Path, recursive: bool) -> Result<()> {
    let from = source_path(caller, source)?;
    let _tree = TREE.lock();
    add(copied(&from, recursive)?, target.clone())
}

/// A copy of the mount from this place on, with all below if `recursive`, in no tree. The tree's lock is held.
fn copied(from: &Path, recursive: bool) -> Result<Arc<Mount>> {
    if from.mount.flags().contains(MountFlags::UNBINDABLE) {
        return Err(Errno::EINVAL);
    }
    let top = Mount::new(from.dentry.clone(), from.mount.flags());
    if recursive {
        copy_children(from, &top);
    }
    Ok(top)
}

/// Copies the mounts below a place to the same places of `to`. By a list and not by calls: mounts may stand in each
/// other as deep as one likes, and the stack is short.
fn copy_children(from: &Path, to: &Arc<Mount>) {
    let mut pairs = alloc::vec![(from.mount.clone(), to.clone())];
    while let Some((from_mount, to)) = pairs.pop() {
        let is_top = Arc::ptr_eq(&from_mount, &from.mount);
        for child in from_mount.children() {
            let Some(on) = child.mountpoint() else { continue };
            let outside = is_top && !on.dentry.is_within(&from.dentry);
            if outside || child.flags().contains(MountFlags::UNBINDABLE) {
                continue;
            }
            let copy = Mount::new(child.root.clone(), child.flags());
            copy.attach(&Path::new(to.clone(), on.dentry));
            pairs.push((child, copy));
        }
    }
}

fn mount_root(target: &Path) -> Result<&Arc<Mount>> {
    if target.is_mount_root() { Ok(&target.mount) } else { Err(Errno::EINVAL) }
}

/// New properties of one mount only.
fn remount_bind(target: &Path, flags: u64) -> Result<()> {
    let mount = mount_root(target)?;
    let _tree = TREE.lock();
    set_mount_flags(mount, flags)
}

fn set_mount_flags(mount: &Mount, flags: u64) -> Result<()> {
    let new = MountFlags::from_ms(flags) | (mount.flags() & MountFlags::UNBINDABLE);
    if new.contains(MountFlags::RDONLY) && mount.writers.load(Relaxed) > 0 {
        return Err(Errno::EBUSY);
    }
    mount.flags.store(new.bits(), Relaxed);
    CHANGES.announce();
    Ok(())
}

/// New options of the file system and of this mount.
fn remount(target: &Path, flags: u64, data: &[u8]) -> Result<()> {
    let mount = mount_root(target)?;
    let _tree = TREE.lock();
    let sb = mount.sb();
    if flags & MS_RDONLY != 0 && mount.writers.load(Relaxed) > 0 {
        return Err(Errno::EBUSY);
    }
    sb.ops.remount(sb, flags, data)?;
    sb.set_read_only(flags & MS_RDONLY != 0);
    // Linux's MS_RMT_MASK: dirsync stays as it was.
    sb.set_synchronous(flags & MS_SYNCHRONOUS | sb.synchronous() & MS_DIRSYNC);
    set_mount_flags(mount, flags)
}

/// New options of a file system, through no mount in particular: fsconfig(2).
pub(crate) fn reconfigure(sb: &Arc<SuperBlock>, flags: u64, data: &[u8]) -> Result<()> {
    let _tree = TREE.lock();
    let writes = |mount: &Arc<Mount>| Arc::ptr_eq(mount.sb(), sb) && mount.writers.load(Relaxed) > 0;
    let in_tree = root().map_or(Vec::new(), |root| root.mount.subtree());
    if flags & MS_RDONLY != 0 && !sb.is_read_only() && in_tree.iter().any(writes) {
        return Err(Errno::EBUSY);
    }
    sb.ops.remount(sb, flags, data)?;
    sb.set_read_only(flags & MS_RDONLY != 0);
    sb.set_synchronous(flags);
    CHANGES.announce();
    Ok(())
}

/// A copy of the mount from this place on, with all below if `recursive`, in no tree.
pub(crate) fn copy_tree(from: &Path, recursive: bool) -> Result<Arc<Mount>> {
    let _tree = TREE.lock();
    copied(from, recursive)
}

/// Puts a mount on a place: a detached one, or one of the tree, with all below it.
pub(crate) fn move_to(from: &Path, target: &Path) -> Result<()> {
    let mount = mount_root(from)?;
    let _tree = TREE.lock();
    let is_tree_root = ROOT.get().is_some_and(|root| Arc::ptr_eq(root, mount));
    if is_tree_root || target.inode().is_dir() != mount.root.inode().is_dir() {
        return Err(Errno::EINVAL);
    }
    if target.mount.is_below(mount) {
        return Err(Errno::ELOOP);
    }
    let mut target = target.clone();
    follow_down(&mut target);
    if target.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    mount.detach();
    mount.attach(&target);
    Ok(())
}

/// Sets and clears flags of the mount at a place, or of all below too: all or, if one is written to, none.
pub(crate) fn change_flags(place: &Path, recursive: bool, set: MountFlags, clear: MountFlags) -> Result<()> {
    let mount = mount_root(place)?;
    let _tree = TREE.lock();
    let all = if recursive { mount.subtree() } else { Vec::from([mount.clone()]) };
    let busy =
        |mount: &Arc<Mount>| !mount.flags().contains(MountFlags::RDONLY) && mount.writers.load(Relaxed) > 0;
    if set.contains(MountFlags::RDONLY) && all.iter().any(busy) {
        return Err(Errno::EBUSY);
    }
    for mount in all {
        let new = mount.flags().difference(clear) | set;
        mount.flags.store(new.bits(), Relaxed);
    }
    CHANGES.announce();
    Ok(())
}

/// Private and slave are what every mount is; sharing is not there, and says so.
fn set_propagation(target: &Path, flags: u64) -> Result<()> {
    let kinds = flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE);
    if kinds & MS_SHARED != 0 || !kinds.is_power_of_two() {
        return Err(Errno::EINVAL);
    }
    let mount = mount_root(target)?;
    let _tree = TREE.lock();
    let all = if flags & MS_REC != 0 { mount.subtree() } else { Vec::from([mount.clone()]) };
    for mount in all {
        let mut new = mount.flags();
        new.set(MountFlags::UNBINDABLE, kinds == MS_UNBINDABLE);
        mount.flags.store(new.bits(), Relaxed);
    }
    Ok(())
}

/// MS_MOVE: takes a mount with all below it to another place.
fn move_mount(caller: &Caller, source: &[u8], target: &Path) -> Result<()> {
    let from = source_path(caller, source)?;
    let mount = mount_root(&from)?;
    let _tree = TREE.lock();
    if mount.mountpoint().is_none() {
        return Err(Errno::EINVAL);
    }
    if target.inode().is_dir() != mount.root.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if target.mount.is_below(mount) {
        return Err(Errno::ELOOP);
    }
    let mut target = target.clone();
    follow_down(&mut target);
    mount.detach();
    mount.attach(&target);
    Ok(())
}

/// umount2(2). `target` is the place as resolved, at the mount's root.
pub fn unmount(caller: &Caller, target: Path, flags: u32) -> Result<()> {
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MNT_EXPIRE != 0 && flags & (MNT_FORCE | MNT_DETACH) != 0 {
        return Err(Errno::EINVAL);
    }
    if !caller.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if !target.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let mount = target.mount.clone();
    drop(target);
    let _tree = TREE.lock();
    if mount.mountpoint().is_none() {
        // The root of the tree, or a kernel mount.
        return Err(Errno::EINVAL);
    }
    let below = mount.subtree();
    if flags & MNT_DETACH == 0 {
        // One reference of the parent, one of ours, one of the list of the subtree.
        let busy = below.len() > 1 || Arc::strong_count(&mount) > 3;
        if busy {
            mount.expiring.store(false, Relaxed);
            return Err(Errno::EBUSY);
        }
        if flags & MNT_EXPIRE != 0 && !mount.expiring.swap(true, Relaxed) {
            return Err(Errno::EAGAIN);
        }
    }
    for mount in below.iter().rev() {
        mount.detach();
    }
    drop(below);
    // What is dirty is written before its last mount is dropped.
    let sb = mount.sb().clone();
    sb.ops.sync(&sb, true)
}

/// pivot_root(2): `new_root` becomes the root, the old root is put at `put_old`. Whoever stands at the
/// old root is moved by the caller ([`crate::FsContext::replace_places`]); returns (old, new).
pub fn pivot_root(caller: &Caller, new_root: Path, put_old: Path) -> Result<(Path, Path)> {
    if !caller.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let root = caller.fs.root();
    if !new_root.inode().is_dir() || !put_old.inode().is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let _tree = TREE.lock();
    let new_mount = new_root.mount.clone();
    if Arc::ptr_eq(&new_mount, &root.mount) || Arc::ptr_eq(&put_old.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    let movable = new_root.is_mount_root() && root.is_mount_root() && new_mount.mountpoint().is_some();
    // The first root cannot move: nothing lies above it. Programs then use MS_MOVE and chroot instead.
    let Some(root_on) = root.mount.mountpoint().filter(|_| movable) else { return Err(Errno::EINVAL) };
    let put_old_below = put_old.same(&new_root) || put_old.mount.is_below(&new_mount);
    if !put_old_below || !new_mount.is_below(&root.mount) {
        return Err(Errno::EINVAL);
    }
    new_mount.detach();
    root.mount.detach();
    let mut put_old = put_old;
    if !put_old.same(&new_root) {
        follow_down(&mut put_old);
    }
    root.mount.attach(&put_old);
    new_mount.attach(&root_on);
    Ok((root, new_root))
}

/// sync(2): all dirty pages, then every mounted file system.
pub fn sync_all() {
    vm::writeback::sync_all();
    for mount in root().map_or(Vec::new(), |root| root.mount.subtree()) {
        let sb = mount.sb();
        // sync(2) has no way to tell of an error.
        let _ = sb.ops.sync(sb, true);
    }
}

/// The mounts below `root` that a process with this root sees, with their mount points.
pub(crate) fn visible(root: &Path) -> Vec<(Arc<Mount>, Vec<u8>)> {
    let mut all = root.mount.subtree();
    all.sort_by_key(|mount| mount.id);
    let place = |mount: Arc<Mount>| {
        if Arc::ptr_eq(&mount, &root.mount) {
            return Some((mount, b"/".to_vec()));
        }
        let (text, reached) = Path::new(mount.clone(), mount.root.clone()).text(Some(root));
        reached.then_some((mount, text))
    };
    all.into_iter().filter_map(place).collect()
}

fn shown_source(sb: &SuperBlock) -> &str {
    if sb.source.is_empty() { "none" } else { &sb.source }
}

pub(crate) fn super_options(sb: &SuperBlock) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = sb.ops.show_options(sb, &mut out);
    out
}

/// The options of every kind of file system.
fn general_options(sb: &SuperBlock) -> &'static str {
    let has = |flag| sb.synchronous() & flag != 0;
    match (has(MS_SYNCHRONOUS), has(MS_DIRSYNC)) {
        (true, true) => ",sync,dirsync",
        (true, false) => ",sync",
        (false, true) => ",dirsync",
        (false, false) => "",
    }
}

/// The text of /proc/PID/mounts for a process with this root.
pub fn show_mounts(root: &Path, out: &mut dyn fmt::Write) -> fmt::Result {
    for (mount, place) in visible(root) {
        let sb = mount.sb();
        text::write_escaped(out, shown_source(sb).as_bytes(), b" \t\n#")?;
        out.write_char(' ')?;
        text::write_escaped(out, &place, b" \t\n#")?;
        write!(out, " {} ", sb.fs_name)?;
        let mut flags = mount.flags();
        flags.set(MountFlags::RDONLY, mount.is_read_only());
        flags.show(general_options(sb), out)?;
        writeln!(out, "{} 0 0", super_options(sb))?;
    }
    Ok(())
}

/// The text of /proc/PID/mountstats.
pub fn show_mountstats(root: &Path, out: &mut dyn fmt::Write) -> fmt::Result {
    for (mount, place) in visible(root) {
        let sb = mount.sb();
        out.write_str("device ")?;
        text::write_escaped(out, shown_source(sb).as_bytes(), b" \t\n#")?;
        out.write_str(" mounted on ")?;
        text::write_escaped(out, &place, b" \t\n#")?;
        writeln!(out, " with fstype {}", sb.fs_name)?;
    }
    Ok(())
}

/// The text of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
pub fn show_mountinfo(root: &Path, out: &mut dyn fmt::Write) -> fmt::Result {
    for (mount, place) in visible(root) {
        let sb = mount.sb();
        let parent = mount.mountpoint().map_or(mount.id, |on| on.mount.id);
        write!(out, "{} {} {}:{} ", mount.id, parent, sb.dev.major, sb.dev.minor)?;
        let inside = Path::new(kernel_view(&mount), mount.root.clone()).text(None).0;
        text::write_escaped(out, &inside, b" \t\n#")?;
        out.write_char(' ')?;
        text::write_escaped(out, &place, b" \t\n#")?;
        out.write_char(' ')?;
        mount.flags().show("", out)?;
        if mount.flags().contains(MountFlags::UNBINDABLE) {
            out.write_str(" unbindable")?;
        }
        write!(out, " - {} ", sb.fs_name)?;
        text::write_escaped(out, shown_source(sb).as_bytes(), b" \t\n#")?;
        let access = if sb.is_read_only() { "ro" } else { "rw" };
        writeln!(out, " {access}{}{}", general_options(sb), super_options(sb))?;
    }
    Ok(())
}

/// A mount of the whole file system, in no tree: paths through it are those inside the file system.
pub(crate) fn kernel_view(mount: &Arc<Mount>) -> Arc<Mount> {
    let mut top = mount.root.clone();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    Mount::new(top, MountFlags::empty())
}
