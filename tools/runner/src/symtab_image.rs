//! Gives a linked kernel the names of its functions.
//!
//! The image has room for them under the symbol `OCHRE_SYMBOLS` (machine/arch/src/symbols.rs). It is filled in place,
//! once: Cargo's own copy of the file is the same file, so a build that changes nothing finds it filled.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

const ROOM: &str = "OCHRE_SYMBOLS";

/// Writes the table into the file, unless it is there.
pub fn fill(kernel: &Path) -> Result<()> {
    let data = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let file = object::File::parse(&*data)?;
    let Some((at, room)) = place(&file) else { return Ok(()) };
    let is_filled = data.get(at as usize..).is_some_and(|rest| symtab::Symbols::parse(rest).is_some());
    if is_filled {
        return Ok(());
    }
    let table = table(&file, room);
    let image = OpenOptions::new().write(true).open(kernel)?;
    image.write_all_at(&table, at)?;
    Ok(())
}

/// Where in the file the room is, and how much.
fn place(file: &object::File) -> Option<(u64, usize)> {
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(ROOM))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let (offset, _) = section.file_range()?;
    Some((offset + symbol.address().checked_sub(section.address())?, symbol.size() as usize))
}

/// The functions by address; as many as have room, from the lowest.
fn table(file: &object::File, room: usize) -> Vec<u8> {
    let mut functions: Vec<(u64, u64, String)> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| Some((symbol.address(), symbol.size(), readable(symbol.name().ok()?))))
        .collect();
    functions.sort();
    functions.dedup_by_key(|function| function.0);
    loop {
        let end = functions.last().map_or(0, |(at, size, _)| at + size);
        let named: Vec<(u64, &str)> = functions.iter().map(|(at, _, name)| (*at, name.as_str())).collect();
        match symtab::encode(&named, end) {
            Some(table) if table.len() <= room => return table,
            _ if functions.is_empty() => return Vec::new(),
            _ => functions.truncate(functions.len() * 15 / 16),
        }
    }
}

/// The path of a function, without the hash that tells compilations apart and without its type parameters.
fn readable(mangled: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(mangled))
}
