//! `bench --disk`: the disk that both kernels measure.
//!
//! Idea: one ext4 image as mke2fs makes it, with some of Debian's programs, as their packages have them, and an archive of
//! this repository's own sources to unpack; every boot gets a fresh copy. QEMU keeps what is written in the host's memory
//! (`cache=unsafe`): the kernels are measured, not the host's disk, and a flush costs both of them a request and no more.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::MODULES;
use crate::arch::Arch;
use crate::debian::Apt;
use crate::machine::{Board, Machine};
use crate::tree::Tree;
use crate::{places, progress, setup, shell};

/// Folders of the repository that make the archive: a thousand files, eight megabytes.
const SOURCES: [&str; 7] = ["kernel", "machine", "fs", "policy", "lib", "tools", "user"];

/// Its name on the disk.
const ARCHIVE: &str = "sources.tar";
/// Debian's programs that the image has, to be measured, too.
const PROGRAMS: [&str; 3] = ["sqlite3", "gcc", "libc6-dev"];

/// Tables are written when the image is made, so that no kernel does that while it is measured.
const WHOLE: &str = "lazy_itable_init=0,lazy_journal_init=0";

/// Makes an archive of the repository's sources.
fn archive(file: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "-cf"]).arg(file).arg("-C").arg(places::root());
    shell::output(tar.args(SOURCES)).map(drop)
}

/// Makes an image with nothing but the archive.
pub(super) fn image() -> Result<PathBuf> {
    progress::step("Making", "an ext4 image");
    let dir = places::run_dir()?;
    let content = dir.join("content");
    std::fs::create_dir_all(&content)?;
    archive(&content.join(ARCHIVE))?;
    let image = dir.join("disk.img");
    std::fs::File::create(&image)?.set_len(1 << 30)?;
    let mut mke2fs = setup::sbin("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-E", WHOLE, "-d"]);
    shell::output(mke2fs.arg(&content).arg(&image))?;
    Ok(image)
}

/// Makes an image with programs, too.
pub(super) fn image_with_programs(arch: Arch) -> Result<PathBuf> {
    let dir = places::run_dir()?;
    let file = dir.join(ARCHIVE);
    archive(&file)?;
    let image = dir.join("disk.img");
    let files = [(ARCHIVE, std::fs::read(file)?)];
    crate::image::unpacked(arch, &PROGRAMS.map(String::from), &files, WHOLE, &image)?;
    Ok(image)
}

/// QEMU's arguments for a fresh copy of the image; `more` are further options of the drive.
pub(super) fn attach(image: &Path, machine: &Machine, more: &str) -> Result<String> {
    let copy = image.with_file_name("copy.img");
    shell::output(Command::new("cp").arg("--sparse=always").arg(image).arg(&copy))?;
    // The host would write it back during the first seconds, and disturb the kernel that boots faster.
    std::fs::File::open(&copy)?.sync_all()?;
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
