//! Directories of the host's in the guest: what either side does, the other sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use runner::arch::Arch;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// A directory that is gone with the value.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("ochre-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).expect("for everybody");
        Dir(path)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).symlink_metadata().is_ok()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // nobody is helped by a test that fails for that
    }
}

/// Runs a script with directories shared; its output. Panics with everything it said when it failed.
fn sh(arch: Arch, shares: &[String], more: &[&str], script: &str) -> String {
    let mut command = Command::new(RUNNER);
    command.args(["exec", "--arch", arch.name(), "--timeout", "280", "--append", "oops=panic"]);
    for share in shares {
        command.args(["--share", share]);
    }
    let output = command.args(more).args(["--", "sh", "-c", script]).output().expect("the runner starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arch} {more:?}: {script}\n{out}{err}");
    out.into_owned()
}

fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Bytes without a period that a page or a message would hide.
fn pattern(len: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_u32;
    let next = |_| {
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        word as u8
    };
    (0..len).map(next).collect()
}

/// The machines: by memory-mapped registers, and by PCI with messages; the latter with debug checks.
fn machines() -> [(Arch, &'static [&'static str]); 2] {
    [(Arch::Riscv64, &[]), (Arch::X86_64, &["--debug"])]
}

#[test]
fn both_sides_see_the_same_files() {
    const LEN: usize = 3_000_001;
    for (arch, more) in machines() {
        let (dir, other) = (Dir::new(&format!("share-{arch}")), Dir::new(&format!("other-{arch}")));
        fs::write(dir.0.join("big"), pattern(LEN)).expect("a file");
        fs::write(dir.0.join("changing"), "first\n").expect("a file");
        fs::write(other.0.join("there"), "read only\n").expect("a file");
        let script = "cd /mnt/share || exit 1
            cp big copied && cmp big copied && echo same
            mkdir -p a/b && echo one > a/b/one && mv a/b/one two && ln -s two three && ln two four && rmdir a/b
            cat three; echo more >> two; cat four; rm four; chmod 640 two; stat -c %a two; readlink three
            echo lost > gone; rm gone; truncate -s 1000000 copied; : > empty; ls -a | sort | tr '\\n' ' '; echo
            cat /mnt/share1/there; echo x 2>/dev/null > /mnt/share1/new || echo refused
            cat changing; touch ready; while [ ! -e go ]; do sleep 0.2; done; cat changing; rm go
            cd /; umount /mnt/share
            for cache in none readahead mmap loose; do
                mount -t 9p -o trans=virtio,version=9p2000.L,msize=65536,cache=$cache share /mnt/share || exit 2
                grep ' /mnt/share 9p ' /proc/mounts | grep -c \"cache=$cache\\|rw,relatime,access=client\"
                dd if=/mnt/share/big of=/mnt/share/$cache bs=10000 2>/dev/null
                cmp /mnt/share/big /mnt/share/$cache && echo $cache
                echo appended >> /mnt/share/$cache; umount /mnt/share || exit 3
            done
            mount -t 9p none /mnt/share || mount -t 9p -o version=9p2000 share /mnt/share || echo neither";
        let changes = dir.0.clone();
        let host = thread::spawn(move || {
            // The guest, or the test's own limit, ends this.
            while !changes.join("ready").exists() {
                if !changes.exists() {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
            fs::write(changes.join("changing"), "second, and longer\n").expect("a file");
            fs::write(changes.join("go"), "").expect("a file");
        });
        let out = sh(arch, &[name(&dir.0), format!("{},readonly", name(&other.0))], more, script);
        host.join().expect("the host's part");
        let expected = "same\none\none\nmore\n640\ntwo\n\
            . .. a big changing copied empty three two \n\
            read only\nrefused\nfirst\nsecond, and longer\n\
            1\nnone\n1\nreadahead\n1\nmmap\n1\nloose\nneither\n";
        let seen: String =
            out.lines().filter(|line| !line.contains("mount:")).map(|line| format!("{line}\n")).collect();
        assert_eq!(seen, expected, "{arch}");
        assert_eq!(dir.read("two"), "one\nmore\n", "{arch}");
        assert_eq!(fs::read_link(dir.0.join("three")).ok().as_deref(), Some(Path::new("two")), "{arch}");
        assert!(!dir.has("four") && !dir.has("gone") && !dir.has("a/b") && dir.has("a"), "{arch}");
        assert!(fs::read(dir.0.join("copied")).expect("the copy") == pattern(LEN)[..1_000_000], "{arch}");
        let mut whole = pattern(LEN);
        whole.extend(b"appended\n");
        for cache in ["none", "readahead", "mmap", "loose"] {
            assert!(fs::read(dir.0.join(cache)).expect("a copy") == whole, "{arch} {cache}");
        }
    }
}

/// What the protocol does not have, or QEMU's server of files by their names cannot do; on Linux neither.
const IMPOSSIBLE: [&str; 7] = [
    "names/exchange",
    "names/removed_directory",
    "trees/unnamed_files",
    "trees/attributes",
    "trees/fifo_ends",
    "trees/sparse_seek",
    "files/fallocate",
];

#[test]
fn programs_find_what_they_rely_on() {
    let groups = "names/links names/rename names/exchange names/removed_directory trees files memory locks";
    for (arch, more) in machines() {
        let dir = Dir::new(&format!("checks-{arch}"));
        let script = format!(
            "umount /mnt/share; mount -t 9p -o trans=virtio,version=9p2000.L,cache=mmap share /tmp && checks {groups}; true"
        );
        let out = sh(arch, &[name(&dir.0)], more, &script);
        let failed = out.lines().filter_map(|line| line.strip_prefix("FAIL ")?.split(':').next());
        let wrong: Vec<&str> = failed.filter(|check| !IMPOSSIBLE.contains(check)).collect();
        assert!(wrong.is_empty() && out.contains(" passed, "), "{arch}: {wrong:?}\n{out}");
    }
}
