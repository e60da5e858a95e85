//! Functions and source lines for the addresses in a kernel's last words.
//!
//! Idea: names, files and lines are in the kernel's debug information, which stays on the host. A word of 16
//! hexadecimal digits that lies in the kernel's code is an address. One address may stand for several functions that
//! were made one by inlining: the innermost comes first.

use std::fs;
use std::path::Path;

use addr2line::gimli::{self, EndianSlice, LittleEndian};
use object::{Object, ObjectSection};

use crate::places;

type Context<'a> = addr2line::Context<EndianSlice<'a, LittleEndian>>;

/// The text with the source line behind each line that has an address in `kernel`'s code.
pub fn annotate(kernel: &Path, text: &str) -> String {
    if !text.lines().any(|line| addresses(line).next().is_some()) {
        return text.to_owned();
    }
    let data = fs::read(kernel).unwrap_or_default();
    let Some(context) = context(&data) else { return text.to_owned() };
    let annotated = text.lines().map(|line| {
        let places: Vec<String> =
            addresses(line).filter_map(|address| place(&context, line, address)).collect();
        places.into_iter().fold(line.to_owned(), |line, place| line + "  " + &place)
    });
    annotated.collect::<Vec<_>>().join("\n")
}

/// The debug information of an ELF file.
fn context(data: &[u8]) -> Option<Context<'_>> {
    let file = object::File::parse(data).ok()?;
    let section = |id: gimli::SectionId| -> Result<_, gimli::Error> {
        let content = file.section_by_name(id.name()).and_then(|s| s.data().ok()).unwrap_or_default();
        Ok(EndianSlice::new(content, LittleEndian))
    };
    Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()
}

/// Words that look like addresses in the upper half, where every kernel lies.
fn addresses(line: &str) -> impl Iterator<Item = u64> {
    let words =
        line.split(|c: char| !c.is_ascii_alphanumeric()).map(|word| word.strip_prefix("0x").unwrap_or(word));
    words
        .filter(|word| word.len() == 16)
        .filter_map(|word| u64::from_str_radix(word, 16).ok())
        .filter(|&a| a >> 63 == 1)
}

fn place(context: &Context<'_>, line: &str, address: u64) -> Option<String> {
    // A stack trace has return addresses, which belong to the call before them; a register dump has the place itself.
    let is_register = ["pc", "rip", "RIP", "epc"].iter().any(|name| line.contains(name));
    let probe = if is_register { address } else { address - 1 };
    let mut frames = context.find_frames(probe).skip_all_loads().ok()?;
    let mut places = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let name =
            frame.function.as_ref().and_then(|f| f.demangle().ok()).map(|name| short(&name).to_owned());
        let at = frame.location.and_then(|location| {
            let file = location.file?;
            let root = places::root().to_string_lossy();
            let file = file.strip_prefix(&*root).map_or(file, |rest| rest.trim_start_matches('/'));
            Some(format!("{file}:{}", location.line.unwrap_or(0)))
        });
        places.extend([name, at].into_iter().flatten().reduce(|name, at| format!("{name} ({at})")));
    }
    // Rust's own library is of interest only where nothing else is.
    let (theirs, ours): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| place.contains("(/rustc/"));
    let shown = if ours.is_empty() { theirs } else { ours };
    (!shown.is_empty()).then(|| shown.join(" < "))
}

/// A function's name without what it is generic over.
fn short(name: &str) -> &str {
    name.find('<').filter(|&at| at > 0).map_or(name, |at| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::{addresses, short};

    #[test]
    fn names_are_short() {
        assert_eq!(short("with_position<core::result::Result<usize, E>>"), "with_position");
        assert_eq!(short("{closure#0}<T>"), "{closure#0}");
        assert_eq!(short("<T as Trait>::method"), "<T as Trait>::method");
    }

    #[test]
    fn addresses_are_found_in_traces_and_registers() {
        let check =
            |line, expected: &[u64]| assert_eq!(addresses(line).collect::<Vec<_>>(), expected, "{line}");
        check("[    1.2] [<ffffffff80006f7c>] dump+0x28/0x30", &[0xffffffff80006f7c]);
        check("rip: 0xffffffff81000010 rsp: 0xffff888000000ff8", &[0xffffffff81000010, 0xffff888000000ff8]);
        check("user 0000000000401000, short 0xffff", &[]);
    }
}
