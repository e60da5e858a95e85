//! Thousands of random operations on every kind of image; then e2fsck, and every byte compared.

use ext4_core::Stat;
use ext4_host::{Device, Image, Mount, OPTIONS, Rng, have_tools};
use std::collections::BTreeMap;

/// What should be at a path.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Dir,
    File(Vec<u8>),
    Link(String),
    Whiteout,
}

/// The tree as it should be, by path ("" is the root), with attributes.
#[derive(Default, Clone)]
struct Model {
    files: BTreeMap<String, Kind>,
    /// Other names of files: contents are shared, so these are left alone.
    linked: BTreeMap<String, String>,
    attributes: BTreeMap<(String, String), Vec<u8>>,
}

impl Model {
    fn pick(&self, rng: &mut Rng, want: fn(&Kind) -> bool) -> Option<String> {
        let all: Vec<&String> =
            self.files.iter().filter(|(_, kind)| want(kind)).map(|(path, _)| path).collect();
        (!all.is_empty()).then(|| all[rng.below(all.len())].clone())
    }

    fn dir(&self, rng: &mut Rng) -> String {
        self.pick(rng, |kind| *kind == Kind::Dir).filter(|_| !rng.one_in(4)).unwrap_or_default()
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.files.keys().chain(self.linked.keys()).any(|other| other.starts_with(&prefix))
    }

    fn is_linked(&self, path: &str) -> bool {
        self.linked.contains_key(path) || self.linked.values().any(|other| other == path)
    }

    /// Moves a path and all below it.
    fn relocate(&mut self, from: &str, to: &str) {
        let moved = |path: &String| match path.strip_prefix(from) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{to}{rest}"),
            _ => path.clone(),
        };
        self.files = self.files.iter().map(|(path, kind)| (moved(path), kind.clone())).collect();
        self.linked = self.linked.iter().map(|(path, other)| (moved(path), moved(other))).collect();
        self.attributes =
            self.attributes.iter().map(|(k, v)| ((moved(&k.0), k.1.clone()), v.clone())).collect();
    }

    fn remove(&mut self, path: &str) {
        self.files.remove(path);
        self.attributes.retain(|key, _| key.0 != path);
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

struct Run {
    mount: Mount,
    model: Model,
    rng: Rng,
    next: u32,
    extents: bool,
}

impl Run {
    fn new_path(&mut self) -> String {
        self.next += 1;
        let dir = self.model.dir(&mut self.rng);
        let pad = if self.rng.one_in(3) { "x".repeat(self.rng.below(150)) } else { String::new() };
        format!("{dir}/n{}{pad}", self.next)
    }

    fn step(&mut self) -> abi::errno::Result<()> {
        let choice = self.rng.below(100);
        match choice {
            0..=9 => self.mkdir(),
            10..=34 => self.create(),
            35..=54 => self.write(),
            55..=62 => self.truncate(),
            63..=65 => self.punch(),
            66..=67 => self.zero_range(),
            68..=69 => self.allocate(),
            70..=71 => self.shift(),
            72..=80 => self.remove(),
            81..=88 => self.rename(),
            89..=91 => self.link(),
            92..=93 => self.symlink(),
            94..=95 => self.attribute(),
            96 => self.trim(),
            _ => self.mount.sync(),
        }
    }

    fn mkdir(&mut self) -> abi::errno::Result<()> {
        let path = self.new_path();
        let (dir, name) = split(&path);
        self.mount.create(&self.mount.walk(dir)?, name, 0o40755)?;
        self.model.files.insert(path, Kind::Dir);
        Ok(())
    }

    fn create(&mut self) -> abi::errno::Result<()> {
        let path = self.new_path();
        let (dir, name) = split(&path);
        let node = self.mount.create(&self.mount.walk(dir)?, name, 0o100644)?;
        let limit = if self.rng.one_in(10) { 200_000 } else { 9000 };
        let len = self.rng.below(limit);
        let bytes = self.rng.bytes(len);
        self.mount.write(&node, 0, &bytes)?;
        self.model.files.insert(path, Kind::File(bytes));
        Ok(())
    }

    fn write(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let node = self.mount.walk(&path)?;
        let len = self.rng.below(20_000) + 1;
        let limit = if self.rng.one_in(4) { 400_000 } else { 30_000 };
        let at = self.rng.below(limit);
        let bytes = self.rng.bytes(len);
        self.mount.write(&node, at as u64, &bytes)?;
        if let Some(Kind::File(content)) = self.model.files.get_mut(&path) {
            content.resize(content.len().max(at + len), 0);
            content[at..at + len].copy_from_slice(&bytes);
        }
        if self.rng.one_in(3) { self.mount.flush(&node) } else { Ok(()) }
    }

    fn truncate(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let node = self.mount.walk(&path)?;
        let len = self.rng.below(60_000);
        self.mount.truncate(&node, len as u64)?;
        if let Some(Kind::File(content)) = self.model.files.get_mut(&path) {
            content.resize(len, 0);
        }
        Ok(())
    }

    fn punch(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let node = self.mount.walk(&path)?;
        let from = self.rng.below(40_000);
        let to = from + self.rng.below(50_000);
        self.mount.punch(&node, from as u64, to as u64)?;
        if let Some(Kind::File(content)) = self.model.files.get_mut(&path) {
            let len = content.len();
            content[from.min(len)..to.min(len)].fill(0);
        }
        Ok(())
    }

    fn allocate(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        if !self.extents {
            return Ok(());
        }
        let node = self.mount.walk(&path)?;
        let from = self.rng.below(100_000);
        let to = from + self.rng.below(60_000) + 1;
        let grow = self.rng.one_in(2);
        self.mount.fs.allocate(&node, from as u64, to as u64, grow, true)?;
        if let Some(Kind::File(content)) = self.model.files.get_mut(&path)
            && grow
        {
            content.resize(content.len().max(to), 0);
        }
        Ok(())
    }

    fn zero_range(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let node = self.mount.walk(&path)?;
        let from = self.rng.below(60_000);
        let to = from + self.rng.below(60_000) + 1;
        let grow = self.rng.one_in(2);
        if !self.extents {
            let refused = self.mount.fs.zero_range(&node, (from as u64, to as u64), grow, true);
            assert_eq!(refused, Err(abi::Errno::EOPNOTSUPP));
            return Ok(());
        }
        self.mount.zero_range(&node, from as u64, to as u64, grow)?;
        if let Some(Kind::File(content)) = self.model.files.get_mut(&path) {
            let len = content.len();
            content[from.min(len)..to.min(len)].fill(0);
            content.resize(if grow { len.max(to) } else { len }, 0);
        }
        Ok(())
    }

    /// Takes whole blocks out of a file, or puts a hole into it.
    fn shift(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let Some(Kind::File(content)) = self.model.files.get_mut(&path) else { return Ok(()) };
        let node = self.mount.walk(&path)?;
        let block = self.mount.fs.geo.block_size;
        let blocks = content.len().div_ceil(block);
        if blocks == 0 {
            return Ok(());
        }
        let from = self.rng.below(blocks) * block;
        let to = from + (self.rng.below(blocks.min(40)) + 1) * block;
        let range = (from as u64, to as u64);
        let insert = self.rng.one_in(2);
        let done = match insert {
            true => self.mount.insert_range(&node, range.0, range.1),
            false => self.mount.collapse_range(&node, range.0, range.1),
        };
        match done {
            _ if !self.extents => assert_eq!(done, Err(abi::Errno::EOPNOTSUPP)),
            _ if insert && from >= content.len() || !insert && to >= content.len() => {
                assert_eq!(done, Err(abi::Errno::EINVAL))
            }
            _ if insert => {
                done?;
                content.splice(from..from, vec![0; to - from]);
            }
            _ => {
                done?;
                content.drain(from..to);
            }
        }
        Ok(())
    }

    /// FITRIM of a part or of all: what files have stays what it is, as the comparison at the end shows.
    fn trim(&mut self) -> abi::errno::Result<()> {
        let fs = &self.mount.fs;
        let start = if self.rng.one_in(2) { 0 } else { self.rng.below(fs.geo.blocks as usize) as u64 };
        let before = fs.env.device.discarded();
        let trimmed = fs.trim(start, u64::MAX, self.rng.below(20) as u32)?;
        assert_eq!(fs.env.device.discarded() - before, trimmed);
        Ok(())
    }

    fn remove(&mut self) -> abi::errno::Result<()> {
        if self.rng.one_in(6)
            && let Some(name) = self.model.linked.keys().next().cloned()
        {
            let (dir, last) = split(&name);
            self.mount.unlink(&self.mount.walk(dir)?, last)?;
            self.model.linked.remove(&name);
            return Ok(());
        }
        let Some(path) = self.model.pick(&mut self.rng, |_| true) else { return Ok(()) };
        if self.model.has_children(&path) || self.model.is_linked(&path) {
            return Ok(());
        }
        let (dir, name) = split(&path);
        let parent = self.mount.walk(dir)?;
        match self.model.files[&path] {
            Kind::Dir => self.mount.rmdir(&parent, name)?,
            _ => self.mount.unlink(&parent, name)?,
        }
        self.model.remove(&path);
        Ok(())
    }

    fn rename(&mut self) -> abi::errno::Result<()> {
        let Some(from) = self.model.pick(&mut self.rng, |_| true) else { return Ok(()) };
        let other = self.model.pick(&mut self.rng, |_| true).unwrap_or_default();
        let nested = |a: &str, b: &str| b.starts_with(&format!("{a}/")) || a == b;
        let replace = self.rng.one_in(3);
        let exchange = !replace && self.rng.one_in(3);
        let to = if replace || exchange { other.clone() } else { self.new_path() };
        if nested(&from, &to)
            || nested(&to, &from)
            || self.model.is_linked(&to)
            || self.model.is_linked(&from)
        {
            return Ok(());
        }
        let is_dir = |path: &str| self.model.files.get(path) == Some(&Kind::Dir);
        if replace && (is_dir(&from) != is_dir(&to) || self.model.has_children(&to)) {
            return Ok(());
        }
        let ((from_dir, from_name), (to_dir, to_name)) = (split(&from), split(&to));
        let (old, new) = (self.mount.walk(from_dir)?, self.mount.walk(to_dir)?);
        let whiteout = !exchange && self.rng.one_in(3);
        match whiteout {
            true => self.mount.rename_whiteout((&old, from_name), (&new, to_name))?,
            false => self.mount.rename((&old, from_name), (&new, to_name), exchange)?,
        }
        if exchange {
            self.model.relocate(&from, "?");
            self.model.relocate(&to, &from);
            self.model.relocate("?", &to);
        } else {
            if replace {
                self.model.remove(&to);
            }
            self.model.relocate(&from, &to);
            if whiteout {
                self.model.files.insert(from, Kind::Whiteout);
            }
        }
        Ok(())
    }

    fn link(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| matches!(kind, Kind::File(_))) else {
            return Ok(());
        };
        let name = self.new_path();
        let (dir, last) = split(&name);
        self.mount.fs.link(&*self.mount.walk(dir)?, last.as_bytes(), &self.mount.walk(&path)?)?;
        self.model.linked.insert(name, path);
        Ok(())
    }

    fn symlink(&mut self) -> abi::errno::Result<()> {
        let path = self.new_path();
        let (dir, name) = split(&path);
        let target = "t".repeat(self.rng.below(200) + 1);
        self.mount.symlink(&self.mount.walk(dir)?, name, &target)?;
        self.model.files.insert(path, Kind::Link(target));
        Ok(())
    }

    fn attribute(&mut self) -> abi::errno::Result<()> {
        let Some(path) = self.model.pick(&mut self.rng, |kind| !matches!(kind, Kind::Link(_))) else {
            return Ok(());
        };
        let node = self.mount.walk(&path)?;
        let name = format!("user.a{}", self.rng.below(4));
        let key = (path, name.clone());
        if self.rng.one_in(4) {
            let removed = self.mount.fs.set_xattr(&node, name.as_bytes(), None, 0);
            assert_eq!(removed.is_ok(), self.model.attributes.remove(&key).is_some());
            return Ok(());
        }
        let len = self.rng.below(120);
        let value = self.rng.bytes(len);
        match self.mount.fs.set_xattr(&node, name.as_bytes(), Some(&value), 0) {
            Err(abi::Errno::ENOSPC) => {}
            other => {
                other?;
                self.model.attributes.insert(key, value);
            }
        }
        Ok(())
    }
}

/// Compares a mounted tree with the model.
fn compare(mount: &Mount, model: &Model) {
    let mut names: BTreeMap<String, Vec<String>> =
        BTreeMap::from([(String::new(), vec!["lost+found".into()])]);
    for path in model.files.keys().chain(model.linked.keys()) {
        let (dir, name) = split(path);
        names.entry(dir.to_string()).or_default().push(name.to_string());
        if model.files.get(path) == Some(&Kind::Dir) {
            names.entry(path.clone()).or_default();
        }
    }
    for (dir, mut expected) in names {
        expected.sort();
        let node = mount.walk(&dir).unwrap();
        let found: Vec<String> = mount.list(&node).unwrap().into_keys().collect();
        assert_eq!(found, expected, "names in {dir:?}");
    }
    for (path, kind) in &model.files {
        let node = mount.walk(path).unwrap();
        match kind {
            Kind::Dir => assert_eq!(node.stat(&mount.fs).mode & 0o170000, 0o40000),
            Kind::File(content) => {
                let found = mount.read_all(&node).unwrap();
                assert_eq!(found.len(), content.len(), "length of {path}");
                let wrong = found.iter().zip(content).position(|(a, b)| a != b);
                assert_eq!(wrong, None, "first wrong byte of {path}");
            }
            Kind::Whiteout => {
                let stat = node.stat(&mount.fs);
                assert_eq!((stat.mode, stat.rdev, stat.nlink), (0o20000, (0, 0), 1), "{path}");
            }
            Kind::Link(target) => assert_eq!(mount.fs.read_link(&node).unwrap(), target.as_bytes()),
        }
    }
    for (name, path) in &model.linked {
        assert_eq!(mount.walk(name).unwrap().ino, mount.walk(path).unwrap().ino);
    }
    for ((path, name), value) in &model.attributes {
        let node = mount.walk(path).unwrap();
        assert_eq!(&mount.fs.get_xattr(&node, name.as_bytes()).unwrap(), value, "{name} of {path}");
    }
}

fn check_image(device: &Device, what: &str) {
    let image = Image::from_bytes(&device.bytes());
    assert_eq!(image.fsck(), "", "{what}");
}

fn workload(options: &str, seed: u64, steps: usize) {
    let image = Image::make(options, 48, None);
    let device = Device::new(image.bytes());
    // Every other kind of image discards what becomes free.
    let mount_options = ext4_core::Options { discard: seed % 2 == 0, ..Default::default() };
    let mount = Mount::with(&device, mount_options).unwrap();
    let extents = options.contains("ext4");
    let mut run = Run { mount, model: Model::default(), rng: Rng::new(seed), next: 0, extents };
    for step in 0..steps {
        let done = run.step();
        assert_eq!(done, Ok(()), "step {step}, seed {seed}: {:?}", run.mount.warnings());
        if step % 1000 == 999 {
            // A fresh mount in the middle: nothing may depend on memory.
            compare(&run.mount, &run.model);
            run.mount.unmount().unwrap();
            check_image(&device, &format!("{options}, seed {seed}, step {step}"));
            run.mount = Mount::with(&device, mount_options).unwrap();
        }
    }
    compare(&run.mount, &run.model);
    assert_eq!(run.mount.warnings(), Vec::<String>::new());
    run.mount.unmount().unwrap();
    check_image(&device, &format!("{options}, seed {seed}"));
    compare(&Mount::new(&device).unwrap(), &run.model);
}

#[test]
fn random_trees() {
    if !have_tools() {
        return;
    }
    let steps = std::env::var("EXT4_STEPS").ok().and_then(|s| s.parse().ok()).unwrap_or(1500);
    let only = std::env::var("EXT4_ONLY").unwrap_or_default();
    for (at, (name, options, _)) in OPTIONS.iter().enumerate() {
        if name.contains(&only) {
            eprintln!("{name}");
            workload(options, at as u64 + 1, steps);
        }
    }
}

#[test]
fn what_mke2fs_put_there_is_read() {
    if !have_tools() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("ext4-host-tree-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("a/b")).unwrap();
    let big = Rng::new(5).bytes(3_000_000);
    std::fs::write(folder.join("a/big"), &big).unwrap();
    std::fs::write(folder.join("a/b/small"), b"hello\n").unwrap();
    std::os::unix::fs::symlink("a/big", folder.join("link")).unwrap();
    for number in 0..2000 {
        std::fs::write(folder.join(format!("a/b/file-{number:04}")), []).unwrap();
    }
    for (name, options, _) in OPTIONS {
        let image = Image::make(options, 48, Some(&folder));
        let device = Device::new(image.bytes());
        let read_only = ext4_core::Options { read_only: true, ..Default::default() };
        let mount = Mount::with(&device, read_only).unwrap();
        assert!(mount.read_all(&mount.walk("a/big").unwrap()).unwrap() == big, "{name}");
        assert_eq!(mount.read_all(&mount.walk("a/b/small").unwrap()).unwrap(), b"hello\n");
        assert_eq!(mount.fs.read_link(&mount.walk("link").unwrap()).unwrap(), b"a/big");
        assert_eq!(mount.list(&mount.walk("a/b").unwrap()).unwrap().len(), 2001);
        let stat: Stat = mount.walk("a/big").unwrap().stat(&mount.fs);
        assert_eq!((stat.size, stat.nlink), (3_000_000, 1));
        assert_eq!(device.bytes(), image.bytes(), "reading wrote");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
