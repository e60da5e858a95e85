//! The rarer calls about files: openat2, O_PATH, O_TMPFILE, memfd, splice, tee, attributes, moved mounts, handles.

use crate::names::scratch;
use crate::waiting::until_asleep;
use crate::{Check, Failure, Outcome, ensure, equal, skip};
use alloc::vec;
use core::ffi::CStr;
use rt::nr::*;
use rt::{Errno, Result, fs, io, process, syscall};

pub const CHECKS: &[Check] = &[
    ("open_beneath", open_beneath),
    ("open_without_links", open_without_links),
    ("path_descriptors", path_descriptors),
    ("created_through_links", created_through_links),
    ("unnamed_files", unnamed_files),
    ("memory_files", memory_files),
    ("splice_and_tee", splice_and_tee),
    ("copy_range", copy_range),
    ("attributes", attributes),
    ("open_file_locks", open_file_locks),
    ("lock_deadlock", lock_deadlock),
    ("flock_converts", flock_converts),
    ("close_range", close_range),
    ("ids_and_modes", ids_and_modes),
    ("moved_mount", moved_mount),
    ("detached_mount", detached_mount),
    ("recursive_bind", recursive_bind),
    ("changed_root", changed_root),
    ("renamed_tree", renamed_tree),
    ("directory_positions", directory_positions),
    ("fifo_ends", fifo_ends),
    ("pipe_sizes", pipe_sizes),
    ("pipe_packets", pipe_packets),
    ("sparse_seek", sparse_seek),
    ("size_limit", size_limit),
    ("handles", handles),
    ("handles_of_directories", handles_of_directories),
    ("bad_handles", bad_handles),
];

/// Any call. Each use below passes addresses of its own live buffers with their true lengths, or none.
fn call(number: u32, args: [usize; 6]) -> Result<usize> {
    // SAFETY: 1. every pointer among the arguments is to memory of the caller that the call may use.
    unsafe { syscall!(number, args[0], args[1], args[2], args[3], args[4], args[5]) }
}

fn at(text: &CStr) -> usize {
    text.as_ptr() as usize
}

const CWD: usize = AT_FDCWD as isize as usize;

fn touch(path: &CStr) -> Result<()> {
    io::close(fs::open(path, O_CREAT | O_WRONLY, 0o644)?)
}

fn open_how(dir: io::Fd, path: &CStr, flags: u32, resolve: u32) -> Result<io::Fd> {
    let how = [u64::from(flags), 0, u64::from(resolve)];
    let dir = dir as isize as usize;
    call(__NR_openat2, [dir, at(path), how.as_ptr() as usize, 24, 0, 0]).map(|fd| fd as io::Fd)
}

fn open_beneath() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    fs::mkdir(c"d/e", 0o700)?;
    touch(c"d/e/f")?;
    touch(c"outside")?;
    fs::symlink(c"../outside", c"d/up")?;
    fs::symlink(c"/e/f", c"d/absolute")?;
    let dir = fs::open(c"d", O_PATH | O_DIRECTORY, 0)?;
    open_how(dir, c"e/../e/f", O_RDONLY, RESOLVE_BENEATH)?;
    equal!(open_how(dir, c"../outside", O_RDONLY, RESOLVE_BENEATH), Err(Errno::EXDEV));
    equal!(open_how(dir, c"e/../../outside", O_RDONLY, RESOLVE_BENEATH), Err(Errno::EXDEV));
    equal!(open_how(dir, c"up", O_RDONLY, RESOLVE_BENEATH), Err(Errno::EXDEV));
    equal!(open_how(dir, c"/e/f", O_RDONLY, RESOLVE_BENEATH), Err(Errno::EXDEV));
    equal!(open_how(dir, c"up", O_RDONLY, RESOLVE_IN_ROOT), Err(Errno::ENOENT));
    open_how(dir, c"absolute", O_RDONLY, RESOLVE_IN_ROOT)?;
    open_how(dir, c"/../../e/f", O_RDONLY, RESOLVE_IN_ROOT)?;
    equal!(open_how(dir, c"e", O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT), Err(Errno::EINVAL));
    equal!(open_how(dir, c"e", O_RDONLY, 0x100), Err(Errno::EINVAL));
    Ok(())
}

fn open_without_links() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    touch(c"d/f")?;
    fs::symlink(c"d", c"l")?;
    equal!(open_how(AT_FDCWD, c"l/f", O_RDONLY, RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    open_how(AT_FDCWD, c"d/f", O_RDONLY, RESOLVE_NO_SYMLINKS)?;
    equal!(open_how(AT_FDCWD, c"/dev/null", O_RDONLY, RESOLVE_NO_XDEV), Err(Errno::EXDEV));
    equal!(fs::open(c"l", O_RDONLY | O_NOFOLLOW, 0), Err(Errno::ELOOP));
    equal!(fs::open(c"l", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0), Err(Errno::ENOTDIR));
    fs::open(c"l/", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0)?;
    Ok(())
}

fn path_descriptors() -> Outcome {
    scratch()?;
    io::close(fs::open(c"f", O_CREAT | O_WRONLY, 0)?)?;
    fs::symlink(c"f", c"l")?;
    let file = fs::open(c"f", O_PATH, 0)?;
    equal!(io::read(file, &mut [0]), Err(Errno::EBADF));
    equal!(io::fcntl(file, F_GETFL, 0)? as u32 & O_PATH, O_PATH);
    equal!(call(__NR_fchmod, [file as usize, 0o600, 0, 0, 0, 0]), Err(Errno::EBADF));
    equal!(fs::fstat(file)?.st_size, 0);
    let link = fs::open(c"l", O_PATH | O_NOFOLLOW, 0)?;
    equal!(fs::fstat(link)?.st_mode & S_IFMT, S_IFLNK);
    let mut text = [0u8; 8];
    let len = call(__NR_readlinkat, [link as usize, at(c""), text.as_mut_ptr() as usize, 8, 0, 0])?;
    equal!(&text[..len], b"f");
    let dup = io::fcntl(file, F_DUPFD_CLOEXEC, 50)?;
    equal!(dup, 50);
    Ok(())
}

fn created_through_links() -> Outcome {
    scratch()?;
    fs::mkdir(c"d", 0o700)?;
    fs::symlink(c"d/new", c"l")?;
    fs::symlink(c"l", c"l2")?;
    equal!(fs::open(c"l2", O_CREAT | O_EXCL | O_WRONLY, 0o600), Err(Errno::EEXIST));
    io::close(fs::open(c"l2", O_CREAT | O_WRONLY, 0o600)?)?;
    equal!(fs::stat(c"d/new")?.st_size, 0);
    fs::symlink(c"/no/such/dir", c"dangling")?;
    equal!(fs::open(c"dangling", O_CREAT | O_WRONLY, 0o600), Err(Errno::ENOENT));
    equal!(fs::mkdir(c"dangling", 0o700), Err(Errno::EEXIST));
    equal!(fs::open(c"d/", O_CREAT | O_WRONLY, 0o600), Err(Errno::EISDIR));
    equal!(fs::open(c"d/other/", O_CREAT | O_WRONLY, 0o600), Err(Errno::EISDIR));
    equal!(fs::open(c"d/.", O_CREAT | O_WRONLY, 0o600), Err(Errno::EISDIR));
    Ok(())
}

fn unnamed_files() -> Outcome {
    scratch()?;
    equal!(fs::open(c".", O_TMPFILE | O_RDONLY, 0o600), Err(Errno::EINVAL));
    let fd = fs::open(c".", O_TMPFILE | O_RDWR, 0o600)?;
    io::write_all(fd, b"ghost")?;
    equal!(fs::fstat(fd)?.st_nlink, 0);
    let flags = AT_EMPTY_PATH as usize;
    call(__NR_linkat, [fd as usize, at(c""), CWD, at(c"named"), flags, 0])?;
    equal!(fs::read_file(c"named")?, b"ghost");
    equal!(fs::stat(c"named")?.st_nlink, 1);
    Ok(())
}

fn memory_files() -> Outcome {
    let new =
        |flags: u32| call(__NR_memfd_create, [at(c"x"), flags as usize, 0, 0, 0, 0]).map(|fd| fd as io::Fd);
    let fd = new(MFD_ALLOW_SEALING)?;
    let seal = |seals: u32| call(__NR_fcntl, [fd as usize, F_ADD_SEALS as usize, seals as usize, 0, 0, 0]);
    io::write_all(fd, b"12345678")?;
    seal(F_SEAL_GROW)?;
    equal!(io::pwrite(fd, b"abc", 6), Err(Errno::EPERM));
    equal!(io::pwrite(fd, b"abc", 5)?, 3);
    fs::ftruncate(fd, 4)?;
    equal!(fs::ftruncate(fd, 9), Err(Errno::EPERM));
    seal(F_SEAL_SHRINK)?;
    equal!(fs::ftruncate(fd, 3), Err(Errno::EPERM));
    seal(F_SEAL_WRITE)?;
    equal!(io::pwrite(fd, b"a", 0), Err(Errno::EPERM));
    seal(F_SEAL_SEAL)?;
    equal!(seal(F_SEAL_WRITE), Err(Errno::EPERM));
    let all = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL;
    equal!(call(__NR_fcntl, [fd as usize, F_GET_SEALS as usize, 0, 0, 0, 0])? as u32, all);
    let plain = new(0)?;
    let sealed = call(__NR_fcntl, [plain as usize, F_ADD_SEALS as usize, F_SEAL_GROW as usize, 0, 0, 0]);
    equal!(sealed, Err(Errno::EPERM));
    equal!(new(0x8000).err(), Some(Errno::EINVAL));
    Ok(())
}

fn splice_and_tee() -> Outcome {
    scratch()?;
    fs::write_file(c"from", b"splice me please")?;
    let file = fs::open(c"from", O_RDONLY, 0)?;
    let (r1, w1) = io::pipe(0)?;
    let (r2, w2) = io::pipe(0)?;
    let mut offset = 7u64;
    let splice = |from: io::Fd, from_at: usize, to: io::Fd, to_at: usize, len: usize| {
        call(__NR_splice, [from as usize, from_at, to as usize, to_at, len, 0])
    };
    equal!(splice(file, &raw mut offset as usize, w1, 0, 100)?, 9);
    equal!(offset, 16);
    equal!(io::seek(file, 0, SEEK_CUR)?, 0);
    equal!(call(__NR_tee, [r1 as usize, w2 as usize, 2, 0, 0, 0])?, 2);
    let mut buffer = [0; 20];
    equal!(io::read(r2, &mut buffer)?, 2);
    equal!(&buffer[..2], b"me");
    let out = fs::open(c"to", O_CREAT | O_RDWR, 0o600)?;
    equal!(splice(r1, 0, out, 0, 100)?, 9);
    equal!(fs::read_file(c"to")?, b"me please");
    equal!(splice(file, 0, out, 0, 1), Err(Errno::EINVAL));
    equal!(splice(r1, &raw mut offset as usize, out, 0, 1), Err(Errno::ESPIPE));
    equal!(call(__NR_tee, [r1 as usize, w1 as usize, 1, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_splice, [r1 as usize, 0, out as usize, 0, 1, 2]), Err(Errno::EAGAIN));
    Ok(())
}

fn copy_range() -> Outcome {
    scratch()?;
    fs::write_file(c"a", b"0123456789")?;
    let from = fs::open(c"a", O_RDWR, 0)?;
    let to = fs::open(c"b", O_CREAT | O_RDWR, 0o600)?;
    let mut offset = 5u64;
    let copy = |from: io::Fd, at: usize, to: io::Fd, len: usize| {
        call(__NR_copy_file_range, [from as usize, at, to as usize, 0, len, 0])
    };
    equal!(copy(from, &raw mut offset as usize, to, 3)?, 3);
    equal!(offset, 8);
    equal!(copy(from, &raw mut offset as usize, to, 100)?, 2);
    equal!(fs::read_file(c"b")?, b"56789");
    equal!(copy(from, 0, from, 5), Err(Errno::EINVAL));
    let (_read, write) = io::pipe(0)?;
    equal!(copy(from, 0, write, 5), Err(Errno::EINVAL));
    Ok(())
}

fn attributes() -> Outcome {
    scratch()?;
    touch(c"f")?;
    let set = |name: &CStr, value: &[u8], flags: usize| {
        call(__NR_setxattr, [at(c"f"), at(name), value.as_ptr() as usize, value.len(), flags, 0])
    };
    let get = |name: &CStr, value: &mut [u8]| {
        call(__NR_getxattr, [at(c"f"), at(name), value.as_mut_ptr() as usize, value.len(), 0, 0])
    };
    let mut buffer = [0; 40];
    equal!(get(c"trusted.a", &mut buffer), Err(Errno::ENODATA));
    set(c"trusted.a", b"value", 0)?;
    equal!(set(c"trusted.a", b"v", 1), Err(Errno::EEXIST));
    equal!(set(c"trusted.b", b"v", 2), Err(Errno::ENODATA));
    equal!(get(c"trusted.a", &mut [])?, 5);
    equal!(get(c"trusted.a", &mut [0; 2]), Err(Errno::ERANGE));
    equal!(get(c"trusted.a", &mut buffer)?, 5);
    equal!(&buffer[..5], b"value");
    equal!(set(c"nonsense", b"v", 0), Err(Errno::EOPNOTSUPP));
    call(__NR_removexattr, [at(c"f"), at(c"trusted.a"), 0, 0, 0, 0])?;
    equal!(get(c"trusted.a", &mut buffer), Err(Errno::ENODATA));
    Ok(())
}

/// fcntl(2) with a `struct flock`; the kind that comes back.
fn lock(fd: io::Fd, command: u32, kind: u32, start: u64, len: u64) -> Result<u32> {
    let mut lock = [u64::from(kind), start, len, 0];
    call(__NR_fcntl, [fd as usize, command as usize, lock.as_mut_ptr() as usize, 0, 0, 0])?;
    Ok(lock[0] as u16 as u32)
}

fn open_file_locks() -> Outcome {
    scratch()?;
    let one = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let two = fs::open(c"f", O_RDWR, 0)?;
    lock(one, F_OFD_SETLK, F_WRLCK, 0, 10)?;
    equal!(lock(two, F_OFD_SETLK, F_RDLCK, 9, 1), Err(Errno::EAGAIN));
    equal!(lock(two, F_OFD_GETLK, F_RDLCK, 9, 1)?, F_WRLCK);
    equal!(lock(two, F_SETLK, F_RDLCK, 5, 1), Err(Errno::EAGAIN));
    lock(two, F_OFD_SETLK, F_WRLCK, 10, 0)?;
    let dup = io::fcntl(one, F_DUPFD_CLOEXEC, 0)? as io::Fd;
    io::close(one)?;
    equal!(lock(two, F_OFD_SETLK, F_RDLCK, 9, 1), Err(Errno::EAGAIN));
    io::close(dup)?;
    lock(two, F_OFD_SETLK, F_RDLCK, 9, 1)?;
    Ok(())
}

fn lock_deadlock() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let (read, write) = io::pipe(0)?;
    lock(fd, F_SETLK, F_WRLCK, 0, 1)?;
    let Some(child) = process::fork()? else {
        let own = fs::open(c"f", O_RDWR, 0).unwrap_or(-1);
        let _ = lock(own, F_SETLK, F_WRLCK, 1, 1);
        let _ = io::write(write, b"x");
        // Waits for the parent, who will wait for us: one of the two is told.
        let told = lock(own, F_SETLKW, F_WRLCK, 0, 1);
        process::exit(if told == Err(Errno::EDEADLK) { 1 } else { 0 });
    };
    io::read(read, &mut [0])?;
    until_asleep(child)?;
    let told = lock(fd, F_SETLKW, F_WRLCK, 1, 1);
    equal!(told, Err(Errno::EDEADLK));
    lock(fd, F_SETLK, F_UNLCK, 0, 0)?;
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    Ok(())
}

fn flock_converts() -> Outcome {
    scratch()?;
    let one = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    let two = fs::open(c"f", O_RDWR, 0)?;
    let flock = |fd: io::Fd, op: usize| call(__NR_flock, [fd as usize, op, 0, 0, 0, 0]);
    flock(one, 2)?;
    flock(one, 1)?;
    flock(two, 1)?;
    equal!(flock(one, 2 | 4), Err(Errno::EAGAIN));
    equal!(flock(one, 3), Err(Errno::EINVAL));
    // The shared lock was given up for the exclusive one that did not come.
    flock(two, 2 | 4)?;
    Ok(())
}

fn close_range() -> Outcome {
    let range =
        |first: usize, last: usize, flags: usize| call(__NR_close_range, [first, last, flags, 0, 0, 0]);
    let (read, write) = io::pipe(0)?;
    for to in 100..110 {
        io::dup2(read, to)?;
    }
    range(103, 105, 0)?;
    equal!(io::fcntl(104, F_GETFD, 0), Err(Errno::EBADF));
    equal!(io::fcntl(106, F_GETFD, 0)?, 0);
    range(106, 1000, 4)?;
    equal!(io::fcntl(106, F_GETFD, 0)?, 1);
    equal!(io::fcntl(102, F_GETFD, 0)?, 0);
    equal!(range(5, 4, 0), Err(Errno::EINVAL));
    equal!(range(5, 6, 64), Err(Errno::EINVAL));
    io::close(write)?;
    Ok(())
}

fn ids_and_modes() -> Outcome {
    scratch()?;
    touch(c"f")?;
    fs::chmod(c"f", 0o6755)?;
    let chown =
        |uid: isize, gid: isize| call(__NR_fchownat, [CWD, at(c"f"), uid as usize, gid as usize, 0, 0]);
    // Even a change of nothing takes the privileges away.
    chown(-1, -1)?;
    equal!(fs::stat(c"f")?.st_mode & 0o7777, 0o755);
    fs::chmod(c"f", 0o6755)?;
    chown(12, -1)?;
    let stat = fs::stat(c"f")?;
    equal!((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777), (12, 0, 0o755));
    fs::chmod(c"f", 0o2644)?;
    chown(-1, 34)?;
    equal!((fs::stat(c"f")?.st_gid, fs::stat(c"f")?.st_mode & 0o7777), (34, 0o2644));
    fs::mkdir(c"d", 0o700)?;
    fs::chmod(c"d", 0o2777)?;
    call(__NR_fchownat, [CWD, at(c"d"), usize::MAX, 56, 0, 0])?;
    touch(c"d/f")?;
    fs::mkdir(c"d/e", 0o700)?;
    equal!((fs::stat(c"d/f")?.st_gid, fs::stat(c"d/e")?.st_gid), (56, 56));
    equal!(fs::stat(c"d/e")?.st_mode & 0o7777, 0o2700);
    Ok(())
}

fn moved_mount() -> Outcome {
    scratch()?;
    fs::mkdir(c"a", 0o700)?;
    fs::mkdir(c"b", 0o700)?;
    fs::mount(c"x", c"a", c"tmpfs", 0, c"")?;
    // Linux moves only out of mounts that do not propagate.
    let private = fs::mount(c"", c"/", c"", MS_REC | MS_PRIVATE, c"");
    ensure!(private.is_ok() || private == Err(Errno::EINVAL), "making mounts private: {private:?}");
    touch(c"a/f")?;
    fs::mkdir(c"a/inner", 0o700)?;
    equal!(fs::mount(c"a", c"a/inner", c"", MS_MOVE, c""), Err(Errno::ELOOP));
    fs::mount(c"a", c"b", c"", MS_MOVE, c"")?;
    equal!(fs::stat(c"a/f").err(), Some(Errno::ENOENT));
    equal!(fs::stat(c"b/f")?.st_size, 0);
    fs::umount(c"b", 0)?;
    equal!(fs::mount(c"a", c"b", c"", MS_MOVE, c""), Err(Errno::EINVAL));
    Ok(())
}

fn detached_mount() -> Outcome {
    scratch()?;
    fs::mkdir(c"m", 0o700)?;
    fs::mount(c"x", c"m", c"tmpfs", 0, c"")?;
    let fd = fs::open(c"m/f", O_CREAT | O_RDWR, 0o600)?;
    fs::mkdir(c"m/d", 0o700)?;
    fs::mount(c"y", c"m/d", c"tmpfs", 0, c"")?;
    equal!(fs::umount(c"m", 0), Err(Errno::EBUSY));
    fs::umount(c"m", 2)?;
    equal!(fs::stat(c"m/f").err(), Some(Errno::ENOENT));
    equal!(io::write(fd, b"still here")?, 10);
    equal!(fs::fstat(fd)?.st_size, 10);
    Ok(())
}

fn recursive_bind() -> Outcome {
    scratch()?;
    for dir in [c"a", c"a/in", c"b", c"c"] {
        fs::mkdir(dir, 0o700)?;
    }
    fs::mount(c"x", c"a/in", c"tmpfs", 0, c"")?;
    touch(c"a/in/f")?;
    fs::mount(c"a", c"b", c"", MS_BIND, c"")?;
    equal!(fs::stat(c"b/in/f").err(), Some(Errno::ENOENT));
    fs::mount(c"a", c"c", c"", MS_BIND | MS_REC, c"")?;
    equal!(fs::stat(c"c/in/f")?.st_size, 0);
    fs::mount(c"", c"b", c"", MS_REMOUNT | MS_BIND | MS_RDONLY, c"")?;
    equal!(fs::mkdir(c"b/new", 0o700), Err(Errno::EROFS));
    fs::mkdir(c"a/new", 0o700)?;
    equal!(fs::stat(c"b/new")?.st_mode & S_IFMT, S_IFDIR);
    fs::umount(c"c/in", 0)?;
    fs::umount(c"c", 0)?;
    fs::umount(c"b", 0)?;
    fs::umount(c"a/in", 0)?;
    Ok(())
}

fn changed_root() -> Outcome {
    scratch()?;
    fs::mkdir(c"root", 0o700)?;
    fs::mkdir(c"root/sub", 0o700)?;
    touch(c"outside")?;
    let outside = fs::open(c".", O_RDONLY | O_DIRECTORY, 0)?;
    call(__NR_chroot, [at(c"root"), 0, 0, 0, 0, 0])?;
    fs::chdir(c"/")?;
    equal!(fs::stat(c"../outside").err(), Some(Errno::ENOENT));
    equal!(fs::stat(c"/../../sub/..")?.st_ino, fs::stat(c"/")?.st_ino);
    fs::symlink(c"/../outside", c"l")?;
    equal!(fs::stat(c"l").err(), Some(Errno::ENOENT));
    // A descriptor from before reaches everything, and getcwd says so.
    equal!(fs::stat_at(outside, c"outside", 0)?.st_size, 0);
    call(__NR_fchdir, [outside as usize, 0, 0, 0, 0, 0])?;
    let mut text = [0u8; 200];
    let len = call(__NR_getcwd, [text.as_mut_ptr() as usize, text.len(), 0, 0, 0, 0])?;
    ensure!(text[..len].starts_with(b"(unreachable)/"), "getcwd outside of the root");
    Ok(())
}

fn renamed_tree() -> Outcome {
    scratch()?;
    for dir in [c"a", c"a/b", c"a/b/c", c"z"] {
        fs::mkdir(dir, 0o700)?;
    }
    touch(c"a/b/c/f")?;
    let deep = fs::open(c"a/b/c", O_RDONLY | O_DIRECTORY, 0)?;
    equal!(fs::rename(c"a", c"a/b/x", 0), Err(Errno::EINVAL));
    equal!(fs::rename(c"a/b/c", c"a/b", 0), Err(Errno::ENOTEMPTY));
    fs::rename(c"a/b", c"z/moved", 0)?;
    equal!(fs::stat_at(deep, c"../c/f", 0)?.st_size, 0);
    equal!(fs::stat_at(deep, c"../../moved/c/f", 0)?.st_size, 0);
    equal!(fs::stat(c"a/b").err(), Some(Errno::ENOENT));
    equal!((fs::stat(c"a")?.st_nlink, fs::stat(c"z")?.st_nlink), (2, 3));
    fs::mkdir(c"empty", 0o700)?;
    fs::rename(c"z/moved", c"empty", 0)?;
    equal!(fs::stat(c"empty/c/f")?.st_size, 0);
    touch(c"file")?;
    equal!(fs::rename(c"file", c"empty", 0), Err(Errno::EISDIR));
    equal!(fs::rename(c"empty", c"file", 0), Err(Errno::ENOTDIR));
    equal!(fs::rename(c"file", c"empty", RENAME_NOREPLACE), Err(Errno::EEXIST));
    equal!(fs::rename(c"file", c"file", 0), Ok(()));
    fs::link(c"file", c"same")?;
    fs::rename(c"file", c"same", 0)?;
    equal!(fs::stat(c"file")?.st_nlink, 2);
    Ok(())
}

/// Reading goes on behind the last entry whatever is removed meanwhile: nothing twice, nothing lost.
fn directory_positions() -> Outcome {
    scratch()?;
    let name = |i: usize| alloc::ffi::CString::new(alloc::format!("file-{i:03}")).unwrap_or_default();
    for i in 0..200 {
        touch(&name(i))?;
    }
    let dir = fs::open(c".", O_RDONLY | O_DIRECTORY, 0)?;
    let mut seen = vec![0; 200];
    let mut buffer = [0u8; 400];
    loop {
        let len = fs::getdents(dir, &mut buffer)?;
        if len == 0 {
            break;
        }
        let mut rest = &buffer[..len];
        while rest.len() > 19 {
            let size = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let text = CStr::from_bytes_until_nul(&rest[19..size]).ok().and_then(|text| text.to_str().ok());
            let number: Option<usize> = text.and_then(|text| text.strip_prefix("file-")?.parse().ok());
            if let Some(i) = number {
                seen[i] += 1;
                fs::unlink(&name(i))?;
            }
            rest = &rest[size..];
        }
    }
    ensure!(seen.iter().all(|&n| n == 1), "an entry was missed or given twice: {seen:?}");
    equal!(fs::getdents(dir, &mut [0; 10]).err(), None::<Errno>);
    io::seek(dir, 0, SEEK_SET)?;
    equal!(fs::getdents(dir, &mut [0; 10]), Err(Errno::EINVAL));
    equal!(fs::getdents(dir, &mut buffer)?, 48);
    Ok(())
}

fn fifo_ends() -> Outcome {
    scratch()?;
    fs::mknod(c"p", S_IFIFO | 0o600, 0)?;
    let both = fs::open(c"p", O_RDWR, 0)?;
    equal!(io::write(both, b"left over")?, 9);
    let reader = fs::open(c"p", O_RDONLY | O_NONBLOCK, 0)?;
    equal!(io::read(reader, &mut [0; 4])?, 4);
    io::close(both)?;
    equal!(io::read(reader, &mut [0; 9])?, 5);
    equal!(io::read(reader, &mut [0; 9])?, 0);
    io::close(reader)?;
    let both = fs::open(c"p", O_RDWR | O_NONBLOCK, 0)?;
    equal!(io::read(both, &mut [0; 9]), Err(Errno::EAGAIN));
    equal!(io::seek(both, 0, SEEK_SET), Err(Errno::ESPIPE));
    equal!(io::pread(both, &mut [0], 0), Err(Errno::ESPIPE));
    Ok(())
}

fn pipe_sizes() -> Outcome {
    let (read, write) = io::pipe(O_NONBLOCK)?;
    equal!(io::fcntl(write, F_SETPIPE_SZ, 5000)?, 8192);
    equal!(io::write(write, &[7; 10_000])?, 8192);
    equal!(io::fcntl(write, F_SETPIPE_SZ, 4096), Err(Errno::EBUSY));
    let mut waiting = 0i32;
    call(__NR_ioctl, [read as usize, 0x541b, &raw mut waiting as usize, 0, 0, 0])?;
    equal!(waiting, 8192);
    equal!(io::read(read, &mut [0; 4095])?, 4095);
    equal!(io::write(write, b"x"), Err(Errno::EAGAIN));
    equal!(io::read(read, &mut [0; 1])?, 1);
    equal!(io::write(write, b"x")?, 1);
    equal!(io::write(write, &vec![1; 4096]), Err(Errno::EAGAIN));
    Ok(())
}

fn pipe_packets() -> Outcome {
    let (read, write) = io::pipe(O_DIRECT)?;
    io::write(write, b"one")?;
    io::write(write, b"two and more")?;
    let mut buffer = [0; 100];
    equal!(io::read(read, &mut buffer)?, 3);
    equal!(io::read(read, &mut buffer[..3])?, 3);
    equal!(&buffer[..3], b"two");
    io::set_nonblocking(read, true)?;
    equal!(io::read(read, &mut buffer), Err(Errno::EAGAIN));
    Ok(())
}

fn sparse_seek() -> Outcome {
    scratch()?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    io::pwrite(fd, b"x", 1 << 20)?;
    equal!(io::seek(fd, 0, SEEK_DATA)?, 1 << 20);
    equal!(io::seek(fd, 5, SEEK_HOLE)?, 5);
    equal!(io::seek(fd, 1 << 20, SEEK_HOLE)?, (1 << 20) + 1);
    equal!(io::seek(fd, 2 << 20, SEEK_DATA), Err(Errno::ENXIO));
    equal!(io::seek(fd, -1, SEEK_SET), Err(Errno::EINVAL));
    equal!(io::seek(fd, -1, SEEK_END)?, 1 << 20);
    equal!(fs::fstat(fd)?.st_blocks, 8);
    equal!(io::seek(fd, 0, 9), Err(Errno::EINVAL));
    Ok(())
}

fn size_limit() -> Outcome {
    scratch()?;
    let limit = [1000u64, u64::MAX];
    call(__NR_prlimit64, [0, RLIMIT_FSIZE as usize, limit.as_ptr() as usize, 0, 0, 0])?;
    rt::signal::set_action(SIGXFSZ, rt::signal::Action::Ignore, 0, 0)?;
    let fd = fs::open(c"f", O_CREAT | O_RDWR, 0o600)?;
    equal!(io::write(fd, &[1; 1200])?, 1000);
    equal!(io::write(fd, b"x"), Err(Errno::EFBIG));
    equal!(fs::ftruncate(fd, 1001), Err(Errno::EFBIG));
    fs::ftruncate(fd, 10)?;
    let status = process::in_child(|| {
        let _ = rt::signal::set_action(SIGXFSZ, rt::signal::Action::Default, 0, 0);
        let _ = io::pwrite(fd, b"x", 1000);
        0
    })?;
    equal!(status.signal(), Some(SIGXFSZ as i32));
    Ok(())
}

const FID: usize = 0x200;

/// `struct file_handle`: how many bytes, which type, and the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Handle([u32; 34]);

impl Handle {
    /// Of a file by its name.
    fn of(path: &CStr, flags: usize) -> Result<(Handle, i32)> {
        let (mut handle, mut mount) = (Handle([0; 34]), 0i32);
        handle.0[0] = 128;
        let (to, id) = (handle.0.as_mut_ptr() as usize, &raw mut mount as usize);
        call(__NR_name_to_handle_at, [CWD, at(path), to, id, flags, 0])?;
        Ok((handle, mount))
    }

    fn open(&self, flags: u32) -> Result<i32> {
        let at = self.0.as_ptr() as usize;
        call(__NR_open_by_handle_at, [CWD, at, flags as usize, 0, 0, 0]).map(|fd| fd as i32)
    }
}

/// A handle, where there are such.
fn handle_of(path: &CStr) -> core::result::Result<(Handle, i32), Failure> {
    match Handle::of(path, 0) {
        Err(Errno::EOPNOTSUPP) => Err(skip("no file handles here")),
        result => Ok(result?),
    }
}

fn handles() -> Outcome {
    scratch()?;
    fs::write_file(c"f", b"contents")?;
    let (handle, mount) = handle_of(c"f")?;
    let statx = {
        let mut statx = [0u64; 32];
        call(__NR_statx, [CWD, at(c"f"), 0, 0x1000, statx.as_mut_ptr() as usize, 0])?;
        statx
    };
    equal!(mount as u64, statx[18]);
    // Without room it tells how much is needed.
    let (mut short, mut id) = (Handle([0; 34]), 0i32);
    let args = [CWD, at(c"f"), short.0.as_mut_ptr() as usize, &raw mut id as usize, 0, 0];
    equal!(call(__NR_name_to_handle_at, args), Err(Errno::EOVERFLOW));
    equal!((short.0[0], id), (handle.0[0], mount));
    let fd = match handle.open(O_RDWR) {
        Err(Errno::EPERM) => return Err(skip("no right to open by handle")),
        fd => fd?,
    };
    let mut back = [0; 16];
    equal!(io::read(fd, &mut back)?, 8);
    equal!(fs::fstat(fd)?.st_ino, fs::stat(c"f")?.st_ino);
    // Not by its name: another may have it by now.
    fs::rename(c"f", c"g", 0)?;
    fs::write_file(c"f", b"another")?;
    let again = handle.open(O_RDONLY)?;
    equal!(io::read(again, &mut back)?, 8);
    ensure!(handle_of(c"f")?.0 != handle, "two files have one handle");
    equal!(handle_of(c"g")?.0, handle);
    for fd in [fd, again] {
        io::close(fd)?;
    }
    fs::unlink(c"g")?;
    equal!(handle.open(O_RDONLY), Err(Errno::ESTALE));
    // A symbolic link is itself, unless it is to be followed.
    fs::symlink(c"f", c"l")?;
    equal!(handle_of(c"l")?.0.open(O_RDONLY), Err(Errno::ELOOP));
    equal!(Handle::of(c"l", AT_SYMLINK_FOLLOW as usize)?.0, handle_of(c"f")?.0);
    Ok(())
}

fn handles_of_directories() -> Outcome {
    scratch()?;
    fs::mkdir(c"a", 0o755)?;
    fs::mkdir(c"a/b", 0o755)?;
    fs::write_file(c"a/b/f", b"f")?;
    let (handle, _) = handle_of(c"a/b")?;
    fs::mkdir(c"c", 0o755)?;
    fs::rename(c"a/b", c"c/d", 0)?;
    let fd = match handle.open(O_RDONLY | O_DIRECTORY) {
        Err(Errno::EPERM) => return Err(skip("no right to open by handle")),
        fd => fd?,
    };
    // It is the one that has the name: what is made there is seen here.
    // SAFETY: 1. the path lives for the call.
    unsafe { syscall!(__NR_mkdirat, fd, c"new".as_ptr(), 0o755) }?;
    fs::stat(c"c/d/new")?;
    fs::rmdir(c"c/d/new")?;
    fs::unlink(c"c/d/f")?;
    io::close(fd)?;
    fs::rmdir(c"c/d")?;
    equal!(handle.open(O_RDONLY), Err(Errno::ESTALE));
    let (root, _) = handle_of(c".")?;
    io::close(root.open(O_RDONLY)?)?;
    Ok(())
}

fn bad_handles() -> Outcome {
    scratch()?;
    fs::write_file(c"f", b"f")?;
    let (good, _) = handle_of(c"f")?;
    equal!(Handle::of(c"none", 0).err(), Some(Errno::ENOENT));
    equal!(Handle::of(c"f", 0x10).err(), Some(Errno::EINVAL));
    let mut long = good;
    long.0[0] = 129;
    if good.open(O_RDONLY) == Err(Errno::EPERM) {
        return Err(skip("no right to open by handle"));
    }
    equal!(long.open(O_RDONLY), Err(Errno::EINVAL));
    equal!(Handle([0; 34]).open(O_RDONLY), Err(Errno::EINVAL));
    // Another type, a number that no file has, another generation.
    for (at, value) in [(1, 0x77), (2, 0x7fff_fff0), (3, good.0[3] ^ 0x5555)] {
        let mut bad = good;
        bad.0[at] = value;
        equal!((at, bad.open(O_RDONLY)), (at, Err(Errno::ESTALE)));
    }
    let text = Handle::of(c"/proc/self/status", 0);
    equal!(text.err(), Some(Errno::EOPNOTSUPP));
    // To compare, any file has one. Older kernels do not know of that.
    match Handle::of(c"/proc/self/status", FID) {
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {}
        result => ensure!(result?.0.0[0] > 0, "an empty handle"),
    }
    let status = process::in_child(|| {
        // SAFETY: 1. setresuid takes numbers.
        let _ = unsafe { syscall!(__NR_setresuid, 1000, 1000, 1000) };
        i32::from(good.open(O_RDONLY) != Err(Errno::EPERM))
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}
