//! Disks: an image on virtio-blk, seen from inside by the checks and from outside by its bytes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner::arch::Arch;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
const MIB: u64 = 1 << 20;

/// An image of `mib` MiB that is gone with the value.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, mib: u64) -> Image {
        let path = std::env::temp_dir().join(format!("ochre-{}-{name}.img", std::process::id()));
        File::create(&path).and_then(|file| file.set_len(mib * MIB)).expect("an image");
        Image(path)
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open(&self.0).and_then(|file| file.read_exact_at(&mut bytes, at)).expect("its bytes");
        bytes
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // nobody is helped by a test that fails for that
    }
}

/// Runs a script with disks attached; its output. Panics with everything it said when it failed.
fn sh(arch: Arch, drives: &[String], more: &[&str], script: &str) -> String {
    let mut command = Command::new(RUNNER);
    command.args(["exec", "--arch", arch.name(), "--timeout", "280", "--append", "oops=panic"]);
    for drive in drives {
        command.args(["--drive", drive]);
    }
    command.args(more).args(["--env", "CHECKS_DISK=/dev/vda", "--", "sh", "-c", script]);
    let output = command.output().expect("the runner starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arch} {more:?}: {script}\n{out}{err}");
    out.into_owned()
}

fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The machines: riscv64 by memory-mapped registers and by PCI with its pins, x86-64 by PCI with messages
/// and by memory-mapped registers.
fn machines() -> [(Arch, &'static [&'static str], &'static str); 3] {
    [
        (Arch::Riscv64, &[], "mmio"),
        (Arch::X86_64, &[], "pci"),
        (Arch::X86_64, &["--machine", "microvm"], "microvm"),
    ]
}

#[test]
fn a_disk_does_what_linux_does() {
    for (arch, more, kind) in machines() {
        let image = Image::new(&format!("checks-{arch}-{kind}"), 16);
        let out = sh(arch, &[name(&image.0)], more, "checks block");
        assert!(!out.contains("skip ") && out.contains(" 0 failed"), "{arch} {kind}: {out}");
    }
}

#[test]
fn bytes_get_to_the_image() {
    for (arch, more, kind) in machines() {
        let image = Image::new(&format!("bytes-{arch}-{kind}"), 16);
        let script = "
            yes buffered | dd of=/dev/vda bs=1M seek=1 count=2 iflag=fullblock 2>/dev/null
            yes direct | dd of=/dev/vda bs=64k seek=64 count=16 iflag=fullblock oflag=direct 2>/dev/null
            sync
            dd if=/dev/vda bs=1M skip=1 count=2 2>/dev/null | md5sum";
        let out = sh(arch, &[name(&image.0)], more, script);
        let text = |word: &str, len: u64| format!("{word}\n").repeat(len as usize)[..len as usize].to_owned();
        assert!(image.read(MIB, 2 * MIB as usize) == text("buffered", 2 * MIB).as_bytes(), "{arch} {kind}");
        assert!(image.read(4 * MIB, MIB as usize) == text("direct", MIB).as_bytes(), "{arch} {kind}");
        assert_eq!(out.split_whitespace().count(), 2, "{out}");
        assert!(image.read(0, MIB as usize).iter().all(|byte| *byte == 0), "{arch} {kind}");
    }
}

#[test]
fn riscv64_takes_disks_by_pci_and_legacy_registers_too() {
    let image = Image::new("riscv-pci", 16);
    let drive = format!("-drive if=none,id=d,format=raw,file={}", name(&image.0));
    for device in ["-device virtio-blk-pci,drive=d,num-queues=2", "-device virtio-blk-device,drive=d"] {
        let qemu = format!("{drive} {device}");
        let out = sh(Arch::Riscv64, &[], &["--qemu", &qemu], "checks block/coherent block/schedulers");
        assert!(out.contains("2 passed, 0 failed"), "{device}: {out}");
    }
}

#[test]
fn a_bad_sector_is_an_error_and_no_more() {
    let image = Image::new("bad", 16);
    let config = Image::new("bad-config", 0);
    // Reading and writing sector 4096 (2 MiB) fails.
    let text = "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"4096\"\n\
                [inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nsector = \"4096\"\n";
    fs::write(&config.0, text).expect("the configuration");
    let drive = format!("blkdebug:{}:{}", name(&config.0), name(&image.0));
    let script = "
        dd if=/dev/vda of=/dev/null bs=4k skip=511 count=1 2>/dev/null && echo before
        dd if=/dev/vda of=/dev/null bs=4k skip=512 count=1 2>&1 | grep -o 'Input/output error\\|I/O error'
        dd if=/dev/zero of=/dev/vda bs=4k seek=512 count=1 conv=fsync 2>&1 | grep -o 'Input/output error\\|I/O error'
        dd if=/dev/zero of=/dev/vda bs=4k seek=512 count=1 oflag=direct 2>&1 | grep -o 'Input/output error\\|I/O error'
        dd if=/dev/vda of=/dev/null bs=4k skip=513 count=1 2>/dev/null && echo after";
    for arch in Arch::ALL {
        let out = sh(arch, std::slice::from_ref(&drive), &[], script);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            (lines.len(), lines.first(), lines.last()),
            (5, Some(&"before"), Some(&"after")),
            "{arch}: {out}"
        );
    }
}

/// A device with one message for two queues and its configuration is served by that.
#[test]
fn queues_may_share_an_interrupt() {
    let image = Image::new("shared", 16);
    let device = format!(
        "-drive if=none,id=few,file={},format=raw -device virtio-blk-pci,drive=few,num-queues=2,vectors=1",
        name(&image.0)
    );
    let script = "ls /sys/block/vda/mq | wc -l; grep -c virtqueues /proc/interrupts; checks block/coherent block/schedulers";
    let out = sh(Arch::X86_64, &[], &["--smp", "2", "--qemu", &device], script);
    assert!(out.starts_with("2\n1\n") && out.contains("2 passed, 0 failed"), "{out}");
}

/// While a file larger than memory is read, /proc/sys/vm/swappiness decides whether a program's idle memory goes to swap.
/// Then a memory object larger than memory is, in part, there.
#[test]
fn swappiness_decides_who_gives_memory() {
    let image = Image::new("swappiness", 160);
    let script = "echo 64M > /sys/block/zram0/disksize && mkswap /dev/zram0 > /dev/null && swapon /dev/zram0 || exit 9; \
        mkfifo /tmp/f; sleep 1000 < /tmp/f & dd if=/dev/zero of=/tmp/f bs=16M count=1 2> /dev/null & holder=$!; \
        while [ $(awk '/^VmRSS/ { print $2 }' /proc/$holder/status) -lt 16384 ]; do sleep 0.1; done; \
        swapped() { awk '/^pswpout/ { print $2 }' /proc/vmstat; }; \
        for swappiness in 0 200; do \
            echo $swappiness > /proc/sys/vm/swappiness; before=$(swapped); \
            dd if=/dev/vda of=/dev/null bs=64k 2> /dev/null || exit 8; \
            echo \"$swappiness: $(($(swapped) - before))\"; \
        done; \
        kill $holder; CHECKS_PRESSURE=/tmp CHECKS_PRESSURE_MIB=72 checks pressure/shared";
    let out = sh(Arch::Riscv64, &[name(&image.0)], &["--mem", "64M"], script);
    assert!(out.contains("1 passed, 0 failed"), "{out}");
    let pages = |swappiness: &str| -> u64 {
        let line = out.lines().find_map(|line| line.strip_prefix(swappiness)?.strip_prefix(": "));
        line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{out}"))
    };
    // The memory is 4096 pages.
    let (never, readily) = (pages("0"), pages("200"));
    assert!(readily >= 512 && never * 4 <= readily, "{never} pages went with 0, {readily} with 200");
}
