//! The context of a system call.

use crate::process::Process;
use crate::signal::SigSet;
use crate::thread::{Thread, work};
use crate::{Result, creds, rlimit};
use abi::Errno;
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::sigframe::AltStack;
use arch::user::UserContext;
use core::sync::atomic::Ordering::Relaxed;
use vfs::{Cred, FileTable, FsContext};
use vm::AddressSpace;

/// What restart_syscall(2) runs: the rest of an interrupted system call.
pub type Restart = Box<dyn FnOnce(&mut Ctx) -> Result<usize> + Send>;

/// Who makes a system call, and with what. One per user thread, for its whole life.
pub struct Ctx<'a> {
    pub thread: &'a Arc<Thread>,
    pub process: &'a Arc<Process>,
    pub user: &'a mut UserContext,
    pub(crate) local: &'a mut Local,
}

/// What only the thread itself reads and changes: no lock, no counting. What others may look at
/// (`/proc/PID/fd`) is stored a second time in [`Thread`].
pub(crate) struct Local {
    pub mm: Arc<AddressSpace>,
    pub files: Arc<FileTable>,
    pub fs: Arc<FsContext>,
    pub cred: Arc<Cred>,
    pub restart: Option<Restart>,
    /// The mask to put back after sigsuspend, ppoll and the like, unless a handler's frame keeps it.
    pub saved_mask: Option<SigSet>,
    pub alt_stack: AltStack,
    /// `clear_child_tid`: zeroed, and its futex woken, when the thread ends. 0: none.
    pub clear_child_tid: usize,
    pub rseq: crate::rseq::Rseq,
    /// Who waits in vfork(2) for this process to exec or exit.
    pub vfork: Option<Arc<crate::clone::Vfork>>,
    /// The registers were replaced (rt_sigreturn): the result register is not a result, however much it
    /// looks like a restart code.
    pub keep_result: bool,
    /// The thread leaves the loop: its exit status as wait(2) encodes it.
    pub exit: Option<i32>,
}

impl Ctx<'_> {
    #[inline]
    pub fn mm(&self) -> &Arc<AddressSpace> {
        &self.local.mm
    }

    #[inline]
    pub fn files(&self) -> &FileTable {
        &self.local.files
    }

    #[inline]
    pub fn files_arc(&self) -> &Arc<FileTable> {
        &self.local.files
    }

    /// Root and working directory, umask.
    #[inline]
    pub fn fs(&self) -> &FsContext {
        &self.local.fs
    }

    #[inline]
    pub fn fs_arc(&self) -> &Arc<FsContext> {
        &self.local.fs
    }

    /// The thread's own (subjective) credentials.
    #[inline]
    pub fn cred(&self) -> &Arc<Cred> {
        &self.local.cred
    }

    /// Takes a table of its own (unshare(CLONE_FILES), exec).
    pub fn set_files(&mut self, files: Arc<FileTable>) {
        self.thread.publish_files(Some(files.clone()));
        self.local.files = files;
    }

    /// Takes directories of its own (unshare(CLONE_FS), exec).
    pub fn set_fs(&mut self, fs: Arc<FsContext>) {
        self.thread.publish_fs(Some(fs.clone()));
        self.local.fs = fs;
    }

    /// Changes the credentials of this thread (credentials are per thread; libraries change them all).
    pub fn set_cred(&mut self, cred: Arc<Cred>) {
        creds::commit(self, cred);
    }

    /// Whether the thread has a capability ([`vfs::Cred`]'s numbers).
    pub fn capable(&self, capability: u32) -> bool {
        self.local.cred.capable(capability)
    }

    /// The soft limit (getrlimit(2)); `u64::MAX` is none.
    pub fn limit(&self, resource: usize) -> u64 {
        rlimit::soft(self.process, resource)
    }

    /// Whether a signal waits that would end an interruptible sleep.
    pub fn signal_pending(&self) -> bool {
        task::current().signal_pending()
    }

    /// Says how the call goes on when nothing but a stop or an ignored signal interrupted it; the
    /// handler then returns the error that this gives. After a handler ran, the program sees EINTR.
    pub fn restart_with(&mut self, rest: impl FnOnce(&mut Ctx) -> Result<usize> + Send + 'static) -> Errno {
        self.local.restart = Some(Box::new(rest));
        Errno::ERESTART_RESTARTBLOCK
    }

    /// Runs `call` with the signal mask replaced (ppoll, pselect, epoll_pwait, sigsuspend). When the call
    /// ends by a signal, that signal is delivered under the temporary mask and its frame keeps the old one.
    pub fn with_mask<R>(
        &mut self,
        mask: Option<SigSet>,
        call: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let Some(mask) = mask else { return call(self) };
        let old = self.thread.set_blocked(mask);
        let result = call(self);
        let interrupted = matches!(result, Err(e) if e == Errno::EINTR || e.is_restart());
        if interrupted && self.signal_pending() {
            self.local.saved_mask = Some(old);
            self.thread.add_work(work::RESTORE_MASK);
        } else {
            self.thread.set_blocked(old);
        }
        result
    }

    /// The thread ends when this system call returns.
    pub(crate) fn request_exit(&mut self, status: i32) {
        self.local.exit.get_or_insert(status);
        self.thread.add_work(work::EXIT);
    }

    /// set_tid_address(2).
    pub fn set_clear_child_tid(&mut self, address: usize) {
        self.local.clear_child_tid = address;
    }

    /// Replaces the signal mask (sigprocmask(2)).
    pub fn block(&mut self, mask: SigSet) {
        self.thread.set_blocked(mask);
    }

    /// What restart_syscall(2) is to do.
    pub fn take_restart(&mut self) -> Option<Restart> {
        self.local.restart.take()
    }

    /// Whether other threads exist in the process.
    pub fn is_multithreaded(&self) -> bool {
        self.process.thread_count.load(Relaxed) > 1
    }
}

/// Resource limits as the memory calls ask for them.
impl vm::Limits for Ctx<'_> {
    fn address_space(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_AS)
    }

    fn data(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_DATA)
    }

    fn stack(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_STACK)
    }

    fn memlock(&self) -> u64 {
        if self.capable(abi::cap::CAP_IPC_LOCK) {
            u64::MAX
        } else {
            self.limit(abi::resource::RLIMIT_MEMLOCK)
        }
    }

    fn may_map_low(&self) -> bool {
        self.capable(abi::cap::CAP_SYS_RAWIO)
    }
}
