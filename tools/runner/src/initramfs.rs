//! The root file system that the guest starts with: BusyBox, our programs, a few files in `/etc`.
//!
//! Idea: the archive is the same for every run of a build. What a run adds (the command of `exec`, the size of the
//! person's terminal) is a second small archive behind it, which Linux's format allows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::cargo::Program;
use crate::tree::Tree;
use crate::{busybox, cpio};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const PROFILE: &str = r#"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\w # '
alias ll='ls -l'
"#;

/// Device files for a kernel whose devtmpfs is not mounted (yet): name, mode, major, minor.
const DEVICES: [(&str, u32, u32, u32); 7] = [
    ("dev/console", 0o600, 5, 1),
    ("dev/null", 0o666, 1, 3),
    ("dev/zero", 0o666, 1, 5),
    ("dev/full", 0o666, 1, 7),
    ("dev/urandom", 0o666, 1, 9),
    ("dev/tty", 0o666, 5, 0),
    ("dev/ttyS0", 0o600, 4, 64),
];

/// The tree of every run.
pub fn tree(arch: Arch, own_busybox: Option<&Path>, programs: &[Program]) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.dir(".", 0o755); // the root itself
    for dir in
        ["proc", "sys", "run", "mnt", "etc", "dev/pts", "dev/shm", "usr/local/bin", "usr/lib", "var/log"]
    {
        tree.dir(dir, 0o755);
    }
    tree.dir("root", 0o700);
    tree.dir("tmp", 0o1777);
    DEVICES.iter().for_each(|&(path, mode, major, minor)| tree.char_device(path, mode, major, minor));
    // One directory of programs under all its customary names.
    for (path, target) in
        [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("var/run", "../run")]
    {
        tree.symlink(path, target);
    }
    tree.file("etc/passwd", 0o644, PASSWD);
    tree.file("etc/group", 0o644, GROUP);
    tree.file("etc/profile", 0o644, PROFILE);
    tree.file("etc/hostname", 0o644, "ochre\n");
    tree.file("etc/hosts", 0o644, "127.0.0.1 localhost ochre\n");
    tree.file("etc/shells", 0o644, "/bin/sh\n");
    add_programs(&mut tree, programs)?;
    add_busybox(&mut tree, &busybox::find(arch, own_busybox)?)?;
    Ok(tree)
}

/// The tree of a run whose root file system is on a disk: only what puts it in place. `modules` are names and contents, in
/// the order in which `user/init` is to load them.
pub fn tree_for_disk(programs: &[Program], modules: Vec<(String, Vec<u8>)>) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.dir(".", 0o755);
    tree.dir("proc", 0o755);
    DEVICES.iter().for_each(|&(path, mode, major, minor)| tree.char_device(path, mode, major, minor));
    add_programs(&mut tree, programs.iter().filter(|program| program.package == "init"))?;
    add_modules(&mut tree, modules);
    Ok(tree)
}

/// The modules, and the list that `user/init` goes by.
fn add_modules(tree: &mut Tree, modules: Vec<(String, Vec<u8>)>) {
    const DIR: &str = ".ochre";
    if modules.is_empty() {
        return;
    }
    let mut list = String::new();
    tree.dir(DIR, 0o755);
    for (name, content) in modules {
        let path = format!("{DIR}/{name}.ko");
        tree.file(&path, 0o644, content);
        list += &format!("/{path}\n");
    }
    tree.file(&format!("{DIR}/modules"), 0o644, list);
}

/// `/init`; test programs under `/usr/lib/ochre`, where nobody finds them by accident; others in `/bin`.
fn add_programs<'a>(tree: &mut Tree, programs: impl IntoIterator<Item = &'a Program>) -> Result<()> {
    for program in programs {
        let content =
            fs::read(&program.path).with_context(|| format!("cannot read {}", program.path.display()))?;
        let place = match program.package.as_str() {
            "init" => "init".to_owned(),
            "checks" | "fuzz" => format!("usr/lib/ochre/{}", program.name),
            _ => format!("bin/{}", program.name),
        };
        tree.file(&place, 0o755, content);
    }
    Ok(())
}

fn add_busybox(tree: &mut Tree, binary: &Path) -> Result<()> {
    let content = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    tree.file("bin/busybox", 0o755, content);
    for applet in busybox::applets(binary)? {
        tree.symlink(&format!("bin/{applet}"), "busybox");
    }
    Ok(())
}

/// Writes the archives, one behind the other, to `file`.
pub fn write(file: PathBuf, trees: &[&Tree]) -> Result<PathBuf> {
    let content: Vec<u8> = trees.iter().flat_map(|tree| cpio::archive(tree)).collect();
    fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
