//! tmpfs(5): a file system in memory, with a limit; and rootfs, the same without one.
//!
//! Everything but the mount options is the crate `shmem`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::fs::MS_RDONLY;
use abi::stat::TMPFS_MAGIC;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use shmem::{Options, Shmem};
use vfs::{Caller, Dentry, FsType, mount_options, register_filesystem};

struct Tmpfs;

impl FsType for Tmpfs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
        let mut options = defaults();
        options.uid = caller.cred.fsuid;
        options.gid = caller.cred.fsgid;
        for (key, value) in mount_options(data) {
            apply(&mut options, key, value)?;
        }
        let limits = (defaults().max_pages, defaults().max_inodes);
        Shmem::new_root("tmpfs", TMPFS_MAGIC, source, flags & MS_RDONLY != 0, options, limits, remount)
    }
}

/// Half of the memory, and an inode for every page of it, as on Linux.
fn defaults() -> Options {
    let pages = mem::stats().total_pages as u64;
    Options { max_pages: pages / 2, max_inodes: pages / 2, mode: 0o1777, uid: 0, gid: 0 }
}

/// Makes tmpfs mountable. At boot.
pub fn init() -> Result<()> {
    register_filesystem(&Tmpfs)
}

/// The root file system that the initramfs is unpacked into.
pub fn rootfs() -> Result<Arc<Dentry>> {
    let options = Options { max_pages: 0, max_inodes: 0, mode: 0o755, uid: 0, gid: 0 };
    Shmem::new_root("rootfs", TMPFS_MAGIC, b"rootfs", false, options, (0, 0), remount)
}

fn apply(options: &mut Options, key: &[u8], value: Option<&[u8]>) -> Result<()> {
    let value = value.ok_or(Errno::EINVAL)?;
    match key {
        b"size" => options.max_pages = size(value)?.div_ceil(arch::PAGE_SIZE as u64),
        b"nr_blocks" => options.max_pages = scaled(value)?,
        b"nr_inodes" => options.max_inodes = scaled(value)?,
        b"mode" => options.mode = octal(value)? & 0o7777,
        b"uid" => options.uid = decimal(value)?,
        b"gid" => options.gid = decimal(value)?,
        // Placement on NUMA nodes and huge pages: there is one node, and one size of page.
        b"mpol" | b"huge" => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

fn remount(data: &[u8]) -> Result<(Option<u64>, Option<u64>)> {
    let (mut pages, mut inodes) = (None, None);
    for (key, value) in mount_options(data) {
        let mut options = defaults();
        apply(&mut options, key, value)?;
        match key {
            b"size" | b"nr_blocks" => pages = Some(options.max_pages),
            b"nr_inodes" => inodes = Some(options.max_inodes),
            _ => {}
        }
    }
    Ok((pages, inodes))
}

/// A number with k, m or g, or a percentage of memory.
fn size(value: &[u8]) -> Result<u64> {
    let Some(percent) = value.strip_suffix(b"%") else { return scaled(value) };
    let memory = mem::stats().total_pages as u64 * arch::PAGE_SIZE as u64;
    Ok(memory / 100 * u64::from(decimal(percent)?))
}

fn scaled(value: &[u8]) -> Result<u64> {
    let (digits, shift) = match value.split_last() {
        Some((b'k' | b'K', rest)) => (rest, 10),
        Some((b'm' | b'M', rest)) => (rest, 20),
        Some((b'g' | b'G', rest)) => (rest, 30),
        _ => (value, 0),
    };
    let number = number(digits, 10)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

fn number(digits: &[u8], radix: u32) -> Result<u64> {
    let text = core::str::from_utf8(digits).map_err(|_| Errno::EINVAL)?;
    u64::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

fn decimal(digits: &[u8]) -> Result<u32> {
    u32::try_from(number(digits, 10)?).map_err(|_| Errno::EINVAL)
}

fn octal(digits: &[u8]) -> Result<u32> {
    u32::try_from(number(digits, 8)?).map_err(|_| Errno::EINVAL)
}
