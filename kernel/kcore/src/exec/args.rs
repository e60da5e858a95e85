//! Argument and environment strings on their way from the old program to the new one.

use crate::{Ctx, Result};
use abi::Errno;
use abi::resource::RLIMIT_STACK;
use alloc::vec::Vec;

/// The longest single string with its zero (MAX_ARG_STRLEN, 32 pages).
const STRING_MAX: usize = 128 << 10;
/// Always allowed in all (ARG_MAX).
const TOTAL_MIN: u64 = 128 << 10;
/// Never exceeded, whatever the stack limit: three quarters of 8 MiB.
const TOTAL_MAX: u64 = 6 << 20;

/// Zero-terminated strings, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

/// Bytes that arguments and environment may take together, pointers included (execve(2), "Limits").
fn total_limit(ctx: &Ctx) -> usize {
    (ctx.limit(RLIMIT_STACK) / 4).clamp(TOTAL_MIN, TOTAL_MAX) as usize
}

impl Strings {
    /// Reads the pointer arrays argv and envp and what they point to. A null array is empty. E2BIG, EFAULT.
    pub fn read_both(ctx: &Ctx, argv: usize, envp: usize) -> Result<(Strings, Strings)> {
        let mut left = total_limit(ctx);
        let argv = Strings::read(argv, &mut left)?;
        let envp = Strings::read(envp, &mut left)?;
        Ok((argv, envp))
    }

    fn read(array: usize, left: &mut usize) -> Result<Strings> {
        let mut strings = Strings::default();
        if array == 0 {
            return Ok(strings);
        }
        let mut scratch = Vec::new();
        loop {
            let at = array.checked_add(strings.count * 8).ok_or(Errno::EFAULT)?;
            let pointer = mem::user::read_val::<u64>(at).map_err(|_| Errno::EFAULT)?;
            if pointer == 0 {
                return Ok(strings);
            }
            strings.read_one(pointer as usize, left, &mut scratch)?;
        }
    }

    fn read_one(&mut self, addr: usize, left: &mut usize, scratch: &mut Vec<u8>) -> Result<()> {
        let max = STRING_MAX.min(*left);
        mem::user::read_cstr(addr, max, scratch).map_err(|errno| match errno {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        self.bytes.try_reserve(scratch.len() + 1).map_err(|_| Errno::ENOMEM)?;
        self.push(scratch);
        let cost = scratch.len() + 1 + 8;
        *left = left.checked_sub(cost).ok_or(Errno::E2BIG)?;
        Ok(())
    }

    /// From the kernel's own strings (init).
    pub fn from_slices(strings: &[&[u8]]) -> Strings {
        let mut out = Strings::default();
        for string in strings {
            out.push(string);
        }
        out
    }

    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
    }

    /// Replaces the first string (if there is one) by these.
    pub fn replace_first(&mut self, by: &[&[u8]]) {
        let mut out = Strings::from_slices(by);
        let rest = self.bytes.iter().position(|&b| b == 0).map_or(self.bytes.len(), |at| at + 1);
        out.bytes.extend_from_slice(&self.bytes[rest..]);
        out.count += self.count.saturating_sub(1);
        *self = out;
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// All strings with their zeros.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Offsets of the strings in [`Strings::bytes`].
    pub fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let mut next = 0;
        (0..self.count).map(move |_| {
            let at = next;
            next = self.bytes[at..].iter().position(|&b| b == 0).map_or(self.bytes.len(), |n| at + n + 1);
            at
        })
    }
}
