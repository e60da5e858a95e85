//! What differs between architectures: the trap, the first instruction, the birth of a thread.

#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "riscv64")]
pub use riscv64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

/// The function a new thread starts in, with the argument given to [`clone_thread`].
pub type ThreadEntry = extern "C" fn(*mut u8) -> !;

unsafe extern "C" {
    /// `clone` for a thread: the child runs `entry(arg)` on the stack that ends at `stack_top`
    /// (16-aligned). Returns the thread's id, or a negated errno.
    ///
    /// # Safety
    /// 1. The memory below `stack_top` is writable, unused, and stays so while the thread lives.
    /// 2. `parent_tid` and `child_tid` are valid for the writes that `flags` ask for.
    /// 3. `arg` is what `entry` expects and may cross threads.
    #[link_name = "rt_clone_thread"]
    pub fn clone_thread(
        flags: usize,
        stack_top: usize,
        parent_tid: *mut u32,
        child_tid: *mut u32,
        entry: ThreadEntry,
        arg: *mut u8,
    ) -> isize;

    /// `vfork`, then `execve(path, argv, envp)` in the child, `exit_group(127)` if that fails. Written
    /// in assembly because the child borrows the parent's stack. Returns the child's id, or a negated errno.
    ///
    /// # Safety
    /// 1. `path`, `argv` and `envp` are as `execve(2)` wants them.
    #[link_name = "rt_vfork_exec"]
    pub fn vfork_exec(path: *const u8, argv: *const *const u8, envp: *const *const u8) -> isize;

    /// Stores `section` to `*pointer` (the `rseq_cs` of the thread's area) and computes for ever; returns when the
    /// kernel sends the thread to the abort address.
    ///
    /// # Safety
    /// 1. Both are valid; `section` describes what [`rseq_section`] says.
    #[link_name = "rt_rseq_spin"]
    pub fn rseq_spin(pointer: *mut u64, section: *const RseqSection);

    #[link_name = "rt_rseq_start"]
    static RSEQ_START: u8;
    #[link_name = "rt_rseq_end"]
    static RSEQ_END: u8;
    #[link_name = "rt_rseq_abort"]
    static RSEQ_ABORT: u8;
}

/// `struct rseq_cs`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct RseqSection {
    pub version: u32,
    pub flags: u32,
    pub start: u64,
    pub len: u64,
    pub abort: u64,
}

/// What stands before the abort address of [`rseq_spin`].
pub const RSEQ_SIGNATURE: u32 = 0x5305_3053;

/// The critical section that is [`rseq_spin`]'s loop.
pub fn rseq_section() -> RseqSection {
    let (start, end, abort) =
        (&raw const RSEQ_START as u64, &raw const RSEQ_END as u64, &raw const RSEQ_ABORT as u64);
    RseqSection { version: 0, flags: 0, start, len: end - start, abort }
}
