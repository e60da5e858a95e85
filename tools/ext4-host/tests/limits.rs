//! The edges: full disks, large directories, fragmented files, many hard links, errors of the device, damage.

use abi::Errno;
use ext4_core::Options;
use ext4_host::{Device, Image, Mount, OPTIONS, Rng, have_tools};
use std::sync::atomic::Ordering::Relaxed;

fn check(device: &Device, what: &str) {
    assert_eq!(Image::from_bytes(&device.bytes()).fsck(), "", "{what}");
}

#[test]
fn large_directories() {
    if !have_tools() {
        return;
    }
    let count = std::env::var("EXT4_NAMES").ok().and_then(|s| s.parse().ok()).unwrap_or(12_000);
    for options in [
        "-t ext4 -b 1024 -N 20000 -J size=4",
        "-t ext4 -b 4096 -N 20000",
        "-t ext4 -b 1024 -N 20000 -O ^has_journal",
        "-t ext4 -b 1024 -N 20000 -O ^dir_index -J size=4",
    ] {
        let image = Image::make(options, 96, None);
        if options.contains("^has_journal") {
            image.debugfs("set_super_value def_hash_version tea", true);
        }
        let device = Device::new(image.bytes());
        let mount = Mount::new(&device).unwrap();
        let dir = mount.create(&mount.root().unwrap(), "d", 0o40755).unwrap();
        // Without an index each new name looks at every block.
        let count = if options.contains("^dir_index") { 1500 } else { count };
        let name = |n: usize| format!("{:0width$}-name", n * 7919, width = 5 + n % 40);
        for n in 0..count {
            mount
                .create(&dir, &name(n), 0o100600)
                .unwrap_or_else(|e| panic!("{options}: {n}: {e:?} {:?}", mount.fs.usage()));
        }
        assert_eq!(mount.list(&dir).unwrap().len(), count);
        for n in (0..count).step_by(3) {
            mount.unlink(&dir, &name(n)).unwrap();
        }
        for n in 0..count {
            assert_eq!(mount.find(&dir, &name(n)).is_ok(), n % 3 != 0, "{options}: {n}");
        }
        mount.unmount().unwrap();
        check(&device, options);
        let mount = Mount::new(&device).unwrap();
        let dir = mount.walk("d").unwrap();
        for name in mount.list(&dir).unwrap().into_keys() {
            mount.unlink(&dir, &name).unwrap();
        }
        mount.rmdir(&mount.root().unwrap(), "d").unwrap();
        mount.unmount().unwrap();
        check(&device, options);
    }
}

/// Inodes of one directory come in few requests, and a new one needs none for a part of the table that nobody uses.
#[test]
fn neighbours_are_read_together() {
    if !have_tools() {
        return;
    }
    let device = Device::new(Image::make("-t ext4 -b 4096 -N 4096", 64, None).bytes());
    let mount = Mount::new(&device).unwrap();
    let dir = mount.create(&mount.root().unwrap(), "d", 0o40755).unwrap();
    let name = |n: usize| format!("a-file-with-a-name-{n:04}");
    mount.create(&dir, &name(0), 0o100600).unwrap();
    let before = device.reads();
    for n in 1..1000 {
        mount.create(&dir, &name(n), 0o100600).unwrap();
    }
    assert_eq!(device.reads(), before);
    mount.unmount().unwrap();
    check(&device, "made");
    let mount = Mount::new(&device).unwrap();
    let before = device.reads();
    for ino in mount.list(&mount.walk("d").unwrap()).unwrap().into_values() {
        assert_eq!(mount.node(ino).unwrap().stat(&mount.fs).nlink, 1);
    }
    // 63 blocks of the table, 13 of the directory.
    let reads = device.reads() - before;
    assert!(reads < 12, "{reads}");
    // A block that cannot be read takes none of the others with it.
    let (size, mount) = (mount.fs.geo.inode_size as u64, Mount::new(&device).unwrap());
    let inos: Vec<u32> = mount.list(&mount.walk("d").unwrap()).unwrap().into_values().collect();
    let mount = Mount::new(&device).unwrap();
    mount.walk("d").unwrap();
    // debugfs says "Inode 512 is part of block group 0\n\tlocated at block 68, offset 0x0f00".
    let place = Image::from_bytes(&device.bytes()).debugfs(&format!("imap <{}>", inos[500]), false);
    let number = place.split("block ").nth(2).and_then(|rest| rest.split(',').next()).unwrap();
    let at = number.parse::<u64>().unwrap() * 4096;
    device.fail_reads(Some((at, at + 1)));
    let failed = inos.iter().filter(|ino| mount.node(**ino).is_err()).count() as u64;
    assert!(0 < failed && failed <= 4096 / size, "{failed}");
    device.fail_reads(None);
}

/// Who is killed does not wait until a large device was discarded, or a large directory read.
#[test]
fn long_work_ends_with_its_caller() {
    if !have_tools() {
        return;
    }
    let device = Device::new(Image::make("-t ext4 -b 1024 -J size=4", 64, None).bytes());
    let mount = Mount::new(&device).unwrap();
    let fs = &mount.fs;
    fs.env.patience.store(5, Relaxed);
    assert_eq!(fs.trim(0, u64::MAX, 1), Err(Errno::ERESTARTSYS));
    let part = device.discarded();
    fs.env.patience.store(u32::MAX, Relaxed);
    // Nothing stays set aside: all of it can be discarded now.
    let free = fs.usage().free_blocks;
    assert_eq!(fs.trim(0, u64::MAX, 1), Ok(free));
    assert!(0 < part && part < free, "{part} of {free}");
    let dir = mount.create(&mount.root().unwrap(), "d", 0o40755).unwrap();
    for n in 0..300 {
        mount.create(&dir, &format!("name-{n}"), 0o100600).unwrap();
    }
    for patience in [0, 3] {
        fs.env.patience.store(patience, Relaxed);
        assert_eq!(fs.read_dir(&dir, 0, &mut |_| true), Err(Errno::ERESTARTSYS));
    }
    fs.env.patience.store(u32::MAX, Relaxed);
    assert_eq!(mount.list(&dir).unwrap().len(), 300);
    mount.unmount().unwrap();
    check(&device, "interrupted");
}

#[test]
fn names_added_while_a_directory_is_read() {
    if !have_tools() {
        return;
    }
    let image = Image::make("-t ext4 -b 1024 -J size=4", 32, None);
    let device = Device::new(image.bytes());
    let mount = Mount::new(&device).unwrap();
    let dir = mount.create(&mount.root().unwrap(), "d", 0o40755).unwrap();
    for n in 0..10 {
        mount.create(&dir, &format!("old{n}"), 0o100600).unwrap();
    }
    let (mut seen, mut pos, mut new) = (Vec::new(), 2, 0);
    loop {
        let mut got = None;
        pos = mount
            .fs
            .read_dir(&dir, pos, &mut |entry| {
                let first = got.is_none();
                if first {
                    got = Some((String::from_utf8_lossy(entry.name).into_owned(), entry.next));
                }
                first
            })
            .unwrap();
        let Some((name, next)) = got else { break };
        seen.push(name);
        pos = pos.min(next).max(next);
        for _ in 0..if new < 2000 { 20 } else { 0 } {
            mount.create(&dir, &format!("new{new}"), 0o100600).unwrap();
            new += 1;
        }
        if seen.len() > 3000 {
            break;
        }
    }
    for n in 0..10 {
        assert_eq!(seen.iter().filter(|name| **name == format!("old{n}")).count(), 1, "old{n}");
    }
}

#[test]
fn full_disks() {
    if !have_tools() {
        return;
    }
    for (name, options, _) in OPTIONS {
        let image = Image::make(options, 12, None);
        let device = Device::new(image.bytes());
        let mount = Mount::new(&device).unwrap();
        let root = mount.root().unwrap();
        let free = mount.fs.usage().free_blocks;
        let mut count = 0;
        let error = loop {
            let made = mount.create(&root, &format!("f{count}"), 0o100644);
            count += 1;
            let node = match made {
                Ok(node) => node,
                Err(error) => break error,
            };
            let written = mount.write(&node, 0, &vec![7; 70_000]);
            if let Err(error) = written {
                break error;
            }
        };
        assert_eq!(error, Errno::ENOSPC, "{name}");
        mount.sync().unwrap();
        mount.fs.commit_all().unwrap();
        check(&device, &format!("{name}, full"));
        for number in 0..count {
            let _ = mount.unlink(&root, &format!("f{number}"));
        }
        mount.sync().unwrap();
        let back = mount.fs.usage().free_blocks;
        assert!(back + 40 >= free && back <= free, "{name}: {free} blocks were free, now {back}");
        mount.unmount().unwrap();
        check(&device, &format!("{name}, emptied"));
    }
}

#[test]
fn fragmented_files() {
    if !have_tools() {
        return;
    }
    for options in ["-t ext4 -b 1024 -J size=4", "-t ext4 -b 4096", "-t ext3 -b 1024"] {
        let image = Image::make(options, 64, None);
        let device = Device::new(image.bytes());
        let mount = Mount::new(&device).unwrap();
        let root = mount.root().unwrap();
        let (a, b) =
            (mount.create(&root, "a", 0o100644).unwrap(), mount.create(&root, "b", 0o100644).unwrap());
        let size = mount.fs.geo.block_size as u64;
        let mut order: Vec<u64> = (0..4000).collect();
        let mut rng = Rng::new(3);
        for at in (1..order.len()).rev() {
            order.swap(at, rng.below(at + 1));
        }
        for lblk in order {
            for node in [&a, &b] {
                mount.write(node, lblk * 3 * size, &[lblk as u8; 100]).unwrap();
                mount.flush(node).unwrap();
            }
        }
        for lblk in 0..4000u64 {
            assert_eq!(mount.read(&a, lblk * 3 * size, 100).unwrap(), vec![lblk as u8; 100]);
        }
        mount.sync().unwrap();
        check(&device, options);
        mount.truncate(&a, 5000 * size).unwrap();
        for lblk in (0..4000u64).step_by(2) {
            mount.punch(&b, lblk * 3 * size, (lblk * 3 + 1) * size).unwrap();
        }
        mount.sync().unwrap();
        check(&device, options);
        if options.contains("ext4") {
            // Thousands of extents get other numbers: leaf by leaf, in more than one transaction.
            mount.insert_range(&b, 3 * size, 10 * size).unwrap();
            mount.collapse_range(&b, 10 * size, 2011 * 3 * size).unwrap();
            for lblk in 2011..4000u64 {
                let expected = if lblk % 2 == 0 { 0 } else { lblk as u8 };
                let at = (lblk * 3 + 7 - (2011 * 3 - 10)) * size;
                assert_eq!(mount.read(&b, at, 100).unwrap(), vec![expected; 100], "{lblk}");
            }
            mount.sync().unwrap();
            check(&device, options);
        }
        mount.unlink(&root, "a").unwrap();
        mount.unlink(&root, "b").unwrap();
        mount.unmount().unwrap();
        check(&device, options);
    }
}

#[test]
fn many_links_and_directories() {
    if !have_tools() {
        return;
    }
    let image = Image::make("-t ext4 -b 1024 -N 70000 -J size=4", 96, None);
    let device = Device::new(image.bytes());
    let mount = Mount::new(&device).unwrap();
    let root = mount.root().unwrap();
    let file = mount.create(&root, "file", 0o100644).unwrap();
    let dir = mount.create(&root, "links", 0o40755).unwrap();
    for n in 1..65_000 {
        mount.fs.link(&dir, format!("l{n}").as_bytes(), &file).unwrap();
    }
    assert_eq!(mount.fs.link(&dir, b"one more", &file), Err(Errno::EMLINK));
    mount.unmount().unwrap();
    check(&device, "65000 links");
}

#[test]
fn remounted() {
    if !have_tools() {
        return;
    }
    for (name, options, _) in OPTIONS {
        let image = Image::make(options, 24, None);
        let device = Device::new(image.bytes());
        let mount = Mount::with(&device, Options { read_only: true, ..Options::default() }).unwrap();
        let root = mount.root().unwrap();
        assert_eq!(mount.create(&root, "f", 0o100644).err(), Some(Errno::EROFS));
        assert_eq!(device.bytes(), image.bytes(), "{name}: reading wrote");
        for round in 0..2 {
            mount.fs.remount_writable().unwrap();
            let node = mount.create(&root, &format!("f{round}"), 0o100644).unwrap();
            mount.write(&node, 0, &[5; 10_000]).unwrap();
            mount.sync().unwrap();
            mount.fs.remount_read_only().unwrap();
            check(&device, name);
        }
        assert_eq!(mount.read_all(&mount.walk("f1").unwrap()).unwrap(), vec![5; 10_000]);
    }
}

#[test]
fn a_device_that_fails() {
    if !have_tools() {
        return;
    }
    let image = Image::make("-t ext4 -b 4096 -J size=4 -e remount-ro", 24, None);
    for writes in [0, 1, 3, 10, 30, 100] {
        let device = Device::new(image.bytes());
        let mount = Mount::new(&device).unwrap();
        device.fail_after(Some(writes));
        let root = mount.root().unwrap();
        let mut failed = false;
        for n in 0..200 {
            let result = mount.create(&root, &format!("f{n}"), 0o100644).and_then(|node| {
                mount.write(&node, 0, &[1; 5000])?;
                let data = mount.flush(&node);
                mount.fs.commit_all().and(data)
            });
            match result {
                Ok(()) => assert!(!failed, "it worked again after an error"),
                Err(error) => {
                    assert!(matches!(error, Errno::EIO | Errno::EROFS), "{error:?}");
                    failed |= mount.fs.is_read_only();
                }
            }
        }
        assert!(failed && mount.fs.is_failed(), "after {writes} writes");
        device.fail_after(None);
        mount.fs.store_failure();
        drop(mount);
        let image = Image::from_bytes(&device.bytes());
        assert!(image.preen(), "after {writes} writes");
        assert_eq!(image.fsck(), "");
    }
}

/// Everything that a program can ask of a damaged file system; errors are right, panics and loops are not.
fn visit_all(mount: &Mount, budget: usize) {
    let Ok(root) = mount.root() else { return };
    let mut folders = vec![root];
    let mut left = budget;
    while let Some(dir) = folders.pop() {
        let mut names = Vec::new();
        let _ = mount.fs.read_dir(&dir, 2, &mut |entry| {
            names.push(entry.name.to_vec());
            names.len() < 200
        });
        for name in names {
            if left == 0 {
                return;
            }
            left -= 1;
            let Ok(Some(found)) = mount.fs.lookup(&dir, &name) else { continue };
            let Ok(node) = mount.node(found.ino) else { continue };
            let stat = node.stat(&mount.fs);
            let _ = mount.read(&node, 0, 10_000);
            let _ = mount.fs.list_xattr(&node, &mut Vec::new());
            let _ = mount.fs.get_xattr(&node, b"user.x");
            match stat.mode & 0o170000 {
                0o40000 => {
                    let _ = mount.create(&node, "new", 0o100644);
                    folders.push(node);
                }
                0o120000 => drop(mount.fs.read_link(&node)),
                _ => {
                    let _ = mount.write(&node, 3000, &[9; 9000]);
                    let _ = mount.flush(&node);
                    let _ = mount.fs.set_xattr(&node, b"user.x", Some(b"v"), 0);
                    let _ = mount.truncate(&node, 100);
                }
            }
            let _ = mount.fs.unlink(&dir, &name, &mount.node(found.ino).unwrap());
        }
    }
    let _ = mount.sync();
}

#[test]
fn damaged_images() {
    if !have_tools() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("ext4-host-damage-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("a/b/c")).unwrap();
    for number in 0..300 {
        std::fs::write(folder.join(format!("a/file-{number:04}")), vec![number as u8; number * 50]).unwrap();
    }
    std::os::unix::fs::symlink("x".repeat(100), folder.join("a/link")).unwrap();
    let rounds = std::env::var("EXT4_DAMAGE").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    for (name, options, _) in OPTIONS {
        let image = Image::make(options, 12, Some(&folder));
        let clean = image.bytes();
        let blocks: Vec<usize> = (0..clean.len() / 1024)
            .filter(|block| {
                let part = &clean[block * 1024..][..1024];
                part.iter().any(|byte| *byte != 0) && !part.starts_with(b"STALE!!\n")
            })
            .collect();
        for seed in 0..rounds {
            let mut rng = Rng::new(seed * 31 + 7);
            let mut bytes = clean.clone();
            for _ in 0..1 + rng.below(12) {
                // Mostly metadata at the start of the image, and blocks that are in use anyhow.
                let block = if rng.one_in(3) { rng.below(60) } else { blocks[rng.below(blocks.len())] };
                let at = block * 1024 + rng.below(1024);
                bytes[at] = match rng.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[at] ^ 1 << rng.below(8),
                    _ => rng.next_u64() as u8,
                };
            }
            if rng.one_in(2) {
                fix_super(&mut bytes);
            }
            let device = Device::new(bytes);
            let options = Options { read_only: rng.one_in(3), ..Options::default() };
            let warned = std::panic::catch_unwind(|| {
                if let Ok(mount) = Mount::with(&device, options) {
                    visit_all(&mount, 400);
                    let _ = mount.unmount();
                }
            });
            assert!(warned.is_ok(), "{name}, seed {seed}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Makes the superblock's checksum right again, so that damage in it is looked at and not only found.
fn fix_super(bytes: &mut [u8]) {
    let mut crc = !0u32;
    for byte in &bytes[1024..2044] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    bytes[2044..2048].copy_from_slice(&crc.to_le_bytes());
}

/// Many threads in their own directories, and some that share one: no deadlock, a clean file system.
#[test]
fn threads() {
    if !have_tools() {
        return;
    }
    let image = Image::make("-t ext4 -b 1024 -J size=2", 64, None);
    let device = Device::new(image.bytes());
    let mount = Mount::new(&device).unwrap();
    let root = mount.root().unwrap();
    let dirs: Vec<_> = (0..4).map(|n| mount.create(&root, &format!("d{n}"), 0o40755).unwrap()).collect();
    std::thread::scope(|scope| {
        for (number, dir) in dirs.iter().enumerate() {
            let mount = &mount;
            scope.spawn(move || {
                let mut rng = Rng::new(number as u64);
                for step in 0..600 {
                    let name = format!("f{}", rng.below(60));
                    match mount.find(dir, &name) {
                        Ok(_) if rng.one_in(3) => mount.unlink(dir, &name).unwrap(),
                        Ok(node) => {
                            mount.write(&node, rng.below(20_000) as u64, &[step as u8; 3000]).unwrap();
                            mount.flush(&node).unwrap();
                        }
                        Err(_) => drop(mount.create(dir, &name, 0o100644).unwrap()),
                    }
                    if rng.one_in(40) {
                        mount.fs.commit_all().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                mount.fs.commit_all().unwrap();
                mount.fs.checkpoint_now().unwrap();
                mount.fs.cache().shrink(100);
            }
        });
    });
    assert_eq!(mount.warnings(), Vec::<String>::new());
    mount.unmount().unwrap();
    check(&device, "threads");
}
