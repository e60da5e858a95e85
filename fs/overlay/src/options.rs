//! Mount options, with Linux's names.

use abi::{Errno, errno::Result};
use alloc::vec::Vec;

/// Linux's limit of lower layers.
const MAX_LOWER: usize = 500;

#[derive(Default)]
pub(crate) struct Options {
    pub lower: Vec<Vec<u8>>,
    pub upper: Option<Vec<u8>>,
    pub work: Option<Vec<u8>>,
    pub user_xattr: bool,
    pub volatile: bool,
}

/// Reads mount(2)'s options. EINVAL for what is not known, is missing, or cannot be given.
pub(crate) fn parse(data: &[u8]) -> Result<Options> {
    let mut options = Options::default();
    for word in split(data, b',') {
        let word = &word[..];
        let (key, value) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], &word[at + 1..]),
            None => (word, &b""[..]),
        };
        match (key, value) {
            (b"lowerdir", value) => {
                options.lower = split(value, b':').iter().map(|path| unescape(path)).collect()
            }
            (b"upperdir", value) => options.upper = Some(unescape(value)),
            (b"workdir", value) => options.work = Some(unescape(value)),
            (b"userxattr", b"") => options.user_xattr = true,
            (b"volatile", b"") => options.volatile = true,
            (b"index" | b"metacopy" | b"nfs_export", b"off") => {}
            (b"redirect_dir", b"off" | b"nofollow") => {}
            (b"xino", b"off" | b"auto" | b"on") => {}
            (b"", b"") | (b"default_permissions" | b"rw" | b"ro", b"") => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    let lowers = options.lower.len();
    if lowers == 0 || lowers > MAX_LOWER || options.lower.iter().any(Vec::is_empty) {
        return Err(Errno::EINVAL);
    }
    if options.upper.is_some() != options.work.is_some() && options.upper.is_some() {
        return Err(Errno::EINVAL);
    }
    Ok(options)
}

/// Splits at a byte that has no backslash before it; backslashes stay.
fn split(text: &[u8], at: u8) -> Vec<Vec<u8>> {
    let mut words = Vec::from([Vec::new()]);
    let mut escaped = false;
    for byte in text {
        if *byte == at && !escaped {
            words.push(Vec::new());
            continue;
        }
        escaped = *byte == b'\\' && !escaped;
        if let Some(word) = words.last_mut() {
            word.push(*byte);
        }
    }
    words
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    out
}
