//! dpkg's records of packages that are unpacked and not yet configured: `/var/lib/dpkg`.
//!
//! Sources: dpkg(1), deb-triggers(5), and dpkg's own documentation of `/var/lib/dpkg/info` (format 1).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use md5::{Digest, Md5};

use super::unpack::{Package, System};

const DIR: &str = "var/lib/dpkg";

/// Writes the database.
pub fn record(system: &mut System, packages: &[Package]) -> Result<()> {
    let mut status = String::new();
    let mut triggers: BTreeMap<String, String> = BTreeMap::new();
    for package in packages {
        status += &paragraph(system, package)?;
        record_files(system, package)?;
        add_triggers(package, &mut triggers)?;
    }
    let files = [("status", status.as_bytes()), ("available", b""), ("info/format", b"1\n"), ("lock", b"")];
    for (name, content) in files {
        system.write(&format!("{DIR}/{name}"), 0o644, content)?;
    }
    for (name, content) in &triggers {
        system.write(&format!("{DIR}/triggers/{name}"), 0o644, content.as_bytes())?;
    }
    system.write(&format!("{DIR}/triggers/Unincorp"), 0o644, b"")
}

fn name(package: &Package) -> Result<&str> {
    package.field("Package").context("a package without a name")
}

/// The stem of its files in `info/`: with the architecture where packages of several may be installed side by side.
fn stem(package: &Package) -> Result<String> {
    let (name, arch) = (name(package)?, package.field("Architecture").unwrap_or("all"));
    Ok(match package.field("Multi-Arch") {
        Some("same") => format!("{name}:{arch}"),
        _ => name.to_owned(),
    })
}

/// The package's paragraph of the status file.
fn paragraph(system: &System, package: &Package) -> Result<String> {
    let (first, rest) = package.control.trim_end().split_once('\n').context("an empty control file")?;
    let mut text = format!("{first}\nStatus: install ok unpacked\n{rest}\n");
    let conffiles: Vec<String> = package.lines("conffiles").filter(|line| line.starts_with('/')).collect();
    if !conffiles.is_empty() {
        text += "Conffiles:\n";
    }
    for file in conffiles {
        let at = system.dir().join(&file[1..]);
        let content = fs::read(&at).with_context(|| format!("cannot read {}", at.display()))?;
        write!(text, " {file} ")?;
        Md5::digest(content).iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        text.push('\n');
    }
    text.push('\n');
    Ok(text)
}

fn record_files(system: &mut System, package: &Package) -> Result<()> {
    let stem = stem(package)?;
    let list: String = package.files.iter().map(|file| format!("{file}\n")).collect();
    system.write(&format!("{DIR}/info/{stem}.list"), 0o644, list.as_bytes())?;
    for (member, (mode, content)) in &package.members {
        system.write(&format!("{DIR}/info/{stem}.{member}"), mode & 0o777, content)?;
    }
    Ok(())
}

/// Who is interested in what: paths in one file, names in a file each. `/noawait`: the other does not wait for it.
fn add_triggers(package: &Package, triggers: &mut BTreeMap<String, String>) -> Result<()> {
    let name = stem(package)?;
    for line in package.lines("triggers") {
        let mut words = line.split_whitespace();
        let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
        let waits = match directive {
            "interest" | "interest-await" => "",
            "interest-noawait" => "/noawait",
            _ => continue,
        };
        let (file, line) = match trigger.starts_with('/') {
            true => ("File", format!("{trigger} {name}{waits}\n")),
            false => (trigger, format!("{name}{waits}\n")),
        };
        *triggers.entry(file.to_owned()).or_default() += &line;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_in_triggers_are_recorded() {
        let content =
            b"# a comment\ninterest-noawait ldconfig\ninterest /usr/share/man\nactivate x\n".to_vec();
        let package = Package {
            control: "Package: p\nMulti-Arch: same\nArchitecture: riscv64\n".into(),
            members: BTreeMap::from([("triggers".to_owned(), (0o644, content))]),
            files: Vec::new(),
        };
        let mut triggers = BTreeMap::new();
        add_triggers(&package, &mut triggers).expect("it has a name");
        let expected = [("File", "/usr/share/man p:riscv64\n"), ("ldconfig", "p:riscv64/noawait\n")];
        let triggers: Vec<_> = triggers.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(triggers, expected);
    }
}
