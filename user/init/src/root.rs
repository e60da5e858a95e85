//! The root file system on a disk.
//!
//! Problem: a kernel mounts what `root=` names only when its initramfs has no first process, and a kernel whose disk and
//! file-system drivers are modules cannot do it at all: it is the initramfs that must.
//!
//! Interface: [`switch`], called while the initramfs is still the root.
//!
//! Idea: as switch_root(8): the disk is mounted, moved over the initramfs, and becomes this process's root. We stay the
//! first process unless `init=` names another. The words `root=`, `rootfstype=`, `rootflags=`, `ro`, `rw` and `init=` mean
//! what they mean to Linux.

use core::ffi::CStr;

use alloc::ffi::CString;
use alloc::vec::Vec;

use rt::process::{self, Reboot, Strings};
use rt::{Errno, Result, eprintln, fs, nr, time};

use crate::shutdown;

/// How long a disk may take to appear: drivers look for theirs while programs run already.
const PATIENCE_NS: u64 = 10_000_000_000;
const STEP_NS: u64 = 20_000_000;
const MOUNT_POINT: &CStr = c"/new-root";
/// Kernel modules to load first, a path a line, each after what it needs: for kernels that boot with them.
const MODULES: &CStr = c"/.ochre/modules";

/// The words of the command line that concern the root.
struct Wanted {
    device: CString,
    kind: CString,
    flags: u32,
    data: CString,
    init: Option<CString>,
}

/// Makes the disk that `root=` names the root, if it names one. A disk that cannot be mounted ends the machine: there is
/// nothing else to run.
pub fn switch() {
    let _ = fs::mkdir(c"/proc", 0o755); // mostly there already
    if fs::mount(c"proc", c"/proc", c"proc", 0, c"").is_err() {
        return;
    }
    let wanted = wanted(&fs::read_file(c"/proc/cmdline").unwrap_or_default());
    let _ = fs::umount(c"/proc", 0);
    let Some(wanted) = wanted else { return };
    if let Err(e) = try_switch(&wanted) {
        eprintln!("init: cannot mount root {:?}: {e}", wanted.device);
        shutdown::shut_down(Reboot::PowerOff);
    }
    if let Some(init) = &wanted.init {
        become_init(init);
    }
}

fn wanted(line: &[u8]) -> Option<Wanted> {
    let words = || line.split(u8::is_ascii_whitespace);
    let value = |name: &[u8]| words().filter_map(|word| word.strip_prefix(name)).next_back();
    let string = |value: &[u8]| CString::new(value).ok();
    let writable = words().filter(|word| matches!(*word, b"ro" | b"rw")).next_back() == Some(b"rw");
    Some(Wanted {
        device: string(value(b"root=")?)?,
        kind: string(value(b"rootfstype=").unwrap_or(b"ext4"))?,
        flags: if writable { 0 } else { nr::MS_RDONLY },
        data: string(value(b"rootflags=").unwrap_or_default())?,
        init: value(b"init=").and_then(string),
    })
}

fn try_switch(wanted: &Wanted) -> Result<()> {
    let _ = fs::mkdir(c"/dev", 0o755); // mostly there already
    let _ = fs::mkdir(MOUNT_POINT, 0o755);
    fs::mount(c"devtmpfs", c"/dev", c"devtmpfs", nr::MS_NOSUID, c"mode=0755")?;
    load_modules();
    wait_for(&wanted.device);
    fs::mount(&wanted.device, MOUNT_POINT, &wanted.kind, wanted.flags, &wanted.data)?;
    fs::umount(c"/dev", 0)?;
    fs::chdir(MOUNT_POINT)?;
    fs::mount(c".", c"/", c"", nr::MS_MOVE, c"")?;
    fs::chroot(c".")?;
    fs::chdir(c"/")
}

fn wait_for(device: &CStr) {
    let mut waited_ns = 0;
    while fs::stat(device).is_err() && waited_ns < PATIENCE_NS {
        time::sleep_ns(STEP_NS);
        waited_ns += STEP_NS;
    }
}

fn load_modules() {
    let list = fs::read_file(MODULES).unwrap_or_default();
    for path in list.split(|&b| b == b'\n').filter(|path| !path.is_empty()) {
        let Ok(path) = CString::new(path) else { continue };
        match fs::load_module(&path) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => eprintln!("init: cannot load {path:?}: {e}"),
        }
    }
}

/// Returns, with a message, when the program cannot be started.
fn become_init(init: &CStr) {
    let env: Vec<&CStr> = Vec::from([c"HOME=/", c"TERM=linux"]);
    let error = process::execve(init, &Strings::new([init]), &Strings::new(env));
    eprintln!("init: {init:?}: {error}");
}
