//! root, current directory and umask: what threads share with CLONE_FS.

use crate::cred::Cred;
use crate::path::Path;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels;

/// Where a process stands in the tree.
pub struct FsContext {
    places: SpinLock<Places, levels::FsContext>,
    umask: AtomicU32,
}

#[derive(Clone)]
struct Places {
    root: Path,
    cwd: Path,
}

impl FsContext {
    /// A context with root and current directory at `root`, umask 022.
    pub fn new(root: Path) -> Arc<FsContext> {
        let places = Places { cwd: root.clone(), root };
        Arc::new(FsContext { places: SpinLock::new(places), umask: AtomicU32::new(0o022) })
    }

    /// A copy for a child (fork without CLONE_FS).
    pub fn duplicate(&self) -> Arc<FsContext> {
        let places = self.places.lock().clone();
        Arc::new(FsContext { places: SpinLock::new(places), umask: AtomicU32::new(self.umask()) })
    }

    pub fn root(&self) -> Path {
        self.places.lock().root.clone()
    }

    pub fn cwd(&self) -> Path {
        self.places.lock().cwd.clone()
    }

    pub fn set_root(&self, path: Path) {
        let old = core::mem::replace(&mut self.places.lock().root, path);
        drop(old);
    }

    pub fn set_cwd(&self, path: Path) {
        let old = core::mem::replace(&mut self.places.lock().cwd, path);
        drop(old);
    }

    pub fn umask(&self) -> u32 {
        self.umask.load(Relaxed)
    }

    /// Sets the umask; the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Relaxed)
    }

    /// pivot_root(2): whoever stands at `old` stands at `new`.
    pub fn replace_places(&self, old: &Path, new: &Path) {
        let mut places = self.places.lock();
        let mut dropped = (None, None);
        if places.root.same(old) {
            dropped.0 = Some(core::mem::replace(&mut places.root, new.clone()));
        }
        if places.cwd.same(old) {
            dropped.1 = Some(core::mem::replace(&mut places.cwd, new.clone()));
        }
        drop(places);
    }
}

/// Who asks for a file operation: handed down to everything that checks rights or starts a walk.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub cred: &'a Arc<Cred>,
    pub fs: &'a FsContext,
    /// The number of the thread that asks, for what /proc shows of oneself; 0: the kernel itself.
    pub tid: u32,
}

impl<'a> Caller<'a> {
    /// The kernel itself, acting as `cred`.
    pub fn new(cred: &'a Arc<Cred>, fs: &'a FsContext) -> Caller<'a> {
        Caller { cred, fs, tid: 0 }
    }

    /// A thread.
    pub fn thread(cred: &'a Arc<Cred>, fs: &'a FsContext, tid: u32) -> Caller<'a> {
        Caller { cred, fs, tid }
    }

    /// Whether the caller has the capability (`CAP_*`).
    #[inline]
    pub fn capable(&self, capability: u32) -> bool {
        self.cred.capable(capability)
    }
}
