//! Packages unpacked into a directory, as dpkg unpacks them.
//!
//! Problem: a package's files belong to root and others, some are set-user-id; who is not root cannot make such files. And
//! packages name files by way of /bin or /lib, which are links into /usr.
//!
//! Interface: [`System::add`] unpacks a `.deb` and answers what dpkg will want to know of it; [`System::owners`] says whom the
//! files should belong to.
//!
//! Idea: files are written as whoever we are, and owners are noted for later ([`super::ext4`]). dpkg-deb takes a `.deb`
//! apart; the archives in it are read here, since only their entries have the owners and what dpkg records.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tar::{Archive, Entry, EntryType};

/// A system that grows in a directory.
pub struct System {
    dir: PathBuf,
    owners: BTreeMap<String, (u64, u64)>,
}

/// A package as it came.
pub struct Package {
    /// The control file: `Field: value` lines.
    pub control: String,
    /// The other files of the control archive (scripts, conffiles, ...), with their modes.
    pub members: BTreeMap<String, (u32, Vec<u8>)>,
    /// Absolute names of its files and directories, as dpkg writes them.
    pub files: Vec<String>,
}

impl System {
    /// An empty one.
    pub fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let owners = BTreeMap::from([(String::new(), (0, 0))]);
        Ok(Self { dir, owners })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Paths without a leading slash and the ids of user and group that they should belong to.
    pub fn owners(&self) -> impl Iterator<Item = (&str, (u64, u64))> {
        self.owners.iter().map(|(path, &ids)| (path.as_str(), ids))
    }

    /// Unpacks a `.deb`.
    pub fn add(&mut self, deb: &Path) -> Result<Package> {
        let mut package = Package { control: String::new(), members: BTreeMap::new(), files: Vec::new() };
        let failed = || format!("cannot unpack {}", deb.display());
        each_entry(deb, "--ctrl-tarfile", |path, entry| package.add_member(&path, entry))
            .with_context(failed)?;
        each_entry(deb, "--fsys-tarfile", |path, entry| {
            package.files.push(if path.is_empty() { "/.".to_owned() } else { format!("/{path}") });
            self.place(path, entry)
        })
        .with_context(failed)?;
        Ok(package)
    }

    /// Writes a file of root's; directories on the way are made.
    pub fn write(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = self.resolve(path)?;
        self.make_parents(&path)?;
        let at = self.dir.join(&path);
        fs::write(&at, content).with_context(|| format!("cannot write {}", at.display()))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(mode))?;
        self.owners.insert(path, (0, 0));
        Ok(())
    }

    fn make_parents(&mut self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if !self.owners.contains_key(parent) {
                fs::create_dir_all(self.dir.join(parent))?;
                self.owners.insert(parent.to_owned(), (0, 0));
            }
        }
        Ok(())
    }

    /// The path with the links among its directories followed, as far as they exist. A link that leads out of the system is
    /// an error: nothing may be written elsewhere.
    fn resolve(&self, path: &str) -> Result<String> {
        const MOST_LINKS: u32 = 40;
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => drop(done.pop()), // above the root is the root
                _ => done.push(name),
            }
            let Ok(target) = fs::read_link(self.dir.join(done.join("/"))) else { continue };
            if left.is_empty() {
                break; // the last name means the link itself
            }
            links += 1;
            let target = target.to_str().filter(|_| links <= MOST_LINKS);
            let target = target.with_context(|| format!("too many links in {path}"))?;
            if target.starts_with('/') {
                done.clear();
            } else {
                done.pop();
            }
            left.extend(target.rsplit('/').map(str::to_owned));
        }
        Ok(done.join("/"))
    }

    /// One entry of a package's archive.
    fn place(&mut self, path: String, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        let kind = entry.header().entry_type();
        // A directory where another package has a link to one: dpkg keeps the link.
        if kind.is_dir() && self.dir.join(&path).is_dir() && fs::read_link(self.dir.join(&path)).is_ok() {
            return Ok(());
        }
        let path = self.resolve(&path)?;
        self.make_parents(&path)?;
        let at = self.dir.join(&path);
        match kind {
            EntryType::Directory => fs::create_dir_all(&at)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                io::copy(entry, &mut fs::File::create(&at)?)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.context("a symbolic link without a target")?;
                symlink(&target, &at).with_context(|| format!("cannot make the link {path}"))?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.context("a link without a target")?;
                let target = self.resolve(&relative(&target)?)?;
                fs::hard_link(self.dir.join(target), &at)?;
            }
            other => bail!("{path} is of a kind that no package should have: {other:?}"),
        }
        if matches!(kind, EntryType::Directory | EntryType::Regular | EntryType::Continuous) {
            fs::set_permissions(&at, fs::Permissions::from_mode(entry.header().mode()?))?;
        }
        if kind.is_file() {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(entry.header().mtime()?);
            fs::File::options().read(true).open(&at)?.set_modified(time)?;
        }
        self.owners.insert(path, (entry.header().uid()?, entry.header().gid()?));
        Ok(())
    }
}

impl Package {
    fn add_member(&mut self, name: &str, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        if !entry.header().entry_type().is_file() {
            return Ok(());
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if name == "control" {
            self.control = String::from_utf8(content).context("its control file is not UTF-8")?;
        } else {
            self.members.insert(name.to_owned(), (entry.header().mode()?, content));
        }
        Ok(())
    }

    /// A field of the control file, of one line.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.control.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }

    /// The lines of one of its members; none, when it has no such member.
    pub fn lines(&self, member: &str) -> impl Iterator<Item = String> {
        let content = self.members.get(member).map(|(_, content)| content.as_slice()).unwrap_or_default();
        let text = String::from_utf8_lossy(content).into_owned();
        text.lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Calls `take` with every entry of one of the two archives in a `.deb`, and its path in [`relative`]'s form.
fn each_entry(
    deb: &Path,
    archive: &str,
    mut take: impl FnMut(String, &mut Entry<'_, std::process::ChildStdout>) -> Result<()>,
) -> Result<()> {
    let mut program = Command::new("dpkg-deb")
        .arg(archive)
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let mut archive = Archive::new(program.stdout.take().context("no pipe")?);
    let result = archive.entries()?.try_for_each(|entry| {
        let mut entry = entry?;
        let path = relative(&entry.path()?)?;
        take(path, &mut entry)
    });
    // What is left is padding; without it dpkg-deb would complain of a broken pipe.
    let _ = io::copy(&mut archive.into_inner(), &mut io::sink());
    let status = program.wait()?;
    result?;
    if !status.success() {
        bail!("dpkg-deb failed ({status})");
    }
    Ok(())
}

/// `./usr/bin/` as `usr/bin`; the root as nothing.
fn relative(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(name) => parts.push(name.to_str().context("a name that is not UTF-8")?),
            _ => bail!("{} leads upwards", path.display()),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> System {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ochre-unpack-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        System::new(std::env::temp_dir().join(name)).expect("room for files")
    }

    impl Drop for System {
        fn drop(&mut self) {
            if self.dir.starts_with(std::env::temp_dir()) {
                let _ = fs::remove_dir_all(&self.dir); // only of tests
            }
        }
    }

    #[test]
    fn paths_lead_through_links_and_not_out() {
        let system = system();
        fs::create_dir_all(system.dir().join("usr/lib")).expect("room");
        for (target, link) in [("usr/lib", "lib"), ("/usr/../../../etc", "out"), ("loop", "loop")] {
            symlink(target, system.dir().join(link)).expect("room");
        }
        let check =
            |path: &str, expected: &str| assert_eq!(system.resolve(path).expect("resolves"), expected);
        check("lib/ld.so", "usr/lib/ld.so");
        check("lib", "lib");
        check("out/passwd", "etc/passwd");
        check("usr/../lib/new/file", "usr/lib/new/file");
        assert!(system.resolve("loop/x").is_err());
    }

    #[test]
    fn written_files_have_owned_parents() {
        let mut system = system();
        system.write("a/b/c", 0o600, b"x").expect("room");
        let owned: Vec<&str> = system.owners().map(|(path, _)| path).collect();
        assert_eq!(owned, ["", "a", "a/b", "a/b/c"]);
    }

    #[test]
    fn names_of_entries() {
        assert_eq!(relative(Path::new("./usr/bin/")).expect("fine"), "usr/bin");
        assert_eq!(relative(Path::new("./")).expect("fine"), "");
        assert!(relative(Path::new("./../x")).is_err());
    }
}
