//! Power cuts: the log of writes is cut at many points, what was not flushed is lost in part, and then: our replay, what
//! was promised is there, e2fsck is content. The same cut is given to e2fsck's own replay.

use ext4_host::{Device, Entry, Image, Mount, OPTIONS, Rng, have_tools};
use std::collections::BTreeMap;

/// A sector is written whole or not at all.
const SECTOR: usize = 512;

/// The image after a cut behind `cut` entries: everything before the last flush is there, of the rest each sector may be.
fn after_cut(base: &[u8], log: &[Entry], cut: usize, rng: &mut Rng) -> Vec<u8> {
    let safe = log[..cut].iter().rposition(|entry| matches!(entry, Entry::Flush)).map_or(0, |at| at + 1);
    let mut bytes = base.to_vec();
    for (at, entry) in log[..cut].iter().enumerate() {
        let Entry::Write { offset, bytes: new } = entry else { continue };
        let keep_all = at < safe || rng.one_in(2);
        let torn = !keep_all && rng.one_in(2);
        for (part, sector) in new.chunks(SECTOR).enumerate() {
            if keep_all || (torn && rng.one_in(2)) {
                let start = *offset as usize + part * SECTOR;
                bytes[start..start + sector.len()].copy_from_slice(sector);
            }
        }
    }
    bytes
}

/// What a file must hold from a point of the log on: its bytes, or (when it may be renamed over) one of several.
struct Promise {
    from: usize,
    until: usize,
    name: String,
    content: Vec<u8>,
}

fn content_of(name: &str, len: usize) -> Vec<u8> {
    format!("<{name}>").into_bytes().into_iter().cycle().take(len).collect()
}

struct Work {
    device: Device,
    base: Vec<u8>,
    promises: Vec<Promise>,
    /// Names that must be gone from a point on.
    gone: Vec<(usize, String)>,
}

/// Creates, syncs, renames over, truncates and deletes; notes what a program was promised.
fn work(options: &str, seed: u64, steps: usize) -> Work {
    let image = Image::make(options, 24, None);
    let base = image.bytes();
    let device = Device::new(base.clone());
    device.record();
    let discard = ext4_core::Options { discard: true, ..Default::default() };
    let mount = Mount::with(&device, discard).unwrap();
    let mut rng = Rng::new(seed);
    let mut work = Work { device: device.clone(), base, promises: Vec::new(), gone: Vec::new() };
    let mut live: BTreeMap<String, usize> = BTreeMap::new();
    let root = mount.root().unwrap();
    mount.create(&root, "dir", 0o40755).unwrap();
    let mut open = Vec::new();
    for step in 0..steps {
        let parent = if rng.one_in(2) { "dir/" } else { "" };
        let dir = mount.walk(parent).unwrap();
        match rng.below(10) {
            0..=4 => {
                let name = format!("f{step}");
                let len = rng.below(60_000);
                let node = mount.create(&dir, &name, 0o100644).unwrap();
                let full = format!("{parent}{name}");
                let content = content_of(&full, len);
                mount.write(&node, 0, &content).unwrap();
                if rng.one_in(2) {
                    mount.fsync(&node).unwrap();
                    let from = device.position();
                    live.insert(full.clone(), work.promises.len());
                    work.promises.push(Promise { from, until: usize::MAX, name: full, content });
                }
            }
            5 => {
                // Write aside, sync, rename over: the old or the new content, never a mixture. Perhaps with a whiteout:
                // a file that had neither of the names, or both, would be found by e2fsck.
                let len = rng.below(20_000) + 1;
                let node = mount.create(&dir, "aside", 0o100644).unwrap();
                let content = content_of(&format!("v{step}"), len);
                mount.write(&node, 0, &content).unwrap();
                mount.fsync(&node).unwrap();
                if rng.one_in(2) {
                    mount.rename((&dir, "aside"), (&dir, "target"), false).unwrap();
                } else {
                    mount.rename_whiteout((&dir, "aside"), (&dir, "target")).unwrap();
                    mount.unlink(&dir, "aside").unwrap();
                }
            }
            6 | 7 => {
                let Some((name, promise)) = live.pop_first() else { continue };
                work.promises[promise].until = device.position();
                let (folder, last) = name.rsplit_once('/').unwrap_or(("", &name));
                let dir = mount.walk(folder).unwrap();
                if rng.one_in(3) {
                    // Deleted while it is open: an orphan.
                    let node = mount.find(&dir, last).unwrap();
                    mount.fs.unlink(&dir, last.as_bytes(), &node).unwrap();
                    open.push(node);
                } else {
                    mount.unlink(&dir, last).unwrap();
                }
                if rng.one_in(2) {
                    mount.sync().unwrap();
                    work.gone.push((device.position(), name));
                }
            }
            8 => {
                let Some((name, promise)) = live.pop_last() else { continue };
                work.promises[promise].until = device.position();
                let node = mount.walk(&name).unwrap();
                let len = rng.below(30_000) as u64;
                mount.truncate(&node, len).unwrap();
            }
            _ => {
                for node in open.drain(..) {
                    mount.forget(&node).unwrap();
                }
                mount.sync().unwrap();
            }
        }
    }
    assert_eq!(mount.warnings(), Vec::<String>::new());
    work
}

/// Reads every file: none may show what blocks held before they were its own.
fn nothing_stale(mount: &Mount, folder: &str) {
    let dir = mount.walk(folder).unwrap();
    for name in mount.list(&dir).unwrap().into_keys() {
        let node = mount.find(&dir, &name).unwrap();
        if node.stat(&mount.fs).mode & 0o170000 != 0o100000 {
            continue;
        }
        let bytes = mount.read_all(&node).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"STALE!!"), "{folder}{name} shows old blocks");
        if name == "target" {
            let end = bytes.iter().position(|byte| *byte == b'>').expect("a whole version");
            assert_eq!(bytes, content_of(std::str::from_utf8(&bytes[1..end]).unwrap(), bytes.len()));
        }
    }
}

fn check_cut(work: &Work, log: &[Entry], cut: usize, rng: &mut Rng, what: &str) {
    let bytes = after_cut(&work.base, log, cut, rng);
    let device = Device::new(bytes.clone());
    let mount = Mount::new(&device).unwrap_or_else(|error| panic!("{what}, cut {cut}: mount: {error:?}"));
    for promise in &work.promises {
        if promise.from <= cut && cut < promise.until {
            let node = mount
                .walk(&promise.name)
                .unwrap_or_else(|_| panic!("{what}, cut {cut}: {} is lost", promise.name));
            let found = mount.read_all(&node).unwrap();
            assert!(found == promise.content, "{what}, cut {cut}: {} has other bytes", promise.name);
        }
    }
    for (from, name) in &work.gone {
        assert!(*from > cut || mount.walk(name).is_err(), "{what}, cut {cut}: {name} is back");
    }
    nothing_stale(&mount, "");
    if mount.walk("dir").is_ok() {
        nothing_stale(&mount, "dir/");
    }
    mount.unmount().unwrap();
    assert_eq!(Image::from_bytes(&device.bytes()).fsck(), "", "{what}, cut {cut}: after our replay");
    let other = Image::from_bytes(&bytes);
    assert!(other.preen(), "{what}, cut {cut}: e2fsck would not repair by itself");
    assert_eq!(other.fsck(), "", "{what}, cut {cut}: after e2fsck's replay");
}

#[test]
fn power_cuts() {
    if !have_tools() {
        return;
    }
    let setting =
        |name: &str, usual: usize| std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(usual);
    let (cuts, seeds) = (setting("EXT4_CUTS", 12), setting("EXT4_SEEDS", 1));
    let only = std::env::var("EXT4_ONLY").unwrap_or_default();
    for (name, options, journal) in OPTIONS {
        if !journal || !name.contains(&only) {
            continue;
        }
        for seed in 1..=seeds as u64 {
            let work = work(options, seed, 120);
            let log = work.device.log();
            let mut rng = Rng::new(seed + 100);
            for _ in 0..cuts {
                let cut = rng.below(log.len()) + 1;
                check_cut(&work, &log, cut, &mut rng, &format!("{name}, seed {seed}"));
            }
        }
    }
}

/// What Linux left in a journal is replayed as e2fsck would: debugfs writes transactions.
#[test]
fn a_foreign_journal_is_replayed() {
    if !have_tools() {
        return;
    }
    for options in ["-t ext4 -b 4096 -J size=4", "-t ext4 -b 1024 -J size=2 -O ^64bit,^metadata_csum"] {
        let image = Image::make(options, 24, None);
        let script = std::env::temp_dir().join(format!("ext4-host-{}.txt", std::process::id()));
        let data = std::env::temp_dir().join(format!("ext4-host-{}.blk", std::process::id()));
        let size = if options.contains("4096") { 4096 } else { 1024 };
        std::fs::write(&data, vec![0x77; 2 * size]).unwrap();
        // Block 5000 is free; a revoked write to 5001 must not be done.
        let text = format!(
            "journal_open\njournal_write -b 5000,5001 {0}\njournal_write -r 5001\njournal_close\n",
            data.display()
        );
        std::fs::write(&script, text).unwrap();
        image.run_script(&script);
        let before = image.bytes();
        let device = Device::new(before.clone());
        let mount = Mount::new(&device).unwrap();
        assert!(
            mount.warnings().iter().any(|line| line.contains("recovery complete")),
            "{:?}",
            mount.warnings()
        );
        mount.unmount().unwrap();
        let after = device.bytes();
        let block = |bytes: &[u8], nr: usize| bytes[nr * size..][..size].to_vec();
        assert!(block(&after, 5000) == vec![0x77; size]);
        assert!(block(&after, 5001) == block(&before, 5001));
        assert_eq!(Image::from_bytes(&after).fsck(), "");
        let _ = (std::fs::remove_file(script), std::fs::remove_file(data));
    }
}
