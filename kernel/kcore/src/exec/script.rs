//! `#!` files (execve(2), "Interpreter scripts").

use super::{HEAD_BYTES, Request};
use crate::{Ctx, Result};
use abi::Errno;
use alloc::vec::Vec;

/// The first line of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    interpreter: Vec<u8>,
    /// Everything after the interpreter, as one argument.
    argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// `None`: not a script. ENOEXEC for a script without an interpreter, or with a name that is cut by the end
/// of the head.
pub(super) fn parse(head: &[u8]) -> Option<Result<Line>> {
    let text = head.strip_prefix(b"#!")?;
    let text = &text[..text.iter().position(|&b| b == 0).unwrap_or(text.len())];
    let end = text.iter().position(|&b| b == b'\n');
    let line = trim(&text[..end.unwrap_or(text.len())]);
    let name_end = line.iter().position(|&b| is_blank(b));
    // Without a newline the line may go on beyond the head: then the name must be complete at least.
    let cut = end.is_none() && head.len() == HEAD_BYTES && name_end.is_none();
    if line.is_empty() || cut {
        return Some(Err(Errno::ENOEXEC));
    }
    let (name, argument) = line.split_at(name_end.unwrap_or(line.len()));
    let argument = trim(argument);
    let argument = (!argument.is_empty()).then(|| argument.to_vec());
    Some(Ok(Line { interpreter: name.to_vec(), argument }))
}

/// Makes the request one for the interpreter: `interpreter [argument] script arguments...`.
pub(super) fn apply(ctx: &Ctx, request: &mut Request, line: &Line) -> Result<()> {
    if request.unreachable {
        return Err(Errno::ENOENT);
    }
    let script = core::mem::replace(&mut request.name, line.interpreter.clone());
    match &line.argument {
        Some(argument) => request.argv.replace_first(&[&line.interpreter, argument, &script]),
        None => request.argv.replace_first(&[&line.interpreter, &script]),
    }
    request.file = super::load::open_kernel_named(ctx, &line.interpreter)?;
    Ok(())
}
