//! File systems of cards and discs in the guest: FAT with long names, judged by fsck.fat afterwards, and ISO 9660. Where
//! the host has no dosfstools, BusyBox makes the FAT and nobody judges it; without xorriso there is no disc.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Duration;

use runner::guest::{Guest, Sinks};
use runner::machine::{Drive, Machine};
use runner::testing::Target;
use runner::{places, progress, testing};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
const LIMIT: Duration = Duration::from_secs(300);

/// A temporary file or directory.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        Temporary(std::env::temp_dir().join(format!("ochre-media-{name}-{}", std::process::id())))
    }

    fn text(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that may be where users do not look.
fn tool(name: &str) -> Program {
    let folder = ["/usr/sbin", "/sbin"].into_iter().find(|folder| Path::new(folder).join(name).exists());
    Program::new(folder.map_or(PathBuf::from(name), |folder| Path::new(folder).join(name)))
}

/// An image for FAT; whether it has one.
fn fat_image(name: &str, bits: &str, megabytes: u64) -> (Temporary, bool) {
    let image = Temporary::new(name);
    File::create(&image.0).and_then(|file| file.set_len(megabytes << 20)).expect("room for an image");
    let made = tool("mkfs.fat").args(["-F", bits]).arg(&image.0).output();
    (image, made.is_ok_and(|made| made.status.success()))
}

/// What fsck.fat finds wrong.
fn fsck(image: &Temporary) -> Option<String> {
    match tool("fsck.fat").arg("-n").arg(&image.0).output() {
        Ok(out) => (!out.status.success()).then(|| String::from_utf8_lossy(&out.stdout).into_owned()),
        Err(error) => {
            eprintln!("not judged: fsck.fat: {error} (Debian: apt-get install dosfstools)");
            None
        }
    }
}

/// A disc with Rock Ridge and Joliet; `None`, and a word about it, without xorriso.
fn disc() -> Option<Temporary> {
    let (tree, image) = (Temporary::new("tree"), Temporary::new("disc"));
    let folder = tree.0.join("folder/below");
    std::fs::create_dir_all(&folder).expect("a directory");
    std::fs::write(folder.join("A long name.text"), "on a disc\n").expect("a file");
    std::fs::write(tree.0.join("numbers"), (0..40_000).map(|n| format!("{n}\n")).collect::<String>())
        .expect("a file");
    std::os::unix::fs::symlink("folder/below", tree.0.join("link")).expect("a link");
    let made = Program::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-R", "-J", "-o"])
        .args([&image.0, &tree.0])
        .output();
    match made {
        Ok(out) => {
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            Some(image)
        }
        Err(error) => {
            eprintln!("no disc: xorriso: {error} (Debian: apt-get install xorriso)");
            None
        }
    }
}

/// Boots a machine with the drives for one script; what it wrote, and how it ended.
fn run(target: Target, drives: &[&Temporary], script: &str) -> (String, Option<i32>) {
    places::set_runner(RUNNER);
    progress::set_quiet(true);
    let drive = drives.iter().map(|image| Drive { file: image.text(), snapshot: false }).collect();
    let machine = Machine {
        drive,
        debug: target.debug,
        append: vec!["oops=panic".into()],
        ..Machine::new(target.arch)
    };
    let command = testing::command(&["sh", "-c", script]);
    let mut guest = Guest::start(&machine, &command).expect("the guest starts");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = guest.follow(Sinks { out: &mut out, err: &mut err, log: None }, Some(LIMIT)).ok();
    if ended.is_some() {
        guest.power_off();
    }
    (String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err), ended)
}

/// What a program does with a FAT; each line must succeed.
const FAT: &[&str] = &[
    "mount -t vfat $fat /mnt",
    "grep -q \"^$fat \"'/mnt vfat rw,.*fmask=0022,dmask=0022' /proc/mounts && cd /mnt",
    // Names: kept as they were given, found in any case and by the short name, one file each.
    "echo one > 'A long name.text' && [ \"$(cat 'a LONG name.TEXT')$(cat ALONGN~1.TEX)\" = oneone ]",
    "rm ALONGN~1.TEX && [ ! -e 'A long name.text' ] && echo two > 'A long name.text'",
    "mv 'A long name.text' 'a LONG name.text' && [ \"$(ls)\" = 'a LONG name.text' ]",
    "mkdir Dir Dir/Sub && ! mkdir dir 2> /dev/null && ! rmdir DIR 2> /dev/null && ! mv dir DIR/sub/in 2> /dev/null",
    "! touch 'a:b' 2> /dev/null && ! ln -s x link 2> /dev/null && ! ln Dir/Sub hard 2> /dev/null",
    "i=0; while [ $i -lt 150 ]; do echo $i > dir/file-number-$i.txt || exit 1; i=$((i+1)); done",
    "[ $(ls DIR | wc -l) = 151 ] && [ \"$(cat dir/FILE-number-149.TXT)\" = 149 ] && rm dir/file-number-1*",
    "[ $(ls DIR | wc -l) = 90 ] && [ $(stat -c %h Dir) = 3 ] && mv dir/sub Moved && [ $(stat -c %h Dir) = 2 ]",
    // Contents: written, mapped and executed, lengthened with zeroes, cut, in use without a name.
    "cp /bin/busybox busybox && cmp /bin/busybox busybox && ./busybox true",
    "echo x | dd of=far bs=1 seek=100000 2> /dev/null && [ $(tr -d '\\0' < far | wc -c) = 2 ]",
    "truncate -s 5000 far && truncate -s 70000 far && [ $(tr -d '\\0' < far | wc -c) = 0 ]",
    "(exec 3< busybox && rm busybox && cmp /bin/busybox - <&3)",
    "echo old > target && echo new > source && mv source TARGET && [ \"$(cat target)\" = new ]",
    // Attributes: owners and most modes cannot be kept.
    "! chown 1 target 2> /dev/null && chmod 400 target && [ $(stat -c %a target) = 755 ]",
    "chmod a-w target && [ $(stat -c %a target) = 555 ] && touch -d '2001-02-03 04:05:06' target",
    // Full: what was there stays, and the rest is given back.
    "! cat /dev/zero > full 2> /dev/null; [ $(df -k . | tail -1 | awk '{print $4}') = 0 ] && rm full",
    "[ $(df -k . | tail -1 | awk '{print $4}') -gt 1000 ] && cd / && mount -o remount,ro /mnt",
    "! touch /mnt/no 2> /dev/null && mount -o remount,rw /mnt && touch /mnt/yes && umount /mnt",
    // Again: what was written, by whom it is told; and without being told what it is.
    "mount -o ro,umask=077,uid=5 $fat /mnt && grep -q ' /mnt vfat ro' /proc/mounts",
    "[ $(stat -c %u%a%Y /mnt/target) = 5500981173106 ] && [ \"$(cat /mnt/TARGET)\" = new ] && [ -d /mnt/moved ]",
    "umount /mnt",
    // In a file: the loop device lets it go with the file system.
    "truncate -s 1M /tmp/card && mkdosfs /tmp/card && mount -o loop /tmp/card /mnt && touch /mnt/file",
    "[ -n \"$(losetup -a)\" ] && umount /mnt && [ -z \"$(losetup -a)\" ]",
    // In a partition of a file: it stays for as long as the partition is in use.
    "truncate -s 9M /tmp/disk && printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | fdisk /tmp/disk > /dev/null 2>&1; losetup -P -f /tmp/disk",
    "mkdosfs /dev/loop0p1 && mount /dev/loop0p1 /mnt && losetup -d /dev/loop0 && touch /mnt/file && sync",
    "[ -n \"$(losetup -a)\" ] && umount /mnt && [ -z \"$(losetup -a)\" ]",
];

/// What a program does with a disc, which is also in a file of the FAT.
const DISC: &[&str] = &[
    "mount -t iso9660 $disc /mnt && grep -q ' /mnt iso9660 ro' /proc/mounts",
    "[ \"$(cat '/mnt/link/A long name.text')\" = 'on a disc' ] && [ -d /mnt/folder ]",
    "[ \"$(seq 0 39999 | md5sum)\" = \"$(md5sum < /mnt/numbers)\" ] && ! touch /mnt/no 2> /dev/null && umount /mnt",
    "mount -o norock $disc /mnt && [ \"$(cat '/mnt/FOLDER/below/a LONG name.text')\" = 'on a disc' ]",
    "! mount -o remount,rw /mnt 2> /dev/null && umount /mnt",
    "mkdir -p /disc && mount $fat /mnt && cp $disc /mnt/disc.iso",
    "mount -o loop,ro /mnt/disc.iso /disc",
    "[ \"$(cat '/disc/folder/below/A long name.text')\" = 'on a disc' ] && umount /disc && umount /mnt",
];

/// A script that says which line failed. Disks are in the order of the drives, on every machine.
fn script(megabytes: u64, lines: &[&[&str]]) -> String {
    let sectors = megabytes << 11;
    let mut script = format!(
        "mkdir -p /mnt; fat=/dev/vda disc=/dev/vdb\n[ $(cat /sys/block/vda/size) = {sectors} ] || exit 8\n"
    );
    for (number, line) in lines.concat().iter().enumerate() {
        script += &format!(
            "{{ {line}; }} || {{ echo 'failed: line {number}'; ls -la /mnt; dmesg | tail -3; exit 9; }}\n"
        );
    }
    script
}

#[test]
fn cards_and_discs() {
    let disc = disc();
    for (target, (bits, megabytes)) in
        Target::all().into_iter().zip([("32", 48), ("12", 8), ("16", 16), ("32", 40)])
    {
        let (image, made) = fat_image(&format!("fat{bits}"), bits, megabytes);
        let mkfs: &[&str] = if made { &[] } else { &["mkdosfs $fat"] };
        let (drives, on_disc) = match &disc {
            Some(disc) => (vec![&image, disc], DISC),
            None => (vec![&image], &[][..]),
        };
        let (out, ended) = run(target, &drives, &script(megabytes, &[mkfs, FAT, on_disc]));
        assert_eq!(ended, Some(0), "{target}, {bits} bits: {out}");
        assert_eq!(fsck(&image), None, "{target}, {bits} bits");
    }
}
