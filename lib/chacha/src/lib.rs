//! ChaCha20 and a random number generator on it.
//!
//! **Problem.** /dev/urandom and getrandom(2) must be unpredictable even to somebody who later reads the
//! generator's memory.
//!
//! **Interface.** [`Csprng`]: seeded with entropy (more may be mixed in at any time), filled from.
//! [`block`] is the bare function of RFC 8439.
//!
//! **Idea.** Fast key erasure (Bernstein 2017), as Linux does: the first 32 bytes of each run of the
//! cipher become the next key before anything is handed out, so old output cannot be recomputed. The
//! crate `chacha20` was the alternative; on x86-64 without SSE it needs a compiler flag set everywhere.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Bytes of one block.
pub const BLOCK: usize = 64;

fn quarter(s: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(16);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(12);
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(8);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(7);
}

/// The ChaCha20 block function (RFC 8439, section 2.3).
pub fn block(key: &[u32; 8], counter: u32, nonce: &[u32; 3]) -> [u8; BLOCK] {
    let mut start = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    start[4..12].copy_from_slice(key);
    start[12] = counter;
    start[13..].copy_from_slice(nonce);
    let mut state = start;
    for _ in 0..10 {
        quarter(&mut state, 0, 4, 8, 12);
        quarter(&mut state, 1, 5, 9, 13);
        quarter(&mut state, 2, 6, 10, 14);
        quarter(&mut state, 3, 7, 11, 15);
        quarter(&mut state, 0, 5, 10, 15);
        quarter(&mut state, 1, 6, 11, 12);
        quarter(&mut state, 2, 7, 8, 13);
        quarter(&mut state, 3, 4, 9, 14);
    }
    let mut out = [0; BLOCK];
    for (i, chunk) in out.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&state[i].wrapping_add(start[i]).to_le_bytes());
    }
    out
}

/// A generator that forgets how it got where it is.
#[derive(Clone)]
pub struct Csprng {
    key: [u32; 8],
}

impl Csprng {
    /// A generator that knows nothing yet: [`Csprng::mix`] entropy in before use.
    pub const fn new() -> Csprng {
        Csprng { key: [0; 8] }
    }

    /// Stirs entropy in. The old key goes through the cipher together with each 32 bytes of input, so
    /// mixing never makes the state easier to guess.
    pub fn mix(&mut self, entropy: &[u8]) {
        for chunk in entropy.chunks(32) {
            let mut padded = [0; 32];
            padded[..chunk.len()].copy_from_slice(chunk);
            for (word, bytes) in self.key.iter_mut().zip(padded.chunks_exact(4)) {
                *word ^= u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            self.step([chunk.len() as u32, 0x6d69_7865, 0]);
        }
    }

    /// Makes the next key; the rest of the block is 32 bytes of output.
    fn step(&mut self, nonce: [u32; 3]) -> [u8; 32] {
        let out = block(&self.key, 0, &nonce);
        for (word, bytes) in self.key.iter_mut().zip(out.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let mut rest = [0; 32];
        rest.copy_from_slice(&out[32..]);
        rest
    }

    /// A one-time stream: its key is forgotten here at once, so the caller may use it without a lock.
    pub fn stream(&mut self) -> Stream {
        let seed = self.step([0; 3]);
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(seed.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Stream { key, counter: 0, nonce: 1 }
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        if out.len() <= 32 {
            let bytes = self.step([0; 3]);
            out.copy_from_slice(&bytes[..out.len()]);
        } else {
            self.stream().fill(out);
        }
    }
}

impl Default for Csprng {
    fn default() -> Csprng {
        Csprng::new()
    }
}

/// Output of one key, in order.
pub struct Stream {
    key: [u32; 8],
    counter: u32,
    nonce: u32,
}

impl Stream {
    /// Fills `out`; what is left of its last block is thrown away.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(BLOCK) {
            let bytes = block(&self.key, self.counter, &[self.nonce, 0, 0]);
            chunk.copy_from_slice(&bytes[..chunk.len()]);
            self.counter = self.counter.wrapping_add(1);
            self.nonce = self.nonce.wrapping_add(u32::from(self.counter == 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_block_of_rfc_8439() {
        let key: [u32; 8] = std::array::from_fn(|i| {
            let b = 4 * i as u32;
            b | (b + 1) << 8 | (b + 2) << 16 | (b + 3) << 24
        });
        let out = block(&key, 1, &[0x0900_0000, 0x4a00_0000, 0]);
        let expected = "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
                        d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e";
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn output_depends_on_all_entropy_and_never_repeats() {
        let mut seen = HashSet::new();
        for seed in 0..64u32 {
            let mut rng = Csprng::new();
            rng.mix(&seed.to_le_bytes());
            for len in [8, 32, 33, 64, 200] {
                let mut out = vec![0; len];
                rng.fill(&mut out);
                assert!(seen.insert(out[..8].to_vec()), "seed {seed} len {len}");
                assert_ne!(out, vec![0; len]);
            }
        }
    }

    #[test]
    fn bits_are_balanced() {
        let mut rng = Csprng::new();
        rng.mix(b"seed");
        let mut out = vec![0u8; 1 << 16];
        rng.fill(&mut out);
        let ones: u32 = out.iter().map(|b| b.count_ones()).sum();
        let half = (out.len() * 4) as i64;
        assert!((i64::from(ones) - half).abs() < 2000, "{ones} of {}", out.len() * 8);
    }
}
