//! gzip members (RFC 1952): what a compressed initramfs is.
//!
//! **Problem.** The bytes come from outside; the output goes into memory the caller has, because the
//! kernel's heap has no room for an archive in one piece.
//!
//! **Interface.** [`is_gzip`] looks, [`unpack`] unpacks one member into a slice and says how long it and its
//! content were. [`size_hint`] guesses the slice's size. The DEFLATE part is the crate `miniz_oxide`.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

const HEADER: usize = 10;
const TRAILER: usize = 8;

const HAS_CRC: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of the member, header and trailer included.
    pub consumed: usize,
    /// Bytes of content.
    pub len: usize,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not a gzip header that can be read.
    Header,
    /// The input ends too early.
    CutOff,
    /// The compressed data makes no sense.
    Damaged,
    /// The content's checksum or length is not what the trailer says.
    Checksum,
    /// The output slice is too small.
    TooSmall,
}

impl Error {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Error::Header => "a gzip header that cannot be read",
            Error::CutOff => "cut off in gzip data",
            Error::Damaged => "damaged gzip data",
            Error::Checksum => "wrong gzip checksum",
            Error::TooSmall => "gzip data larger than it says",
        }
    }
}

/// Whether a gzip member begins here.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b, 8])
}

/// What the last member says its content's length is, modulo 2^32: right for one member with nothing
/// behind it. A guess; [`unpack`] tells when it was too small.
pub fn size_hint(bytes: &[u8]) -> usize {
    let at = bytes.len().checked_sub(4);
    at.and_then(|at| read_u32(bytes, at)).map_or(0, |len| len as usize)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// Length of the header.
fn header_len(bytes: &[u8]) -> Option<usize> {
    if !is_gzip(bytes) {
        return None;
    }
    let flags = *bytes.get(3)?;
    let mut at = HEADER;
    if flags & HAS_EXTRA != 0 {
        at += 2 + usize::from(*bytes.get(at)?) + (usize::from(*bytes.get(at + 1)?) << 8);
    }
    for flag in [HAS_NAME, HAS_COMMENT] {
        if flags & flag != 0 {
            at += bytes.get(at..)?.iter().position(|b| *b == 0)? + 1;
        }
    }
    if flags & HAS_CRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}

/// Unpacks the member at the start of `bytes` into `out`.
pub fn unpack(bytes: &[u8], out: &mut [u8]) -> Result<Unpacked, Error> {
    let start = header_len(bytes).ok_or(Error::Header)?;
    let mut state = Box::new(DecompressorOxide::new());
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, len) = decompress(&mut state, &bytes[start..], out, 0, flags);
    match status {
        TINFLStatus::Done => {}
        TINFLStatus::HasMoreOutput => return Err(Error::TooSmall),
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => return Err(Error::CutOff),
        _ => return Err(Error::Damaged),
    }
    let trailer = start + read;
    let (sum, size) = (read_u32(bytes, trailer), read_u32(bytes, trailer + 4));
    let (Some(sum), Some(size)) = (sum, size) else { return Err(Error::CutOff) };
    if size != len as u32 || sum != crc32(&out[..len]) {
        return Err(Error::Checksum);
    }
    Ok(Unpacked { consumed: trailer + TRAILER, len })
}

const POLYNOMIAL: u32 = 0xedb8_8320;

/// Four tables, so that four bytes are looked up at once ("slicing by four").
static TABLES: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        tables[0][i] = value;
        i += 1;
    }
    let mut t = 1;
    while t < 4 {
        let mut i = 0;
        while i < 256 {
            let before = tables[t - 1][i];
            tables[t][i] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            i += 1;
        }
        t += 1;
    }
    tables
};

/// The checksum of RFC 1952.
pub fn crc32(bytes: &[u8]) -> u32 {
    let look = |table: usize, byte: u32| TABLES[table][(byte & 0xff) as usize];
    let mut sum = u32::MAX;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mixed = sum ^ u32::from_le_bytes(*word);
        sum = look(3, mixed) ^ look(2, mixed >> 8) ^ look(1, mixed >> 16) ^ look(0, mixed >> 24);
    }
    for byte in rest {
        sum = look(0, sum ^ u32::from(*byte)) ^ sum >> 8;
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member with the name "x" whose content is not compressed.
    fn member(content: &[u8]) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, HAS_NAME, 0, 0, 0, 0, 0, 3, b'x', 0];
        // One stored block a piece of 65535 bytes.
        let chunks: Vec<&[u8]> =
            if content.is_empty() { vec![&[]] } else { content.chunks(65_535).collect() };
        for (i, chunk) in chunks.iter().enumerate() {
            out.push(u8::from(i + 1 == chunks.len()));
            out.extend((chunk.len() as u16).to_le_bytes());
            out.extend((!(chunk.len() as u16)).to_le_bytes());
            out.extend(*chunk);
        }
        out.extend(crc32(content).to_le_bytes());
        out.extend((content.len() as u32).to_le_bytes());
        out
    }

    #[test]
    fn checksum_of_the_standard_test() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_member_that_gzip_made() {
        let bytes = [
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xd7, 0x51, 0xc8, 0x40, 0xa2,
            0xb8, 0, 0xe7, 0x42, 0x6e, 0x52, 20, 0, 0, 0,
        ];
        let mut out = [0; 64];
        let done = unpack(&bytes, &mut out).unwrap();
        assert_eq!(&out[..done.len], b"hello, hello, hello\n");
        assert_eq!(done.consumed, bytes.len());
    }

    #[test]
    fn errors() {
        let bytes = member(b"some content");
        let mut out = [0; 64];
        assert_eq!(unpack(&bytes, &mut out), Ok(Unpacked { consumed: bytes.len(), len: 12 }));
        assert_eq!(size_hint(&bytes), 12);
        assert_eq!(unpack(b"not gzip at all", &mut out), Err(Error::Header));
        assert_eq!(unpack(&bytes[..bytes.len() - 3], &mut out), Err(Error::CutOff));
        assert_eq!(unpack(&bytes[..20], &mut out), Err(Error::CutOff));
        assert_eq!(unpack(&bytes, &mut out[..5]), Err(Error::TooSmall));
        let mut wrong = bytes.clone();
        wrong[20] ^= 1;
        assert_eq!(unpack(&wrong, &mut out), Err(Error::Checksum));
    }

    proptest! {
        #[test]
        fn content_comes_back(content in prop::collection::vec(any::<u8>(), 0..3000), tail in 0usize..9) {
            let mut bytes = member(&content);
            let len = bytes.len();
            bytes.extend(vec![0; tail]);
            let mut out = vec![0; content.len()];
            prop_assert_eq!(unpack(&bytes, &mut out), Ok(Unpacked { consumed: len, len: content.len() }));
            prop_assert_eq!(out, content);
        }

        #[test]
        fn damage_never_panics(at in 0usize..100, byte: u8) {
            let mut bytes = member(b"0123456789 0123456789 0123456789");
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
            let mut out = [0; 100];
            let _ = unpack(&bytes, &mut out);
        }
    }
}
