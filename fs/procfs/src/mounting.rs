//! The file system type and its options: `hidepid=`, `gid=`, `subset=` (proc(5), "Mount options").

use crate::root::Root;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use kcore::access::{self, Ids};
use kcore::{Pid, Subject};
use vfs::{Caller, Cred, Dentry, FsType, SuperBlock, SuperOps, mount_options};

const PROC_SUPER_MAGIC: u32 = 0x9fa0;

pub static PROCFS: ProcFs = ProcFs;

pub struct ProcFs;

/// The options of one mount.
#[derive(Default)]
pub struct Options {
    hide: AtomicU32,
    gid: AtomicU32,
    pids_only: AtomicBool,
}

/// How much others see of a process they may not look into: 0 all, 1 not its files, 2 not even its name.
const HIDE_NAMES: [(&[u8], u32); 6] =
    [(b"0", 0), (b"off", 0), (b"1", 1), (b"noaccess", 1), (b"2", 2), (b"invisible", 2)];
/// In listings.
pub const HIDE_NAME: u32 = 2;
/// For everything else.
pub const HIDE_FILES: u32 = 1;

impl Options {
    /// EINVAL for what is not known; what is not named stays.
    fn parse(&self, data: &[u8]) -> Result<()> {
        let (mut hide, mut gid) = (self.hide.load(Relaxed), self.gid.load(Relaxed));
        let mut pids_only = self.pids_only.load(Relaxed);
        for (name, value) in mount_options(data) {
            let value = value.ok_or(Errno::EINVAL)?;
            match name {
                b"hidepid" => {
                    let known = HIDE_NAMES.iter().find(|(name, _)| *name == value);
                    hide = known.ok_or(Errno::EINVAL)?.1;
                }
                b"gid" => {
                    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
                    gid = text.parse().map_err(|_| Errno::EINVAL)?;
                }
                b"subset" => {
                    // A list, which has commas only when it comes by fsconfig(2).
                    let mut values = value.split(|byte| *byte == b',').filter(|word| !word.is_empty());
                    if !values.all(|word| word == b"pid") {
                        return Err(Errno::EINVAL);
                    }
                    pids_only = true;
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        self.hide.store(hide, Relaxed);
        self.gid.store(gid, Relaxed);
        self.pids_only.store(pids_only, Relaxed);
        Ok(())
    }

    /// Whether the asker sees this much of a process.
    pub fn shows(&self, level: u32, subject: &Subject, cred: &Cred, tid: Pid) -> bool {
        let hidden = self.hide.load(Relaxed) >= level;
        !hidden
            || cred.in_group(self.gid.load(Relaxed))
            || access::check(cred, tid, subject, Ids::FileSystem).is_ok()
    }

    /// Whether processes are all that is shown (subset=pid).
    pub fn is_pids_only(&self) -> bool {
        self.pids_only.load(Relaxed)
    }

    /// Whether not even the name of a hidden process is shown: it answers ENOENT then, else EPERM.
    pub fn hides_names(&self) -> bool {
        self.hide.load(Relaxed) >= HIDE_NAME
    }
}

impl FsType for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn mount(&self, source: &[u8], _flags: u64, data: &[u8], _caller: &Caller) -> Result<Arc<Dentry>> {
        let options = Arc::new(Options::default());
        options.parse(data)?;
        let root = Arc::new(Root::new(options.clone()));
        Ok(kernfs::new_root("proc", PROC_SUPER_MAGIC, source, Box::new(Super(options)), root))
    }
}

struct Super(Arc<Options>);

impl SuperOps for Super {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn remount(&self, _sb: &SuperBlock, _flags: u64, data: &[u8]) -> Result<()> {
        self.0.parse(data)
    }

    fn show_options(&self, _sb: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.0.gid.load(Relaxed) {
            0 => {}
            gid => write!(out, ",gid={gid}")?,
        }
        match self.0.hide.load(Relaxed) {
            0 => {}
            1 => out.write_str(",hidepid=noaccess")?,
            _ => out.write_str(",hidepid=invisible")?,
        }
        if self.0.is_pids_only() { out.write_str(",subset=pid") } else { Ok(()) }
    }
}
