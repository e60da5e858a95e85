//! Where things are: the repository, the build directory, the cache, a run's own directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::cleanup;

/// The repository's root.
pub fn root() -> &'static Path {
    // The manifest of this crate is at tools/runner.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// Cargo's build directory: `CARGO_TARGET_DIR`, or `target/` of the repository.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or(dir.into()),
        None => root().join("target"),
    }
}

/// What was fetched and is kept.
pub fn cache() -> PathBuf {
    target().join("cache")
}

static RUNNER: OnceLock<PathBuf> = OnceLock::new();

/// Tells which file the runner is, when this process is another one (a test).
pub fn set_runner(path: impl Into<PathBuf>) {
    let _ = RUNNER.set(path.into()); // a second call says the same
}

/// The runner's own executable.
pub fn runner() -> Result<PathBuf> {
    match RUNNER.get() {
        Some(path) => Ok(path.clone()),
        None => std::env::current_exe().context("where is this program?"),
    }
}

/// Waits for its turn with `file`, whose directory is made if need be; the turn ends when the answer is dropped. It holds
/// between threads as between processes.
pub fn lock(file: &Path) -> Result<File> {
    let cannot = || format!("cannot lock {}", file.display());
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).with_context(cannot)?;
    }
    let lock = File::create(file).with_context(cannot)?;
    lock.lock().with_context(cannot)?;
    Ok(lock)
}

/// A new directory for one run, removed at the end of this process. Directories that ended runs left are removed too.
pub fn run_dir() -> Result<PathBuf> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let runs = target().join("run");
    remove_stale(&runs);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = runs.join(format!("{}-{count}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let doomed = dir.clone();
    cleanup::at_exit(move || drop(fs::remove_dir_all(doomed)));
    Ok(dir)
}

/// A run's directory is named after its process; without that process nobody needs it.
fn remove_stale(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path()); // another runner may be doing the same
        }
    }
}
