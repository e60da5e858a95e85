//! The checks that keep the layout true, run as ordinary tests (tests/tidy.rs).
//!
//! They read the manifests and sources as text: no build, no network, well under a second. Each rule
//! says in its failure what to do instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate of the workspace.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    /// Folder relative to the root, with `/`.
    pub folder: String,
    /// Path dependencies by name, dev-dependencies left out.
    pub deps: Vec<String>,
}

/// The repository root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Folders that hold crates, from the bottom layer to the top. A crate may depend on crates of lower
/// layers, and of its own where `same_layer` says so.
const LAYERS: &[(&str, u32)] = &[
    ("abi", 0),
    ("lib", 1),
    ("policy", 2),
    ("machine", 3),
    ("kernel", 4),
    ("fs", 5),
    ("net", 5),
    ("drivers", 5),
    ("modules", 5),
    ("kernel/syscall", 6),
    ("kernel/boot", 7),
    ("user", 8),
    ("tools", 9),
];

/// The order inside layers whose crates build on each other.
const ORDER: &[&[&str]] = &[
    &["machine/arch", "machine/sync", "machine/klog", "machine/mem", "machine/task"],
    &[
        "kernel/irq",
        "kernel/time",
        "kernel/sched",
        "kernel/vm",
        "kernel/vfs",
        "kernel/shmem",
        "kernel/kernfs",
        "kernel/schedfs",
        "kernel/pci",
        "kernel/virtio",
        "kernel/net9p",
        "kernel/reclaim",
        "kernel/block",
        "kernel/socket",
        "kernel/kcore",
        "kernel/mqueue",
        "kernel/tty",
    ],
];

/// Crates that may contain `unsafe`: the machine layer and containers that say why in their README.
const UNSAFE_FOLDERS: &[&str] = &["machine/", "user/"];

/// All crates, found by their manifests.
pub fn packages() -> Vec<Package> {
    let root = root();
    let mut found = Vec::new();
    for layer in
        ["abi", "lib", "policy", "machine", "kernel", "fs", "net", "drivers", "modules", "user", "tools"]
    {
        collect_packages(&root, &root.join(layer), &mut found);
    }
    found
}

fn collect_packages(root: &Path, folder: &Path, found: &mut Vec<Package>) {
    let manifest = folder.join("Cargo.toml");
    if let Ok(text) = fs::read_to_string(&manifest) {
        let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().replace('\\', "/");
        found.push(parse_manifest(&text, folder));
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut folders: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    for inner in folders {
        collect_packages(root, &inner, found);
    }
}

/// Reads the few lines of a manifest that matter here. Manifests are ours, one dependency a line.
fn parse_manifest(text: &str, folder: String) -> Package {
    let mut section = "";
    let mut package = Package { name: String::new(), folder, deps: Vec::new() };
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[package]" && line.starts_with("name") {
            package.name = line.split('"').nth(1).unwrap_or_default().to_string();
        } else if section.ends_with("dependencies]")
            && section != "[dev-dependencies]"
            && line.contains("path")
        {
            package.deps.push(line.split([' ', '=', '.']).next().unwrap_or_default().to_string());
        }
    }
    package
}

fn layer_of(folder: &str) -> Option<u32> {
    let exact = LAYERS.iter().find(|(name, _)| *name == folder);
    let by_top = || LAYERS.iter().find(|(name, _)| folder.split('/').next() == Some(name));
    exact.or_else(by_top).map(|(_, layer)| *layer)
}

/// Why `from` may not depend on `to`, if so.
pub fn forbidden(from: &str, to: &str) -> Option<String> {
    let (Some(from_layer), Some(to_layer)) = (layer_of(from), layer_of(to)) else {
        return Some(format!("{from} or {to} is in no layer: add its folder to LAYERS"));
    };
    if from.starts_with("user/") {
        let ok =
            to.starts_with("user/") || to == "abi" || to.starts_with("tools/wire") || to.starts_with("lib/");
        return (!ok).then(|| format!("{from} is a user program: it may know abi, not {to}"));
    }
    // A harness that runs one kernel crate on the host links that crate, and its own stand-ins for the rest.
    if from.starts_with("tools/") && from.ends_with("-host") {
        return None;
    }
    if from.starts_with("tools/") {
        let ok = ["tools/", "policy/", "lib/", "abi"].iter().any(|p| to.starts_with(p));
        return (!ok).then(|| format!("{from} is a host tool: it may not link {to}"));
    }
    if from_layer > to_layer {
        return None;
    }
    if from_layer < to_layer {
        return Some(format!("{from} is below {to}: dependencies point downward"));
    }
    for order in ORDER {
        let place = |folder: &str| order.iter().position(|name| *name == folder);
        if let (Some(a), Some(b)) = (place(from), place(to)) {
            return (a <= b).then(|| format!("{from} comes before {to} in the order of its layer"));
        }
    }
    let may_build_on_each_other = ["lib", "policy"].iter().any(|layer| from.starts_with(layer));
    (!may_build_on_each_other)
        .then(|| format!("{from} and {to} are leaves of one layer and may not know each other"))
}

/// Every dependency that the layers forbid.
pub fn layer_violations(packages: &[Package]) -> Vec<String> {
    let folders: BTreeMap<&str, &str> =
        packages.iter().map(|p| (p.name.as_str(), p.folder.as_str())).collect();
    let mut problems = Vec::new();
    for package in packages {
        for dep in &package.deps {
            let Some(folder) = folders.get(dep.as_str()) else {
                problems
                    .push(format!("{}: path dependency {dep} is no crate of the workspace", package.folder));
                continue;
            };
            problems.extend(forbidden(&package.folder, folder));
        }
    }
    problems
}

/// All Rust sources with their text, paths relative to the root.
pub fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    for package in packages() {
        collect_sources(&root, &root.join(package.folder), &mut files);
    }
    files
}

fn collect_sources(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect_sources(root, &path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push((name, fs::read_to_string(&path).unwrap_or_default()));
        }
    }
}

/// Whether a file's crate may contain unsafe code.
pub fn may_be_unsafe(file: &str) -> bool {
    UNSAFE_FOLDERS.iter().any(|folder| file.starts_with(folder)) || file == "kernel/boot/src/main.rs"
}

/// The code of a line without its `//` comment (a `//` inside a string is rare enough to live with).
pub fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}
