//! devpts: the slave ends of pseudo-terminals as files in /dev/pts.
//!
//! A directory that mirrors the table of pseudo-terminals: a name is there as long as its master is
//! open. All mounts show the same. Source: pts(4).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::errno::Result;
use abi::stat::{DevId, S_IFCHR, S_IFDIR};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use tty::devices;
use tty::pty::SLAVE_MAJOR;
use vfs::{
    Caller, Dentry, DirSink, File, FileOps, FsType, InodeFlags, InodeOps, InodeRef, NewInode, NewSuper,
    OpsRef, PlainSuper, emit_dots, register_filesystem,
};

/// `f_type` of statfs(2).
const DEVPTS_SUPER_MAGIC: u32 = 0x1cd1;

struct DevPts;

impl FsType for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, source: &[u8], _flags: u64, _data: &[u8], _caller: &Caller) -> Result<Arc<Dentry>> {
        let sb = NewSuper {
            fs_name: "devpts",
            source: String::from_utf8_lossy(source).into_owned(),
            magic: DEVPTS_SUPER_MAGIC,
            read_only: false,
            ops: Box::new(PlainSuper),
        };
        let sb = sb.build();
        let flags = InodeFlags::NO_NEGATIVE;
        let root = NewInode { flags, ..NewInode::new(1, S_IFDIR | 0o755) }.build(&sb, Root);
        Ok(Dentry::root(b"/", root))
    }
}

/// Makes devpts mountable. At boot.
pub fn init() -> Result<()> {
    register_filesystem(&DevPts)
}

struct Root;

/// The number that a name stands for: decimal, without leading zeros.
fn number_of(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let number: u32 = text.parse().ok()?;
    (format!("{number}") == text).then_some(number)
}

/// Inode numbers as on Linux: the directory is 1, ptmx would be 2.
fn ino_of(number: u32) -> u64 {
    u64::from(number) + 3
}

impl InodeOps for Root {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn lookup(&self, dir: &InodeRef, name: &[u8]) -> Result<Option<InodeRef>> {
        let Some(number) = number_of(name) else { return Ok(None) };
        let Some(pts) = devices::pts(number) else { return Ok(None) };
        let new = NewInode {
            uid: pts.uid,
            gid: pts.gid,
            rdev: DevId::new(SLAVE_MAJOR, number),
            flags: InodeFlags::REVALIDATE,
            ..NewInode::new(ino_of(number), S_IFCHR | 0o620)
        };
        Ok(Some(new.build(&dir.sb, Slave { number })))
    }

    fn open(&self, _inode: &InodeRef, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
        Ok(OpsRef::Static(&OpenRoot))
    }
}

struct OpenRoot;

impl FileOps for OpenRoot {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn iterate(&self, file: &File, pos: &mut u64, sink: &mut DirSink) -> Result<()> {
        if !emit_dots(file, pos, sink) {
            return Ok(());
        }
        while let Some(number) = u32::try_from(*pos - 2).ok().and_then(devices::next_pts) {
            let next = u64::from(number) + 3;
            if !sink.add(format!("{number}").as_bytes(), ino_of(number), S_IFCHR, next) {
                break;
            }
            *pos = next;
        }
        Ok(())
    }
}

struct Slave {
    number: u32,
}

impl InodeOps for Slave {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn revalidate(&self, _inode: &InodeRef, _dir: &InodeRef, _name: &[u8]) -> bool {
        devices::pts(self.number).is_some()
    }
}
