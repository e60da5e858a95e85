//! Volumes of every kind under random operations beside a model; damaged ones; and what a name may be.

mod common;

use abi::Errno;
use common::{Ram, Random, contents, format, fsck, list, walk, write};
use fat_core::{Fs, Kind, ROOT, Rename};
use std::collections::BTreeMap;

const KINDS: [(Kind, u32, u8); 4] =
    [(Kind::Fat12, 900, 1), (Kind::Fat12, 3000, 4), (Kind::Fat16, 9000, 1), (Kind::Fat32, 9000, 2)];

const NOW: i64 = 1_700_000_000_000_000_000;

fn open(ram: &Ram) -> Fs<&Ram> {
    let mut fs = Fs::mount(ram).expect("a volume");
    fs.set_writable(true).expect("not damaged");
    fs
}

#[test]
fn every_kind_is_told_apart() {
    for (kind, clusters, per_cluster) in KINDS {
        let ram = format(kind, clusters, per_cluster);
        let mut fs = open(&ram);
        assert_eq!((fs.geometry().kind, fs.geometry().clusters), (kind, clusters));
        let used = u32::from(kind == Kind::Fat32);
        assert_eq!(fs.usage().unwrap().free, clusters - used);
        fs.set_writable(false).unwrap();
        drop(fs);
        assert_eq!(fsck(&ram, "empty"), None);
    }
    let nothing = Ram(vec![0; 65536].into());
    assert_eq!(Fs::mount(&nothing).err(), Some(Errno::EINVAL));
    assert_eq!(Fs::mount(&Ram(vec![0; 100].into())).err(), Some(Errno::EIO));
}

#[test]
fn names_are_found_without_regard_to_case() {
    let ram = format(Kind::Fat16, 9000, 1);
    let mut fs = open(&ram);
    let long = fs.create(ROOT, "A long näme with ☃.text".as_bytes(), false, NOW).unwrap();
    for name in ["a LONG näme with ☃.TEXT", "A long näme with ☃.text...", "ALONGN~1.TEX"] {
        assert_eq!(fs.lookup(ROOT, name.as_bytes()), Ok(Some(long)), "{name}");
        assert_eq!(fs.create(ROOT, name.as_bytes(), false, NOW), Err(Errno::EEXIST), "{name}");
    }
    assert_eq!(fs.lookup(ROOT, b"ALONGN~2.TEX"), Ok(None));
    assert_eq!(fs.name(long), Some("A long näme with ☃.text".as_bytes()));
    // Entries of one name by case are one; what differs is kept.
    fs.create(ROOT, b"readme.txt", false, NOW).unwrap();
    fs.create(ROOT, b"UPPER.TXT", false, NOW).unwrap();
    let names: Vec<_> = list(&mut fs, ROOT, 1).unwrap().into_iter().map(|entry| entry.0).collect();
    assert_eq!(names[1..], [b"readme.txt".to_vec(), b"UPPER.TXT".to_vec()]);
    fs.set_writable(false).unwrap();
    drop(fs);
    assert_eq!(fsck(&ram, "names"), None);
}

#[test]
fn many_names_of_one_kind_have_short_names_of_their_own() {
    let ram = format(Kind::Fat32, 9000, 1);
    let mut fs = open(&ram);
    let dir = fs.create(ROOT, b"many", true, NOW).unwrap();
    for number in 0..600 {
        fs.create(dir, std::format!("the same beginning {number}.txt").as_bytes(), false, NOW).unwrap();
    }
    assert_eq!(list(&mut fs, dir, 10).unwrap().len(), 600);
    fs.set_writable(false).unwrap();
    drop(fs);
    assert_eq!(fsck(&ram, "many"), None);
}

#[test]
fn an_entry_moves_and_its_file_stays() {
    let ram = format(Kind::Fat12, 900, 1);
    let mut fs = open(&ram);
    let (a, b) = (fs.create(ROOT, b"a", true, NOW).unwrap(), fs.create(ROOT, b"b", true, NOW).unwrap());
    let file = fs.create(a, b"file", false, NOW).unwrap();
    write(&mut fs, file, &[7; 3000], NOW).unwrap();
    let rename =
        |old_dir, ino, new_dir, name, target| Rename { old_dir, ino, new_dir, name, target, now: NOW };
    fs.rename(&rename(a, file, a, b"FILE", None)).unwrap();
    assert_eq!(fs.name(file), Some(&b"FILE"[..]));
    fs.rename(&rename(a, file, b, b"moved", None)).unwrap();
    assert_eq!((fs.lookup(a, b"file"), fs.lookup(b, b"moved")), (Ok(None), Ok(Some(file))));
    // Its old slots are another's now; both go on.
    let other = fs.create(a, b"file", false, NOW).unwrap();
    write(&mut fs, file, &[8; 5000], NOW).unwrap();
    write(&mut fs, other, &[9; 600], NOW).unwrap();
    assert_eq!(contents(&mut fs, file), Ok(vec![8; 5000]));
    // A directory over an empty one; its ".." follows (fsck looks).
    let empty = fs.create(b, b"sub", true, NOW).unwrap();
    fs.rename(&rename(ROOT, a, b, b"sub", Some(empty))).unwrap();
    assert_eq!(fs.unlink(b, a, NOW), Err(Errno::ENOTEMPTY));
    fs.exchange((b, a), (b, file), NOW).unwrap();
    assert_eq!((fs.lookup(b, b"sub"), fs.lookup(b, b"moved")), (Ok(Some(file)), Ok(Some(a))));
    // What has no name keeps its bytes until nobody has it.
    let free = fs.usage().unwrap().free;
    fs.unlink(b, file, NOW).unwrap();
    assert_eq!((contents(&mut fs, file), fs.usage().unwrap().free), (Ok(vec![8; 5000]), free));
    fs.forget(file).unwrap();
    fs.forget(empty).unwrap();
    assert_eq!(fs.usage().unwrap().free, free + 10 + 1);
    fs.set_writable(false).unwrap();
    drop(fs);
    assert_eq!(fsck(&ram, "moves"), None);
}

#[test]
fn a_full_volume_says_so_and_loses_nothing() {
    for (kind, clusters, per_cluster) in KINDS {
        let ram = format(kind, clusters, per_cluster);
        let mut fs = open(&ram);
        let file = fs.create(ROOT, b"everything", false, NOW).unwrap();
        let bytes = u64::from(clusters + 5) << fs.geometry().cluster_bits;
        assert_eq!(write(&mut fs, file, &vec![1; bytes as usize], NOW), Err(Errno::ENOSPC));
        let room = fs.reserve(file, bytes).unwrap();
        fs.resize(file, room, None).unwrap();
        assert_eq!(fs.usage().unwrap().free, 0);
        assert_eq!(fs.create(ROOT, b"dir", true, NOW), Err(Errno::ENOSPC));
        assert_eq!(fs.lookup(ROOT, b"dir"), Ok(None));
        fs.resize(file, 1, None).unwrap();
        fs.create(ROOT, b"dir", true, NOW).unwrap();
        fs.set_writable(false).unwrap();
        drop(fs);
        assert_eq!(fsck(&ram, "full"), None);
    }
}

/// A tree as it should be: by number, parent and name; `None`: a directory.
#[derive(Default)]
struct Model(BTreeMap<u64, (u64, Vec<u8>, Option<Vec<u8>>)>);

impl Model {
    fn pick(&self, random: &mut Random, wanted: impl Fn(u64, bool) -> bool) -> Option<u64> {
        let all: Vec<u64> = self
            .0
            .iter()
            .filter(|(ino, node)| wanted(**ino, node.2.is_none()))
            .map(|(ino, _)| *ino)
            .collect();
        (!all.is_empty()).then(|| all[random.below(all.len() as u64) as usize])
    }

    fn child(&self, dir: u64, name: &[u8]) -> Option<u64> {
        let is = |node: &(u64, Vec<u8>, _)| node.0 == dir && node.1.eq_ignore_ascii_case(name);
        self.0.iter().find(|(_, node)| is(node)).map(|(ino, _)| *ino)
    }

    fn is_below(&self, mut ino: u64, above: u64) -> bool {
        while ino != ROOT && ino != above {
            ino = self.0[&ino].0;
        }
        ino == above
    }

    fn path(&self, mut ino: u64) -> Vec<u8> {
        let mut path = Vec::new();
        while ino != ROOT {
            let node = &self.0[&ino];
            path = [b"/", &node.1[..], &path[..]].concat();
            ino = node.0;
        }
        path
    }
}

fn random_name(random: &mut Random) -> Vec<u8> {
    let number = random.below(40);
    match random.below(4) {
        0 => std::format!("F{number}.TXT"),
        1 => std::format!("a longer name {number}.jpeg"),
        2 => std::format!("lower{number}"),
        _ => std::format!("ünïcode {number} ").trim_end().repeat(3),
    }
    .into_bytes()
}

fn step(fs: &mut Fs<&Ram>, model: &mut Model, random: &mut Random, now: i64) {
    let dir =
        if random.below(3) == 0 { ROOT } else { model.pick(random, |_, is_dir| is_dir).unwrap_or(ROOT) };
    let name = random_name(random);
    let there = model.child(dir, &name);
    match random.below(10) {
        0..=3 => {
            let is_dir = random.below(4) == 0;
            match fs.create(dir, &name, is_dir, now) {
                Ok(ino) => {
                    assert!(there.is_none() && !model.0.contains_key(&ino));
                    model.0.insert(ino, (dir, name, (!is_dir).then(Vec::new)));
                }
                Err(Errno::EEXIST) => assert!(there.is_some()),
                Err(error) => assert!(there.is_none() && error == Errno::ENOSPC, "{error:?}"),
            }
        }
        4..=6 => {
            let Some(file) = model.pick(random, |_, is_dir| !is_dir) else { return };
            let bytes = vec![random.next() as u8; random.below(9000) as usize];
            if write(fs, file, &bytes, now).is_ok() {
                model.0.get_mut(&file).unwrap().2 = Some(bytes);
            } else {
                model.0.get_mut(&file).unwrap().2 = Some(contents(fs, file).unwrap());
            }
        }
        7 => {
            let Some(ino) = model.pick(random, |_, _| true) else { return };
            let empty = !model.0.values().any(|node| node.0 == ino);
            let gone = fs.unlink(model.0[&ino].0, ino, now);
            assert_eq!(gone, if empty { Ok(()) } else { Err(Errno::ENOTEMPTY) });
            if empty {
                fs.forget(ino).unwrap();
                model.0.remove(&ino);
            }
        }
        8 => {
            let Some(ino) = model.pick(random, |_, _| true) else { return };
            let is_dir = model.0[&ino].2.is_none();
            let target = there.filter(|target| *target != ino);
            let wrong = target.is_some_and(|target| {
                model.0[&target].2.is_none() != is_dir || model.is_below(model.0[&ino].0, target)
            });
            if model.is_below(dir, ino) || wrong || there == Some(ino) {
                return;
            }
            let request = Rename { old_dir: model.0[&ino].0, ino, new_dir: dir, name: &name, target, now };
            match fs.rename(&request) {
                Ok(()) => {
                    if let Some(target) = target {
                        fs.forget(target).unwrap();
                        model.0.remove(&target);
                    }
                    let node = model.0.get_mut(&ino).unwrap();
                    (node.0, node.1) = (dir, name);
                }
                Err(error) => assert!(matches!(error, Errno::ENOSPC | Errno::ENOTEMPTY), "{error:?}"),
            }
        }
        _ => {
            // Out of use: the next lookup may give another number.
            let Some(ino) = model.pick(random, |_, is_dir| !is_dir) else { return };
            let node = model.0.remove(&ino).unwrap();
            fs.forget(ino).unwrap();
            let ino = fs.lookup(node.0, &node.1).unwrap().expect("it is there");
            assert_eq!(fs.name(ino), Some(&node.1[..]));
            model.0.insert(ino, node);
        }
    }
}

#[test]
fn random_operations_are_as_the_model_says() {
    for (round, (kind, clusters, per_cluster)) in KINDS.into_iter().enumerate() {
        let ram = format(kind, clusters, per_cluster);
        let mut random = Random(0x0c_4e + round as u64);
        let mut model = Model::default();
        let mut fs = open(&ram);
        for number in 0..3000 {
            step(&mut fs, &mut model, &mut random, NOW + number * 2_000_000_000);
        }
        fs.set_writable(false).unwrap();
        drop(fs);
        assert_eq!(fsck(&ram, "random"), None);
        let mut fs = open(&ram);
        let mut expected: Vec<_> =
            model.0.iter().map(|(ino, node)| (model.path(*ino), node.2.clone())).collect();
        expected.sort();
        assert!(expected.len() > 30);
        assert_eq!(walk(&mut fs, &mut 100_000), expected);
    }
}

#[test]
fn damaged_volumes_give_errors() {
    let mut random = Random(77);
    for (kind, clusters, per_cluster) in KINDS {
        let ram = format(kind, clusters, per_cluster);
        let mut model = Model::default();
        let mut fs = open(&ram);
        (0..400).for_each(|_| step(&mut fs, &mut model, &mut random, NOW));
        fs.set_writable(false).unwrap();
        let geometry = fs.geometry().clone();
        drop(fs);
        let sound = ram.0.borrow().clone();
        // The boot sector, the tables, or the beginning of the data, where directories are.
        let data = geometry.place(2) as usize;
        let regions = [0..64, 0..data, data..(data + 200_000).min(sound.len())];
        for _ in 0..150 {
            let mut broken = sound.clone();
            let region = regions[random.below(3) as usize].clone();
            for _ in 0..1 + random.below(12) {
                let at = region.start + random.below(region.len() as u64) as usize;
                broken[at] = if random.below(2) == 0 {
                    random.next() as u8
                } else {
                    broken[at] ^ 1 << random.below(8)
                };
            }
            let ram = Ram(broken.into());
            let Ok(mut fs) = Fs::mount(&ram) else { continue };
            walk(&mut fs, &mut 2000);
            let _ = fs.usage();
            let _ = fs.set_writable(true);
            for number in 0..20 {
                let Ok(ino) =
                    fs.create(ROOT, std::format!("new file {number}").as_bytes(), number % 5 == 0, NOW)
                else {
                    break;
                };
                let _ = write(&mut fs, ino, &[1; 3000], NOW);
            }
            for (_, ino, _) in list(&mut fs, ROOT, 3).unwrap_or_default() {
                let _ = fs.unlink(ROOT, ino, NOW);
                let _ = fs.forget(ino);
            }
            let _ = fs.set_writable(false);
        }
    }
}

#[test]
fn a_directory_in_itself_is_refused() {
    let ram = format(Kind::Fat16, 9000, 1);
    let mut fs = open(&ram);
    let dir = fs.create(ROOT, b"DIR", true, NOW).unwrap();
    let inner = fs.create(dir, b"INNER", true, NOW).unwrap();
    let (outer_at, _) = fs.map(dir, 0, 1).unwrap().unwrap();
    assert!(fs.map(inner, 0, 1).unwrap().is_some());
    fs.set_writable(false).unwrap();
    drop(fs);
    // The third entry of DIR, INNER, gets the first cluster of DIR.
    {
        let mut bytes = ram.0.borrow_mut();
        let at = outer_at as usize;
        let own = [bytes[at + 26], bytes[at + 27]];
        bytes[at + 64 + 26..at + 64 + 28].copy_from_slice(&own);
    }
    let mut fs = open(&ram);
    let dir = fs.lookup(ROOT, b"dir").unwrap().unwrap();
    let inner = fs.lookup(dir, b"inner").unwrap().unwrap();
    assert_eq!(fs.lookup(inner, b"inner"), Err(Errno::EIO));
    assert_eq!(fs.create(ROOT, b"new", false, NOW), Err(Errno::EROFS));
}
