//! The hashes of names by which large directories are sorted.
//!
//! A directory's root says which: 0 legacy, 1 half MD4, 2 TEA; the superblock, whether the bytes of a name are
//! signed (as char was on the machine that made the file system).

/// What names of one directory are hashed with.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    pub version: u8,
    pub unsigned: bool,
    pub seed: [u32; 4],
}

/// The value that no name may have: it would mean the end of a directory.
const END: u32 = 0x7fff_ffff;

impl Hasher {
    /// The hash (its lowest bit is 0) and a second one that tells apart names with the same. `None`: a version
    /// that is not known.
    pub fn hash(&self, name: &[u8]) -> Option<(u32, u32)> {
        let default = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        let mut state = if self.seed == [0; 4] { default } else { self.seed };
        let (hash, minor) = match self.version {
            0 => (self.legacy(name), 0),
            1 => {
                for part in pieces(name, 32) {
                    let mut words = [0; 8];
                    self.words(part, &mut words);
                    half_md4(&mut state, &words);
                }
                (state[1], state[2])
            }
            2 => {
                for part in pieces(name, 16) {
                    let mut words = [0; 4];
                    self.words(part, &mut words);
                    tea(&mut state, &words);
                }
                (state[0], state[1])
            }
            _ => return None,
        };
        let hash = hash & !1;
        Some((if hash == END << 1 { (END - 1) << 1 } else { hash }, minor))
    }

    fn byte(&self, byte: u8) -> u32 {
        if self.unsigned { u32::from(byte) } else { byte as i8 as u32 }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut before, mut last) = (0x37ab_e8f9u32, 0x12a3_fe2du32);
        for byte in name {
            let mut hash = before.wrapping_add(last ^ self.byte(*byte).wrapping_mul(7_152_373));
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7fff_ffff);
            }
            before = last;
            last = hash;
        }
        last << 1
    }

    /// Packs a piece into words, padded with its length.
    fn words(&self, piece: Piece<'_>, out: &mut [u32]) {
        let mut pad = piece.left as u32 | (piece.left as u32) << 8;
        pad |= pad << 16;
        let mut words = out.iter_mut();
        let room = words.len();
        let bytes = &piece.bytes[..piece.bytes.len().min(room * 4)];
        for part in bytes.chunks(4) {
            let mut value = pad;
            for byte in part {
                value = self.byte(*byte).wrapping_add(value << 8);
            }
            if let Some(word) = words.next() {
                *word = value;
            }
        }
        words.for_each(|word| *word = pad);
    }
}

/// A piece of a name, and how long the name is from there on.
struct Piece<'a> {
    bytes: &'a [u8],
    left: usize,
}

/// A name in pieces of `size` bytes; an empty name has none.
fn pieces(name: &[u8], size: usize) -> impl Iterator<Item = Piece<'_>> {
    (0..name.len()).step_by(size).map(move |at| {
        let rest = &name[at..];
        Piece { bytes: &rest[..rest.len().min(size)], left: rest.len() }
    })
}

fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    let f = |x: u32, y: u32, z: u32| z ^ (x & (y ^ z));
    let g = |x: u32, y: u32, z: u32| (x & y).wrapping_add((x ^ y) & z);
    let h = |x: u32, y: u32, z: u32| x ^ y ^ z;
    let rounds: [(&dyn Fn(u32, u32, u32) -> u32, u32, [usize; 8], [u32; 4]); 3] = [
        (&f, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (&g, 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (&h, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    for (mix, constant, order, shifts) in rounds {
        for (step, word) in order.iter().enumerate() {
            let value = words[*word].wrapping_add(constant);
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(value);
            // The registers turn: a takes the result and becomes the next step's b.
            (a, b, c, d) = (d, sum.rotate_left(shifts[step % 4]), b, c);
        }
    }
    for (to, add) in state.iter_mut().zip([a, b, c, d]) {
        *to = to.wrapping_add(add);
    }
}

fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    let (mut b0, mut b1) = (state[0], state[1]);
    let mut sum = 0u32;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        let mix = |x: u32, k0: u32, k1: u32| {
            (x << 4).wrapping_add(k0) ^ x.wrapping_add(sum) ^ (x >> 5).wrapping_add(k1)
        };
        b0 = b0.wrapping_add(mix(b1, key[0], key[1]));
        b1 = b1.wrapping_add(mix(b0, key[2], key[3]));
    }
    state[0] = state[0].wrapping_add(b0);
    state[1] = state[1].wrapping_add(b1);
}
