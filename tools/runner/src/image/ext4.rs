//! A directory as an ext4 file system in a file, by e2fsprogs.
//!
//! Idea: `mke2fs -d` copies the directory, with whatever owners the files have here; what differs from whom they should
//! belong to is set in the image, by debugfs. So it makes no difference whether we are root.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::unpack::System;
use crate::{setup, shell};

const LIMIT: Duration = Duration::from_secs(900);

/// Makes `image` of the system, with so many bytes of room beside it. `extended`: options of mke2fs's `-E`.
pub fn make(system: &System, room: u64, extended: &str, image: &Path) -> Result<()> {
    let file = File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len((size(system.dir())? + room).next_multiple_of(1 << 20))?;
    let mut mke2fs = setup::sbin("mke2fs");
    // The rest is mke2fs.conf's; lazy initialisation leaves to the file's holes what would be zeroes.
    mke2fs.args(["-q", "-F", "-t", "ext4", "-L", "ochre", "-E"]).arg(format!("root_owner=0:0,{extended}"));
    mke2fs.arg("-d").arg(system.dir());
    shell::run_for(mke2fs.arg(image), LIMIT)?;
    let commands = image.with_extension("debugfs");
    fs::write(&commands, owner_commands(system)?)?;
    run_debugfs(image, &commands)
}

/// The space that the files take, in bytes, roughly.
fn size(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?; // of a link, its own
        sum += 512 + meta.len().next_multiple_of(4096);
        if meta.is_dir() {
            sum += size(&entry.path())?;
        }
    }
    Ok(sum)
}

/// What debugfs has to do so that files belong to whom they should.
fn owner_commands(system: &System) -> Result<String> {
    let mut commands = String::new();
    for (path, (user, group)) in system.owners() {
        let meta = fs::symlink_metadata(system.dir().join(path))?;
        for (field, wanted, is) in [("uid", user, meta.uid()), ("gid", group, meta.gid())] {
            if wanted != u64::from(is) && !path.is_empty() {
                writeln!(commands, "set_inode_field \"/{path}\" {field} {wanted}")?;
            }
        }
    }
    Ok(commands)
}

/// debugfs reports no failure by its status: what it writes to stderr besides its version is one.
fn run_debugfs(image: &Path, commands: &Path) -> Result<()> {
    let mut debugfs = setup::sbin("debugfs");
    debugfs.arg("-w").arg("-f").arg(commands).arg(image);
    let mut child = debugfs
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run debugfs")?;
    let mut said = String::new();
    child.stderr.take().context("no pipe")?.read_to_string(&mut said)?;
    let status = child.wait()?;
    match said.lines().find(|line| !line.starts_with("debugfs ")) {
        None if status.success() => Ok(()),
        complaint => bail!("debugfs failed ({status}): {}", complaint.unwrap_or_default()),
    }
}

/// Fails if e2fsck finds anything wrong.
pub fn check(image: &Path) -> Result<()> {
    let mut e2fsck: Command = setup::sbin("e2fsck");
    shell::run_for(e2fsck.arg("-fn").arg(image), LIMIT).context("the image is damaged")
}
