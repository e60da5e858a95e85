//! From mount(2)'s options to a mounted overlay.

use crate::layers::{Layer, Overlay, Parts, Real};
use crate::node::{Found, Node};
use crate::options;
use abi::fs::MS_RDONLY;
use abi::stat::{OVERLAYFS_SUPER_MAGIC, Statfs};
use abi::{Errno, errno::Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::{self, Write};
use vfs::namei::New;
use vfs::{Caller, Dentry, Look, Mount, NewSuper, Path, Start, SuperBlock, SuperOps, resolve};

fn directory(caller: &Caller, path: &[u8]) -> Result<Path> {
    resolve(caller, Start::Cwd, path, Look::FOLLOW | Look::DIRECTORY)
}

fn layer(path: &Path, known: &[Layer]) -> Layer {
    let sb = &path.inode().sb;
    let same = known.iter().find(|layer| Arc::ptr_eq(&layer.root.inode().sb, sb));
    let next = known.iter().map(|layer| layer.fs + 1).max().unwrap_or(0);
    // Upper and work directory are in one mount: what is prepared is renamed from one to the other.
    let mount = Mount::new(path.mount.root.clone(), path.mount.flags());
    Layer { mount, root: path.dentry.clone(), fs: same.map_or(next, |layer| layer.fs) }
}

/// Linux's FILESYSTEM_MAX_STACK_DEPTH: an overlay of overlays is the deepest that there is. More would not fit a kernel
/// stack.
const DEEPEST: u32 = 2;

/// Mounts. EINVAL: options that do not go together, upper and work directory not beside each other, or layers that are
/// overlays of overlays.
pub(crate) fn mount(source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
    let options = options::parse(data)?;
    let mut layers = Vec::new();
    let mut work = None;
    if let (Some(upper), Some(place)) = (&options.upper, &options.work) {
        let (upper, place) = (directory(caller, upper)?, directory(caller, place)?);
        let apart = !upper.dentry.is_within(&place.dentry) && !place.dentry.is_within(&upper.dentry);
        if !Arc::ptr_eq(&upper.mount, &place.mount) || !apart {
            return Err(Errno::EINVAL);
        }
        upper.mount.check_writable()?;
        layers.push(layer(&upper, &layers));
        work = Some(place);
    }
    for path in &options.lower {
        let path = directory(caller, path)?;
        layers.push(layer(&path, &layers));
    }
    if layers.iter().any(|layer| layer.root.inode().sb.ops.stack_depth() >= DEEPEST) {
        return Err(Errno::EINVAL);
    }
    let parts = Parts {
        layers,
        work: None,
        user_xattr: options.user_xattr,
        volatile: options.volatile,
        shown: shown(&options),
    };
    let mut overlay = Overlay::new(parts, caller);
    if let Some(place) = work {
        overlay.prepare_work(&place)?;
    }
    let read_only = flags & MS_RDONLY != 0 || !overlay.upper;
    root(Arc::new(overlay), source, read_only)
}

/// The superblock and the root: all layers' roots on top of each other.
fn root(overlay: Arc<Overlay>, source: &[u8], read_only: bool) -> Result<Arc<Dentry>> {
    let new = NewSuper {
        fs_name: "overlay",
        source: String::from_utf8_lossy(source).into_owned(),
        magic: OVERLAYFS_SUPER_MAGIC,
        read_only,
        ops: Box::new(Super(overlay.clone())),
    };
    let sb = new.build();
    let _ = overlay.sb.set(Arc::downgrade(&sb));
    let real = |(number, layer): (usize, &Layer)| Real { layer: number, dentry: layer.root.clone() };
    let mut reals = overlay.layers.iter().enumerate().map(real);
    let upper = if overlay.upper { reals.next() } else { None };
    let found = Found { upper: upper.map(|real| real.dentry), lowers: reals.collect() };
    let inode = Node::inode(&overlay, found, None)?;
    Ok(Dentry::root(b"/", inode))
}

fn shown(options: &options::Options) -> String {
    let mut out = String::new();
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let lower: Vec<String> = options.lower.iter().map(|path| text(path)).collect();
    // Writing to a String does not fail.
    let _ = write!(out, ",lowerdir={}", lower.join(":"));
    if let (Some(upper), Some(work)) = (&options.upper, &options.work) {
        let _ = write!(out, ",upperdir={},workdir={}", text(upper), text(work));
    }
    if options.user_xattr {
        out.push_str(",userxattr");
    }
    if options.volatile {
        out.push_str(",volatile");
    }
    out
}

impl Overlay {
    /// Makes the directory `work` in the work directory, empty: an earlier mount may have left something in it.
    fn prepare_work(&mut self, place: &Path) -> Result<()> {
        const NAME: &[u8] = b"work";
        let place = Path::new(self.layers[0].mount.clone(), place.dentry.clone());
        let dir = Real { layer: 0, dentry: place.dentry.clone() };
        if let Some(old) = self.child(&dir, NAME)? {
            self.remove_tree(&place, NAME, &old, 0)?;
        }
        let work = self.make(&place, NAME, New::Directory { mode: 0 }, None)?;
        // What is prepared there gets its lists from where it goes to.
        for list in [vfs::acl::DEFAULT, vfs::acl::ACCESS] {
            match self.set_xattr(work.inode(), list, None, 0) {
                Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
                result => result?,
            }
        }
        self.work = Some(work);
        self.upper = true;
        Ok(())
    }

    /// Removes what an earlier mount left. As deep as that goes: what is prepared are single directories.
    fn remove_tree(&self, dir: &Path, name: &[u8], real: &Real, depth: u32) -> Result<()> {
        if !real.inode().is_dir() {
            return self.unlink(dir, name);
        }
        const LEVELS: u32 = 2;
        if depth < LEVELS {
            let path = Path::new(dir.mount.clone(), real.dentry.clone());
            for entry in crate::listing::read_at(self, &path)? {
                if let Some(inner) = self.child(real, &entry.name)? {
                    self.remove_tree(&path, &entry.name, &inner, depth + 1)?;
                }
            }
        }
        self.rmdir(dir, name)
    }
}

/// The file layer's view of it.
struct Super(Arc<Overlay>);

impl Super {
    /// The file system whose room and state are the overlay's.
    fn topmost(&self) -> &Arc<SuperBlock> {
        &self.0.layers[0].root.inode().sb
    }
}

impl SuperOps for Super {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn statfs(&self, _sb: &SuperBlock, out: &mut Statfs) -> Result<()> {
        let of = self.topmost().statfs()?;
        *out = Statfs { f_type: out.f_type, f_fsid: out.f_fsid, f_flags: out.f_flags, ..of };
        Ok(())
    }

    fn remount(&self, _sb: &SuperBlock, flags: u64, _data: &[u8]) -> Result<()> {
        if flags & MS_RDONLY == 0 && !self.0.upper { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(&self.0.shown)
    }

    fn sync(&self, _sb: &SuperBlock, wait: bool) -> Result<()> {
        if !self.0.upper || self.0.volatile {
            return Ok(());
        }
        let _layers = task::stacked();
        let sb = self.topmost();
        sb.ops.sync(sb, wait)
    }

    fn stack_depth(&self) -> u32 {
        let below = self.0.layers.iter().map(|layer| layer.root.inode().sb.ops.stack_depth());
        1 + below.max().unwrap_or(0)
    }
}
