//! Modules of Debian's Linux kernel: what it needs before it sees a virtio disk with ext4.
//!
//! Idea: each module's `.modinfo` section names the modules that it depends on, so no index of depmod's is needed; what
//! no file is found for is built in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use super::Apt;

/// Where the modules for disks lie in the package, as patterns of tar.
pub(super) const PATTERNS: [&str; 7] = [
    "./usr/lib/modules/*/kernel/drivers/virtio/*",
    "./usr/lib/modules/*/kernel/drivers/block/virtio_blk*",
    "./usr/lib/modules/*/kernel/fs/ext4/*",
    "./usr/lib/modules/*/kernel/fs/jbd2/*",
    "./usr/lib/modules/*/kernel/fs/mbcache*",
    "./usr/lib/modules/*/kernel/lib/*",
    "./usr/lib/modules/*/kernel/crypto/*",
];

/// For a virtio disk with ext4; the last one uses the one before without saying so.
const DISK: [&str; 5] = ["virtio_mmio", "virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

impl Apt {
    /// The modules for a virtio disk with ext4, each behind those that it depends on: name and content.
    pub fn linux_disk_modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        self.linux()?;
        let mut files = BTreeMap::new();
        collect(&self.linux_dir().join("usr/lib/modules"), &mut files)?;
        let mut ordered = Vec::new();
        DISK.iter().try_for_each(|name| add(name, &files, &mut ordered))?;
        if ordered.is_empty() {
            bail!("Debian's kernel package has no modules for disks where they are expected");
        }
        Ok(ordered)
    }
}

/// All modules below `dir` by name; the kernel takes `-` and `_` in names for the same.
fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, ordered: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let Some(file) = files.get(name).filter(|_| !ordered.iter().any(|(known, _)| known == name)) else {
        return Ok(());
    };
    let content = content(file)?;
    for needed in depends(&content)? {
        add(&needed, files, ordered)?;
    }
    ordered.push((name.to_owned(), content));
    Ok(())
}

fn content(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return Ok(fs::read(file)?);
    }
    let output = Command::new("xz").arg("-dc").arg(file).output().context("cannot run xz")?;
    if !output.status.success() {
        bail!("cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// What `depends=` in a module says.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let elf = object::File::parse(module)?;
    let info = elf.section_by_name(".modinfo").context("a module without .modinfo")?;
    let words = info.data()?.split(|&byte| byte == 0);
    let list = words.filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix("depends="));
    let names = list.flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}
