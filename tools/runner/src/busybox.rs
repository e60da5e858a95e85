//! BusyBox: Debian's static binary, and the names it answers to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::arch::Arch;
use crate::debian::Apt;

/// The binary for `arch`: the caller's own, or Debian's.
pub fn find(arch: Arch, own: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = own {
        return Ok(path.to_owned());
    }
    Apt::open(arch)
        .and_then(|apt| apt.unpacked("busybox-static"))
        .map(|dir| dir.join("usr/bin/busybox"))
        .map_err(|e| {
            anyhow!(
                "cannot get BusyBox for {arch}: {e:#}\n\
                 It is Debian's package busybox-static; `--busybox FILE` takes a static BusyBox of your own instead."
            )
        })
}

/// The names that the binary answers to, as they stand in it: NUL-terminated and sorted, beginning with `[`.
///
/// Reading them from the file rather than asking `busybox --list` works for architectures that the host cannot run.
pub fn applets(binary: &Path) -> Result<Vec<String>> {
    let content = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    applet_names(&content).with_context(|| format!("{} has no list of applets", binary.display()))
}

fn applet_names(content: &[u8]) -> Option<Vec<String>> {
    const BEGIN: &[u8] = b"[\0[[\0";
    let start = content.windows(BEGIN.len()).position(|w| w == BEGIN)?;
    let names = content[start..].split(|&b| b == 0).map_while(|name| {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"[-_+.".contains(b);
        (!name.is_empty() && name.iter().all(plain)).then(|| String::from_utf8_lossy(name).into_owned())
    });
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_up_to_the_first_empty_one() {
        let binary = b"\x7fELF..\0[\0[[\0ash\0cat\0nc.traditional\0\0usage\0";
        assert_eq!(
            applet_names(binary),
            Some(["[", "[[", "ash", "cat", "nc.traditional"].map(String::from).into())
        );
        assert_eq!(applet_names(b"nothing"), None);
    }
}
