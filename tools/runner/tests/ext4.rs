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

    /// The bytes that it takes on the host's disk.
    fn room(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.0).expect("the image").blocks() * 512
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
    run_in(&Machine { drive: vec![image.drive()], ..Machine::new(arch) }, script, limit)
}

/// As [`run`], in any machine.
fn run_in(machine: &Machine, script: &str, limit: Duration) -> (String, Option<i32>) {
    places::set_runner(RUNNER);
    progress::set_quiet(true);
    let mut guest =
        Guest::start(machine, &testing::command(&["sh", "-c", script])).expect("the guest starts");
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

/// Blocks that files leave become holes of the image: by `-o discard` at once, by FITRIM when a program asks; and so
/// does what a loop device drops become a hole of its file.
#[test]
fn what_is_discarded_takes_no_room() {
    const MIB: u64 = 1 << 20;
    for (arch, options) in [(Arch::X86_64, "-t ext4 -b 4096"), (Arch::Riscv64, "-t ext4 -b 1024")] {
        let fill =
            "dd if=/dev/urandom of=/mnt/big bs=1M count=40 2> /dev/null && sync && rm /mnt/big && sync";
        let mount = "mkdir -p /mnt; mount -t ext4";
        let Some(image) = Image::make("discard", options, 96) else { return };
        let script = format!("{mount} /dev/vda /mnt && {fill}; umount /mnt");
        assert_eq!(run(arch, &image, &script, LONG).1, Some(0), "{arch}");
        assert!(image.room() >= 40 * MIB, "{arch}: nothing was discarded");
        let script = format!(
            "{mount} /dev/vda /mnt && fstrim -v /mnt && dd if=/dev/urandom of=/mnt/f bs=1M count=4 2> /dev/null && \
            losetup -f /mnt/f && blkdiscard -o 1048576 -l 2097152 /dev/loop0 && losetup -d /dev/loop0 && \
            sync && du -k /mnt/f && umount /mnt"
        );
        let (out, ended) = run(arch, &image, &script, LONG);
        assert_eq!(ended, Some(0), "{arch}: {out}");
        let kept = out.lines().find_map(|line| line.strip_suffix("/mnt/f")?.trim().parse::<u64>().ok());
        assert!(kept.is_some_and(|kib| (2040..2100).contains(&kib)), "{arch}: {out}");
        assert!(image.room() < 24 * MIB, "{arch}: {} KiB after {out}", image.room() / 1024);
        let script =
            format!("{mount} -o discard /dev/vda /mnt && grep /mnt /proc/mounts && {fill}; umount /mnt");
        let (out, ended) = run(arch, &image, &script, LONG);
        assert!(ended == Some(0) && out.contains(",discard"), "{arch}: {out}");
        assert!(image.room() < 24 * MIB, "{arch}: {} KiB", image.room() / 1024);
        assert_eq!(image.fsck(), None, "{arch}");
    }
}

/// Files of many times the memory are written, verified, and meanwhile the shell answers. The whole of it, by hand:
/// `OCHRE_PRESSURE_MIB=4096 OCHRE_PRESSURE_MEM=128M cargo test -p runner --test ext4 more_than_memory`
#[test]
fn more_than_memory_is_written() {
    let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let (mib, mem) = (setting("OCHRE_PRESSURE_MIB", "512"), setting("OCHRE_PRESSURE_MEM", "64M"));
    let megabytes: u64 = mib.parse().expect("a number");
    for arch in Arch::ALL {
        let Some(image) = Image::make("pressure", "-t ext4 -b 1024", megabytes + megabytes / 8 + 64) else {
            return;
        };
        let machine = Machine { drive: vec![image.drive()], mem: mem.clone(), ..Machine::new(arch) };
        let script = format!(
            "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt || exit 9; export CHECKS_PRESSURE=/mnt CHECKS_PRESSURE_MIB={mib}; \
            checks pressure/file pressure/swap_file > /tmp/out 2>&1 & \
            while kill -0 $! 2> /dev/null; do ls /bin > /dev/null && echo answers; sleep 1; done; \
            cat /tmp/out; umount /mnt"
        );
        let (out, ended) =
            run_in(&machine, &script, Duration::from_secs(280).max(LONG * (megabytes as u32 / 512)));
        assert!(ended == Some(0) && out.contains("2 passed, 0 failed"), "{arch}: {out}");
        assert!(out.matches("answers").count() >= 3, "{arch}: {out}");
        assert_eq!(image.fsck(), None, "{arch}");
    }
}

/// The content of file `number` of the log.
fn promised(number: usize) -> Vec<u8> {
    format!("line {number} of the log\n").repeat(number % 50 + 1).into_bytes()
}

/// The power goes at some moment of a program that writes files, syncs each, and says so. In one run of three the file
/// system is mounted with `sync` and nobody calls fsync.
#[test]
fn what_fsync_promised_survives_a_power_cut() {
    let cuts = std::env::var("OCHRE_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    for cut in 0..cuts {
        let arch = Arch::ALL[cut % Arch::ALL.len()];
        let Some(image) = Image::make("cut", "-t ext4 -b 4096 -J size=4", 64) else { return };
        let (options, conversion) = if cut % 3 == 2 { ("-o sync", "") } else { ("", "conv=fsync") };
        let script = format!(
            "mkdir -p /mnt; mount -t ext4 {options} /dev/vda /mnt; cd /mnt; i=0; \
            while true; do n=$((i % 50 + 1)); \
            while [ $n -gt 0 ]; do echo line $i of the log; n=$((n-1)); done | \
            dd of=f$i {conversion} 2> /dev/null && echo safe $i; \
            [ $((i % 3)) = 0 ] && echo x > junk && mv junk other; i=$((i+1)); done"
        );
        // A different moment each time, the first ones while the machine has hardly begun.
        let limit = Duration::from_millis(4000 + (1700 * cut as u64) % 9000 + 37 * (cut as u64 / 9));
        let (out, ended) = run(arch, &image, &script, limit);
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

/// What a disk was asked to do, in order.
enum Request {
    /// The blocks of 4 KiB that were written.
    Write(Vec<Vec<u8>>),
    Flush,
}

/// The requests in a log of QEMU's driver `blklogwrites`: a header and one sector each, then what was written. Source:
/// Linux's Documentation/admin-guide/device-mapper/log-writes.rst.
fn requests(log: &[u8]) -> Vec<Request> {
    const SECTOR: usize = 512;
    const FLUSH: u64 = 1;
    let number = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().expect("eight bytes"));
    let (mut at, mut found) = (SECTOR, Vec::new());
    while at + SECTOR <= log.len() {
        let (sectors, flags) = (number(at + 8) as usize, number(at + 16));
        at += SECTOR;
        if flags & FLUSH != 0 {
            found.push(Request::Flush);
        } else if let Some(bytes) = log.get(at..at + sectors * SECTOR).filter(|bytes| !bytes.is_empty()) {
            found.push(Request::Write(bytes.chunks(4096).map(Vec::from).collect()));
        }
        at += sectors * SECTOR;
    }
    found
}

/// Whether a block of the journal is a commit record (jbd2: magic number, kind 2).
fn is_commit(block: &[u8]) -> bool {
    block.starts_with(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2])
}

/// The device may put off what it was given until a flush. So one comes between the log and the record that makes it valid,
/// and another before anything is written that relies on that.
#[test]
fn a_commit_record_lies_between_flushes() {
    let Some(image) = Image::make("order", "-t ext4 -b 4096 -J size=4", 64) else { return };
    let log = Image(image.0.with_extension("log"));
    std::fs::write(&log.0, []).expect("room for a log");
    let drive = format!(
        "-device virtio-blk-device,drive=order -drive if=none,id=order,driver=blklogwrites,\
         file.driver=file,file.filename={},log.driver=file,log.filename={}",
        image.0.display(),
        log.0.display()
    );
    let machine = Machine { qemu: Some(drive), ..Machine::new(Arch::Riscv64) };
    let script = "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt && cd /mnt || exit 9; i=0; \
        while [ $i -lt 8 ]; do echo $i > f$i; sync f$i; sync .; i=$((i+1)); done; cd /; umount /mnt";
    let (out, ended) = run_in(&machine, script, LONG);
    assert_eq!(ended, Some(0), "{out}");
    let requests = requests(&std::fs::read(&log.0).expect("the log"));
    let mut commits = 0;
    for (number, request) in requests.iter().enumerate() {
        let Request::Write(blocks) = request else { continue };
        if !blocks.iter().any(|block| is_commit(block)) {
            continue;
        }
        commits += 1;
        assert_eq!(blocks.len(), 1, "commit {commits} is written with others");
        let flush = |at: Option<&Request>| matches!(at, Some(Request::Flush));
        assert!(flush(number.checked_sub(1).and_then(|at| requests.get(at))), "before commit {commits}");
        assert!(flush(requests.get(number + 1)), "after commit {commits}");
    }
    assert!(commits >= 8, "{commits} commits");
}
