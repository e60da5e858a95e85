//! Small volumes made here, record by record: the standard's names, Joliet, Rock Ridge with all that it can say; and
//! damaged ones.

use abi::{Errno, errno::Result};
use iso9660_core::{Disk, Entry, Options, Reader, Section, Volume};

const BLOCK: usize = 2048;
const ALL: Options = Options { rock_ridge: true, joliet: true };

struct Ram(Vec<u8>);

impl Disk for &Ram {
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let at = usize::try_from(at).map_err(|_| Errno::EIO)?;
        let bytes = at.checked_add(out.len()).and_then(|end| self.0.get(at..end)).ok_or(Errno::EIO)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

fn both32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

/// A record: where its bytes are, how many, flags, name, system use area.
fn record(block: u32, len: u32, flags: u8, name: &[u8], area: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both32(block));
    bytes.extend(both32(len));
    bytes.extend([126, 11, 28, 12, 0, 0, 0, flags, 0, 0, 1, 0, 0, 1, name.len() as u8]);
    bytes.extend(name);
    bytes.resize(bytes.len() + (name.len() + 1) % 2, 0);
    bytes.extend(area);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes[0] = bytes.len() as u8;
    bytes
}

fn field(name: &[u8; 2], data: &[u8]) -> Vec<u8> {
    [&name[..], &[data.len() as u8 + 4, 1], data].concat()
}

fn px(mode: u32, uid: u32) -> Vec<u8> {
    field(b"PX", &[both32(mode), both32(1), both32(uid), both32(7)].concat())
}

fn nm(flags: u8, name: &[u8]) -> Vec<u8> {
    field(b"NM", &[&[flags], name].concat())
}

/// A disk whose blocks from 16 on are `blocks`, after descriptors of the roots: kind and block of each.
fn volume(roots: &[(u8, u32)], blocks: &[(u32, Vec<u8>)]) -> Ram {
    let last =
        blocks.iter().map(|(block, bytes)| *block as usize + bytes.len().div_ceil(BLOCK)).max().unwrap_or(20);
    let mut disk = vec![0; last * BLOCK];
    for (number, (kind, root)) in roots.iter().enumerate() {
        let sector = &mut disk[(16 + number) * BLOCK..][..BLOCK];
        sector[0] = *kind;
        sector[1..7].copy_from_slice(b"CD001\x01");
        sector[80..88].copy_from_slice(&both32(last as u32));
        sector[88..91].copy_from_slice(if *kind == 2 { b"%/E" } else { b"\0\0\0" });
        sector[128..130].copy_from_slice(&2048u16.to_le_bytes());
        sector[156..190].copy_from_slice(&record(*root, BLOCK as u32, 2, &[0], &[]));
    }
    let end = &mut disk[(16 + roots.len()) * BLOCK..][..7];
    end.copy_from_slice(b"\xffCD001\x01");
    for (block, bytes) in blocks {
        disk[*block as usize * BLOCK..][..bytes.len()].copy_from_slice(bytes);
    }
    Ram(disk)
}

/// The two records that a directory at `block` in `parent` begins with.
fn dots(block: u32, parent: u32, area: &[u8]) -> Vec<u8> {
    let len = BLOCK as u32;
    [record(block, len, 2, &[0], area), record(parent, len, 2, &[1], &[])].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn all(volume: &Volume, dir: &Entry, mut disk: &Ram) -> Result<Vec<Entry>> {
    let (mut reader, mut entries) = (Reader::new(dir, 0), Vec::new());
    while let Some(entry) = reader.next(volume, &mut disk)? {
        entries.push(entry);
        assert!(entries.len() < 100_000);
    }
    Ok(entries)
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

/// A volume with three trees: the standard's has Rock Ridge, the other is Joliet's.
fn three_trees() -> Ram {
    let long = [b'n'; 200];
    let continued = [nm(0, &long[100..]), field(b"SL", &[0, 0, 3, b'e', b't', b'c', 4, 0])].concat();
    let ce = field(b"CE", &[both32(30), both32(100), both32(continued.len() as u32)].concat());
    let link = [px(0o120777, 5), nm(1, &long[..100]), field(b"SL", &[0, 8, 0]), ce].concat();
    let sp = [field(b"SP", &[0xbe, 0xef, 0]), px(0o040711, 3)].concat();
    let times = field(
        b"TF",
        &[&[0x0e][..], &[100, 1, 2, 3, 4, 5, 0], &[101, 1, 1, 0, 0, 0, 0], &[102, 1, 1, 0, 0, 0, 0]].concat(),
    );
    let device = [px(0o020600, 0), nm(0, b"tty"), field(b"PN", &[both32(4), both32(64)].concat())].concat();
    let root = [
        dots(20, 20, &sp),
        record(40, 5000, 0, b"FILE.TXT;1", &[px(0o100640, 1000), nm(0, b"A File.text"), times].concat()),
        record(0, 0, 0, b"LINK.;1", &link),
        record(0, 0, 0, b"DEV.;1", &device),
        record(50, 0, 0, b"MOVED.;1", &[px(0o040755, 0), nm(0, b"deep"), field(b"CL", &both32(22))].concat()),
        record(21, BLOCK as u32, 2, b"RR_MOVED", &[px(0o040755, 0), nm(0, b"rr_moved")].concat()),
    ]
    .concat();
    let moved = [
        dots(21, 20, &[]),
        record(22, BLOCK as u32, 2, b"MOVED", &[px(0o040755, 0), nm(0, b"deep"), field(b"RE", &[])].concat()),
    ]
    .concat();
    let deep = [dots(22, 21, &[]), record(40, 1, 0, b"X.;1", &[px(0o100644, 0), nm(0, b"inside")].concat())]
        .concat();
    let joliet = [
        dots(25, 25, &[]),
        record(40, 4096, MORE, &utf16("Größe.bin;1"), &[]),
        record(60, 10, 0, &utf16("Größe.bin;1"), &[]),
        record(40, 7, 0, &utf16("a/b"), &[]),
    ]
    .concat();
    let mut area = vec![0; 100];
    area.extend(continued);
    let blocks = [(20, root), (21, moved), (22, deep), (25, joliet), (30, area), (60, vec![9; 10])];
    volume(&[(1, 20), (2, 25)], &blocks)
}

const MORE: u8 = 0x80;

#[test]
fn rock_ridge_says_all() {
    let disk = three_trees();
    let volume = Volume::open(&mut &disk, &ALL).unwrap();
    assert_eq!(volume.root().posix.map(|posix| (posix.mode, posix.uid)), Some((0o040711, 3)));
    let entries = all(&volume, volume.root(), &disk).unwrap();
    assert_eq!(
        names(&entries),
        ["A File.text".into(), "n".repeat(200), "tty".into(), "deep".into(), "rr_moved".into()]
    );
    let file = &entries[0];
    assert_eq!((file.size(), file.place(4999), file.place(5000)), (5000, Some((40 * 2048 + 4999, 1)), None));
    let posix = file.posix.unwrap();
    assert_eq!((posix.mode, posix.uid, posix.gid, posix.links), (0o100640, 1000, 7, 1));
    // 2000-01-02 03:04:05, 2001, 2002.
    let seconds = [file.times.written, file.times.read, file.times.changed].map(|at| at / 1_000_000_000);
    assert_eq!(seconds, [946_782_245, 978_307_200, 1_009_843_200]);
    assert_eq!(entries[1].link.as_deref(), Some(&b"/etc/.."[..]));
    assert_eq!(entries[2].posix.unwrap().device, (4, 64));
    assert!(entries[3].is_dir && entries[3].sections == [Section { at: 22 * 2048, len: 2048 }]);
    assert_eq!(names(&all(&volume, &entries[3], &disk).unwrap()), ["inside"]);
    // What was moved is shown at its place alone.
    assert!(all(&volume, &entries[4], &disk).unwrap().is_empty());
    let inos: std::collections::BTreeSet<u64> = entries.iter().map(|entry| entry.ino).collect();
    assert_eq!(inos.len(), entries.len());
}

#[test]
fn the_other_trees() {
    let disk = three_trees();
    let joliet = Volume::open(&mut &disk, &Options { rock_ridge: false, joliet: true }).unwrap();
    let entries = all(&joliet, joliet.root(), &disk).unwrap();
    assert_eq!(names(&entries), ["Größe.bin"]);
    assert_eq!((entries[0].size(), entries[0].place(4100)), (4106, Some((60 * 2048 + 4, 6))));
    let plain = Volume::open(&mut &disk, &Options { rock_ridge: false, joliet: false }).unwrap();
    let entries = all(&plain, plain.root(), &disk).unwrap();
    assert_eq!(names(&entries), ["file.txt", "link", "dev", "moved", "rr_moved"]);
}

#[test]
fn what_is_none_is_refused() {
    assert_eq!(Volume::open(&mut &Ram(vec![0; 100_000]), &ALL).err(), Some(Errno::EINVAL));
    assert_eq!(Volume::open(&mut &Ram(vec![]), &ALL).err(), Some(Errno::EINVAL));
    let mut disk = three_trees();
    disk.0[16 * BLOCK + 128] = 3;
    assert_eq!(Volume::open(&mut &disk, &ALL).err(), Some(Errno::EINVAL));
}

#[test]
fn a_continuation_that_continues_itself_ends() {
    let ce = field(b"CE", &[both32(30), both32(0), both32(28)].concat());
    let sp = field(b"SP", &[0xbe, 0xef, 0]);
    let root = [dots(20, 20, &sp), record(0, 0, 0, b"X.;1", &ce)].concat();
    let disk = volume(&[(1, 20)], &[(20, root), (30, ce)]);
    let volume = Volume::open(&mut &disk, &ALL).unwrap();
    assert_eq!(all(&volume, volume.root(), &disk).err(), Some(Errno::EIO));
}

#[test]
fn a_file_of_endless_sections_is_refused() {
    const MORE: u8 = 0x80;
    let block: Vec<u8> = (0..50).flat_map(|_| record(19, 2048, MORE, b"X", &[])).collect();
    let block = [block, vec![0; BLOCK]].concat()[..BLOCK].to_vec();
    let dir = record(25, 3 * BLOCK as u32, 2, b"D", &[]);
    let disk = volume(&[(1, 20)], &[(20, [dots(20, 20, &[]), dir].concat()), (25, block.repeat(3))]);
    let volume = Volume::open(&mut &disk, &ALL).expect("a volume");
    let dir = all(&volume, volume.root(), &disk).expect("the root is sound").remove(0);
    assert_eq!(all(&volume, &dir, &disk).err(), Some(Errno::EIO));
}

#[test]
fn damaged_volumes_give_errors() {
    let sound = three_trees();
    let mut state = 0x5eedu64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let first = 16 * BLOCK;
    let used: Vec<usize> = (first..sound.0.len()).filter(|at| sound.0[*at] != 0).collect();
    for _ in 0..20_000 {
        let mut broken = Ram(sound.0.clone());
        for _ in 0..1 + random(6) {
            let at = used[random(used.len())];
            broken.0[at] = if random(2) == 0 { random(256) as u8 } else { broken.0[at] ^ 1 << random(8) };
        }
        let options = Options { rock_ridge: random(3) != 0, joliet: random(2) == 0 };
        let Ok(volume) = Volume::open(&mut &broken, &options) else { continue };
        let Ok(entries) = all(&volume, volume.root(), &broken) else { continue };
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let _ = all(&volume, entry, &broken);
        }
        assert!(entries.iter().all(|entry| !entry.name.is_empty() && !entry.name.contains(&b'/')));
    }
}
