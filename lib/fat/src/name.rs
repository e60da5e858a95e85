//! Names: UTF-8 outside, UTF-16 in long entries, code page 437 in short ones.
//!
//! Letters differ by case to a reader but not to a search, for ASCII; dots at the end of a name do not count. Both as
//! Linux with `utf8`. A name that is not eleven upper-case characters has long entries, and a short name made from it.

use crate::slot::{KANJI, MAX_PIECES, Slot, UNITS, checksum};
use abi::{Errno, errno::Result};
use alloc::vec::Vec;

/// Units of the longest name.
pub const MAX_UNITS: usize = 255;

/// Characters 128 to 255 of code page 437.
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌\
    █▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A name without the dots at its end, which do not count.
pub fn trim_dots(name: &[u8]) -> &[u8] {
    let len = name.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
    &name[..len]
}

fn fold(unit: u16) -> u16 {
    match u8::try_from(unit) {
        Ok(byte) => byte.to_ascii_lowercase().into(),
        Err(_) => unit,
    }
}

/// Whether a search for one finds the other.
pub fn same(a: &[u16], b: &[u16]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fold(*a) == fold(*b))
}

/// UTF-16 of a name that a program gives, to look for: dots at the end off. `None`: no file is called so.
pub fn to_units(name: &[u8]) -> Option<Vec<u16>> {
    let text = core::str::from_utf8(trim_dots(name)).ok()?;
    let mut units = Vec::new();
    units.try_reserve(text.len()).ok()?;
    units.extend(text.encode_utf16());
    (!units.is_empty() && units.len() <= MAX_UNITS).then_some(units)
}

/// The same for a file to be made. EINVAL for what no name may have, ENAMETOOLONG, ENOENT for nothing but dots.
pub fn to_new_units(name: &[u8]) -> Result<Vec<u16>> {
    let name = trim_dots(name);
    let text = core::str::from_utf8(name).map_err(|_| Errno::EINVAL)?;
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    let bad = |byte: &u8| *byte < b' ' || b"*?<>|\":/\\".contains(byte);
    if name.iter().any(bad) || name.ends_with(b" ") {
        return Err(Errno::EINVAL);
    }
    let mut units = Vec::new();
    units.try_reserve(text.len()).map_err(|_| Errno::ENOMEM)?;
    units.extend(text.encode_utf16());
    if units.len() > MAX_UNITS { Err(Errno::ENAMETOOLONG) } else { Ok(units) }
}

/// UTF-8 of a name; what is no character becomes U+FFFD. ENOMEM.
pub fn to_utf8(units: &[u16]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve(units.len() * 3).map_err(|_| Errno::ENOMEM)?;
    for decoded in char::decode_utf16(units.iter().copied()) {
        let mut buffer = [0; 4];
        let character = decoded.unwrap_or(char::REPLACEMENT_CHARACTER);
        bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }
    Ok(bytes)
}

/// A short name as units: at most 12.
#[derive(Clone, Copy, Debug)]
pub struct ShortUnits {
    units: [u16; 12],
    len: usize,
}

impl ShortUnits {
    /// Of an entry, in the case in which it is shown.
    pub fn of(slot: &Slot) -> ShortUnits {
        let (short, (base_lower, extension_lower)) = (slot.short(), slot.lower());
        let mut all = ShortUnits { units: [0; 12], len: 0 };
        for (at, byte) in trimmed(&short[..8]).iter().enumerate() {
            let byte = if at == 0 && *byte == KANJI { crate::slot::FREE } else { *byte };
            all.push(byte, base_lower);
        }
        let extension = trimmed(&short[8..]);
        if !extension.is_empty() {
            all.push(b'.', false);
        }
        extension.iter().for_each(|byte| all.push(*byte, extension_lower));
        all
    }

    fn push(&mut self, byte: u8, lower: bool) {
        let unit = match byte {
            0..b' ' | b'/' | 127 => u16::from(b'_'),
            128.. => CP437.chars().nth(usize::from(byte) - 128).map_or(0xfffd, |found| found as u16),
            _ if lower => byte.to_ascii_lowercase().into(),
            _ => byte.into(),
        };
        self.units[self.len] = unit;
        self.len += 1;
    }

    pub fn as_slice(&self) -> &[u16] {
        &self.units[..self.len]
    }
}

/// Without the spaces at the end.
fn trimmed(field: &[u8]) -> &[u8] {
    let len = field.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &field[..len]
}

/// The pieces of a long name as they pass, last one first.
#[derive(Debug)]
pub struct LongName {
    units: [u16; UNITS * MAX_PIECES],
    /// Units, when all pieces are there; how many pieces are missing; how many there are.
    len: usize,
    missing: usize,
    pieces: usize,
    checksum: u8,
}

impl LongName {
    pub fn new() -> LongName {
        LongName { units: [0; UNITS * MAX_PIECES], len: 0, missing: 0, pieces: 0, checksum: 0 }
    }

    /// What was gathered is no name.
    pub fn clear(&mut self) {
        self.pieces = 0;
    }

    /// The next entry is a piece.
    pub fn push(&mut self, slot: &Slot) {
        let (number, last, checksum) = slot.piece_head();
        if last && (1..=MAX_PIECES).contains(&number) {
            (self.pieces, self.missing, self.checksum) = (number, number, checksum);
            self.len = number * UNITS;
        }
        if self.pieces == 0 || number == 0 || number != self.missing || checksum != self.checksum {
            return self.clear();
        }
        let start = (number - 1) * UNITS;
        self.units[start..start + UNITS].copy_from_slice(&slot.units());
        if let Some(end) = slot.units().iter().position(|unit| *unit == 0) {
            self.len = start + end;
        }
        self.missing -= 1;
    }

    /// The long name of a short entry, and how many pieces it has; `None`: it has none, or none that can be shown.
    pub fn finish(&self, short: &[u8; 11]) -> Option<(&[u16], usize)> {
        let units = &self.units[..self.len.min(self.units.len())];
        let whole = self.pieces != 0 && self.missing == 0 && self.checksum == checksum(short);
        let shown = |unit: &u16| *unit >= u16::from(b' ') && *unit != u16::from(b'/');
        let dots = matches!(units, [46] | [46, 46]);
        let usable =
            whole && !dots && !units.is_empty() && units.len() <= MAX_UNITS && units.iter().all(shown);
        usable.then_some((units, self.pieces))
    }
}

impl Default for LongName {
    fn default() -> Self {
        Self::new()
    }
}

/// The short name that a long one gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Basis {
    pub short: [u8; 11],
    /// It is the name itself: no long entries are needed.
    pub exact: bool,
    /// It differs from the name by case only.
    pub fits: bool,
}

/// Turns a name into eleven characters. EINVAL when none is left.
pub fn basis(units: &[u16]) -> Result<Basis> {
    let dot = u16::from(b'.');
    let last_dot = units.iter().rposition(|unit| *unit == dot);
    // A name of dots and then a word has no extension.
    let cut = last_dot.filter(|at| units[..*at].iter().any(|unit| !is_skipped(*unit)));
    let (base, extension) = match cut {
        Some(at) => (&units[..at], &units[at + 1..]),
        None => (units, &units[units.len()..]),
    };
    let mut made = Basis { short: [b' '; 11], exact: true, fits: true };
    fill(base, 0, 8, &mut made);
    fill(extension, 8, 11, &mut made);
    if made.short[0] == b' ' { Err(Errno::EINVAL) } else { Ok(made) }
}

fn is_skipped(unit: u16) -> bool {
    unit == u16::from(b'.') || unit == u16::from(b' ')
}

/// Fills one field with the upper-case characters of a part of the name.
fn fill(units: &[u16], mut at: usize, end: usize, made: &mut Basis) {
    for &unit in units {
        let byte = u8::try_from(unit).ok().filter(u8::is_ascii);
        if is_skipped(unit) || at == end {
            made.fits = false;
            continue;
        }
        let lossy = byte.is_none_or(|byte| b"[];,+=".contains(&byte));
        made.short[at] = if lossy { b'_' } else { byte.unwrap_or(b'_').to_ascii_uppercase() };
        made.fits &= !lossy;
        made.exact &= byte.is_some_and(|byte| !byte.is_ascii_lowercase());
        at += 1;
    }
    made.exact &= made.fits;
}

impl Basis {
    /// The name with `text` at the end of its base: "LONGNAME" and "~1" are "LONGNA~1".
    pub fn with_tail(&self, text: &[u8]) -> [u8; 11] {
        let mut short = self.short;
        let len = trimmed(&self.short[..8]).len().min(8 - text.len());
        short[..8].fill(b' ');
        short[..len].copy_from_slice(&self.short[..len]);
        short[len..len + text.len()].copy_from_slice(text);
        short
    }

    /// The same with four digits of `hash` in the name, for those that have many of a kind.
    pub fn hashed(&self, hash: u16) -> Basis {
        let mut hashed = *self;
        let len = trimmed(&self.short[..8]).len().min(2);
        hashed.short[..8].fill(b' ');
        hashed.short[..len].copy_from_slice(&self.short[..len]);
        for digit in 0..4 {
            hashed.short[len + digit] = b"0123456789ABCDEF"[usize::from(hash >> (12 - 4 * digit) & 15)];
        }
        hashed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(name: &str) -> (String, bool, bool) {
        let units = to_new_units(name.as_bytes()).unwrap();
        let made = basis(&units).unwrap();
        (String::from_utf8(made.short.to_vec()).unwrap(), made.exact, made.fits)
    }

    use std::string::{String, ToString};

    #[test]
    fn short_names() {
        let cases = [
            ("README.TXT", "README  TXT", true, true),
            ("readme.txt", "README  TXT", false, true),
            ("Longer name.html", "LONGERNAHTM", false, false),
            (".bashrc", "BASHRC     ", false, false),
            ("a.b.c", "AB      C  ", false, false),
            ("x+y", "X_Y        ", false, false),
            ("für", "F_R        ", false, false),
            ("ABCDEFGH", "ABCDEFGH   ", true, true),
            ("ABCDEFGHI", "ABCDEFGH   ", false, false),
            ("A.JPEG", "A       JPE", false, false),
        ];
        for (name, expected, exact, fits) in cases {
            assert_eq!(short(name), (expected.to_string(), exact, fits), "{name}");
        }
        let made = basis(&to_new_units(b"long name.txt").unwrap()).unwrap();
        assert_eq!(&made.with_tail(b"~1"), b"LONGNA~1TXT");
        assert_eq!(&made.hashed(0xbeef).with_tail(b"~1"), b"LOBEEF~1TXT");
        assert_eq!(&basis(&[u16::from(b'x')]).unwrap().with_tail(b"~3"), b"X~3        ");
    }

    #[test]
    fn names_that_cannot_be() {
        for name in ["a:b", "a*", "a/b", "tail ", "tab\t"] {
            assert_eq!(to_new_units(name.as_bytes()), Err(Errno::EINVAL), "{name}");
        }
        assert_eq!(to_new_units(b"..."), Err(Errno::ENOENT));
        assert_eq!(to_new_units(b"\xff"), Err(Errno::EINVAL));
        assert_eq!(to_new_units(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert_eq!(to_new_units(b"dots...").unwrap().len(), 4);
    }

    #[test]
    fn the_code_page_is_whole() {
        assert_eq!(CP437.chars().count(), 128);
        assert!(CP437.chars().all(|each| u32::from(each) < 0xd800));
    }

    #[test]
    fn pieces_make_a_name() {
        for len in [1, 12, 13, 14, 26, 255] {
            let units: Vec<u16> = (0..len).map(|at| 0x100 + at).collect();
            let (pieces, sum) = (units.len().div_ceil(UNITS), checksum(b"SHORT   TXT"));
            let mut long = LongName::new();
            for number in (1..=pieces).rev() {
                long.push(&Slot::piece(&units, number, number == pieces, sum));
            }
            assert_eq!(long.finish(b"SHORT   TXT"), Some((&units[..], pieces)));
            assert_eq!(long.finish(b"OTHER   TXT"), None);
        }
    }
}
