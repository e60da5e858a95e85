//! What programs do with the disk, in words.

use crate::workload::{number, time_ns};
use iosched_api::{Dir, IoClass, IoPrio};

/// Where the next piece is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Sequential,
    Random,
}

/// A program that reads or writes pieces, `depth` at a time, and thinks after each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    pub text: String,
    pub dir: Dir,
    /// It waits for what it writes.
    pub sync: bool,
    pub place: Place,
    pub sectors: u32,
    pub depth: u32,
    pub think_ns: u64,
    pub prio: IoPrio,
}

/// Reads `read random size=4k; write seq size=64k depth=64`.
pub fn parse(text: &str) -> Result<Vec<Program>, String> {
    let groups = text.split([';', '\n']).map(|line| line.split('#').next().unwrap_or("").trim());
    let mut programs = Vec::new();
    for group in groups.filter(|group| !group.is_empty()) {
        let (program, count) = parse_one(group)?;
        programs.extend(std::iter::repeat_n(program, count));
    }
    if programs.is_empty() { Err("no program in the workload".into()) } else { Ok(programs) }
}

fn parse_one(group: &str) -> Result<(Program, usize), String> {
    let mut words = group.split_whitespace();
    let dir = match words.next() {
        Some("read") => Dir::Read,
        Some("write") => Dir::Write,
        other => return Err(format!("'{}' is neither read nor write", other.unwrap_or(""))),
    };
    let mut count = 1;
    let mut program = Program {
        text: group.to_string(),
        dir,
        sync: dir == Dir::Read,
        place: Place::Random,
        sectors: 8,
        depth: 1,
        think_ns: 0,
        prio: IoPrio::default(),
    };
    for word in words {
        match word.split_once('=') {
            None if word == "seq" => program.place = Place::Sequential,
            None if word == "random" => program.place = Place::Random,
            None if word == "sync" => program.sync = true,
            None if word.starts_with('x') => count = number(&word[1..], 1, 64)? as usize,
            Some(("size", value)) => program.sectors = (size(value)? / 512).max(1) as u32,
            Some(("depth", value)) => program.depth = number(value, 1, 256)? as u32,
            Some(("think", value)) => program.think_ns = time_ns(value)?,
            Some(("prio", value)) => program.prio = prio(value)?,
            _ => return Err(format!("'{word}' is no attribute of a program")),
        }
    }
    Ok((program, count))
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 10),
        Some(b'm') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    Ok((number(digits, 1, 1 << 20)? as u64) << shift)
}

/// `rt/0` to `be/7`, `idle`.
fn prio(text: &str) -> Result<IoPrio, String> {
    let (class, level) = text.split_once('/').unwrap_or((text, "4"));
    let class = match class {
        "rt" => IoClass::RealTime,
        "be" => IoClass::BestEffort,
        "idle" => IoClass::Idle,
        _ => return Err(format!("'{text}' is no priority")),
    };
    Ok(IoPrio { class, level: number(level, 0, 7)? as u8 })
}
