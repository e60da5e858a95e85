//! Mounts by their numbers: statmount(2) and listmount(2).
//!
//! A mount's number here is one that no other mount ever has: `id`, moved out of the way of the old numbers, which
//! programs know from /proc/PID/mountinfo. Who asks sees what is below its root; one with CAP_SYS_ADMIN sees all.

use crate::Caller;
use crate::mount::{self, Mount, MountFlags, kernel_view, super_options, visible};
use crate::path::Path;
use abi::cap::CAP_SYS_ADMIN;
use abi::fs::*;
use abi::{Errno, errno::Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A mount's number that is never used again (STATX_MNT_ID_UNIQUE).
pub fn unique_id(mount: &Mount) -> u64 {
    MNT_UNIQUE_ID_OFFSET + mount.id
}

/// The mount of a number, and where a process with this root sees it. ENOENT for none; EPERM for one that it does not
/// see.
fn find(caller: &Caller, id: u64) -> Result<(Arc<Mount>, Vec<u8>)> {
    let of = |root: &Path| visible(root).into_iter().find(|(mount, _)| unique_id(mount) == id);
    if let Some(found) = of(&caller.fs.root()) {
        return Ok(found);
    }
    let found = mount::root().and_then(|root| of(&root)).ok_or(Errno::ENOENT)?;
    if caller.capable(CAP_SYS_ADMIN) { Ok(found) } else { Err(Errno::EPERM) }
}

/// listmount(2): the numbers of the mounts below one (or the caller's root: `LSMT_ROOT`), ascending, from behind `after`
/// on.
pub fn list(caller: &Caller, of: u64, after: u64) -> Result<impl Iterator<Item = u64>> {
    let root = caller.fs.root();
    let top = if of == LSMT_ROOT { root.mount.clone() } else { find(caller, of)?.0 };
    let mut below: Vec<u64> = top.subtree().iter().map(|mount| unique_id(mount)).collect();
    below.sort_unstable();
    // In the order of their numbers.
    let seen = visible(&root).into_iter().map(|(mount, _)| unique_id(&mount));
    Ok(seen.filter(move |id| *id != of && *id > after && below.binary_search(id).is_ok()))
}

/// statmount(2): the fixed part, and the strings behind it.
pub fn stat(caller: &Caller, id: u64, asked: u64) -> Result<(StatMount, Vec<u8>)> {
    let (mount, place) = find(caller, id)?;
    let sb = mount.sb();
    let mut out = StatMount::default();
    let mut strings = Strings(Vec::new());
    let wants = |bit| asked & bit != 0;
    if wants(STATMOUNT_SB_BASIC) {
        (out.sb_dev_major, out.sb_dev_minor) = (sb.dev.major, sb.dev.minor);
        out.sb_magic = sb.magic.into();
        out.sb_flags = (sb.synchronous() | if sb.is_read_only() { MS_RDONLY } else { 0 }) as u32;
        out.mask |= STATMOUNT_SB_BASIC;
    }
    if wants(STATMOUNT_MNT_BASIC) {
        let parent = mount.mountpoint().map_or_else(|| mount.clone(), |on| on.mount);
        (out.mnt_id, out.mnt_parent_id) = (id, unique_id(&parent));
        (out.mnt_id_old, out.mnt_parent_id_old) = (mount.id as u32, parent.id as u32);
        out.mnt_attr = attributes(mount.flags());
        // Nothing propagates.
        let unbindable = mount.flags().contains(MountFlags::UNBINDABLE);
        out.mnt_propagation = if unbindable { MS_UNBINDABLE } else { MS_PRIVATE };
        out.mask |= STATMOUNT_MNT_BASIC;
    }
    if wants(STATMOUNT_PROPAGATE_FROM) {
        out.mask |= STATMOUNT_PROPAGATE_FROM;
    }
    if wants(STATMOUNT_FS_TYPE) {
        out.fs_type = strings.add(sb.fs_name.as_bytes());
        out.mask |= STATMOUNT_FS_TYPE;
    }
    if wants(STATMOUNT_MNT_ROOT) {
        let inside = Path::new(kernel_view(&mount), mount.root.clone()).text(None).0;
        out.mnt_root = strings.add(&inside);
        out.mask |= STATMOUNT_MNT_ROOT;
    }
    if wants(STATMOUNT_MNT_POINT) {
        out.mnt_point = strings.add(&place);
        out.mask |= STATMOUNT_MNT_POINT;
    }
    let options: String = if wants(STATMOUNT_MNT_OPTS) { super_options(sb) } else { String::new() };
    // As Linux: none is not told.
    if let Some(options) = options.strip_prefix(',') {
        out.mnt_opts = strings.add(options.as_bytes());
        out.mask |= STATMOUNT_MNT_OPTS;
    }
    out.size = (size_of::<StatMount>() + strings.0.len()) as u32;
    Ok((out, strings.0))
}

/// The strings of an answer, each with a zero at its end.
struct Strings(Vec<u8>);

impl Strings {
    /// Where it begins.
    fn add(&mut self, text: &[u8]) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(text);
        self.0.push(0);
        at
    }
}

/// `MOUNT_ATTR_*`.
fn attributes(flags: MountFlags) -> u64 {
    const PAIRS: [(MountFlags, u64); 8] = [
        (MountFlags::RDONLY, MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MOUNT_ATTR_NOATIME),
        (MountFlags::STRICTATIME, MOUNT_ATTR_STRICTATIME),
        (MountFlags::NODIRATIME, MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
    ];
    PAIRS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, attribute)| attribute).sum()
}
