//! A place in the tree: a dentry, and the mount through which it was reached.

use crate::dentry::Dentry;
use crate::inode::InodeRef;
use crate::mount::Mount;
use alloc::sync::Arc;
use alloc::vec::Vec;
use pathname::Name;

/// Where a path leads.
#[derive(Clone)]
pub struct Path {
    // Dropped first: the last mount's end forgets dentries that nobody uses.
    pub dentry: Arc<Dentry>,
    pub mount: Arc<Mount>,
}

impl Path {
    pub fn new(mount: Arc<Mount>, dentry: Arc<Dentry>) -> Path {
        Path { mount, dentry }
    }

    #[inline]
    pub fn inode(&self) -> &InodeRef {
        self.dentry.inode()
    }

    /// Whether both are the same dentry through the same mount.
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, &self.mount.root)
    }

    /// One step up: the parent directory, or the directory a mount lies on; `None` at the very top.
    pub fn up(&self) -> Option<Path> {
        if self.is_mount_root() {
            let mut on = self.mount.mountpoint()?;
            while on.is_mount_root() {
                on = on.mount.mountpoint()?;
            }
            return Some(Path { dentry: on.dentry.parent()?, mount: on.mount });
        }
        Some(Path { mount: self.mount.clone(), dentry: self.dentry.parent()? })
    }

    /// The components from `root` (or from the top) down to here; the flag says whether `root` was met.
    fn components(&self, root: Option<&Path>) -> (Vec<Name>, bool) {
        let mut names = Vec::new();
        let mut at = self.clone();
        loop {
            if root.is_some_and(|root| root.same(&at)) {
                return (names, true);
            }
            if at.is_mount_root() {
                match at.mount.mountpoint() {
                    Some(on) => at = on,
                    None => return (names, false),
                }
                continue;
            }
            let (parent, name) = at.dentry.parent_and_name();
            match parent {
                Some(parent) => {
                    names.push(name);
                    at.dentry = parent;
                }
                None => return (names, false),
            }
        }
    }

    /// The absolute path as seen from `root`, without " (deleted)"; false when it is not below `root`.
    pub fn text(&self, root: Option<&Path>) -> (Vec<u8>, bool) {
        let (names, reached) = self.components(root);
        let mut out = Vec::new();
        for name in names.iter().rev() {
            out.push(b'/');
            out.extend_from_slice(name);
        }
        if out.is_empty() {
            out.push(b'/');
        }
        (out, reached)
    }

    /// The path for /proc links: pseudo files by their own name ("pipe:\[7\]"), removed ones with
    /// " (deleted)".
    pub fn to_bytes(&self, root: &Path) -> Vec<u8> {
        if self.is_pseudo() {
            return self.dentry.name().to_vec();
        }
        let (mut out, _) = self.text(Some(root));
        if self.dentry.is_unlinked() {
            out.extend_from_slice(b" (deleted)");
        }
        out
    }

    /// Whether it names a kernel object that is in no tree.
    pub fn is_pseudo(&self) -> bool {
        self.inode().flags.contains(crate::inode::InodeFlags::PSEUDO)
    }
}
