//! Who may look into another process: ptrace(2), "Ptrace access mode checking".

use crate::subject::Subject;
use crate::{Pid, Result, pid};
use abi::Errno;
use abi::cap::CAP_SYS_PTRACE;
use core::sync::atomic::Ordering::Relaxed;
use vfs::Cred;

/// Which ids of the asker count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ids {
    /// Files under /proc: the file-system ids and effective capabilities (PTRACE_MODE_FSCREDS).
    FileSystem,
    /// System calls: the real ids and permitted capabilities (PTRACE_MODE_REALCREDS).
    Real,
}

/// Whether the thread `tid` (0: the kernel) with these credentials may look into `target`. EPERM.
pub fn check(cred: &Cred, tid: Pid, target: &Subject, ids: Ids) -> Result<()> {
    let own = tid != 0 && pid::find_thread(tid).is_some_and(|t| t.process().pid() == target.process.pid());
    if own || cred.capable(CAP_SYS_PTRACE) {
        return Ok(());
    }
    let theirs = target.cred();
    let (uid, gid, caps) = match ids {
        Ids::FileSystem => (cred.fsuid, cred.fsgid, cred.effective),
        Ids::Real => (cred.uid, cred.gid, cred.permitted),
    };
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == uid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == gid);
    let open = target.mm().is_none() || target.process.dumpable.load(Relaxed) == 1;
    if same_user && same_group && open && theirs.permitted.is_subset_of(caps) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
