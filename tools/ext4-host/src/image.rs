//! Images: made by mke2fs, judged by e2fsck, read by debugfs. Without these programs the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// What mke2fs is asked for: a name, the options, and whether there is a journal.
pub const OPTIONS: &[(&str, &str, bool)] = &[
    ("ext4", "-t ext4 -b 4096 -J size=4", true),
    ("ext4-1k", "-t ext4 -b 1024 -J size=2", true),
    ("ext4-2k", "-t ext4 -b 2048 -J size=4", true),
    ("ext4-new", "-t ext4 -b 4096 -J size=4 -O metadata_csum_seed,orphan_file", true),
    ("ext4-plain", "-t ext4 -b 4096 -J size=4 -O ^64bit,^metadata_csum,^flex_bg", true),
    ("ext4-csum32", "-t ext4 -b 1024 -J size=2 -O ^64bit,uninit_bg,^metadata_csum", true),
    ("ext4-groups", "-t ext4 -b 1024 -g 1024 -N 4096 -J size=2", true),
    ("ext4-metabg", "-t ext4 -b 1024 -g 1024 -N 4096 -J size=2 -O meta_bg,^resize_inode", true),
    ("ext4-i128", "-t ext4 -b 4096 -J size=4 -I 128", true),
    ("ext4-i512", "-t ext4 -b 4096 -J size=4 -I 512", true),
    ("ext4-nojournal", "-t ext4 -b 4096 -O ^has_journal", false),
    ("ext3", "-t ext3 -b 1024 -J size=2", true),
    ("ext2", "-t ext2 -b 1024", false),
];

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(tool)).find(|file| file.exists())
}

/// Whether e2fsprogs is here; says so when not.
pub fn have_tools() -> bool {
    let missing = ["mke2fs", "e2fsck", "debugfs"].iter().find(|tool| find(tool).is_none());
    if let Some(tool) = missing {
        eprintln!("skipped: {tool} is not installed (Debian: apt-get install e2fsprogs)");
    }
    missing.is_none()
}

fn run(tool: &str, args: &[&str]) -> Output {
    let program = find(tool).expect("the tool was looked for");
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("E2FSPROGS_FAKE_TIME", "")
        .output()
        .expect("it runs")
}

/// An image in a temporary file, removed when dropped.
pub struct Image {
    path: PathBuf,
}

impl Image {
    fn fresh() -> Image {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ext4-host-{}-{}.img", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Image { path: std::env::temp_dir().join(name) }
    }

    /// An image of `megabytes` made by mke2fs; free blocks hold `STALE...`, which no file may show.
    pub fn make(options: &str, megabytes: usize, populate: Option<&Path>) -> Image {
        let image = Image::fresh();
        std::fs::write(&image.path, b"STALE!!\n".repeat(megabytes << 17)).expect("room for an image");
        let mut args: Vec<&str> = vec!["-F", "-q", "-E", "nodiscard,lazy_itable_init=1"];
        args.extend(options.split_whitespace());
        let folder = populate.map(|folder| folder.to_string_lossy().into_owned());
        if let Some(folder) = &folder {
            args.extend(["-d", folder]);
        }
        let path = image.path.to_string_lossy().into_owned();
        args.push(&path);
        let out = run("mke2fs", &args);
        assert!(out.status.success(), "mke2fs {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        image
    }

    pub fn from_bytes(bytes: &[u8]) -> Image {
        let image = Image::fresh();
        std::fs::write(&image.path, bytes).expect("room for an image");
        image
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("the image is there")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `e2fsck -fn` finds; empty when all is well.
    pub fn fsck(&self) -> String {
        let out = run("e2fsck", &["-fn", &self.path.to_string_lossy()]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let asks = text.lines().any(|line| line.contains('?') || line.contains("could be"));
        if out.status.success() && !asks { String::new() } else { text }
    }

    /// Lets e2fsck replay the journal and repair as it does at boot; false when it would not.
    pub fn preen(&self) -> bool {
        run("e2fsck", &["-p", &self.path.to_string_lossy()]).status.code().is_some_and(|code| code & !3 == 0)
    }

    /// Runs a debugfs command, for writing with `-w`.
    pub fn debugfs(&self, command: &str, write: bool) -> String {
        let path = self.path.to_string_lossy();
        let mut args = vec!["-R", command];
        if write {
            args.push("-w");
        }
        args.push(&path);
        String::from_utf8_lossy(&run("debugfs", &args).stdout).into_owned()
    }
}

impl Image {
    /// Runs the commands of a file in debugfs, writing.
    pub fn run_script(&self, script: &Path) {
        run("debugfs", &["-w", "-f", &script.to_string_lossy(), &self.path.to_string_lossy()]);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
