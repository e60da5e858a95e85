//! A disk in memory, empty volumes of every kind, a walk over all of one, and dosfstools as a judge.

#![allow(dead_code)]

use abi::{Errno, errno::Result};
use fat_core::{Disk, Fs, Kind, ROOT};
use std::cell::RefCell;

/// Bytes in memory.
pub struct Ram(pub RefCell<Vec<u8>>);

impl Disk for &Ram {
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let bytes = self.0.borrow();
        let at = usize::try_from(at).map_err(|_| Errno::EIO)?;
        let end = at.checked_add(out.len()).filter(|end| *end <= bytes.len()).ok_or(Errno::EIO)?;
        out.copy_from_slice(&bytes[at..end]);
        Ok(())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Result<()> {
        let mut bytes = self.0.borrow_mut();
        let at = usize::try_from(at).map_err(|_| Errno::EIO)?;
        let end = at.checked_add(from.len()).filter(|end| *end <= bytes.len()).ok_or(Errno::EIO)?;
        bytes[at..end].copy_from_slice(from);
        Ok(())
    }
}

/// Numbers from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

/// An empty volume with clusters of `per_cluster` sectors of 512 bytes.
pub fn format(kind: Kind, clusters: u32, per_cluster: u8) -> Ram {
    let wide = kind == Kind::Fat32;
    let table_sectors = (u64::from(clusters + 2) * u64::from(kind.bits())).div_ceil(8 * 512) as u32;
    let (reserved, root_entries) = if wide { (32u32, 0u32) } else { (1, 512) };
    let data = reserved + 2 * table_sectors + root_entries * 32 / 512;
    let total = data + clusters * u32::from(per_cluster);
    let mut bytes = vec![0u8; total as usize * 512];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &[0xeb, 0x3c, 0x90]);
    put(3, b"OCHRE   ");
    put(11, &512u16.to_le_bytes());
    put(13, &[per_cluster]);
    put(14, &(reserved as u16).to_le_bytes());
    put(16, &[2]);
    put(17, &(root_entries as u16).to_le_bytes());
    put(21, &[0xf8]);
    put(24, &[63, 0, 255, 0]);
    put(32, &total.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    if wide {
        put(36, &table_sectors.to_le_bytes());
        put(44, &2u32.to_le_bytes());
        put(48, &[1, 0, 6, 0]);
        put(64, &[0x80, 0, 0x29, 1, 2, 3, 4]);
        put(71, b"NO NAME    FAT32   ");
        for info in [512, 7 * 512] {
            put(info, &0x4161_5252u32.to_le_bytes());
            put(info + 484, &0x6141_7272u32.to_le_bytes());
            put(info + 488, &(clusters - 1).to_le_bytes());
            put(info + 492, &2u32.to_le_bytes());
            put(info + 508, &0xaa55_0000u32.to_le_bytes());
        }
    } else {
        put(22, &(table_sectors as u16).to_le_bytes());
        put(36, &[0x80, 0, 0x29, 1, 2, 3, 4]);
        put(43, b"NO NAME    ");
    }
    for copy in 0..2 {
        let at = ((reserved + copy * table_sectors) * 512) as usize;
        match kind {
            Kind::Fat12 => put(at, &[0xf8, 0xff, 0xff]),
            Kind::Fat16 => put(at, &[0xf8, 0xff, 0xff, 0xff]),
            Kind::Fat32 => {
                put(at, &[0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xf8, 0xff, 0xff, 0x0f]);
            }
        }
    }
    if wide {
        let boot = bytes[..512].to_vec();
        bytes[6 * 512..7 * 512].copy_from_slice(&boot);
    }
    Ram(RefCell::new(bytes))
}

/// Names, numbers and kinds of a directory's entries, read in pieces of `step`.
pub fn list(fs: &mut Fs<&Ram>, dir: u64, step: usize) -> Result<Vec<(Vec<u8>, u64, bool)>> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let mut left = step;
        let mut more = Vec::new();
        let end = fs.read_dir(dir, offset, &mut |entry| {
            let room = left > 0;
            if room {
                left -= 1;
                more.push((entry.name.to_vec(), entry.ino, entry.is_dir));
            }
            room
        })?;
        all.append(&mut more);
        if left > 0 || end == offset {
            return Ok(all);
        }
        offset = end;
    }
}

/// Bytes of a file.
pub fn contents(fs: &mut Fs<&Ram>, ino: u64) -> Result<Vec<u8>> {
    let size = fs.stat(ino)?.size as usize;
    let bits = fs.geometry().cluster_bits;
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        let Some((place, count)) = fs.map(ino, (at >> bits) as u32, 8)? else { break };
        let end = size.min(at + ((count as usize) << bits));
        fs.disk().read(place, &mut bytes[at..end])?;
        at = end;
    }
    Ok(bytes)
}

/// Replaces a file's bytes.
pub fn write(fs: &mut Fs<&Ram>, ino: u64, bytes: &[u8], now: i64) -> Result<()> {
    if fs.reserve(ino, bytes.len() as u64)? < bytes.len() as u64 {
        let size = fs.stat(ino)?.size;
        fs.resize(ino, size, None)?;
        return Err(Errno::ENOSPC);
    }
    let bits = fs.geometry().cluster_bits;
    let mut at = 0;
    while at < bytes.len() {
        let (place, count) = fs.map(ino, (at >> bits) as u32, 3)?.expect("reserved");
        let end = bytes.len().min(at + ((count as usize) << bits));
        fs.disk().write(place, &bytes[at..end])?;
        at = end;
    }
    fs.resize(ino, bytes.len() as u64, Some(now))
}

/// Everything below a directory, as paths with contents; how many entries were met at most.
pub fn walk(fs: &mut Fs<&Ram>, budget: &mut usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let (mut all, mut waiting) = (Vec::new(), vec![(ROOT, Vec::new())]);
    while let Some((dir, path)) = waiting.pop() {
        for (name, _, is_dir) in list(fs, dir, 7).unwrap_or_default() {
            if *budget == 0 {
                return all;
            }
            *budget -= 1;
            let full = [&path[..], b"/", &name[..]].concat();
            let Ok(Some(ino)) = fs.lookup(dir, &name) else { continue };
            if is_dir {
                all.push((full.clone(), None));
                waiting.push((ino, full));
            } else {
                all.push((full, contents(fs, ino).ok()));
            }
        }
    }
    all.sort();
    all
}

/// What fsck.fat finds wrong with the volume; nothing, with a word about it, where dosfstools are not installed.
pub fn fsck(ram: &Ram, name: &str) -> Option<String> {
    let file = std::env::temp_dir().join(format!("ochre-fat-{name}-{}.img", std::process::id()));
    std::fs::write(&file, &*ram.0.borrow()).expect("room for an image");
    let tool = ["/usr/sbin/fsck.fat", "/sbin/fsck.fat", "fsck.fat"]
        .into_iter()
        .find(|path| !path.starts_with('/') || std::path::Path::new(path).exists());
    let out = std::process::Command::new(tool.unwrap_or("fsck.fat")).args(["-n", "-v"]).arg(&file).output();
    let _ = std::fs::remove_file(&file);
    match out {
        Ok(out) if out.status.success() => None,
        Ok(out) => Some(String::from_utf8_lossy(&out.stdout).into_owned()),
        Err(error) => {
            eprintln!("not judged: fsck.fat: {error} (Debian: apt-get install dosfstools)");
            None
        }
    }
}
