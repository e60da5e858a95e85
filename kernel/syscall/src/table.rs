//! The table: one line per system call.
//!
//! `x86_64-number riscv64-number name => file::function(arguments);` with `-` where the architecture has
//! no such call. The arguments are named as in the man page; their types are those of the handler. What
//! has no line answers ENOSYS and is counted ([`crate::enosys`]).

use crate::arg::Arg;
use crate::trace;
use kcore::user::Call;
use kcore::{Ctx, Result};

/// The number of a call that this architecture does not have.
const NONE: usize = usize::MAX;

#[cfg(target_arch = "riscv64")]
macro_rules! pick {
    ($x86:tt -) => {
        NONE
    };
    ($x86:tt $riscv:tt) => {
        $riscv
    };
}

#[cfg(not(target_arch = "riscv64"))]
macro_rules! pick {
    (- $riscv:tt) => {
        NONE
    };
    ($x86:tt $riscv:tt) => {
        $x86
    };
}

struct Line {
    number: usize,
    name: &'static str,
    arguments: &'static [&'static str],
    call: Call,
}

macro_rules! calls {
    ($($x86:tt $riscv:tt $name:ident => $module:ident::$function:ident($($arg:ident),*);)*) => {
        /// One entry per line: unpacks the registers, calls, packs the result.
        #[allow(unused_variables, unused_mut, unused_assignments)]
        mod entry {
            use super::*;
            $(
                pub fn $name(ctx: &mut Ctx) -> isize {
                    let registers = ctx.user.syscall_args();
                    let mut next = 0;
                    $(
                        let $arg = Arg::from_register(registers[next]);
                        next += 1;
                    )*
                    pack(crate::$module::$function(ctx, $($arg),*))
                }
            )*
        }

        const LINES: &[Line] = &[$(Line {
            number: pick!($x86 $riscv),
            name: stringify!($name),
            arguments: &[$(stringify!($arg)),*],
            call: entry::$name,
        }),*];
    };
}

/// A result as the program sees it; restart codes are still in it.
#[inline]
fn pack(result: Result<usize>) -> isize {
    match result {
        Ok(value) => value as isize,
        Err(errno) => errno.as_return(),
    }
}

calls! {
    // ---- processes ----
    56 220 clone => process::clone(flags, stack, parent_tid, arg4, arg5);
    57 - fork => process::fork();
    58 - vfork => process::vfork();
    435 435 clone3 => process::clone3(args, size);
    59 221 execve => process::execve(path, argv, envp);
    322 281 execveat => process::execveat(dirfd, path, argv, envp, flags);
    60 93 exit => process::exit(status);
    231 94 exit_group => process::exit_group(status);
    61 260 wait4 => process::wait4(pid, status, options, rusage);
    247 95 waitid => process::waitid(idtype, id, info, options, rusage);
    39 172 getpid => process::getpid();
    110 173 getppid => process::getppid();
    186 178 gettid => process::gettid();
    334 293 rseq => process::rseq(area, len, flags, signature);
    218 96 set_tid_address => process::set_tid_address(address);
    109 154 setpgid => process::setpgid(pid, pgid);
    121 155 getpgid => process::getpgid(pid);
    111 - getpgrp => process::getpgrp();
    112 157 setsid => process::setsid();
    124 156 getsid => process::getsid(pid);
    101 117 ptrace => ptrace::ptrace(request, pid, addr, data);
    310 270 process_vm_readv => ptrace::process_vm_readv(pid, local, local_count, remote, remote_count, flags);
    311 271 process_vm_writev => ptrace::process_vm_writev(pid, local, local_count, remote, remote_count, flags);
    278 75 vmsplice => fs::vmsplice(fd, segments, count, flags);
    457 457 statmount => mounts::statmount(request, buffer, size, flags);
    458 458 listmount => mounts::listmount(request, ids, count, flags);
    303 264 name_to_handle_at => handles::name_to_handle_at(dirfd, path, handle, mount_id, flags);
    304 265 open_by_handle_at => handles::open_by_handle_at(mount, handle, flags);
    451 451 cachestat => fs::cachestat(fd, range, stat, flags);
    462 462 mseal => mm::mseal(addr, len, flags);
    448 448 process_mrelease => ptrace::process_mrelease(pidfd, flags);
    440 440 process_madvise => ptrace::process_madvise(pidfd, segments, count, advice, flags);
    157 167 prctl => process::prctl(option, arg2, arg3, arg4, arg5);
    158 - arch_prctl => process::arch_prctl(code, address);
    135 92 personality => process::personality(persona);
    308 268 setns => process::setns(fd, flags);
    272 97 unshare => process::unshare(flags);
    302 261 prlimit64 => process::prlimit64(pid, resource, new, old);
    97 163 getrlimit => process::getrlimit(resource, limit);
    160 164 setrlimit => process::setrlimit(resource, limit);
    434 434 pidfd_open => process::pidfd_open(pid, flags);
    438 438 pidfd_getfd => process::pidfd_getfd(pidfd, fd, flags);
    98 165 getrusage => process::getrusage(who, usage);

    // ---- credentials ----
    102 174 getuid => creds::getuid();
    104 176 getgid => creds::getgid();
    107 175 geteuid => creds::geteuid();
    108 177 getegid => creds::getegid();
    105 146 setuid => creds::setuid(uid);
    106 144 setgid => creds::setgid(gid);
    113 145 setreuid => creds::setreuid(ruid, euid);
    114 143 setregid => creds::setregid(rgid, egid);
    117 147 setresuid => creds::setresuid(ruid, euid, suid);
    118 148 getresuid => creds::getresuid(ruid, euid, suid);
    119 149 setresgid => creds::setresgid(rgid, egid, sgid);
    120 150 getresgid => creds::getresgid(rgid, egid, sgid);
    122 151 setfsuid => creds::setfsuid(uid);
    123 152 setfsgid => creds::setfsgid(gid);
    115 158 getgroups => creds::getgroups(size, list);
    116 159 setgroups => creds::setgroups(size, list);
    125 90 capget => creds::capget(header, data);
    126 91 capset => creds::capset(header, data);

    // ---- signals ----
    62 129 kill => signal::kill(pid, sig);
    200 130 tkill => signal::tkill(tid, sig);
    234 131 tgkill => signal::tgkill(tgid, tid, sig);
    129 138 rt_sigqueueinfo => signal::rt_sigqueueinfo(pid, sig, info);
    297 240 rt_tgsigqueueinfo => signal::rt_tgsigqueueinfo(tgid, tid, sig, info);
    13 134 rt_sigaction => signal::rt_sigaction(sig, act, oact, sigsetsize);
    14 135 rt_sigprocmask => signal::rt_sigprocmask(how, set, oset, sigsetsize);
    15 139 rt_sigreturn => signal::rt_sigreturn();
    127 136 rt_sigpending => signal::rt_sigpending(set, sigsetsize);
    128 137 rt_sigtimedwait => signal::rt_sigtimedwait(set, info, timeout, sigsetsize);
    130 133 rt_sigsuspend => signal::rt_sigsuspend(mask, sigsetsize);
    131 132 sigaltstack => signal::sigaltstack(ss, old_ss);
    34 - pause => signal::pause();
    282 - signalfd => signal::signalfd(fd, mask, sigsetsize);
    289 74 signalfd4 => signal::signalfd4(fd, mask, sigsetsize, flags);
    424 424 pidfd_send_signal => signal::pidfd_send_signal(pidfd, sig, info, flags);
    219 128 restart_syscall => signal::restart_syscall();

    // ---- time ----
    96 169 gettimeofday => time::gettimeofday(tv, tz);
    164 170 settimeofday => time::settimeofday(tv, tz);
    201 - time => time::time(tloc);
    100 153 times => time::times(buffer);
    35 101 nanosleep => time::nanosleep(request, remain);
    228 113 clock_gettime => time::clock_gettime(clock, tp);
    227 112 clock_settime => time::clock_settime(clock, tp);
    159 171 adjtimex => time::adjtimex(timex);
    305 266 clock_adjtime => time::clock_adjtime(clock, timex);
    229 114 clock_getres => time::clock_getres(clock, res);
    230 115 clock_nanosleep => time::clock_nanosleep(clock, flags, request, remain);
    36 102 getitimer => time::getitimer(which, value);
    38 103 setitimer => time::setitimer(which, value, old);
    37 - alarm => time::alarm(seconds);
    222 107 timer_create => time::timer_create(clock, event, id);
    223 110 timer_settime => time::timer_settime(id, flags, value, old);
    224 108 timer_gettime => time::timer_gettime(id, value);
    225 109 timer_getoverrun => time::timer_getoverrun(id);
    226 111 timer_delete => time::timer_delete(id);
    283 85 timerfd_create => time::timerfd_create(clock, flags);
    286 86 timerfd_settime => time::timerfd_settime(fd, flags, value, old);
    287 87 timerfd_gettime => time::timerfd_gettime(fd, value);

    // ---- scheduling ----
    24 124 sched_yield => sched::sched_yield();
    140 141 getpriority => sched::getpriority(which, who);
    251 30 ioprio_set => sched::ioprio_set(which, who, ioprio);
    252 31 ioprio_get => sched::ioprio_get(which, who);
    141 140 setpriority => sched::setpriority(which, who, nice);
    142 118 sched_setparam => sched::sched_setparam(pid, param);
    143 121 sched_getparam => sched::sched_getparam(pid, param);
    144 119 sched_setscheduler => sched::sched_setscheduler(pid, policy, param);
    145 120 sched_getscheduler => sched::sched_getscheduler(pid);
    146 125 sched_get_priority_max => sched::sched_get_priority_max(policy);
    147 126 sched_get_priority_min => sched::sched_get_priority_min(policy);
    148 127 sched_rr_get_interval => sched::sched_rr_get_interval(pid, interval);
    203 122 sched_setaffinity => sched::sched_setaffinity(pid, len, mask);
    204 123 sched_getaffinity => sched::sched_getaffinity(pid, len, mask);
    314 274 sched_setattr => sched::sched_setattr(pid, attr, flags);
    315 275 sched_getattr => sched::sched_getattr(pid, attr, size, flags);
    324 283 membarrier => sched::membarrier(command, flags, cpu);
    309 168 getcpu => sched::getcpu(cpu, node);

    // ---- the lab: the same numbers on every architecture, not in Linux ----
    1024 1024 lab_penalize => lab::penalize(tid, ns_per_ms);
    1025 1025 lab_penalty => lab::penalty(tid);
    1026 1026 lab_park => lab::park(tid);
    1027 1027 lab_unpark => lab::unpark(tid);
    1028 1028 lab_parked => lab::parked(tids, count);

    // ---- System V IPC ----
    64 190 semget => ipc::semget(key, count, flags);
    65 193 semop => ipc::semop(id, operations, count);
    220 192 semtimedop => ipc::semtimedop(id, operations, count, timeout);
    66 191 semctl => ipc::semctl(id, number, command, argument);
    68 186 msgget => ipc::msgget(key, flags);
    69 189 msgsnd => ipc::msgsnd(id, message, len, flags);
    70 188 msgrcv => ipc::msgrcv(id, message, len, kind, flags);
    71 187 msgctl => ipc::msgctl(id, command, argument);
    29 194 shmget => ipc::shmget(key, size, flags);
    30 196 shmat => ipc::shmat(id, address, flags);
    67 197 shmdt => ipc::shmdt(address);
    31 195 shmctl => ipc::shmctl(id, command, argument);

    // ---- POSIX message queues ----
    240 180 mq_open => mqueue::mq_open(name, flags, mode, attributes);
    241 181 mq_unlink => mqueue::mq_unlink(name);
    242 182 mq_timedsend => mqueue::mq_timedsend(fd, message, len, priority, timeout);
    243 183 mq_timedreceive => mqueue::mq_timedreceive(fd, message, len, priority, timeout);
    244 184 mq_notify => mqueue::mq_notify(fd, event);
    245 185 mq_getsetattr => mqueue::mq_getsetattr(fd, new, old);

    // ---- futexes ----
    202 98 futex => futex::futex(address, op, value, timeout, address2, value3);
    449 449 futex_waitv => futex::futex_waitv(words, count, flags, timeout, clock);
    454 454 futex_wake => futex::futex_wake(address, mask, count, flags);
    455 455 futex_wait => futex::futex_wait(address, value, mask, flags, timeout, clock);
    456 456 futex_requeue => futex::futex_requeue(words, flags, wake, more);
    273 99 set_robust_list => futex::set_robust_list(head, len);
    274 100 get_robust_list => futex::get_robust_list(pid, head, len);

    // ---- the machine ----
    63 160 uname => sys::uname(buffer);
    170 161 sethostname => sys::sethostname(name, len);
    171 162 setdomainname => sys::setdomainname(name, len);
    99 179 sysinfo => sys::sysinfo(info);
    318 278 getrandom => sys::getrandom(buffer, count, flags);
    169 142 reboot => sys::reboot(magic, magic2, command, argument);
    103 116 syslog => sys::syslog(action, buffer, len);
    - 258 riscv_hwprobe => sys::riscv_hwprobe(pairs, pair_count, cpu_count, cpus, flags);
    - 259 riscv_flush_icache => sys::riscv_flush_icache(start, end, flags);

    // ---- memory ----
    9 222 mmap => mm::mmap(addr, len, prot, flags, fd, offset);
    11 215 munmap => mm::munmap(addr, len);
    10 226 mprotect => mm::mprotect(addr, len, prot);
    25 216 mremap => mm::mremap(old_addr, old_len, new_len, flags, new_addr);
    12 214 brk => mm::brk(addr);
    28 233 madvise => mm::madvise(addr, len, advice);
    27 232 mincore => mm::mincore(addr, len, vec);
    26 227 msync => mm::msync(addr, len, flags);
    149 228 mlock => mm::mlock(addr, len);
    325 284 mlock2 => mm::mlock2(addr, len, flags);
    150 229 munlock => mm::munlock(addr, len);
    151 230 mlockall => mm::mlockall(flags);
    152 231 munlockall => mm::munlockall();

    // ---- descriptors ----
    0 63 read => fs::read(fd, buf, len);
    1 64 write => fs::write(fd, buf, len);
    17 67 pread64 => fs::pread64(fd, buf, len, offset);
    18 68 pwrite64 => fs::pwrite64(fd, buf, len, offset);
    19 65 readv => fs::readv(fd, vec, count);
    20 66 writev => fs::writev(fd, vec, count);
    295 69 preadv => fs::preadv(fd, vec, count, pos_low, pos_high);
    296 70 pwritev => fs::pwritev(fd, vec, count, pos_low, pos_high);
    327 286 preadv2 => fs::preadv2(fd, vec, count, pos_low, pos_high, flags);
    328 287 pwritev2 => fs::pwritev2(fd, vec, count, pos_low, pos_high, flags);
    8 62 lseek => fs::lseek(fd, offset, whence);
    3 57 close => fs::close(fd);
    436 436 close_range => fs::close_range(first, last, flags);
    32 23 dup => fs::dup(fd);
    33 - dup2 => fs::dup2(old, new);
    292 24 dup3 => fs::dup3(old, new, flags);
    72 25 fcntl => fs::fcntl(fd, cmd, arg);
    16 29 ioctl => fs::ioctl(fd, cmd, arg);
    73 32 flock => fs::flock(fd, operation);
    74 82 fsync => fs::fsync(fd);
    75 83 fdatasync => fs::fdatasync(fd);
    162 81 sync => fs::sync();
    306 267 syncfs => fs::syncfs(fd);
    277 84 sync_file_range => fs::sync_file_range(fd, offset, len, flags);
    77 46 ftruncate => fs::ftruncate(fd, len);
    285 47 fallocate => fs::fallocate(fd, mode, offset, len);
    221 223 fadvise64 => fs::fadvise64(fd, offset, len, advice);
    187 213 readahead => fs::readahead(fd, offset, count);
    40 71 sendfile => fs::sendfile(out, input, offset, count);
    326 285 copy_file_range => fs::copy_file_range(input, input_offset, out, out_offset, len, flags);
    275 76 splice => fs::splice(input, input_offset, out, out_offset, len, flags);
    276 77 tee => fs::tee(input, out, len, flags);
    22 - pipe => fs::pipe(fds);
    293 59 pipe2 => fs::pipe2(fds, flags);
    319 279 memfd_create => fs::memfd_create(name, flags);
    284 - eventfd => fs::eventfd(initial);
    290 19 eventfd2 => fs::eventfd2(initial, flags);
    78 - getdents => fs::getdents(fd, buf, count);
    217 61 getdents64 => fs::getdents64(fd, buf, count);
    5 80 fstat => fs::fstat(fd, stat);
    91 52 fchmod => fs::fchmod(fd, mode);
    93 55 fchown => fs::fchown(fd, uid, gid);
    138 44 fstatfs => fs::fstatfs(fd, buf);
    81 50 fchdir => fs::fchdir(fd);
    95 166 umask => fs::umask(mask);

    // ---- paths ----
    2 - open => path::open(path, flags, mode);
    257 56 openat => path::openat(dirfd, path, flags, mode);
    437 437 openat2 => path::openat2(dirfd, path, how, size);
    85 - creat => path::creat(path, mode);
    4 - stat => path::stat(path, stat);
    6 - lstat => path::lstat(path, stat);
    262 79 newfstatat => path::newfstatat(dirfd, path, stat, flags);
    332 291 statx => path::statx(dirfd, path, flags, mask, stat);
    21 - access => path::access(path, mode);
    269 48 faccessat => path::faccessat(dirfd, path, mode);
    439 439 faccessat2 => path::faccessat2(dirfd, path, mode, flags);
    79 17 getcwd => path::getcwd(buf, size);
    80 49 chdir => path::chdir(path);
    161 51 chroot => path::chroot(path);
    82 - rename => path::rename(old, new);
    264 38 renameat => path::renameat(old_dirfd, old, new_dirfd, new);
    316 276 renameat2 => path::renameat2(old_dirfd, old, new_dirfd, new, flags);
    83 - mkdir => path::mkdir(path, mode);
    258 34 mkdirat => path::mkdirat(dirfd, path, mode);
    84 - rmdir => path::rmdir(path);
    86 - link => path::link(old, new);
    265 37 linkat => path::linkat(old_dirfd, old, new_dirfd, new, flags);
    87 - unlink => path::unlink(path);
    263 35 unlinkat => path::unlinkat(dirfd, path, flags);
    88 - symlink => path::symlink(target, link);
    266 36 symlinkat => path::symlinkat(target, dirfd, link);
    89 - readlink => path::readlink(path, buf, size);
    267 78 readlinkat => path::readlinkat(dirfd, path, buf, size);
    90 - chmod => path::chmod(path, mode);
    268 53 fchmodat => path::fchmodat(dirfd, path, mode);
    452 452 fchmodat2 => path::fchmodat2(dirfd, path, mode, flags);
    92 - chown => path::chown(path, uid, gid);
    94 - lchown => path::lchown(path, uid, gid);
    260 54 fchownat => path::fchownat(dirfd, path, uid, gid, flags);
    133 - mknod => path::mknod(path, mode, dev);
    259 33 mknodat => path::mknodat(dirfd, path, mode, dev);
    76 45 truncate => path::truncate(path, len);
    132 - utime => path::utime(path, times);
    235 - utimes => path::utimes(path, times);
    261 - futimesat => path::futimesat(dirfd, path, times);
    280 88 utimensat => path::utimensat(dirfd, path, times, flags);
    137 43 statfs => path::statfs(path, buf);
    165 40 mount => path::mount(source, target, fstype, flags, data);
    167 224 swapon => swap::swapon(special, flags);
    168 225 swapoff => swap::swapoff(special);
    166 39 umount2 => path::umount2(target, flags);
    428 428 open_tree => mounts::open_tree(dirfd, path, flags);
    429 429 move_mount => mounts::move_mount(from_dirfd, from, to_dirfd, to, flags);
    430 430 fsopen => mounts::fsopen(name, flags);
    431 431 fsconfig => mounts::fsconfig(fd, command, key, value, aux);
    432 432 fsmount => mounts::fsmount(fd, flags, attributes);
    433 433 fspick => mounts::fspick(dirfd, path, flags);
    442 442 mount_setattr => mounts::mount_setattr(dirfd, path, flags, attributes, size);
    155 41 pivot_root => path::pivot_root(new_root, put_old);

    // ---- watching files ----
    253 - inotify_init => notify::inotify_init();
    294 26 inotify_init1 => notify::inotify_init1(flags);
    254 27 inotify_add_watch => notify::inotify_add_watch(fd, path, mask);
    255 28 inotify_rm_watch => notify::inotify_rm_watch(fd, wd);

    // ---- extended attributes ----
    188 5 setxattr => xattr::setxattr(path, name, value, size, flags);
    189 6 lsetxattr => xattr::lsetxattr(path, name, value, size, flags);
    190 7 fsetxattr => xattr::fsetxattr(fd, name, value, size, flags);
    191 8 getxattr => xattr::getxattr(path, name, value, size);
    192 9 lgetxattr => xattr::lgetxattr(path, name, value, size);
    193 10 fgetxattr => xattr::fgetxattr(fd, name, value, size);
    194 11 listxattr => xattr::listxattr(path, buf, size);
    195 12 llistxattr => xattr::llistxattr(path, buf, size);
    196 13 flistxattr => xattr::flistxattr(fd, buf, size);
    197 14 removexattr => xattr::removexattr(path, name);
    198 15 lremovexattr => xattr::lremovexattr(path, name);
    199 16 fremovexattr => xattr::fremovexattr(fd, name);

    // ---- sockets ----
    41 198 socket => socket::socket(family, kind, protocol);
    53 199 socketpair => socket::socketpair(family, kind, protocol, fds);
    49 200 bind => socket::bind(fd, address, len);
    50 201 listen => socket::listen(fd, backlog);
    43 202 accept => socket::accept(fd, address, len);
    288 242 accept4 => socket::accept4(fd, address, len, flags);
    42 203 connect => socket::connect(fd, address, len);
    51 204 getsockname => socket::getsockname(fd, address, len);
    52 205 getpeername => socket::getpeername(fd, address, len);
    44 206 sendto => socket::sendto(fd, buf, len, flags, address, address_len);
    45 207 recvfrom => socket::recvfrom(fd, buf, len, flags, address, address_len);
    54 208 setsockopt => socket::setsockopt(fd, level, name, value, len);
    55 209 getsockopt => socket::getsockopt(fd, level, name, value, len);
    48 210 shutdown => socket::shutdown(fd, how);
    46 211 sendmsg => socket::sendmsg(fd, message, flags);
    47 212 recvmsg => socket::recvmsg(fd, message, flags);
    307 269 sendmmsg => socket::sendmmsg(fd, messages, count, flags);
    299 243 recvmmsg => socket::recvmmsg(fd, messages, count, flags, timeout);

    // ---- readiness ----
    7 - poll => poll::poll(fds, count, timeout);
    271 73 ppoll => poll::ppoll(fds, count, timeout, mask, sigsetsize);
    23 - select => poll::select(count, read, write, except, timeout);
    270 72 pselect6 => poll::pselect6(count, read, write, except, timeout, mask);
    213 - epoll_create => poll::epoll_create(size);
    291 20 epoll_create1 => poll::epoll_create1(flags);
    233 21 epoll_ctl => poll::epoll_ctl(epfd, op, fd, event);
    232 - epoll_wait => poll::epoll_wait(epfd, events, max, timeout);
    281 22 epoll_pwait => poll::epoll_pwait(epfd, events, max, timeout, mask, sigsetsize);
    441 441 epoll_pwait2 => poll::epoll_pwait2(epfd, events, max, timeout, mask, sigsetsize);
}

/// The first number of the lab's calls, which are not in Linux (`user/lab/README.md`).
const LAB: usize = 1024;

/// One past the highest number of the table, the lab's apart.
const SIZE: usize = {
    let mut size = 0;
    let mut i = 0;
    while i < LINES.len() {
        if LINES[i].number < LAB && LINES[i].number >= size {
            size = LINES[i].number + 1;
        }
        i += 1;
    }
    size
};

/// The entries by number.
pub static CALLS: [Call; SIZE] = {
    let mut table: [Call; SIZE] = [crate::enosys::unimplemented; SIZE];
    let mut i = 0;
    while i < LINES.len() {
        if LINES[i].number < LAB {
            table[LINES[i].number] = LINES[i].call;
        }
        i += 1;
    }
    table
};

/// What numbers beyond the table lead to: the lab's calls by a search, since they are few and far away, and an
/// array that reaches them would be empty for the most part.
pub fn beyond(ctx: &mut Ctx) -> isize {
    if ctx.process.is_traced() { trace::traced(ctx) } else { call(ctx) }
}

/// Makes the call that `ctx` asks for, untraced.
pub fn call(ctx: &mut Ctx) -> isize {
    let number = ctx.user.syscall_nr();
    let call = match CALLS.get(number) {
        Some(call) => Some(*call),
        None => line(number).map(|line| line.call),
    };
    call.unwrap_or(crate::enosys::unimplemented)(ctx)
}

/// What traced threads use instead.
pub static TRACED_CALLS: [Call; SIZE] = [trace::traced; SIZE];

fn line(number: usize) -> Option<&'static Line> {
    LINES.iter().find(|line| line.number == number && number != NONE)
}

/// The name of a call by its number, implemented or not.
pub fn name(number: usize) -> &'static str {
    match line(number) {
        Some(line) => line.name,
        None => syscalls::Sysno::new(number).map_or("unknown", |s| s.name()),
    }
}

/// The arguments of an implemented call, as the man page names them.
pub fn arguments(number: usize) -> Option<&'static [&'static str]> {
    Some(line(number)?.arguments)
}

/// The number of an implemented call.
pub fn number(name: &str) -> Option<usize> {
    LINES.iter().find(|line| line.name == name && line.number != NONE).map(|line| line.number)
}
