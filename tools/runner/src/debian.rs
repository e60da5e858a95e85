//! Debian packages of any architecture, for hosts with apt.
//!
//! Problem: the guest needs programs (BusyBox) and, for comparison, a kernel (Linux) of architectures that the host
//! is not. The host's own package lists, architectures and suites are nobody's to change.
//!
//! Idea: apt works from a state directory of our own under the cache: own source list, own index, no hooks. From
//! the host's configuration come the mirror and everything about how to reach it (proxies, time-outs); from the
//! host's archive keyring the trust. Nothing is installed: packages are downloaded and unpacked. Mirrors have bad minutes:
//! [`index`] gets along with them.

pub mod index;
mod modules;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::index::{Source, Way};
use crate::arch::Arch;
use crate::{places, progress, shell};

/// For one run of apt.
const LIMIT: Duration = Duration::from_secs(600);
/// For the download of all packages of a system.
const SYSTEM_LIMIT: Duration = Duration::from_secs(3600);
/// For all attempts to get an index: none begins later.
const PATIENCE: Duration = Duration::from_secs(900);
/// For so long after a search in vain, nobody searches as long again.
const MEMORY: Duration = Duration::from_secs(900);
/// Pauses before the second and later attempts to download a package, in seconds.
const DOWNLOAD_PAUSES: [u64; 3] = [1, 15, 45];

/// What every system has, in apt's language.
const SYSTEM: [&str; 3] = ["?essential", "?priority(required)", "apt"];

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
        let dir = places::cache().join("debian").join(index::SUITES[0]).join(arch.debian());
        for sub in ["lists/partial", "archives/partial", "download", "cache"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let lock = places::lock(&dir.join("lock"))?;
        let apt = Self { arch, dir, _lock: lock };
        let conf = fs::read_to_string(apt.dir.join("apt.conf")).unwrap_or_default();
        if !apt.dir.join("updated").exists() || !is_for(&conf, &apt.dir) {
            apt.update()?;
        }
        Ok(apt)
    }

    /// The suite and the mirror of the host's that the index is from.
    pub fn source(&self) -> Result<(String, String)> {
        let note = fs::read_to_string(self.dir.join("updated")).context("no package index")?;
        let (suite, mirror) = note.split_once(" of ").context("the note of the package index is damaged")?;
        Ok((suite.to_owned(), mirror.to_owned()))
    }

    /// Fetches the index from the first of the host's mirrors that has it in order.
    fn update(&self) -> Result<()> {
        let mirrors = host_mirrors()?;
        let log = self.dir.join("update.log");
        let _ = fs::remove_file(&log); // of the last time
        let failed = self.dir.join("failed");
        let patient = fs::metadata(&failed)
            .and_then(|note| note.modified())
            .map_or(true, |at| at.elapsed().is_ok_and(|age| age > MEMORY));
        let search = |suites: &[&'static str], keyring: &Path, patient| {
            let mirrors = |suite| mirrors.iter().map(move |m| (suite, m.clone()));
            let sources = suites.iter().flat_map(|&suite| mirrors(suite));
            let sources =
                sources.map(|(suite, mirror)| Source { mirror, suite, keyring: keyring.to_owned() });
            let mut fetcher = Fetcher { apt: self, deadline: Instant::now() + PATIENCE };
            index::find(&mut fetcher, sources.collect(), patient)
        };
        let newer = || self.newer_keyring().context("this host has no Debian archive keyring");
        let mut keyring = find_keyring(Path::new("/usr/share/keyrings")).map_or_else(newer, Ok)?;
        let mut found = search(index::SUITES, &keyring, patient);
        if let Err(reason) = &found
            && index::is_about_keys(reason)
            && let Some(newer) = self.newer_keyring()
        {
            keyring = newer;
            found = search(index::SUITES, &keyring, patient);
        }
        let found = found.or_else(|reason| search(index::LAST_SUITES, &keyring, false).map_err(|_| reason));
        match found {
            Ok(source) => {
                let _ = fs::remove_file(failed); // it may not be there
                Ok(fs::write(self.dir.join("updated"), source.to_string())?)
            }
            Err(reason) => {
                fs::write(failed, &reason)?;
                let arch = self.arch.debian();
                bail!(
                    "no mirror of this host's apt gives Debian's package index for {arch}: {reason} ({} has it all)",
                    log.display()
                )
            }
        }
    }

    /// The keyring that the host's own apt offers, for a host whose keyring is older than the release's keys.
    fn newer_keyring(&self) -> Option<PathBuf> {
        let dir = self.dir.join("keyring");
        fs::create_dir_all(&dir).ok()?;
        let mut download = Command::new("apt-get");
        download.current_dir(&dir).args(["-q", "download", "debian-archive-keyring"]);
        shell::run_for(&mut download, LIMIT).ok()?;
        unpack(&newest_deb(&dir, "debian-archive-keyring")?, &dir).ok()?;
        find_keyring(&dir.join("usr/share/keyrings"))
    }

    /// One attempt to fetch the index. An error is what apt wrote.
    fn fetch_index(&self, source: &Source, way: Way) -> Result<()> {
        let lists = self.dir.join("lists");
        let _ = fs::remove_dir_all(&lists); // what an attempt left half-done would be taken as a start
        fs::create_dir_all(lists.join("partial"))?;
        self.configure(source, way)?;
        shell::run_for(self.apt("apt-get").arg("update"), LIMIT)?;
        let has_index = fs::read_dir(&lists)?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
        if !has_index {
            bail!("apt-get update left no package index"); // older releases call that a success
        }
        Ok(())
    }

    fn configure(&self, source: &Source, way: Way) -> Result<()> {
        let dir = self.dir.display();
        let Source { mirror, suite, keyring } = source;
        let line = format!("deb [signed-by={}] {mirror} {suite} main\n", keyring.display());
        fs::write(self.dir.join("sources.list"), line)?;
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
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
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
        Ok(fs::write(self.dir.join("apt.conf"), acquire + &own + way.configuration())?)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Its words are read by us, too: in English.
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C").arg("-q");
        command
    }

    /// Downloads a package, unless that is done already; answers the `.deb`.
    fn download(&self, package: &str) -> Result<PathBuf> {
        let dir = self.dir.join("download");
        if let Some(deb) = newest_deb(&dir, package) {
            return Ok(deb);
        }
        progress::step("Fetching", format!("Debian's {package} for {}", self.arch.debian()));
        self.patiently(|| {
            let mut download = self.apt("apt-get");
            shell::run_for(download.current_dir(&dir).args(["download", package]), LIMIT)
        })?;
        newest_deb(&dir, package).with_context(|| format!("apt-get download left no {package}"))
    }

    /// Downloads, with pauses and a new index before further attempts: it may be older than the mirror's content.
    fn patiently(&self, download: impl Fn() -> Result<()>) -> Result<()> {
        let mut pauses = DOWNLOAD_PAUSES.into_iter();
        loop {
            let Err(e) = download() else { return Ok(()) };
            let Some(seconds) = pauses.next() else { return Err(e) };
            progress::step(
                "Waiting",
                format!("{seconds} s for the mirror: {}", index::essence(&e.to_string())),
            );
            std::thread::sleep(Duration::from_secs(seconds));
            self.update()?;
        }
    }

    /// Downloads what every Debian system has, apt, the `wanted` packages, and all that these depend on (not what they
    /// only recommend).
    pub fn system(&self, wanted: &[String]) -> Result<Vec<PathBuf>> {
        let install = || {
            let mut apt = self.apt("apt-get");
            apt.args(["--yes", "--no-install-recommends", "install"]);
            apt.args(SYSTEM).args(wanted);
            apt
        };
        let archives = self.dir.join("archives");
        self.patiently(|| {
            let plan = shell::output(install().arg("--simulate"));
            let plan = plan.map_err(|e| anyhow::anyhow!(index::essence(&e.to_string())))?;
            let missing = planned(&plan).filter(|deb| !archives.join(deb).exists()).count();
            if missing > 0 {
                progress::step(
                    "Fetching",
                    format!("{missing} packages of Debian's for {}", self.arch.debian()),
                );
                shell::run_for(install().arg("--download-only"), SYSTEM_LIMIT)?;
            }
            Ok(())
        })?;
        let plan = shell::output(install().arg("--simulate"))?;
        let debs: Vec<PathBuf> = planned(&plan).map(|deb| archives.join(deb)).collect();
        match debs.iter().find(|deb| !deb.exists()) {
            None => Ok(debs),
            Some(deb) => bail!("apt-get left no {}", deb.display()),
        }
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
        let to = self.linux_dir();
        if !to.join("usr/lib/modules").exists() {
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
            let _ = fs::remove_dir_all(&to); // of a time when modules were not wanted
            replace_dir(&to, |fresh| unpack_kernel(&deb, fresh))?;
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

impl Apt {
    fn linux_dir(&self) -> PathBuf {
        self.dir.join("unpacked/linux")
    }
}

/// Is this apt's configuration for the state in `dir`? It names its directory absolutely, and with the one of a repository
/// that was copied or moved apt would work where the original is, or was.
fn is_for(conf: &str, dir: &Path) -> bool {
    conf.contains(&format!("\nDir::State \"{}\";\n", dir.display()))
}

/// How [`index::find`] reaches the mirrors.
struct Fetcher<'a> {
    apt: &'a Apt,
    deadline: Instant,
}

impl index::World for Fetcher<'_> {
    fn attempt(&mut self, source: &Source, way: Way) -> Result<(), String> {
        if Instant::now() > self.deadline {
            return Err(format!("no answer within {} s", PATIENCE.as_secs()));
        }
        if way == Way::Plain {
            let arch = self.apt.arch.debian();
            progress::step("Fetching", format!("Debian's package index for {arch}: {source}"));
        }
        self.apt.fetch_index(source, way).map_err(|e| {
            let text = format!("{source}, {way:?}: {e:#}\n");
            let log = File::options().create(true).append(true).open(self.apt.dir.join("update.log"));
            let _ = log.and_then(|mut log| log.write_all(text.as_bytes())); // only for who wants to know more
            text
        })
    }

    fn pause(&mut self, time: Duration, reason: &str) -> bool {
        progress::step("Waiting", format!("{} s for the mirrors: {reason}", time.as_secs()));
        std::thread::sleep(time);
        Instant::now() < self.deadline
    }
}

fn find_keyring(dir: &Path) -> Option<PathBuf> {
    const NAMES: [&str; 2] = ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"];
    NAMES.iter().map(|name| dir.join(name)).find(|path| path.exists())
}

/// Debian mirrors that the host's apt is configured with, security archives last.
fn host_mirrors() -> Result<Vec<String>> {
    let listing = shell::output(Command::new("apt-get").args([
        "indextargets",
        "--no-release-info", // on a fresh host, nothing has been fetched yet
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

/// The files of the packages that a simulated installation names: `Inst NAME [...] (VERSION RELEASE [ARCHITECTURE])`.
fn planned(plan: &str) -> impl Iterator<Item = String> {
    plan.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let version = rest.split(' ').next()?.replace(':', "%3a");
        let arch = rest.split_once('[')?.1.split(']').next()?;
        Some(format!("{}_{version}_{arch}.deb", name.split([' ', ':']).next()?))
    })
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

/// Only `/boot` and what disks need: a kernel package's modules are a hundred times its kernel.
fn unpack_kernel(deb: &Path, to: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stream = archive.stdout.take().context("no pipe")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--wildcards", "-C"]).arg(to).arg("./boot").args(modules::PATTERNS).stdin(stream);
    let tar = tar.status()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_for_one_directory() {
        let conf =
            "APT::Sandbox::User \"root\";\nDir::State \"/here\";\nDir::State::status \"/here/status\";\n";
        assert!(is_for(conf, Path::new("/here")));
        for other in ["/her", "/here/status", "/there"] {
            assert!(!is_for(conf, Path::new(other)), "{other}");
        }
        assert!(!is_for("", Path::new("/here")));
    }

    #[test]
    fn files_are_found_in_a_simulated_installation() {
        let plan = "Reading package lists...\n\
            Inst libc6 (2.41-12+deb13u5 Debian:13.8/stable [riscv64]) []\n\
            Inst login (1:4.16.0-2+really2.41.5 Debian:13.8/stable [riscv64])\n\
            Conf libc6 (2.41-12+deb13u5 Debian:13.8/stable [riscv64])\n\
            Inst tzdata (2026f-0 Debian:13.8/stable, Debian-Security:13/stable-security [all])\n";
        let files: Vec<String> = planned(plan).collect();
        let expected = [
            "libc6_2.41-12+deb13u5_riscv64.deb",
            "login_1%3a4.16.0-2+really2.41.5_riscv64.deb",
            "tzdata_2026f-0_all.deb",
        ];
        assert_eq!(files, expected);
    }
}
