//! Running programs: execve(2), execveat(2).
//!
//! ```text
//!  open -> first 256 bytes:  "#!"  -> its interpreter, arguments shifted, again (5 times at most)
//!                            ELF   -> a new address space with program, interpreter, vDSO and stack
//!  only then: other threads end, the new space replaces the old one, signals, files, names are reset
//! ```
//!
//! **Idea.** The new address space is built complete beside the old one, through remote writes, before
//! anything of the process changes: whatever is wrong with the program or short in memory becomes an
//! errno of execve. Linux passes its point of no return earlier and kills the process then.

mod args;
mod creds;
mod image;
mod load;
mod replace;
mod script;
mod stack;
mod vdso;

pub use args::Strings;
pub use load::RANDOMIZE_VA_SPACE;
pub use vdso::set_vdso;

use crate::{Ctx, Result};
use abi::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use vfs::{File, IoBuf};

/// Scripts that are run by scripts, at most (BINPRM's limit).
const SCRIPT_DEPTH: usize = 5;
/// Bytes of a file that decide what it is (BINPRM_BUF_SIZE).
const HEAD_BYTES: usize = 256;

static HWCAP: AtomicU64 = AtomicU64::new(abi::process::HWCAP_BASE);
static HWCAP2: AtomicU64 = AtomicU64::new(0);

/// What AT_HWCAP and AT_HWCAP2 say. Boot.
pub fn set_hwcap(hwcap: u64, hwcap2: u64) {
    HWCAP.store(hwcap, Relaxed);
    HWCAP2.store(hwcap2, Relaxed);
}

pub(crate) fn hwcap() -> (u64, u64) {
    (HWCAP.load(Relaxed), HWCAP2.load(Relaxed))
}

/// What is to be run.
pub struct Request {
    /// The program, opened for execution ([`vfs::open_exec`]).
    pub file: Arc<File>,
    /// The name it was called by: AT_EXECFN, and a script's argument.
    pub name: Vec<u8>,
    /// `name` does not lead to the file once the program runs (a close-on-exec descriptor of execveat):
    /// a script could not open it.
    pub unreachable: bool,
    pub argv: Strings,
    pub envp: Strings,
}

/// Replaces the program of the calling process. On success the thread goes on in the new program.
pub fn exec(ctx: &mut Ctx, mut request: Request) -> Result<()> {
    let called = request.name.clone();
    let cred = creds::prepare(ctx, &request.file);
    let mut head = read_head(&request.file)?;
    let mut depth = 0;
    while let Some(line) = script::parse(&head) {
        depth += 1;
        if depth > SCRIPT_DEPTH {
            return Err(Errno::ELOOP);
        }
        script::apply(ctx, &mut request, &line?)?;
        head = read_head(&request.file)?;
    }
    // Privileges come from the file that is executed in the end, not from a script.
    let cred = if depth == 0 { cred } else { creds::prepare(ctx, &request.file) };
    let program = load::load(ctx, &request, &head, &called, &cred)?;
    replace::replace(ctx, program, cred, &called)
}

/// The first bytes; fewer when the file is shorter.
fn read_head(file: &Arc<File>) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    head.try_reserve_exact(HEAD_BYTES).map_err(|_| Errno::ENOMEM)?;
    head.resize(HEAD_BYTES, 0);
    let got = file.read_at(0, &mut IoBuf::kernel_out(&mut head))?;
    head.truncate(got);
    Ok(head)
}

/// Reads exactly `len` bytes at `offset`; ENOEXEC when the file ends before.
fn read_exact(file: &Arc<File>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    let got = file.read_at(offset, &mut IoBuf::kernel_out(&mut bytes))?;
    if got == len { Ok(bytes) } else { Err(Errno::ENOEXEC) }
}
