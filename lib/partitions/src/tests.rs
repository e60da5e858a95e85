use super::*;
use proptest::prelude::*;

const BLOCKS: u64 = 2048;

/// A disk in memory.
struct Image(Vec<u8>);

impl Image {
    fn new() -> Image {
        Image(vec![0; BLOCKS as usize * 512])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self, block: usize) -> Vec<Partition> {
        let blocks = (self.0.len() / block) as u64;
        read(block, blocks, &mut |lba, buffer| {
            let at = lba as usize * block;
            let found = self.0.get(at..at + block);
            found.is_some_and(|bytes| {
                buffer.copy_from_slice(bytes);
                true
            })
        })
        .unwrap()
    }

    fn mbr(&mut self, lba: usize, entries: &[(u8, u32, u32)]) {
        self.put(lba * 512 + 510, &[0x55, 0xaa]);
        for (place, (kind, start, blocks)) in entries.iter().enumerate() {
            let at = lba * 512 + 446 + place * 16;
            self.put(at + 4, &[*kind]);
            self.put(at + 8, &start.to_le_bytes());
            self.put(at + 12, &blocks.to_le_bytes());
        }
    }

    fn gpt(&mut self, entries: &[(u32, u64, u64)]) {
        self.mbr(0, &[(0xee, 1, u32::MAX)]);
        let mut table = vec![0; 128 * 128];
        for (number, first, last) in entries {
            let at = (*number as usize - 1) * 128;
            table[at..at + 32].fill((*number as u8).wrapping_mul(0x11) | 1);
            table[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
            table[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
            table[at + 56..at + 60].copy_from_slice(&[b'a', 0, b'b', 0]);
        }
        let crc = crc32fast::hash(&table);
        for (lba, other, at) in [(1, BLOCKS - 1, 2), (BLOCKS - 1, 1, BLOCKS - 33)] {
            let mut header = vec![0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
            for (place, value) in [(24, lba), (32, other), (40, 34), (48, BLOCKS - 34), (72, at)] {
                header[place..place + 8].copy_from_slice(&value.to_le_bytes());
            }
            header[80..84].copy_from_slice(&128u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc.to_le_bytes());
            let sum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            self.put(lba as usize * 512, &header);
            self.put(at as usize * 512, &table);
        }
    }
}

fn places(partitions: &[Partition]) -> Vec<(u32, u64, u64)> {
    partitions.iter().map(|p| (p.number, p.start, p.sectors)).collect()
}

#[test]
fn primary_and_logical() {
    let mut image = Image::new();
    image.mbr(0, &[(0x83, 64, 100), (0x05, 200, 1000), (0, 0, 0), (0x82, 1500, 48)]);
    image.put(440, &0x1234_abcdu32.to_le_bytes());
    image.mbr(200, &[(0x83, 10, 50), (0x05, 300, 200)]);
    image.mbr(500, &[(0x83, 10, 60)]);
    let found = image.read(512);
    let expected = [(1, 64, 100), (2, 200, 2), (4, 1500, 48), (5, 210, 50), (6, 510, 60)];
    assert_eq!(places(&found), expected);
    assert_eq!(found[3].label.uuid, "1234abcd-05");
}

#[test]
fn a_chain_that_goes_back_ends() {
    let mut image = Image::new();
    image.mbr(0, &[(0x05, 200, 1000)]);
    image.mbr(200, &[(0x83, 10, 50), (0x05, 100, 200)]);
    image.mbr(300, &[(0x83, 10, 50), (0x05, 0, 200)]);
    assert_eq!(places(&image.read(512)), [(1, 200, 2), (5, 210, 50), (6, 310, 50)]);
}

#[test]
fn gpt_and_its_backup() {
    let mut image = Image::new();
    image.gpt(&[(1, 100, 199), (3, 200, 299), (4, 10, 20), (5, 100, BLOCKS)]);
    let expected = [(1, 100, 100), (3, 200, 100)];
    let found = image.read(512);
    assert_eq!(places(&found), expected);
    assert_eq!(found[0].label.name, "ab");
    assert_eq!(found[0].label.uuid, "11111111-1111-1111-1111-111111111111");
    image.0[2 * 512 + 32] ^= 1;
    assert_eq!(places(&image.read(512)), expected, "the backup");
    let last = image.0.len() - 512 + 20;
    image.0[last] ^= 1;
    assert_eq!(places(&image.read(512)), [], "a protective entry beyond the disk is no partition");
}

#[test]
fn no_table() {
    assert_eq!(Image::new().read(512), []);
    let mut image = Image::new();
    image.mbr(0, &[(0x83, 64, 100)]);
    image.0[446] = 0x33;
    assert_eq!(image.read(512), []);
}

proptest! {
    /// Whatever the bytes: an answer, and only partitions on the disk.
    #[test]
    fn hostile(
        table in any::<bool>(),
        flips in prop::collection::vec((0usize..40 * 512, any::<u8>()), 0..40),
        block in prop::sample::select(vec![512usize, 4096]),
    ) {
        let mut image = Image::new();
        if table {
            image.gpt(&[(1, 100, 199), (128, 200, 299)]);
        } else {
            image.mbr(0, &[(0x83, 64, 100), (0x05, 3, 1000), (0x85, 4, 7), (0x0f, 5, 2000)]);
            for lba in 3..20 {
                image.mbr(lba, &[(0x83, 1, 1), (0x05, lba as u32 - 2, 100), (0x0f, 1, 1)]);
            }
        }
        for (at, byte) in flips {
            image.0[at] = byte;
        }
        for partition in image.read(block) {
            prop_assert!(partition.start + partition.sectors <= BLOCKS);
            prop_assert!(partition.sectors > 0 && partition.number <= MAX_ENTRIES);
        }
    }
}
