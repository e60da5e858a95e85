//! A program's own symbol table: addresses to names, small enough to stay in memory.
//!
//! **Problem.** A kernel that prints where it was should say it in names. They are known only when it is linked,
//! and a kernel has thousands of them, as long as paths of Rust are.
//!
//! **Interface.** [`encode`] makes the table (the host, after linking); [`Symbols::parse`] looks into one
//! without allocating: [`Symbols::find`] by address, [`Symbols::get`] by number.
//!
//! **Idea.** Addresses are 32-bit offsets in ascending order, for a binary search. Names lie in the same order,
//! each as the part in which it differs from the one before, since neighbours come from one module; every 16th
//! is whole, so that a look-up decodes 16 at most.
//!
//! ```text
//!  magic | count | base, 8 bytes | end, 4 bytes | count offsets | ceil(count/16) places | names
//!  name: length shared with the one before, length of the rest, the rest
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

const MAGIC: [u8; 4] = *b"OSYM";
const HEADER: usize = 20;
/// Names from one whole name to the next.
const BLOCK: usize = 16;
/// Longer names are cut.
pub const NAME_MAX: usize = 255;

/// Encodes symbols `(address, name)`, ascending by address, of code that ends at `end`. Of several at one address
/// the first stays. `None` when the code is longer than 4 GiB.
pub fn encode(symbols: &[(u64, &str)], end: u64) -> Option<Vec<u8>> {
    let base = symbols.first().map_or(end, |symbol| symbol.0);
    let mut offsets: Vec<u32> = Vec::new();
    let (mut places, mut names): (Vec<u32>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut previous: &[u8] = b"";
    for (address, name) in symbols {
        let offset = u32::try_from(address.checked_sub(base)?).ok()?;
        if offsets.last() == Some(&offset) {
            continue;
        }
        if offsets.len().is_multiple_of(BLOCK) {
            places.push(u32::try_from(names.len()).ok()?);
            previous = b"";
        }
        offsets.push(offset);
        let name = cut(name).as_bytes();
        let shared = name.iter().zip(previous).take_while(|(a, b)| a == b).count();
        names.push(shared as u8);
        names.push((name.len() - shared) as u8);
        names.extend_from_slice(&name[shared..]);
        previous = name;
    }
    let mut out = Vec::from(MAGIC);
    out.extend_from_slice(&u32::try_from(offsets.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&u32::try_from(end.checked_sub(base)?).ok()?.to_le_bytes());
    offsets.iter().chain(&places).for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    out.extend_from_slice(&names);
    Some(out)
}

/// At most [`NAME_MAX`] bytes of a name, at a character border.
fn cut(name: &str) -> &str {
    let end = (0..=name.len().min(NAME_MAX)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    &name[..end]
}

/// A name taken out of a table.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    const EMPTY: Name = Name { bytes: [0; NAME_MAX], len: 0 };

    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

/// A symbol that has an address in it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub name: Name,
    /// Bytes from the symbol to the address.
    pub offset: u64,
    /// Bytes to the next symbol.
    pub size: u64,
}

/// A table to look into.
#[derive(Debug, Clone, Copy)]
pub struct Symbols<'a> {
    base: u64,
    end: u64,
    count: usize,
    offsets: &'a [u8],
    places: &'a [u8],
    names: &'a [u8],
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let bytes = bytes.get(index * 4..index * 4 + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

impl<'a> Symbols<'a> {
    /// The table at the start of `bytes`; `None` when there is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Symbols<'a>> {
        let header = bytes.get(..HEADER)?;
        if header[..4] != MAGIC {
            return None;
        }
        let count = word(header, 1)? as usize;
        let base = u64::from_le_bytes(header[8..16].try_into().ok()?);
        let end = base.checked_add(u64::from(word(header, 4)?))?;
        let rest = &bytes[HEADER..];
        let (offsets, rest) = rest.split_at_checked(count.checked_mul(4)?)?;
        let (places, names) = rest.split_at_checked(count.div_ceil(BLOCK) * 4)?;
        Some(Symbols { base, end, count, offsets, places, names })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn offset(&self, index: usize) -> u64 {
        word(self.offsets, index).map_or(self.end - self.base, u64::from)
    }

    /// The symbol that `address` lies in.
    pub fn find(&self, address: u64) -> Option<Found> {
        if address >= self.end {
            return None;
        }
        let wanted = address.checked_sub(self.base)?;
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.offset(middle) <= wanted { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        let start = self.offset(index);
        let size = self.offset(index + 1).saturating_sub(start);
        Some(Found { name: self.name(index)?, offset: wanted - start, size })
    }

    /// Address and name of the symbol with a number below [`Symbols::len`].
    pub fn get(&self, index: usize) -> Option<(u64, Name)> {
        if index >= self.count {
            return None;
        }
        Some((self.base + self.offset(index), self.name(index)?))
    }

    fn name(&self, index: usize) -> Option<Name> {
        let mut at = word(self.places, index / BLOCK)? as usize;
        let mut name = Name::EMPTY;
        for _ in 0..=index % BLOCK {
            let (shared, rest) = (usize::from(*self.names.get(at)?), usize::from(*self.names.get(at + 1)?));
            let suffix = self.names.get(at + 2..at + 2 + rest)?;
            name.len = shared + rest;
            name.bytes.get_mut(shared..name.len)?.copy_from_slice(suffix);
            at += 2 + rest;
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn symbols() -> impl Strategy<Value = BTreeMap<u64, String>> {
        prop::collection::btree_map(0x8000_0000u64..0x8001_0000, "[a-c]{0,3}::[a-e<> ]{0,300}é?", 0..80)
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found(symbols in symbols(), probe in 0x8000_0000u64..0x8001_0000) {
            let list: Vec<_> = symbols.iter().map(|(at, name)| (*at, name.as_str())).collect();
            let end = 0x8001_0000;
            let table = encode(&list, end).unwrap();
            let parsed = Symbols::parse(&table).unwrap();
            prop_assert_eq!(parsed.len(), list.len());
            for (index, (at, name)) in list.iter().enumerate() {
                let got = parsed.get(index).unwrap();
                prop_assert_eq!((got.0, got.1.as_str()), (*at, cut(name)));
            }
            let expected = symbols.range(..=probe).next_back();
            let found = parsed.find(probe);
            prop_assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some((at, name))) = (found, expected) {
                let next = symbols.range(probe + 1..).next().map_or(end, |(at, _)| *at);
                prop_assert_eq!(found.name.as_str(), cut(name));
                prop_assert_eq!((found.offset, found.size), (probe - at, next - at));
            }
        }

        #[test]
        fn damaged_tables_answer_nothing_worse_than_none(mut bytes in prop::collection::vec(any::<u8>(), 0..400), at: u64) {
            if bytes.len() >= HEADER {
                bytes[..4].copy_from_slice(&MAGIC);
                let count = bytes[4] % 64;
                bytes[4..8].copy_from_slice(&[count, 0, 0, 0]);
            }
            if let Some(symbols) = Symbols::parse(&bytes) {
                let _ = symbols.find(at);
                (0..symbols.len()).for_each(|index| {
                    let _ = symbols.get(index);
                });
            }
        }
    }

    #[test]
    fn outside_there_is_nothing() {
        let table = encode(&[(0x1000, "a"), (0x1010, "b")], 0x1020).unwrap();
        let symbols = Symbols::parse(&table).unwrap();
        let check = |at, expected: Option<(&str, u64, u64)>| {
            let found = symbols.find(at);
            let found = found.as_ref().map(|f| (f.name.as_str(), f.offset, f.size));
            assert_eq!(found, expected, "{at:#x}");
        };
        check(0xfff, None);
        check(0x1000, Some(("a", 0, 16)));
        check(0x101f, Some(("b", 15, 16)));
        check(0x1020, None);
        assert!(Symbols::parse(&[0; 64]).is_none());
    }
}
