//! Memory: mmap(2) and its family.

use crate::{Ctx, Errno, Result};
use abi::mm::{LockAllFlags, MLOCK_ONFAULT, MapFlags, Prot, RemapFlags, SyncFlags};
use alloc::sync::Arc;
use arch::PAGE_SIZE;
use vm::{MapRequest, RemapRequest, VmFile};

/// mmap(2).
pub fn mmap(
    ctx: &mut Ctx,
    addr: usize,
    len: usize,
    prot: u32,
    flags: u32,
    fd: i32,
    offset: u64,
) -> Result<usize> {
    if !offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let flags = MapFlags::from_bits_retain(flags);
    let file: Option<Arc<dyn VmFile>> =
        if flags.contains(MapFlags::ANONYMOUS) { None } else { Some(ctx.files().get(fd)?) };
    let request = MapRequest { addr, len, prot: Prot::from_bits_retain(prot), flags, file, offset };
    ctx.mm().mmap(&request, &*ctx)
}

/// munmap(2).
pub fn munmap(ctx: &mut Ctx, addr: usize, len: usize) -> Result<usize> {
    ctx.mm().munmap(addr, len).map(|()| 0)
}

/// mprotect(2).
pub fn mprotect(ctx: &mut Ctx, addr: usize, len: usize, prot: usize) -> Result<usize> {
    // Unlike mmap, it knows all the bits it is given.
    let prot = u32::try_from(prot).map_err(|_| Errno::EINVAL)?;
    ctx.mm().mprotect(addr, len, Prot::from_bits_retain(prot), &*ctx).map(|()| 0)
}

/// mremap(2).
pub fn mremap(
    ctx: &mut Ctx,
    addr: usize,
    old_len: usize,
    new_len: usize,
    flags: usize,
    new_addr: usize,
) -> Result<usize> {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let flags = RemapFlags::from_bits_retain(flags);
    ctx.mm().mremap(&RemapRequest { addr, old_len, new_len, flags, new_addr }, &*ctx)
}

/// brk(2) as the kernel has it: the end of the heap, moved or not.
pub fn brk(ctx: &mut Ctx, addr: usize) -> Result<usize> {
    Ok(ctx.mm().brk(addr, &*ctx))
}

/// madvise(2).
pub fn madvise(ctx: &mut Ctx, addr: usize, len: usize, advice: i32) -> Result<usize> {
    ctx.mm().madvise(addr, len, advice).map(|()| 0)
}

/// mseal(2).
pub fn mseal(ctx: &mut Ctx, addr: usize, len: usize, flags: usize) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    ctx.mm().mseal(addr, len).map(|()| 0)
}

/// mincore(2), in pieces: the space's lock is not held while the answer is copied out.
pub fn mincore(ctx: &mut Ctx, addr: usize, len: usize, vec: usize) -> Result<usize> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
    if end > arch::mmu::user_top() {
        return Err(Errno::ENOMEM);
    }
    let pages = len.div_ceil(PAGE_SIZE);
    let mut seen = [0; 256];
    for first in (0..pages).step_by(seen.len()) {
        let part = &mut seen[..(pages - first).min(256)];
        ctx.mm().mincore(addr + first * PAGE_SIZE, part)?;
        let target = vec.checked_add(first).ok_or(Errno::EFAULT)?;
        mem::user::write(target, part).map_err(|_| Errno::EFAULT)?;
    }
    Ok(0)
}

/// msync(2).
pub fn msync(ctx: &mut Ctx, addr: usize, len: usize, flags: u32) -> Result<usize> {
    ctx.mm().msync(addr, len, SyncFlags::from_bits_retain(flags)).map(|()| 0)
}

/// mlock(2).
pub fn mlock(ctx: &mut Ctx, addr: usize, len: usize) -> Result<usize> {
    ctx.mm().mlock(addr, len, false, &*ctx).map(|()| 0)
}

/// mlock2(2).
pub fn mlock2(ctx: &mut Ctx, addr: usize, len: usize, flags: u32) -> Result<usize> {
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    ctx.mm().mlock(addr, len, flags & MLOCK_ONFAULT != 0, &*ctx).map(|()| 0)
}

/// munlock(2).
pub fn munlock(ctx: &mut Ctx, addr: usize, len: usize) -> Result<usize> {
    ctx.mm().munlock(addr, len).map(|()| 0)
}

/// mlockall(2).
pub fn mlockall(ctx: &mut Ctx, flags: u32) -> Result<usize> {
    ctx.mm().mlockall(LockAllFlags::from_bits_retain(flags), &*ctx).map(|()| 0)
}

/// munlockall(2).
pub fn munlockall(ctx: &mut Ctx) -> Result<usize> {
    ctx.mm().munlockall();
    Ok(0)
}
