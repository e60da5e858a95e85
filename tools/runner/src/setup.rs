//! What the host needs, found or installed: a compiler for the bare target, QEMU, firmware, BusyBox.
//!
//! Idea: look first, change the host only when something is missing, say every step in a line, never wait
//! without bound, and when it cannot be done say exactly what to type.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::cargo::{self, Toolchain};
use crate::debian::index;
use crate::{busybox, places, progress, qemu, shell};

const INSTALL_LIMIT: Duration = Duration::from_secs(900);
/// Seconds before an index is fetched and an installation tried once more.
const INSTALL_PAUSES: [u64; 4] = [0, 10, 30, 60];
/// Debian's compiler with the source of its library, and linker; only a release with this or a newer Rust will do.
const WEB_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const WEB_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";

/// Sees to everything for `arch`, with a line for what is already there, too.
pub fn everything(arch: Arch, own_busybox: Option<&std::path::Path>) -> Result<()> {
    let toolchain = toolchain(arch)?;
    let how = match toolchain {
        Toolchain::Current => "in the current toolchain",
        Toolchain::DebianWeb => "built from Debian's rust-web-src",
    };
    progress::step("Ready", format!("Rust target {} ({how})", arch.target()));
    let version = emulator(arch)?;
    progress::step("Ready", format!("{} {version}", arch.qemu()));
    let busybox = busybox::find(arch, own_busybox)?;
    progress::step("Ready", format!("BusyBox {}", busybox.display()));
    Ok(())
}

/// A toolchain for the bare target: the current one, extended by rustup if need be; else Debian's.
pub fn toolchain(arch: Arch) -> Result<Toolchain> {
    if cargo::has_target(arch) {
        return Ok(Toolchain::Current);
    }
    let target = arch.target();
    let mut reasons = Vec::new();
    if shell::exists("rustup") {
        progress::step("Installing", format!("Rust target {target} (rustup)"));
        let mut rustup = Command::new("rustup");
        rustup.args(["target", "add", target]).current_dir(places::root());
        match shell::run_for(&mut rustup, INSTALL_LIMIT) {
            Ok(()) if cargo::has_target(arch) => return Ok(Toolchain::Current),
            Ok(()) => reasons.push("rustup added it, yet the current rustc does not find it".to_owned()),
            Err(e) => reasons.push(format!("{e:#}")),
        }
    } else {
        reasons.push("there is no rustup".to_owned());
    }
    match debian_toolchain() {
        Ok(()) => Ok(Toolchain::DebianWeb),
        Err(e) => bail!(
            "the compiler has no target {target}:\n{}\n{e:#}\n\
             To get it by hand: rustup target add {target}\n\
             or, on Debian: apt-get install {}",
            reasons.join("\n"),
            WEB_PACKAGES.join(" ")
        ),
    }
}

/// Debian's `rustc-web`, when its library source is there and it is new enough.
fn debian_toolchain() -> Result<()> {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let is_enough = |version: &str| parse_version(version) >= parse_version(wanted);
    if !std::path::Path::new(WEB_LIBRARY).exists() {
        let version =
            candidate(WEB_PACKAGES[0]).context("there is no rustc-web among this host's packages")?;
        if !is_enough(&version) {
            bail!("this host's rustc-web {version} is older than Rust {wanted}"); // nothing is installed in vain
        }
        install(&WEB_PACKAGES)?;
    }
    let version = shell::output(Command::new(cargo::DEBIAN_RUSTC).arg("--version"))?;
    if !is_enough(&version) {
        bail!("Debian's {} is older than Rust {wanted}", version.trim());
    }
    Ok(())
}

/// The version of a package that apt would install.
fn candidate(package: &str) -> Option<String> {
    let policy =
        shell::output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package])).ok()?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// The first `major.minor` in `text`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut parts = word.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

/// A QEMU that is new enough, with its firmware, installed if it is missing; answers its version.
///
/// What was found good is noted in the cache with the file's identity: the check takes longer than a boot.
pub fn emulator(arch: Arch) -> Result<String> {
    let note = places::cache().join(format!("checked-{}", arch.qemu()));
    let identity = identity(arch.qemu());
    if let Some(version) = fs::read_to_string(&note).ok().zip(identity.as_ref()).and_then(matching_version) {
        return Ok(version);
    }
    if identity.is_none() || !qemu::has_firmware(arch) {
        let packages = qemu_packages(arch);
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        install(&names).with_context(|| format!("{} or its firmware is missing", arch.qemu()))?;
    }
    let version = qemu::version(arch)?;
    if parse_version(&version) < Some(qemu::OLDEST) {
        let (major, minor) = qemu::OLDEST;
        bail!("{} is version {version}; {major}.{minor} or later is needed", arch.qemu());
    }
    if let Some(identity) = self::identity(arch.qemu()) {
        let _ = fs::create_dir_all(places::cache());
        let _ = fs::write(note, format!("{version}\n{identity}")); // without the note it is checked again
    }
    Ok(version)
}

/// mke2fs and its kin, installed if they are missing.
pub fn ext4_tools() -> Result<()> {
    let is_there = |program| shell::output(sbin(program).arg("-V")).is_ok();
    if !["mke2fs", "debugfs", "e2fsck"].into_iter().all(is_there) {
        install(&["e2fsprogs"]).context("an ext4 image cannot be made")?;
    }
    Ok(())
}

/// A program that may be where users do not look.
pub fn sbin(program: &str) -> Command {
    let places = ["/usr/sbin", "/sbin"].map(|dir| std::path::Path::new(dir).join(program));
    let place = shell::find(program).or_else(|| places.into_iter().find(|path| path.exists()));
    Command::new(place.unwrap_or(program.into()))
}

/// Path, size and time of a program in `PATH`.
fn identity(program: &str) -> Option<String> {
    let path = shell::find(program)?;
    let meta = fs::metadata(&path).ok()?;
    Some(format!("{} {} {:?}", path.display(), meta.len(), meta.modified().ok()?))
}

fn matching_version((note, identity): (String, &String)) -> Option<String> {
    let (version, noted) = note.split_once('\n')?;
    (noted == identity).then(|| version.to_owned())
}

/// The packages that exist in the host's Debian release.
fn qemu_packages(arch: Arch) -> Vec<String> {
    let exists = |name: &str| candidate(name).is_some();
    let choose = |names: &&[&str]| {
        let found = names.iter().find(|name| exists(name)).or(names.last());
        found.map_or(String::new(), |name| (*name).to_owned())
    };
    arch.qemu_packages().iter().map(choose).collect()
}

/// Installs packages by apt when this is root on a Debian-like host; otherwise says what to type.
fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !shell::exists("apt-get") {
        bail!("please install these with the host's package manager (names are Debian's): {list}");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("please type: sudo apt-get install {list}");
    }
    progress::step("Installing", format!("{list} (apt-get)"));
    let mut result = apt_install(packages);
    for seconds in INSTALL_PAUSES {
        let Err(e) = &result else { return Ok(()) };
        if seconds > 0 {
            progress::step(
                "Waiting",
                format!("{seconds} s for the mirror: {}", index::essence(&e.to_string())),
            );
            std::thread::sleep(Duration::from_secs(seconds));
        }
        progress::step("Updating", "the package index (apt-get update)");
        let update = shell::run_for(apt_get().arg("update"), INSTALL_LIMIT);
        result = apt_install(packages).or_else(|e| update.and(Err(e)));
    }
    result.with_context(|| format!("please type: apt-get install {list}"))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"]);
    command
}

fn apt_install(packages: &[&str]) -> Result<()> {
    shell::run_for(apt_get().args(["install", "--no-install-recommends"]).args(packages), INSTALL_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_found_and_ordered() {
        let check = |text, expected| assert_eq!(parse_version(text), expected, "{text}");
        check("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", Some((7, 2)));
        check("rustc 1.95.0 (59807616e 2026-04-14)", Some((1, 95)));
        check("no version", None);
        assert!(parse_version("10.0.2") > parse_version("7.2"));
    }
}
