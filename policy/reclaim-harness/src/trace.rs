//! Block traces of the ARC paper: one request a line, `first_block number_of_blocks ignored request_number`; a
//! request touches each of its blocks in turn. Plain (`.lis`) or compressed (`.lis.gz`).

use std::io::{Read, Result};
use std::path::{Path, PathBuf};

/// The blocks of a trace, in order.
pub struct Trace {
    text: Vec<u8>,
    at: usize,
    block: u64,
    left: u64,
}

/// Where a trace of the paper may be: `$OCHRE_TRACES`, or `traces` in the folders above.
pub fn find(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("OCHRE_TRACES").map(PathBuf::from).into_iter().collect();
    let here = std::env::current_dir().ok()?;
    for above in here.ancestors() {
        folders.extend([above.join("traces"), above.join("shared/traces")]);
    }
    let files = [format!("{name}.lis"), format!("{name}.lis.gz")];
    folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file))).find(|path| path.is_file())
}

/// Reads a trace.
pub fn read(path: &Path) -> Result<Trace> {
    let mut text = std::fs::read(path)?;
    if text.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&text[..]).read_to_end(&mut plain)?;
        text = plain;
    }
    Ok(Trace { text, at: 0, block: 0, left: 0 })
}

impl Trace {
    fn number(&mut self) -> Option<u64> {
        let rest = &self.text[self.at..];
        let start = rest.iter().position(u8::is_ascii_digit)?;
        let digits = rest[start..].iter().take_while(|byte| byte.is_ascii_digit());
        let (value, count) = digits.fold((0u64, 0), |(value, count), byte| {
            (value.saturating_mul(10).saturating_add(u64::from(byte - b'0')), count + 1)
        });
        self.at += start + count;
        Some(value)
    }

    fn next_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
    }
}

impl Iterator for Trace {
    type Item = u64;
    fn next(&mut self) -> Option<u64> {
        while self.left == 0 {
            self.block = self.number()?;
            self.left = self.number()?;
            self.next_line();
        }
        self.left -= 1;
        let block = self.block;
        self.block += 1;
        Some(block)
    }
}
