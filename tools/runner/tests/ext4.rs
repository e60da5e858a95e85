//! ext4 in the guest: ordinary programs on images that mke2fs made, power cuts while a program is promised that its data
//! is safe, and e2fsck on the host as the judge of both. Without e2fsprogs the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Duration;

use runner::arch::Arch;
use runner::guest::{Guest, Sinks};
use runner::machine::{Drive, Machine};
use runner::{places, progress, testing};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// A disk image in a temporary file.
struct Image(PathBuf);

impl Image {
    /// `None`, and a word about it, without mke2fs.
    fn make(name: &str, options: &str, megabytes: u64) -> Option<Image> {
        let image = Image(std::env::temp_dir().join(format!("ochre-{name}-{}.img", std::process::id())));
        let file = std::fs::File::create(&image.0).expect("room for an image");
        file.set_len(megabytes << 20).expect("room for an image");
        let mut mke2fs = tool("mke2fs");
        match mke2fs.args(["-q", "-F"]).args(options.split_whitespace()).arg(&image.0).status() {
            Ok(status) => {
                assert!(status.success(), "mke2fs {options}");
                Some(image)
            }
            Err(error) => {
                eprintln!("skipped: mke2fs: {error} (Debian: apt-get install e2fsprogs)");
                None
            }
        }
    }

    fn drive(&self) -> Drive {
        Drive { file: self.0.to_string_lossy().into_owned(), snapshot: false }
    }

    fn copy(&self) -> Image {
        let copy = Image(self.0.with_extension("copy.img"));
        std::fs::copy(&self.0, &copy.0).expect("room for an image");
        copy
    }

    /// What e2fsck says that is wrong.
    fn fsck(&self) -> Option<String> {
        let out = tool("e2fsck").arg("-fn").arg(&self.0).output().expect("e2fsck runs");
        (!out.status.success()).then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Lets e2fsck replay and repair as at boot.
    fn preen(&self) {
        let out = tool("e2fsck").arg("-p").arg(&self.0).output().expect("e2fsck runs");
        assert!(
            out.status.code().is_some_and(|code| code & !3 == 0),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
    }

    /// A file's contents, read by debugfs.
    fn cat(&self, path: &str) -> Vec<u8> {
        tool("debugfs")
            .args(["-R", &format!("cat {path}")])
            .arg(&self.0)
            .output()
            .expect("debugfs runs")
            .stdout
    }

    /// Which of the first `last` files of the log are not as promised, and what is there.
    fn broken_promises(&self, last: usize) -> Option<String> {
        let mut broken = String::new();
        for number in 0..last {
            let (found, expected) = (self.cat(&format!("f{number}")), promised(number));
            if found != expected {
                let same =
                    found.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
                let (found, expected) = (found.len(), expected.len());
                broken += &format!("f{number}: {found} bytes of {expected}, the first {same} as written\n");
            }
        }
        if broken.is_empty() {
            return None;
        }
        if let Ok(folder) = std::env::var("OCHRE_KEEP_IMAGES") {
            let _ = std::fs::copy(&self.0, Path::new(&folder).join("broken.img"));
        }
        Some(broken)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A program of e2fsprogs, which Debian keeps where users do not look.
fn tool(name: &str) -> Program {
    let folder = ["/usr/sbin", "/sbin"].into_iter().find(|folder| Path::new(folder).join(name).exists());
    Program::new(folder.map_or(PathBuf::from(name), |folder| Path::new(folder).join(name)))
}

/// Boots a machine with the image as /dev/vda for one script; `limit` is when its power goes. What it wrote, and whether
/// it ended by itself.
fn run(arch: Arch, image: &Image, script: &str, limit: Duration) -> (String, Option<i32>) {
    places::set_runner(RUNNER);
    progress::set_quiet(true);
    let machine = Machine { drive: vec![image.drive()], ..Machine::new(arch) };
    let mut guest =
        Guest::start(&machine, &testing::command(&["sh", "-c", script])).expect("the guest starts");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = guest.follow(Sinks { out: &mut out, err: &mut err, log: None }, Some(limit)).ok();
    if ended.is_some() {
        guest.power_off();
    }
    // Else the machine is killed here, in the middle of what it does.
    (String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err), ended)
}

const LONG: Duration = Duration::from_secs(300);

#[test]
fn programs_on_every_kind_of_image() {
    let kinds = [
        (Arch::Riscv64, "-t ext4 -b 4096"),
        (Arch::X86_64, "-t ext4 -b 1024"),
        (Arch::X86_64, "-t ext3 -b 4096"),
        (Arch::Riscv64, "-t ext2 -b 1024"),
    ];
    for (arch, options) in kinds {
        let Some(image) = Image::make("programs", options, 128) else { return };
        let script = "mount -t ext4 /dev/vda /tmp && chmod 1777 /tmp || exit 9; cd /tmp; \
            for group in names trees files direct attributes locks memory; do checks $group | grep -v '^ok '; done; \
            cp -r /bin /tmp/copy && cmp /bin/busybox /tmp/copy/busybox && du -s /tmp/copy > /dev/null || exit 8; \
            mkdir many; i=0; while [ $i -lt 2000 ]; do echo $i > many/file-$i; i=$((i+1)); done; ls many | wc -l; \
            rm -r many copy; cd /; umount /tmp || exit 7; \
            mount -t ext4 -o ro /dev/vda /tmp && ls /tmp > /dev/null && ! touch /tmp/x 2> /dev/null && umount /tmp";
        let (out, ended) = run(arch, &image, script, LONG);
        assert_eq!(ended, Some(0), "{arch} {options}: {out}");
        // Files that are mapped by blocks cannot be preallocated, on Linux either.
        let by_blocks = !options.contains("ext4");
        let refused = out.contains("FAIL files/fallocate: EOPNOTSUPP") && out.contains(" passed, 1 failed");
        assert_eq!(refused, by_blocks, "{arch} {options}: {out}");
        assert_eq!(out.matches(", 0 failed").count(), 7 - usize::from(by_blocks), "{arch} {options}: {out}");
        assert!(out.contains("2000\n"), "{arch} {options}: {out}");
        assert_eq!(image.fsck(), None, "{arch} {options}");
    }
}

/// The content of file `number` of the log.
fn promised(number: usize) -> Vec<u8> {
    format!("line {number} of the log\n").repeat(number % 50 + 1).into_bytes()
}

/// The power goes at some moment of a program that writes files, syncs each, and says so.
#[test]
fn what_fsync_promised_survives_a_power_cut() {
    let cuts = std::env::var("OCHRE_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    for cut in 0..cuts {
        let arch = Arch::ALL[cut % Arch::ALL.len()];
        let Some(image) = Image::make("cut", "-t ext4 -b 4096 -J size=4", 64) else { return };
        let script = "mount -t ext4 /dev/vda /mnt 2> /dev/null || { mkdir -p /mnt; mount -t ext4 /dev/vda /mnt; }; cd /mnt; i=0; \
            while true; do n=$((i % 50 + 1)); \
            while [ $n -gt 0 ]; do echo line $i of the log; n=$((n-1)); done | dd of=f$i conv=fsync 2> /dev/null && echo safe $i; \
            [ $((i % 3)) = 0 ] && echo x > junk && mv junk other; i=$((i+1)); done";
        // A different moment each time, the first ones while the machine has hardly begun.
        let limit = Duration::from_millis(4000 + (1700 * cut as u64) % 9000 + 37 * (cut as u64 / 9));
        let (out, ended) = run(arch, &image, script, limit);
        assert_eq!(ended, None, "{arch}: {out}");
        let safe = out.lines().filter_map(|line| line.strip_prefix("safe ")?.parse::<usize>().ok()).max();
        let last = safe.map_or(0, |last| last + 1);
        // By e2fsck's replay ...
        let other = image.copy();
        other.preen();
        assert_eq!(other.fsck(), None, "{arch}, {last} safe: after e2fsck's replay");
        if let Some(broken) = other.broken_promises(last) {
            panic!("{arch}, {last} safe: after e2fsck's replay: {broken}");
        }
        // ... and by ours.
        let script = "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt && ls /mnt | wc -l && umount /mnt";
        let (out, ended) = run(arch, &image, script, LONG);
        assert_eq!(ended, Some(0), "{arch}: {out}");
        assert_eq!(image.fsck(), None, "{arch}, {last} safe: after our replay");
        if let Some(broken) = image.broken_promises(last) {
            panic!("{arch}, {last} safe: after our replay: {broken}");
        }
    }
}
