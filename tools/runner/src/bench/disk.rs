//! `bench --disk`: the disk that both kernels measure.
//!
//! Idea: one ext4 image as mke2fs makes it, with an archive of this repository's own sources to unpack; every boot gets a
//! fresh copy. QEMU keeps what is written in the host's memory (`cache=unsafe`): the kernels are measured, not the host's
//! disk, and a flush costs both of them a request and no more.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::MODULES;
use crate::arch::Arch;
use crate::debian::Apt;
use crate::machine::{Board, Machine};
use crate::tree::Tree;
use crate::{places, progress, shell};

/// Folders of the repository that make the archive: a thousand files, eight megabytes.
const SOURCES: [&str; 7] = ["kernel", "machine", "fs", "policy", "lib", "tools", "user"];

/// Makes the image.
pub(super) fn image() -> Result<PathBuf> {
    progress::step("Making", "an ext4 image");
    let dir = places::run_dir()?;
    let content = dir.join("content");
    std::fs::create_dir_all(&content)?;
    let archive = content.join("sources.tar");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "-cf"]).arg(&archive).arg("-C").arg(places::root());
    shell::output(tar.args(SOURCES))?;
    let image = dir.join("disk.img");
    std::fs::File::create(&image)?.set_len(1 << 30)?;
    // Where Debian has it; a person's PATH often lacks the directory.
    let mke2fs = shell::find("mke2fs").unwrap_or("/sbin/mke2fs".into());
    let mut mke2fs = Command::new(mke2fs);
    // Tables are written now, so that no kernel does that while it is measured.
    mke2fs.args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"]);
    shell::output(mke2fs.arg(&content).arg(&image))?;
    Ok(image)
}

/// QEMU's arguments for a fresh copy of the image; `more` are further options of the drive.
pub(super) fn attach(image: &Path, machine: &Machine, more: &str) -> Result<String> {
    let copy = image.with_file_name("copy.img");
    shell::output(Command::new("cp").arg("--sparse=always").arg(image).arg(&copy))?;
    let device = match (machine.arch, machine.board) {
        (Arch::X86_64, Board::Q35) => "virtio-blk-pci",
        _ => "virtio-blk-device",
    };
    Ok(format!(
        "-global virtio-mmio.force-legacy=false -device {device},drive=bench \
         -drive if=none,id=bench,format=raw,cache=unsafe{more},file={}",
        copy.display()
    ))
}

/// What Linux needs to see the disk, numbered in the order of loading.
pub(super) fn add_modules(arch: Arch, tree: &mut Tree) -> Result<()> {
    tree.dir("lib", 0o755);
    tree.dir(MODULES, 0o755);
    for (number, (name, content)) in Apt::open(arch)?.linux_disk_modules()?.into_iter().enumerate() {
        tree.file(&format!("{MODULES}/{number:02}-{name}.ko"), 0o644, content);
    }
    Ok(())
}

/// Mounts the disk on /mnt and measures.
pub(super) fn script(measure: &str) -> String {
    format!(
        "for module in /{MODULES}/*.ko; do [ -f $module ] && insmod $module; done; \
         mount -t ext4 /dev/vda /mnt && {measure}"
    )
}
