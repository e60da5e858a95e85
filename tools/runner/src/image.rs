//! A Debian system on an ext4 image, made without running one of its programs on the host, and without being root.
//!
//! Problem: an installer runs programs of the system that it installs, which the host may be unable to (another
//! architecture) and must be root for. And a person wants to keep what they change, while a test wants the image fresh.
//!
//! Interface: [`disk`] is the image for a person: it is made at its first use and then keeps what the guest writes.
//! [`fresh`] is the image as it was made, which nobody writes.
//!
//! Idea: packages are unpacked as dpkg would ([`unpack`]) and recorded as that ([`dpkg`]): unpacked, not configured.
//! mke2fs makes a file system of the directory ([`ext4`]), debugfs gives the files their owners. What remains, the
//! packages' own set-up scripts, is done by the system itself: Ochre boots the image once and runs `dpkg --configure -a`.
//! The alternative, to do by hand what scripts do, would be faster and a different system with every release.

mod dpkg;
mod ext4;
mod unpack;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::debian::Apt;
use crate::guest::{Guest, Sinks};
use crate::machine::{Machine, Root};
use crate::{exec, places, progress, setup, shell};

/// Changes whenever a newer runner makes different images: older ones are then not taken for its own.
const EDITION: u32 = 1;
/// Room on the disk beside the system, in bytes. The file is sparse: what is not used costs nothing.
const ROOM: u64 = 4 << 30;
/// The same for an image of packages that are only unpacked.
const UNPACKED_ROOM: u64 = 1 << 30;
/// For the set-up scripts of all packages, under emulation.
const CONFIGURE_LIMIT: Duration = Duration::from_secs(3600);

/// What the guest runs to complete the image. No service may start meanwhile.
const CONFIGURE: &str = "\
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d || exit
dpkg --force-unsafe-io --configure -a </dev/null || exit
rm /usr/sbin/policy-rc.d
test -z \"$(dpkg --audit)\"";

/// The image with a person's own system: what the guest writes stays. With `snapshot` the guest's writes go nowhere, and an
/// image that nobody has changed yet need not be copied.
pub fn disk(arch: Arch, packages: &[String], snapshot: bool) -> Result<PathBuf> {
    let file = places::target().join("disks").join(name(arch, packages) + ".img");
    let _turn = places::lock(&file.with_extension("lock"))?;
    if file.exists() {
        return Ok(file);
    }
    let fresh = fresh(arch, packages)?;
    if snapshot {
        return Ok(fresh);
    }
    let copy = file.with_extension("new");
    shell::output(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&fresh).arg(&copy))?;
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    fs::rename(&copy, &file)?;
    Ok(file)
}

/// The image as it was made. It is for reading only.
pub fn fresh(arch: Arch, packages: &[String]) -> Result<PathBuf> {
    let dir = places::cache().join("images");
    let file = dir.join(format!("{}.{EDITION}.img", name(arch, packages)));
    let _turn = places::lock(&file.with_extension("lock"))?;
    if !file.exists() {
        let work = file.with_extension("new");
        let _ = fs::remove_dir_all(&work); // from an attempt that was cut short
        fs::create_dir_all(&work)?;
        let made =
            make(arch, packages, &work).with_context(|| format!("cannot make a Debian image for {arch}"))?;
        fs::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
        fs::rename(made, &file)?;
        fs::remove_dir_all(&work)?;
    }
    Ok(file)
}

/// An image of packages as they are unpacked, for programs that run without their packages' set-up, and of the `files`
/// (path, contents). mke2fs gets `extended` options. It is made anew each time, at `image`.
pub fn unpacked(
    arch: Arch,
    packages: &[String],
    files: &[(&str, Vec<u8>)],
    extended: &str,
    image: &Path,
) -> Result<()> {
    setup::ext4_tools()?;
    let debs = Apt::open(arch)?.system(packages)?;
    progress::step("Unpacking", format!("{} packages for {arch}", debs.len()));
    let mut system = unpack::System::new(image.with_extension("root"))?;
    debs.iter().try_for_each(|deb| system.add(deb).map(drop))?;
    for (path, content) in files {
        system.write(path, 0o644, content)?;
    }
    progress::step("Making", format!("an ext4 image for {arch}"));
    ext4::make(&system, UNPACKED_ROOM, extended, image)?;
    fs::remove_dir_all(system.dir()).context("cannot remove the unpacked packages")
}

/// `debian-riscv64+gcc+make`; a long list is cut and told apart from others by a number.
fn name(arch: Arch, packages: &[String]) -> String {
    const LONGEST: usize = 120;
    let name = packages.iter().fold(format!("debian-{arch}"), |name, package| name + "+" + package);
    if name.len() <= LONGEST {
        return name;
    }
    // FNV-1a: the same number with every build of the runner.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{}+{hash:016x}", &name[..LONGEST])
}

fn make(arch: Arch, packages: &[String], work: &Path) -> Result<PathBuf> {
    setup::ext4_tools()?;
    let apt = Apt::open(arch)?;
    let debs = apt.system(packages)?;
    let (suite, mirror) = apt.source()?;
    drop(apt); // others may have their turn
    progress::step("Unpacking", format!("{} packages for {arch}", debs.len()));
    let mut system = unpack::System::new(work.join("root"))?;
    let packages = debs.iter().map(|deb| system.add(deb)).collect::<Result<Vec<_>>>()?;
    dpkg::record(&mut system, &packages)?;
    add_files(&mut system, &suite, &mirror)?;
    let image = work.join("image");
    progress::step("Making", format!("an ext4 image for {arch}"));
    ext4::make(&system, ROOM, "", &image)?;
    fs::remove_dir_all(system.dir()).context("cannot remove the unpacked packages")?;
    configure(arch, &image, packages.len())?;
    ext4::check(&image)?;
    Ok(image)
}

/// What no package has: the accounts that base-passwd's script copies, who and where this machine is, and where its
/// packages are from.
fn add_files(system: &mut unpack::System, suite: &str, mirror: &str) -> Result<()> {
    for name in ["passwd", "group"] {
        let master = system.dir().join(format!("usr/share/base-passwd/{name}.master"));
        let master = fs::read(&master).with_context(|| format!("no {}", master.display()))?;
        system.write(&format!("etc/{name}"), 0o644, &master)?;
    }
    let sources = format!(
        "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    );
    let files = [
        ("etc/hostname", "ochre\n"),
        ("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tochre\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        ("etc/resolv.conf", "nameserver 10.0.2.3\n"), // QEMU's
        ("etc/fstab", "/dev/vda\t/\text4\tdefaults\t0\t1\n"),
        ("etc/apt/sources.list.d/debian.sources", &sources),
    ];
    files.iter().try_for_each(|(path, content)| system.write(path, 0o644, content.as_bytes()))
}

/// Boots the image and lets its packages set themselves up.
fn configure(arch: Arch, image: &Path, count: usize) -> Result<()> {
    progress::step("Configuring", format!("{count} packages, in Ochre ({arch})"));
    let machine = Machine { root: Root::Image(image.to_owned()), mem: "1G".into(), ..Machine::new(arch) };
    let command = wire::Command {
        once: true,
        cwd: b"/".to_vec(),
        argv: ["sh", "-c", CONFIGURE].map(|word| word.as_bytes().to_vec()).into(),
        env: exec::environment().into_iter().map(String::into_bytes).collect(),
        ..wire::Command::default()
    };
    let mut guest = Guest::start(&machine, &command)?;
    let begin = Instant::now(); // what was built before is not counted
    let (mut log, mut errors) = (Lines { count, ..Lines::default() }, Vec::new());
    let code = guest.follow(Sinks { out: &mut log, err: &mut errors, log: None }, Some(CONFIGURE_LIMIT));
    let code = code.with_context(|| format!("{}\n{}", log.tail(), guest.last_words(40)))?;
    guest.wait_for_end();
    if code != 0 {
        bail!("the packages' set-up ended with {code}:\n{}{}", log.tail(), String::from_utf8_lossy(&errors));
    }
    progress::step("Configured", format!("{count} packages in {:.0} s", begin.elapsed().as_secs_f64()));
    Ok(())
}

/// What dpkg says while it configures; every so often, how far it is.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: usize,
    told: Option<Instant>,
}

impl Lines {
    const INTERVAL: Duration = Duration::from_secs(15);

    fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if self.told.get_or_insert_with(Instant::now).elapsed() > Self::INTERVAL {
            self.told = Some(Instant::now());
            let done = String::from_utf8_lossy(&self.text).matches("Setting up ").count();
            progress::step("Configuring", format!("package {done} of {}", self.count));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_bounded() {
        let names = |count: usize| (0..count).map(|n| format!("package-{n}")).collect::<Vec<_>>();
        assert_eq!(name(Arch::Riscv64, &[]), "debian-riscv64");
        assert_eq!(name(Arch::X86_64, &names(2)), "debian-x86_64+package-0+package-1");
        let (long, longer) = (name(Arch::X86_64, &names(40)), name(Arch::X86_64, &names(41)));
        assert!(long.len() < 160 && long != longer, "{long} {longer}");
    }
}
