//! Structures in user memory. A user pointer is a claim: every function here may answer EFAULT.

use crate::Result;
use abi::Errno;
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Reads a structure.
pub fn read<T: FromBytes + IntoBytes>(addr: usize) -> Result<T> {
    let mut value = T::new_zeroed();
    mem::user::read(addr, value.as_mut_bytes()).map_err(|_| Errno::EFAULT)?;
    Ok(value)
}

/// Writes a structure.
pub fn write<T: IntoBytes + Immutable>(addr: usize, value: &T) -> Result<()> {
    write_bytes(addr, value.as_bytes())
}

/// Writes a structure unless the pointer is null.
pub fn write_opt<T: IntoBytes + Immutable>(addr: usize, value: &T) -> Result<()> {
    if addr == 0 { Ok(()) } else { write(addr, value) }
}

pub fn write_bytes(addr: usize, bytes: &[u8]) -> Result<()> {
    mem::user::write(addr, bytes).map_err(|_| Errno::EFAULT)
}

pub fn read_bytes(addr: usize, bytes: &mut [u8]) -> Result<()> {
    mem::user::read(addr, bytes).map_err(|_| Errno::EFAULT)
}

/// A zero-terminated string of at most `max` bytes without the zero. ENAMETOOLONG, EFAULT.
pub fn read_cstr(addr: usize, max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    mem::user::read_cstr(addr, max, &mut bytes)?;
    Ok(bytes)
}

/// A structure that has grown over time (clone3, sched_setattr): the first `size` bytes of `T` come
/// from the program, the rest are zero. E2BIG when the program has more and uses it.
pub fn read_extensible<T: FromBytes + IntoBytes>(addr: usize, size: usize) -> Result<T> {
    let mut value = T::new_zeroed();
    let own = size.min(size_of::<T>());
    read_bytes(addr, &mut value.as_mut_bytes()[..own])?;
    let mut at = own;
    while at < size {
        let mut rest = [0u8; 64];
        let n = rest.len().min(size - at);
        read_bytes(addr.checked_add(at).ok_or(Errno::EFAULT)?, &mut rest[..n])?;
        if rest.iter().any(|&b| b != 0) {
            return Err(Errno::E2BIG);
        }
        at += n;
    }
    Ok(value)
}
