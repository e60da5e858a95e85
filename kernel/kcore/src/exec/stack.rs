//! The stack that a program starts with.
//!
//! ```text
//!  top   8 zero bytes
//!        file name (AT_EXECFN)
//!        environment strings
//!        argument strings
//!        platform name, 16 random bytes
//!        auxiliary vector
//!        envp[], NULL
//!        argv[], NULL
//!  sp -> argc
//! ```

use super::{Request, hwcap};
use crate::Result;
use abi::Errno;
use abi::process::*;
use abi::rseq::{RSEQ_FEATURE_BYTES, RSEQ_ORIGINAL_BYTES};
use abi::time::USER_HZ;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::PAGE_SIZE;
use vfs::Cred;
use vm::AddressSpace;

/// Room below what is written, mapped from the start; the stack grows beyond it by itself.
const ROOM: usize = 128 << 10;

/// What the auxiliary vector tells besides constants.
pub(super) struct Auxiliary<'a> {
    pub headers: u64,
    pub header_count: u64,
    pub base: u64,
    pub entry: u64,
    pub vdso: u64,
    pub cred: &'a Cred,
    pub secure: bool,
}

pub(super) struct Made {
    pub sp: usize,
    pub args: (u64, u64),
    pub env: (u64, u64),
    pub auxv: Vec<u8>,
}

/// Maps the stack and writes it.
pub(super) fn build(
    mm: &Arc<AddressSpace>,
    request: &Request,
    called: &[u8],
    auxiliary: &Auxiliary,
    executable: bool,
) -> Result<Made> {
    let (argv, envp) = (&request.argv, &request.envp);
    let strings = argv.bytes().len() + envp.bytes().len() + called.len();
    let pointers = (argv.count() + envp.count()) * 8;
    let top = mm.map_stack(strings + pointers + ROOM, executable)?;

    let name_at = top - 8 - (called.len() + 1);
    let env_at = name_at - envp.bytes().len();
    let arg_at = env_at - argv.bytes().len();
    let platform_at = arg_at - (MACHINE.len() + 1);
    let random_at = (platform_at - 16) & !15;
    let auxv = auxiliary.vector(name_at, platform_at, random_at);
    let words = 1 + argv.count() + 1 + envp.count() + 1 + auxv.len() * 2;
    let sp = (random_at - words * 8) & !15;

    let mut bytes = Vec::new();
    bytes.try_reserve_exact(top - sp).map_err(|_| Errno::ENOMEM)?;
    let mut word = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
    word(argv.count() as u64);
    argv.offsets().for_each(|at| word((arg_at + at) as u64));
    word(0);
    envp.offsets().for_each(|at| word((env_at + at) as u64));
    word(0);
    for (key, value) in &auxv {
        word(*key);
        word(*value);
    }
    let auxv_end = bytes.len();
    bytes.resize(random_at - sp, 0);
    bytes.extend_from_slice(&vfs::random::next_u64().to_le_bytes());
    bytes.extend_from_slice(&vfs::random::next_u64().to_le_bytes());
    bytes.resize(platform_at - sp, 0);
    bytes.extend_from_slice(MACHINE.as_bytes());
    bytes.resize(arg_at - sp, 0);
    bytes.extend_from_slice(argv.bytes());
    bytes.extend_from_slice(envp.bytes());
    bytes.extend_from_slice(called);
    bytes.resize(top - sp, 0);
    if mm.write_remote(sp, &bytes, false) < bytes.len() {
        return Err(Errno::ENOMEM);
    }
    debug_assert!(sp.is_multiple_of(16) && PAGE_SIZE.is_multiple_of(16));
    Ok(Made {
        sp,
        args: (arg_at as u64, env_at as u64),
        env: (env_at as u64, name_at as u64),
        auxv: bytes[auxv_end - auxv.len() * 16..auxv_end].to_vec(),
    })
}

impl Auxiliary<'_> {
    fn vector(&self, name_at: usize, platform_at: usize, random_at: usize) -> Vec<(u64, u64)> {
        let (hwcap, hwcap2) = hwcap();
        let mut vector = Vec::with_capacity(24);
        if self.vdso != 0 {
            vector.push((AT_SYSINFO_EHDR, self.vdso));
        }
        vector.extend_from_slice(&[
            (AT_MINSIGSTKSZ, SIGNAL_FRAME_BYTES),
            (AT_HWCAP, hwcap),
            (AT_PAGESZ, PAGE_SIZE as u64),
            (AT_CLKTCK, USER_HZ),
            (AT_PHDR, self.headers),
            (AT_PHENT, 56),
            (AT_PHNUM, self.header_count),
            (AT_BASE, self.base),
            (AT_FLAGS, 0),
            (AT_ENTRY, self.entry),
            (AT_UID, u64::from(self.cred.uid)),
            (AT_EUID, u64::from(self.cred.euid)),
            (AT_GID, u64::from(self.cred.gid)),
            (AT_EGID, u64::from(self.cred.egid)),
            (AT_SECURE, u64::from(self.secure)),
            (AT_RANDOM, random_at as u64),
            (AT_HWCAP2, hwcap2),
            (AT_RSEQ_FEATURE_SIZE, u64::from(RSEQ_FEATURE_BYTES)),
            (AT_RSEQ_ALIGN, u64::from(RSEQ_ORIGINAL_BYTES)),
            (AT_EXECFN, name_at as u64),
            (AT_PLATFORM, platform_at as u64),
            (AT_NULL, 0),
        ]);
        vector
    }
}
