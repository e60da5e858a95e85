//! The root file system from a disk: `root=`, `rootfstype=`, `rootflags=`, `ro` and `rw`, as Linux takes them.
//!
//! It is used when the initramfs has no program to begin with. The disk's root is mounted over the first one, which stays
//! below it, empty or not; and devtmpfs on its /dev, so that there is a console.

use abi::fs::MS_RDONLY;
use abi::{Errno, errno::Result};
use alloc::string::ToString;
use cmdline::CommandLine;
use klog::{pr_info, pr_warn};
use vfs::{Caller, Cred, FsContext, Look, Path, Start, resolve};

/// Where the first process starts: `first`, or the root of the disk that the command line names. A disk that is named and
/// cannot be mounted is the end, as on Linux.
pub fn choose(line: &CommandLine, first: Path) -> Path {
    let Some(spec) = line.value("root").filter(|_| !exists(&first, line.value("rdinit").unwrap_or("/init")))
    else {
        return first;
    };
    match mount(line, spec, &first) {
        Ok(root) => root,
        Err(error) => panic!("VFS: Unable to mount root fs on {spec}: {error}"),
    }
}

fn exists(root: &Path, name: &str) -> bool {
    let (cred, fs) = (Cred::root(), FsContext::new(root.clone()));
    resolve(&Caller::new(&cred, &fs), Start::Cwd, name.as_bytes(), Look::FOLLOW).is_ok()
}

fn mount(line: &CommandLine, spec: &str, first: &Path) -> Result<Path> {
    if !matches!(line.value("rootfstype").unwrap_or("ext4"), "ext4" | "ext3" | "ext2") {
        return Err(Errno::ENODEV);
    }
    // Linux mounts it for reading unless it is told otherwise.
    let flags = if line.has("rw") { 0 } else { MS_RDONLY };
    let device = block::open(spec)?;
    let name = device.name().to_string();
    let root = ext4::mount_root(device, flags, line.value("rootflags").unwrap_or("").as_bytes())?;
    let root = vfs::mount::mount_at(root, flags, first.clone())?;
    pr_info!(
        "VFS: Mounted root (ext4 filesystem){} on device {name}.",
        if flags == 0 { "" } else { " readonly" }
    );
    if let Err(error) = mount_devices(&root) {
        pr_warn!("devtmpfs: error mounting {error}");
    }
    Ok(root)
}

fn mount_devices(root: &Path) -> Result<()> {
    let (cred, fs) = (Cred::root(), FsContext::new(root.clone()));
    let caller = Caller::new(&cred, &fs);
    let target = resolve(&caller, Start::Cwd, b"/dev", Look::FOLLOW)?;
    let devices = vfs::find_filesystem(b"devtmpfs")?.mount(b"devtmpfs", 0, b"", &caller)?;
    vfs::mount::mount_at(devices, 0, target).map(drop)
}
