//! Debian packages of any architecture, for hosts with apt.
//!
//! Problem: the guest needs programs (BusyBox) and, for comparison, a kernel (Linux) of architectures that the host
//! is not. The host's own package lists, architectures and suites are nobody's to change.
//!
//! Idea: apt works from a state directory of our own under the cache: own source list, own index, no hooks. From
//! the host's configuration come the mirror and everything about how to reach it (proxies, time-outs); from the
//! host's archive keyring the trust. Nothing is installed: packages are downloaded and unpacked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::{places, progress, shell};

/// The first release with riscv64.
const SUITE: &str = "trixie";
const LIMIT: Duration = Duration::from_secs(600);

/// A private apt state for one architecture. Holds a lock: one process works on it at a time.
pub struct Apt {
    arch: Arch,
    dir: PathBuf,
    _lock: File,
}

impl Apt {
    /// Opens it, and fetches the package index when there is none yet.
    pub fn open(arch: Arch) -> Result<Self> {
        if !shell::exists("apt-get") || !shell::exists("dpkg-deb") {
            bail!("this host has no apt");
        }
        let dir = places::cache().join("debian").join(SUITE).join(arch.debian());
        for sub in ["lists/partial", "archives/partial", "download", "cache"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let lock = File::create(dir.join("lock"))?;
        lock.lock()?;
        let apt = Self { arch, dir, _lock: lock };
        if !apt.dir.join("updated").exists() {
            apt.update()?;
        }
        Ok(apt)
    }

    /// Fetches the index from the first of the host's mirrors that has it, with the first keyring that vouches for it.
    fn update(&self) -> Result<()> {
        let mirrors = host_mirrors()?;
        let mut errors = Vec::new();
        for mirror in &mirrors {
            for keyring in self.keyrings() {
                progress::step(
                    "Fetching",
                    format!("Debian's package index for {} from {mirror}", self.arch.debian()),
                );
                self.configure(mirror, &keyring)?;
                match shell::run_for(self.apt("apt-get").arg("update"), LIMIT) {
                    Ok(()) => return Ok(fs::write(self.dir.join("updated"), mirror)?),
                    Err(e) => errors.push(format!("{mirror} with {}: {e:#}", keyring.display())),
                }
            }
        }
        bail!(
            "no Debian mirror of this host's apt has {SUITE} for {}:\n{}",
            self.arch.debian(),
            errors.join("\n")
        )
    }

    /// The host's keyring; and, should that be older than the release's keys, the one that the host's own apt offers.
    fn keyrings(&self) -> impl Iterator<Item = PathBuf> {
        const NAMES: [&str; 2] = ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"];
        let find = |dir: &Path| NAMES.iter().map(|n| dir.join(n)).find(|p| p.exists());
        let host = find(Path::new("/usr/share/keyrings"));
        let dir = self.dir.join("keyring");
        let newer = std::iter::once_with(move || {
            fs::create_dir_all(&dir).ok()?;
            let mut download = Command::new("apt-get");
            download.current_dir(&dir).args(["-q", "download", "debian-archive-keyring"]);
            shell::run_for(&mut download, LIMIT).ok()?;
            unpack(&newest_deb(&dir, "debian-archive-keyring")?, &dir).ok()?;
            find(&dir.join("usr/share/keyrings"))
        });
        host.into_iter().chain(newer.flatten())
    }

    fn configure(&self, mirror: &str, keyring: &Path) -> Result<()> {
        let dir = self.dir.display();
        let source = format!("deb [signed-by={}] {mirror} {SUITE} main\n", keyring.display());
        fs::write(self.dir.join("sources.list"), source)?;
        fs::write(self.dir.join("status"), "")?;
        let acquire = shell::output(Command::new("apt-config").arg("dump"))?;
        let acquire: String = acquire
            .lines()
            .filter(|line| line.starts_with("Acquire::"))
            .map(|line| format!("{line}\n"))
            .collect();
        let own = format!(
            r#"APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::State "{dir}";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}";
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"#,
            arch = self.arch.debian()
        );
        Ok(fs::write(self.dir.join("apt.conf"), acquire + &own)?)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).arg("-q");
        command
    }

    /// Downloads a package, unless that is done already; answers the `.deb`.
    fn download(&self, package: &str) -> Result<PathBuf> {
        let dir = self.dir.join("download");
        if let Some(deb) = newest_deb(&dir, package) {
            return Ok(deb);
        }
        progress::step("Fetching", format!("Debian's {package} for {}", self.arch.debian()));
        let mut download = self.apt("apt-get");
        download.current_dir(&dir).args(["download", package]);
        if shell::run_for(&mut download, LIMIT).is_err() {
            // The index may be older than the mirror's content.
            self.update()?;
            let mut again = self.apt("apt-get");
            shell::run_for(again.current_dir(&dir).args(["download", package]), LIMIT)?;
        }
        newest_deb(&dir, package).with_context(|| format!("apt-get download left no {package}"))
    }

    /// A package's files, unpacked in the cache.
    pub fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let to = self.dir.join("unpacked").join(package);
        if !to.exists() {
            let deb = self.download(package)?;
            replace_dir(&to, |fresh| unpack(&deb, fresh))?;
        }
        Ok(to)
    }

    /// The newest Linux kernel image of the release: the file for `qemu -kernel`.
    pub fn linux(&self) -> Result<PathBuf> {
        let to = self.dir.join("unpacked/linux");
        if !to.exists() {
            let depends = shell::output(
                self.apt("apt-cache").args(["depends", &format!("linux-image-{}", self.arch.debian())]),
            )?;
            let package = depends
                .split_whitespace()
                .find(|word| {
                    word.starts_with("linux-image-") && word.contains(char::is_numeric) && word.contains('.')
                })
                .context("linux-image has no dependency on an image")?;
            let deb = self.download(package)?;
            replace_dir(&to, |fresh| unpack_boot(&deb, fresh))?;
            let _ = fs::remove_file(deb); // large, and not needed any more
        }
        let boot = to.join("boot");
        fs::read_dir(&boot)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinu")))
            .with_context(|| format!("no kernel in {}", boot.display()))
    }
}

/// Debian mirrors that the host's apt is configured with, security archives last.
fn host_mirrors() -> Result<Vec<String>> {
    let listing = shell::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]))?;
    let mut mirrors: Vec<String> = Vec::new();
    for line in listing.lines() {
        let uri = line.split_whitespace().next().unwrap_or_default();
        let is_main = uri.contains("debian") && !uri.contains("security") && !line.contains("-security");
        if is_main && !mirrors.iter().any(|m| m == uri) {
            mirrors.push(uri.to_owned());
        }
    }
    if mirrors.is_empty() {
        bail!("this host's apt has no Debian archive among its sources");
    }
    Ok(mirrors)
}

fn newest_deb(dir: &Path, package: &str) -> Option<PathBuf> {
    let prefix = format!("{package}_");
    let debs = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    debs.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".deb")
    })
    .max()
}

fn unpack(deb: &Path, to: &Path) -> Result<()> {
    shell::output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(to)).map(drop)
}

/// Only `/boot`: a kernel package's modules are a hundred times its kernel.
fn unpack_boot(deb: &Path, to: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stream = archive.stdout.take().context("no pipe")?;
    let tar = Command::new("tar").arg("-xC").arg(to).arg("./boot").stdin(stream).status()?;
    let archive = archive.wait()?;
    if !tar.success() || !archive.success() {
        bail!("cannot unpack {}", deb.display());
    }
    Ok(())
}

/// Fills a directory under another name first, so that it exists only when it is complete.
fn replace_dir(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let fresh = to.with_extension("new");
    let _ = fs::remove_dir_all(&fresh); // from an attempt that was cut short
    fs::create_dir_all(&fresh)?;
    fill(&fresh)?;
    Ok(fs::rename(fresh, to)?)
}
