//! The system calls, and what each of their arguments is.

use crate::kinds::Fields;
use crate::kinds::Kind::{self, *};
use rt::nr::*;

/// What a call does to the process that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It comes back.
    Returns,
    /// It comes back twice.
    Forks,
    /// It does not come back: children only.
    Ends,
    /// It sends a signal to the process that the first argument names.
    Kills,
}

/// One line of the table.
#[derive(Debug)]
pub struct Call {
    pub name: &'static str,
    pub number: u32,
    pub kinds: &'static [Kind],
    pub effect: Effect,
}

macro_rules! calls {
    ($($number:ident($($kind:expr),*) $($effect:ident)?;)*) => {
        &[$(Call {
            name: stringify!($number),
            number: $number,
            kinds: &[$($kind),*],
            effect: calls!(@effect $($effect)?),
        }),*]
    };
    (@effect) => { Effect::Returns };
    (@effect $effect:ident) => { Effect::$effect };
}

// ---- structures ----
const SIGSET: Kind = In(&[(8, Int)]);
const TIMESPEC: Kind = In(&[(8, Seconds), (8, Fraction)]);
const TIMEVAL: Kind = In(&[(8, Seconds), (8, Fraction)]);
const ITIMER: Kind = In(&[(8, Seconds), (8, Fraction), (8, Seconds), (8, Fraction)]);
const IOVEC: Kind = In(&[(8, Out), (8, Len)]);
const OFFSET: Kind = In(&[(8, Offset)]);
const MOUNT: Kind =
    In(&[(4, Just(24)), (4, Just(0)), (8, One(&[(1 << 31) + 1, (1 << 31) + 5, u32::MAX])), (8, Int)]);
const HANDLE: Kind =
    In(&[(4, One(&[0, 8, 12, 128])), (4, One(&[1, 0x81])), (4, Count), (4, One(&[0, 1])), (8, Int)]);
const WORD: Kind = In(&[(4, Count)]);
const BYTES: Kind = In(&[(8, Int), (8, Int), (8, Int), (8, Int)]);
const SIGINFO: Kind = In(&[(4, Signal), (4, Int), (4, Int), (4, Int), (8, Int), (8, Int)]);
const SIGEVENT: Kind = In(&[(8, Int), (4, Signal), (4, One(&[0, 1, 2, 4])), (4, Pid), (4, Int)]);
const SIGACTION: Kind = In(&[(8, One(&[0, 1])), (8, Bits(SA)), (8, Just(0)), (8, Int)]);
const STACK: Kind = In(&[(8, Out), (4, One(&[0, 1, 2])), (4, Just(0)), (8, Len)]);
const POLL_FD: Kind = In(&[(4, Fd), (2, Int), (2, Int)]);
const FD_SET: Kind = In(&[(8, Int), (8, Int)]);
const EPOLL_EVENT: Kind = In(&[(4, Bits(EPOLL)), (8, Int)]);
const RLIMIT: Kind = In(&[(8, Len), (8, Len)]);
const CPU_MASK: Kind = In(&[(8, One(&[1, 2, 3, 15, 0])), (8, Int)]);
const SCHED_ATTR_FIELDS: Fields = &[
    (4, One(&[48, 56, 0, 47])),
    (4, One(POLICY)),
    (8, Bits(&[1, 2, 4])),
    (4, Int),
    (4, Count),
    (8, Int),
    (8, Int),
    (8, Int),
];
const CLONE_ARGS_FIELDS: Fields = &[
    (8, Bits(CLONE)),
    (8, Out),
    (8, Out),
    (8, Out),
    (8, Signal),
    (8, Just(0)),
    (8, Just(0)),
    (8, Int),
    (8, Just(0)),
    (8, Just(0)),
    (8, Just(0)),
];
const HOW: Kind = In(&[(8, Bits(OPEN)), (8, Mode), (8, Bits(&[1, 2, 4, 8, 16, 32]))]);
const ROBUST: Kind = In(&[(8, Out), (8, Int), (8, Out)]);
const CAP_HEADER: Kind = In(&[(4, One(&[0x1998_0330, 0x2007_1026, 0x2008_0522, 0])), (4, Pid)]);
const CAPS: Kind = In(&[(4, Int), (4, Int), (4, Int), (4, Int), (4, Int), (4, Int)]);
const LOCK: Kind =
    In(&[(2, One(&[0, 1, 2, 3])), (2, One(&[0, 1, 2])), (4, Just(0)), (8, Offset), (8, Offset), (4, Pid)]);
const IDS: Kind = In(&[(4, Id), (4, Id), (4, Id)]);
const ADDRESS: Kind = In(&[(2, One(&[1, 2, 10, 16, 0])), (2, Int), (4, Int), (8, Int), (8, Int)]);
const MESSAGE: Kind =
    In(&[(8, Out), (4, Len), (4, Just(0)), (8, IOVEC), (8, Count), (8, Out), (8, Len), (4, Int)]);
const WAITV: Kind = In(&[(8, Count), (8, Out), (4, Bits(&[2, 128])), (4, Just(0))]);

// ---- flags ----
const OPEN: &[u32] = &[
    O_RDONLY,
    O_WRONLY,
    O_RDWR,
    O_RDWR,
    O_CREAT,
    O_CREAT,
    O_EXCL,
    O_TRUNC,
    O_APPEND,
    O_NONBLOCK,
    O_NONBLOCK,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_CLOEXEC,
    O_PATH,
    0o20_200_000,
    O_DIRECT,
    O_SYNC,
    O_NOATIME,
    O_NOCTTY,
];
const SA: &[u32] = &[1, 2, 4, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x4000_0000, 0x8000_0000];
const EPOLL: &[u32] = &[1, 2, 4, 8, 16, 0x2000, 1 << 28, 1 << 29, 1 << 30, 1 << 31];
const PROT: &[u32] = &[0, 1, 1, 2, 2, 4, 3, 3, 7, 0x0100_0000, 0x0200_0000];
const MAP: &[u32] = &[
    MAP_PRIVATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_ANONYMOUS,
    MAP_ANONYMOUS,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED,
    MAP_POPULATE,
    MAP_NORESERVE,
    MAP_STACK,
    MAP_GROWSDOWN,
    MAP_FIXED_NOREPLACE,
    MAP_LOCKED,
    MAP_SHARED_VALIDATE,
    MAP_HUGETLB,
];
/// Without CLONE_VM and CLONE_THREAD: a second life on one stack would only shoot the fuzzer. Its threads come
/// from elsewhere.
const CLONE: &[u32] = &[
    CLONE_FS,
    CLONE_FILES,
    CLONE_PTRACE,
    CLONE_PARENT,
    CLONE_NEWNS,
    CLONE_SYSVSEM,
    CLONE_PARENT_SETTID,
    CLONE_CHILD_CLEARTID,
    CLONE_UNTRACED,
    CLONE_CHILD_SETTID,
    CLONE_NEWUTS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_IO,
    CLONE_PIDFD,
    SIGCHLD,
    SIGCHLD,
    SIGUSR1,
];
const POLICY: &[u32] = &[0, 0, 1, 2, 3, 5, 6, 7, 99];
const AT: &[u32] = &[0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000];
const WAIT: &[u32] = &[1, 1, 1, 2, 4, 8, 0x0100_0000, 0x2000_0000, 0x4000_0000, 0x8000_0000];
const FCNTL: &[u32] = &[
    F_DUPFD,
    F_GETFD,
    F_SETFD,
    F_GETFL,
    F_SETFL,
    F_GETLK,
    F_SETLK,
    F_SETLKW,
    F_SETOWN,
    F_GETOWN,
    F_SETSIG,
    F_GETSIG,
    F_SETOWN_EX,
    F_GETOWN_EX,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    1024,
    1025,
    1026,
    F_DUPFD_CLOEXEC,
    1031,
    1032,
    1033,
    1034,
    1035,
    1036,
];
const IOCTL: &[u32] = &[
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x5405,
    0x5408,
    0x5409,
    0x540a,
    0x540b,
    0x540c,
    0x540d,
    0x540e,
    0x540f,
    0x5410,
    0x5411,
    0x5412,
    0x5413,
    0x5414,
    0x5415,
    0x541b,
    0x541d,
    0x5420,
    0x5421,
    0x5422,
    0x5423,
    0x5424,
    0x5425,
    0x5429,
    0x5450,
    0x5451,
    0x5452,
    0x5460,
    0x8004_5430,
    0x4004_5431,
    0x8004_5432,
    0x8004_5440,
    0x5441,
    0x802c_542a,
    0x402c_542b,
    0x8008_6601,
    0x4008_6602,
    0x8004_5200,
    0x4004_5201,
    0x1272,
    0x8008_1272,
];
const FUTEX: &[u32] = &[0, 1, 3, 4, 5, 9, 10, 128, 129, 131, 132, 133, 137, 138, 6, 7, 8, 11, 12, 13, 256, 2];
const PRCTL: &[u32] = &[
    1,
    2,
    3,
    4,
    7,
    8,
    13,
    14,
    15,
    16,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    29,
    30,
    33,
    35,
    36,
    37,
    38,
    39,
    40,
    41,
    42,
    47,
    52,
    53,
    57,
    59,
    0x5356_4d41,
    0x5961_6d61,
];
const ADVICE: &[u32] =
    &[0, 1, 2, 3, 4, 4, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 100, 101];
const CLOCKS: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, u32::MAX, u32::MAX - 9, u32::MAX - 13];
const MS: &[u32] = &[1, 2, 4, 8, 16, 32, 64, 1024, 4096, 8192, 16384, 1 << 17, 1 << 18, 1 << 19, 1 << 20];
const MSG: &[u32] = &[1, 2, 4, 8, 0x20, 0x40, 0x40, 0x80, 0x100, 0x4000, 0x1_0000, 0x4000_0000];
const SPLICE: &[u32] = &[1, 2, 2, 4, 8];

/// What both architectures have.
pub const COMMON: &[Call] = calls! {
    // processes
    __NR_clone(Bits(CLONE), Just(0), Out, Out, Out) Forks;
    __NR_clone3(In(CLONE_ARGS_FIELDS), One(&[88, 64, 80, 0, 96])) Forks;
    __NR_execve(Path, Strings, Strings) Ends;
    __NR_execveat(DirFd, Path, Strings, Strings, Bits(AT)) Ends;
    __NR_exit(Int) Ends;
    __NR_exit_group(Int) Ends;
    __NR_rt_sigreturn() Ends;
    __NR_wait4(Pid, Out, Bits(WAIT), Out);
    __NR_waitid(One(&[0, 1, 2, 3, 4]), Pid, Out, Bits(WAIT), Out);
    __NR_getppid();
    __NR_set_tid_address(Out);
    __NR_setpgid(Pid, Pid);
    __NR_getpgid(Pid);
    __NR_setsid();
    __NR_getsid(Pid);
    __NR_prctl(One(PRCTL), Int, Int, Int, Int);
    __NR_prctl(One(PRCTL), Out, Just(0), Just(0), Just(0));
    __NR_prctl(One(PRCTL), Text, Just(0), Just(0), Just(0));
    __NR_personality(One(&[0, 8, 0x40000, 0x400000, u32::MAX]));
    __NR_unshare(Bits(CLONE));
    __NR_prlimit64(Pid, Count, RLIMIT, Out);
    __NR_getrlimit(Count, Out);
    __NR_setrlimit(Count, RLIMIT);
    __NR_getrusage(One(&[0, 1, u32::MAX]), Out);
    __NR_kcmp(Pid, Pid, Count, Fd, Fd);
    __NR_pidfd_open(Pid, Bits(&[0x800, 0x80]));
    __NR_pidfd_send_signal(Fd, Signal, SIGINFO, Just(0));
    __NR_pidfd_getfd(Fd, Fd, Just(0));
    __NR_process_vm_readv(Pid, IOVEC, Count, IOVEC, Count, Just(0));
    __NR_process_vm_writev(Pid, IOVEC, Count, IOVEC, Count, Just(0));
    __NR_ptrace(One(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17, 24, 0x4200, 0x4202, 0x4204, 0x4206, 0x4207]), Pid, Out, Out);
    __NR_seccomp(Count, Just(0), BYTES);
    __NR_rseq(Out, One(&[32, 0]), Count, Int);
    // credentials
    __NR_getuid();
    __NR_geteuid();
    __NR_setuid(Id);
    __NR_setgid(Id);
    __NR_setreuid(Id, Id);
    __NR_setregid(Id, Id);
    __NR_setresuid(Id, Id, Id);
    __NR_getresuid(Out, Out, Out);
    __NR_setresgid(Id, Id, Id);
    __NR_getresgid(Out, Out, Out);
    __NR_setfsuid(Id);
    __NR_setfsgid(Id);
    __NR_getgroups(Count, Out);
    __NR_setgroups(Count, IDS);
    __NR_capget(CAP_HEADER, Out);
    __NR_capset(CAP_HEADER, CAPS);
    // signals
    __NR_kill(Pid, Signal) Kills;
    __NR_tkill(Pid, Signal) Kills;
    __NR_tgkill(Pid, Pid, Signal) Kills;
    __NR_rt_sigqueueinfo(Pid, Signal, SIGINFO) Kills;
    __NR_rt_tgsigqueueinfo(Pid, Pid, Signal, SIGINFO) Kills;
    __NR_rt_sigaction(Signal, SIGACTION, Out, One(&[8, 8, 8, 4]));
    __NR_rt_sigprocmask(Count, SIGSET, Out, One(&[8, 8, 8, 4]));
    __NR_rt_sigpending(Out, One(&[8, 4]));
    __NR_rt_sigtimedwait(SIGSET, Out, TIMESPEC, One(&[8, 8, 8, 4]));
    __NR_rt_sigsuspend(SIGSET, One(&[8, 8, 4]));
    __NR_sigaltstack(STACK, Out);
    __NR_restart_syscall();
    __NR_signalfd4(Fd, SIGSET, Just(8), Bits(&[O_CLOEXEC, O_NONBLOCK]));
    // time
    __NR_gettimeofday(Out, Out);
    __NR_settimeofday(TIMEVAL, Out);
    __NR_adjtimex(BYTES);
    __NR_times(Out);
    __NR_nanosleep(TIMESPEC, Out);
    __NR_clock_gettime(One(CLOCKS), Out);
    __NR_clock_settime(One(CLOCKS), TIMESPEC);
    __NR_clock_getres(One(CLOCKS), Out);
    __NR_clock_nanosleep(One(CLOCKS), One(&[0, 1]), TIMESPEC, Out);
    __NR_getitimer(Count, Out);
    __NR_setitimer(One(&[0, 1, 2, 3]), ITIMER, Out);
    __NR_timer_create(One(CLOCKS), SIGEVENT, Out);
    __NR_timer_settime(Count, One(&[0, 1]), ITIMER, Out);
    __NR_timer_gettime(Count, Out);
    __NR_timer_getoverrun(Count);
    __NR_timer_delete(Count);
    __NR_timerfd_create(One(CLOCKS), Bits(&[O_CLOEXEC, O_NONBLOCK]));
    __NR_timerfd_settime(Fd, Bits(&[1, 2]), ITIMER, Out);
    __NR_timerfd_gettime(Fd, Out);
    // scheduling
    __NR_sched_yield();
    __NR_getpriority(Count, Pid);
    __NR_setpriority(Just(0), Pid, Int);
    __NR_sched_setparam(Pid, WORD);
    __NR_sched_getparam(Pid, Out);
    __NR_sched_setscheduler(Pid, One(POLICY), WORD);
    __NR_sched_getscheduler(Pid);
    __NR_sched_get_priority_max(Count);
    __NR_sched_get_priority_min(Count);
    __NR_sched_rr_get_interval(Pid, Out);
    __NR_sched_setaffinity(Pid, One(&[8, 16, 4, 128, 0]), CPU_MASK);
    __NR_sched_getaffinity(Pid, One(&[8, 16, 4, 128, 0]), Out);
    __NR_sched_setattr(Pid, In(SCHED_ATTR_FIELDS), Just(0));
    __NR_sched_getattr(Pid, Out, One(&[48, 56, 0, 4096]), Just(0));
    __NR_getcpu(Out, Out);
    __NR_ioprio_set(Count, Pid, Int);
    __NR_ioprio_get(Count, Pid);
    __NR_membarrier(One(&[0, 1, 2, 4, 8, 16, 32, 64, 128]), Just(0), Just(0));
    // futexes
    __NR_futex(WORD, One(FUTEX), Count, TIMESPEC, WORD, Int);
    __NR_futex_waitv(WAITV, Count, Just(0), TIMESPEC, One(&[0, 1]));
    __NR_futex_wait(WORD, Count, Int, Bits(&[2, 128]), TIMESPEC, One(&[0, 1]));
    __NR_futex_wake(WORD, Int, Count, Bits(&[2, 128]));
    __NR_futex_requeue(WAITV, Just(0), Count, Count);
    __NR_set_robust_list(ROBUST, One(&[24, 0]));
    __NR_get_robust_list(Pid, Out, Out);
    // the machine
    __NR_uname(Out);
    __NR_sethostname(Text, Len);
    __NR_setdomainname(Text, Len);
    __NR_sysinfo(Out);
    __NR_getrandom(Out, Len, Bits(&[1, 2, 4]));
    __NR_reboot(Int, Int, Int, Out);
    __NR_syslog(One(&[2, 3, 4, 6, 7, 8, 9, 10, 11]), Out, Len);
    __NR_acct(Path);
    __NR_swapon(Path, Int);
    __NR_swapoff(Path);
    __NR_init_module(BYTES, Len, Text);
    __NR_finit_module(Fd, Text, Just(0));
    __NR_delete_module(Text, Bits(&[O_NONBLOCK]));
    __NR_bpf(Count, BYTES, Len);
    __NR_perf_event_open(BYTES, Pid, Int, Fd, Just(0));
    __NR_quotactl(Int, Path, Id, Out);
    __NR_vhangup();
    // memory
    __NR_mmap(Page, PageLen, Bits(PROT), Bits(MAP), Fd, Offset);
    __NR_mmap(Page, PageLen, Bits(PROT), Just((MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) as usize), Just(usize::MAX), Just(0));
    __NR_mmap(Just(0), PageLen, Bits(PROT), Just(MAP_SHARED as usize), Fd, Offset);
    __NR_munmap(Page, PageLen);
    __NR_mprotect(Page, PageLen, Bits(PROT));
    __NR_mremap(Page, PageLen, PageLen, Bits(&[1, 2, 3, 4]), Page);
    __NR_brk(Int);
    __NR_madvise(Page, PageLen, One(ADVICE));
    __NR_process_madvise(Fd, IOVEC, Count, One(ADVICE), Just(0));
    __NR_mincore(Page, PageLen, Out);
    __NR_msync(Page, PageLen, Bits(&[1, 2, 4]));
    __NR_mlock(Page, PageLen);
    __NR_mlock2(Page, PageLen, Bits(&[1]));
    __NR_munlock(Page, PageLen);
    __NR_mlockall(Bits(&[1, 2, 4]));
    __NR_munlockall();
    __NR_remap_file_pages(Page, PageLen, Just(0), Count, Just(0));
    __NR_mseal(Int, PageLen, Just(0));
    __NR_memfd_create(Text, Bits(&[1, 2, 4, 8, 16]));
    __NR_userfaultfd(Bits(&[O_CLOEXEC, O_NONBLOCK, 1]));
    __NR_shmget(One(&[0, 1, 2]), Len, Bits(&[0o600, 0o1000, 0o2000]));
    __NR_shmat(Count, Page, Bits(&[0o10000, 0o20000, 0o40000]));
    __NR_shmdt(Page);
    __NR_shmctl(Count, Count, Out);
    __NR_semget(One(&[0, 1, 2]), Count, Bits(&[0o600, 0o1000, 0o2000]));
    __NR_semctl(Count, Count, Count, Out);
    __NR_semtimedop(Count, BYTES, Count, TIMESPEC);
    __NR_msgget(One(&[0, 1, 2]), Bits(&[0o600, 0o1000, 0o2000]));
    __NR_msgsnd(Count, BYTES, Len, Bits(&[0o4000]));
    __NR_msgrcv(Count, Out, Len, Int, Bits(&[0o4000, 0o10000]));
    __NR_mq_open(Text, Bits(OPEN), Mode, BYTES);
    // descriptors
    __NR_read(Fd, Out, Len);
    __NR_write(Fd, Out, Len);
    __NR_pread64(Fd, Out, Len, Offset);
    __NR_pwrite64(Fd, Out, Len, Offset);
    __NR_readv(Fd, IOVEC, Count);
    __NR_writev(Fd, IOVEC, Count);
    __NR_preadv(Fd, IOVEC, Count, Offset, Just(0));
    __NR_pwritev(Fd, IOVEC, Count, Offset, Just(0));
    __NR_preadv2(Fd, IOVEC, Count, Offset, Just(0), Bits(&[1, 2, 4, 8, 16]));
    __NR_pwritev2(Fd, IOVEC, Count, Offset, Just(0), Bits(&[1, 2, 4, 8, 16]));
    __NR_lseek(Fd, Offset, Count);
    __NR_close(Fd);
    __NR_close_range(Fd, Fd, Bits(&[2, 4]));
    __NR_dup(Fd);
    __NR_dup3(Fd, Fd, Bits(&[O_CLOEXEC]));
    __NR_fcntl(Fd, One(FCNTL), Int);
    __NR_fcntl(Fd, One(FCNTL), LOCK);
    __NR_ioctl(Fd, One(IOCTL), Out);
    __NR_ioctl(Fd, One(IOCTL), BYTES);
    __NR_ioctl(Fd, Int, Int);
    __NR_flock(Fd, Bits(&[1, 2, 4, 4, 8]));
    __NR_fsync(Fd);
    __NR_fdatasync(Fd);
    __NR_sync();
    __NR_syncfs(Fd);
    __NR_sync_file_range(Fd, Offset, Offset, Bits(&[1, 2, 4]));
    __NR_ftruncate(Fd, Offset);
    __NR_fallocate(Fd, Bits(&[1, 2, 3, 8, 16, 32, 64]), Offset, Offset);
    __NR_fadvise64(Fd, Offset, Offset, Count);
    __NR_readahead(Fd, Offset, Len);
    __NR_sendfile(Fd, Fd, OFFSET, Len);
    __NR_copy_file_range(Fd, OFFSET, Fd, OFFSET, Len, Just(0));
    __NR_splice(Fd, OFFSET, Fd, OFFSET, Len, Bits(SPLICE));
    __NR_splice(Fd, Just(0), Fd, Just(0), Len, Bits(SPLICE));
    __NR_tee(Fd, Fd, Len, Bits(SPLICE));
    __NR_vmsplice(Fd, IOVEC, Count, Bits(SPLICE));
    __NR_pipe2(Out, Bits(&[O_NONBLOCK, O_CLOEXEC, O_DIRECT]));
    __NR_eventfd2(Count, Bits(&[O_NONBLOCK, O_CLOEXEC, 1]));
    __NR_getdents64(Fd, Out, Len);
    __NR_fstat(Fd, Out);
    __NR_fchmod(Fd, Mode);
    __NR_fchown(Fd, Id, Id);
    __NR_fstatfs(Fd, Out);
    __NR_fchdir(Fd);
    __NR_umask(Mode);
    __NR_cachestat(Fd, BYTES, Out, Just(0));
    __NR_process_mrelease(Fd, Just(0));
    __NR_statmount(MOUNT, Out, Len, Just(0));
    __NR_listmount(MOUNT, Out, Count, Just(0));
    __NR_name_to_handle_at(DirFd, Path, HANDLE, Out, Bits(AT));
    __NR_open_by_handle_at(DirFd, HANDLE, Bits(OPEN));
    __NR_inotify_init1(Bits(&[O_CLOEXEC, O_NONBLOCK]));
    __NR_inotify_add_watch(Fd, Path, Int);
    __NR_inotify_rm_watch(Fd, Count);
    __NR_io_setup(Count, Out);
    __NR_io_uring_setup(Count, BYTES);
    // paths
    __NR_openat(DirFd, Path, Bits(OPEN), Mode);
    __NR_openat(DirFd, Path, Just((O_RDWR | O_CREAT | O_NONBLOCK) as usize), Mode);
    __NR_openat2(DirFd, Path, HOW, One(&[24, 24, 32, 0]));
    __NR_newfstatat(DirFd, Path, Out, Bits(AT));
    __NR_statx(DirFd, Path, Bits(AT), Int, Out);
    __NR_faccessat(DirFd, Path, Count);
    __NR_faccessat2(DirFd, Path, Count, Bits(AT));
    __NR_getcwd(Out, Len);
    __NR_chdir(Path);
    __NR_chroot(Path);
    __NR_renameat2(DirFd, Path, DirFd, Path, Bits(&[1, 2, 4]));
    __NR_mkdirat(DirFd, Path, Mode);
    __NR_linkat(DirFd, Path, DirFd, Path, Bits(AT));
    __NR_unlinkat(DirFd, Path, Bits(&[0x200]));
    __NR_symlinkat(Path, DirFd, Path);
    __NR_readlinkat(DirFd, Path, Out, Len);
    __NR_fchmodat(DirFd, Path, Mode);
    __NR_fchmodat2(DirFd, Path, Mode, Bits(AT));
    __NR_fchownat(DirFd, Path, Id, Id, Bits(AT));
    __NR_mknodat(DirFd, Path, Mode, Int);
    __NR_truncate(Path, Offset);
    __NR_utimensat(DirFd, Path, TIMESPEC, Bits(AT));
    __NR_statfs(Path, Out);
    __NR_mount(Text, Path, Text, Bits(MS), Text);
    __NR_umount2(Path, Bits(&[1, 2, 4, 8]));
    __NR_pivot_root(Path, Path);
    __NR_fsopen(Text, Bits(&[1]));
    __NR_open_tree(DirFd, Path, Bits(AT));
    __NR_name_to_handle_at(DirFd, Path, Out, Out, Bits(AT));
    // extended attributes
    __NR_setxattr(Path, Text, Out, Len, Count);
    __NR_lsetxattr(Path, Text, Out, Len, Count);
    __NR_fsetxattr(Fd, Text, Out, Len, Count);
    __NR_getxattr(Path, Text, Out, Len);
    __NR_fgetxattr(Fd, Text, Out, Len);
    __NR_listxattr(Path, Out, Len);
    __NR_flistxattr(Fd, Out, Len);
    __NR_removexattr(Path, Text);
    __NR_fremovexattr(Fd, Text);
    // readiness
    __NR_ppoll(POLL_FD, Count, TIMESPEC, SIGSET, Just(8));
    __NR_pselect6(Count, FD_SET, FD_SET, FD_SET, TIMESPEC, In(&[(8, SIGSET), (8, Just(8))]));
    __NR_epoll_create1(Bits(&[O_CLOEXEC]));
    __NR_epoll_ctl(Fd, One(&[1, 2, 3, 1, 4]), Fd, EPOLL_EVENT);
    __NR_epoll_pwait(Fd, Out, Count, Count, SIGSET, Just(8));
    __NR_epoll_pwait2(Fd, Out, Count, TIMESPEC, SIGSET, Just(8));
    // sockets
    __NR_socket(One(&[1, 1, 2, 10, 16, 99]), Bits(&[1, 2, 3, 5, 0x800, 0x8_0000]), Count);
    __NR_socketpair(One(&[1, 1, 1, 2]), One(&[1, 2, 5, 0x801, 0x802, 0x805]), Just(0), Out);
    __NR_bind(Fd, ADDRESS, Len);
    __NR_listen(Fd, Count);
    __NR_accept4(Fd, Out, WORD, Bits(&[O_NONBLOCK, O_CLOEXEC]));
    __NR_connect(Fd, ADDRESS, Len);
    __NR_getsockname(Fd, Out, WORD);
    __NR_getpeername(Fd, Out, WORD);
    __NR_sendto(Fd, Out, Len, Bits(MSG), ADDRESS, Len);
    __NR_recvfrom(Fd, Out, Len, Bits(MSG), Out, WORD);
    __NR_sendmsg(Fd, MESSAGE, Bits(MSG));
    __NR_recvmsg(Fd, MESSAGE, Bits(MSG));
    __NR_sendmmsg(Fd, MESSAGE, Count, Bits(MSG));
    __NR_recvmmsg(Fd, MESSAGE, Count, Bits(MSG), TIMESPEC);
    __NR_setsockopt(Fd, Count, Count, BYTES, Len);
    __NR_getsockopt(Fd, Count, Count, Out, WORD);
    __NR_shutdown(Fd, Count);
};

/// The calls that only x86-64 has, from before the `at` family.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: &[Call] = calls! {
    __NR_fork() Forks;
    __NR_getpgrp();
    __NR_arch_prctl(One(&[0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1012]), Out);
    __NR_pause();
    __NR_time(Out);
    __NR_alarm(Count);
    __NR_dup2(Fd, Fd);
    __NR_pipe(Out);
    __NR_eventfd(Count);
    __NR_getdents(Fd, Out, Len);
    __NR_open(Path, Bits(OPEN), Mode);
    __NR_creat(Path, Mode);
    __NR_stat(Path, Out);
    __NR_lstat(Path, Out);
    __NR_access(Path, Count);
    __NR_rename(Path, Path);
    __NR_renameat(DirFd, Path, DirFd, Path);
    __NR_mkdir(Path, Mode);
    __NR_rmdir(Path);
    __NR_link(Path, Path);
    __NR_unlink(Path);
    __NR_symlink(Path, Path);
    __NR_readlink(Path, Out, Len);
    __NR_chmod(Path, Mode);
    __NR_chown(Path, Id, Id);
    __NR_lchown(Path, Id, Id);
    __NR_mknod(Path, Mode, Int);
    __NR_utime(Path, TIMEVAL);
    __NR_utimes(Path, TIMEVAL);
    __NR_futimesat(DirFd, Path, TIMEVAL);
    __NR_poll(POLL_FD, Count, Count);
    __NR_select(Count, FD_SET, FD_SET, FD_SET, TIMEVAL);
    __NR_epoll_create(Count);
    __NR_epoll_wait(Fd, Out, Count, Count);
    __NR_signalfd(Fd, SIGSET, Just(8));
    __NR_inotify_init();
    __NR_iopl(Count);
    __NR_ioperm(Int, Int, Count);
    __NR_modify_ldt(Count, BYTES, Len);
    __NR_set_thread_area(BYTES);
};

/// The calls that only RISC-V has.
#[cfg(target_arch = "riscv64")]
pub const NATIVE: &[Call] = calls! {
    __NR_riscv_hwprobe(BYTES, Count, One(&[8, 0, 128]), CPU_MASK, Count);
    __NR_riscv_flush_icache(Page, Page, Count);
};

/// How many lines there are.
pub const COUNT: usize = COMMON.len() + NATIVE.len();

/// Line `index`.
pub fn get(index: usize) -> &'static Call {
    COMMON.get(index).unwrap_or_else(|| &NATIVE[index - COMMON.len()])
}

/// The name without `__NR_`.
pub fn short(call: &Call) -> &'static str {
    call.name.strip_prefix("__NR_").unwrap_or(call.name)
}
