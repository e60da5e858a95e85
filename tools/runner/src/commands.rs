//! What each command does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::arch::Arch;
use crate::cargo::{self, Toolchain};
use crate::cli::{Cli, Cmd, PathArgs, Product, SetupArgs};
use crate::debian::Apt;
use crate::machine::{Machine, Root};
use crate::tree::Tree;
use crate::{acceptance, bench, boot, cleanup, exec, image, initramfs, places, progress, qemu, setup};

/// The whole program; answers its exit status.
pub fn main() -> i32 {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == qemu::SPAWN) {
        let Err(e) = qemu::become_child(arguments.skip(1));
        eprintln!("{e:#}");
        return exec::GUEST_FAILED;
    }
    let cli = Cli::parse();
    cleanup::at_exit(|| {});
    // `exec` promises the program's status; a failure of ours must not look like one.
    let failed = if matches!(cli.command, Some(Cmd::Exec(_))) { exec::GUEST_FAILED } else { 1 };
    run(cli).unwrap_or_else(|e| {
        eprintln!("runner: {e:#}");
        failed
    })
}

fn run(cli: Cli) -> Result<i32> {
    match cli.command {
        None => boot::run(&cli.machine),
        Some(Cmd::Boot(machine)) => boot::run(&machine),
        Some(Cmd::Exec(args)) => exec::run(&args),
        Some(Cmd::Path(args)) => path(&args).map(|()| 0),
        Some(Cmd::Bench(args)) => bench::run(&args).map(|()| 0),
        Some(Cmd::Acceptance(args)) => acceptance::run(&args),
        Some(Cmd::Sim { arguments }) => Ok(sim::main(&arguments)),
        Some(Cmd::Setup(args)) => set_up(&args).map(|()| 0),
    }
}

/// What a machine boots.
pub struct Built {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The initramfs: the root file system, or what puts a disk in its place.
    pub tree: Tree,
    /// The machine with the disk of its root.
    pub machine: Machine,
}

/// Sees to everything that `machine` needs and builds what it boots.
pub fn build(machine: &Machine) -> Result<Built> {
    setup::emulator(machine.arch)?;
    let toolchain = setup::toolchain(machine.arch)?;
    let kernel = kernel(machine, toolchain)?;
    Ok(match root_disk(machine)? {
        None => Built { kernel, tree: tree(machine, toolchain)?, machine: machine.clone() },
        Some(disk) => {
            Built { kernel, tree: tree_for_disk(machine, toolchain)?, machine: machine.with_root_disk(&disk) }
        }
    })
}

/// What puts the root's disk in its place; Debian's Linux needs its modules to see a disk.
fn tree_for_disk(machine: &Machine, toolchain: Toolchain) -> Result<Tree> {
    let modules = match &machine.kernel {
        Some(name) if is_linux(name) => Apt::open(machine.arch)?.linux_disk_modules()?,
        _ => Vec::new(),
    };
    initramfs::tree_for_disk(&cargo::programs(machine.arch, toolchain)?, modules)
}

/// Does `--kernel` ask for Debian's Linux?
fn is_linux(name: &Path) -> bool {
    name.as_os_str() == "linux"
}

/// The disk with the root file system, made if need be; `None` when the root is in memory.
fn root_disk(machine: &Machine) -> Result<Option<PathBuf>> {
    match &machine.root {
        Root::Busybox => Ok(None),
        Root::Image(file) => Ok(Some(file.clone())),
        Root::Debian(packages) => image::disk(machine.arch, packages, machine.snapshot).map(Some),
    }
}

fn kernel(machine: &Machine, toolchain: Toolchain) -> Result<PathBuf> {
    match &machine.kernel {
        Some(name) if is_linux(name) => Apt::open(machine.arch)?.linux(),
        Some(file) if file.is_file() => Ok(file.clone()),
        Some(file) => bail!("there is no kernel {}", file.display()),
        None => cargo::kernel(machine.arch, toolchain, machine.debug),
    }
}

fn tree(machine: &Machine, toolchain: Toolchain) -> Result<Tree> {
    let programs = cargo::programs(machine.arch, toolchain)?;
    initramfs::tree(machine.arch, machine.busybox.as_deref(), &programs)
}

fn path(args: &PathArgs) -> Result<()> {
    let machine = &args.machine;
    let toolchain = setup::toolchain(machine.arch)?;
    let path = match args.product {
        Product::Kernel => kernel(machine, toolchain)?,
        Product::Initramfs => {
            let fresh = places::run_dir()?.join("initramfs.cpio");
            let file = places::target().join(format!("initramfs-{}.cpio", machine.arch));
            initramfs::write(fresh.clone(), &[&tree(machine, toolchain)?])?;
            fs::rename(fresh, &file).with_context(|| format!("cannot write {}", file.display()))?;
            file
        }
        Product::Root if machine.root != Root::Busybox => {
            setup::emulator(machine.arch)?;
            root_disk(machine)?.context("this root is on no disk")?
        }
        Product::Root => {
            let dir = places::target().join(format!("root-{}", machine.arch));
            replace_root(&dir, &tree(machine, toolchain)?)?;
            dir
        }
    };
    println!("{}", path.display());
    Ok(())
}

fn replace_root(dir: &Path, tree: &Tree) -> Result<()> {
    let fresh = places::run_dir()?.join("root");
    fs::create_dir_all(&fresh)?;
    tree.write_to(&fresh)?;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    fs::rename(fresh, dir).with_context(|| format!("cannot write {}", dir.display()))
}

fn set_up(args: &SetupArgs) -> Result<()> {
    let all = args.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    all.into_iter().try_for_each(|arch| setup::everything(arch, args.busybox.as_deref()))
}

/// Says how to attach a debugger.
pub fn explain_gdb(kernel: &Path) {
    let port = qemu::gdb_port();
    progress::say("Waiting", format!("for: gdb {} -ex 'target remote :{port}'", kernel.display()));
}
