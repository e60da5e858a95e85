//! System V IPC, sysvipc(7).

use crate::waiting::until_asleep;
use crate::{Check, Outcome, ensure, equal};
use alloc::vec::Vec;
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, process, syscall, time};

pub const CHECKS: &[Check] = &[
    ("sets_and_keys", sets_and_keys),
    ("operations", operations),
    ("all_or_nothing", all_or_nothing),
    ("waiting", waiting),
    ("limits_of_waiting", limits_of_waiting),
    ("taken_back", taken_back),
    ("set_removed", set_removed),
    ("set_status", set_status),
    ("rights", rights),
    ("messages", messages),
    ("kinds_of_messages", kinds_of_messages),
    ("full_queue", full_queue),
    ("waiting_for_messages", waiting_for_messages),
    ("queue_removed", queue_removed),
    ("queue_status", queue_status),
    ("bad_messages", bad_messages),
    ("segments", segments),
    ("attaching", attaching),
    ("inherited_segment", inherited_segment),
    ("segment_removed", segment_removed),
    ("removed_by_force", removed_by_force),
    ("detached_in_parts", detached_in_parts),
    ("segment_rights", segment_rights),
    ("segment_locked", segment_locked),
    ("told_in_proc", told_in_proc),
];

const CREAT: usize = 0o1000;
const EXCL: usize = 0o2000;
const NOWAIT: u16 = 0o4000;
const UNDO: u16 = 0x1000;
const RMID: usize = 0;
const SET: usize = 1;
const STAT: usize = 2;
const GETPID: usize = 11;
const GETVAL: usize = 12;
const GETALL: usize = 13;
const GETNCNT: usize = 14;
const GETZCNT: usize = 15;
const SETVAL: usize = 16;
const SETALL: usize = 17;

/// Any call. Each use passes addresses of its own live memory with their true lengths, or none.
fn call(number: u32, args: [usize; 5]) -> Result<usize> {
    // SAFETY: 1. by the sentence above.
    unsafe { syscall!(number, args[0], args[1], args[2], args[3], args[4]) }
}

/// A key that no other run has.
fn key() -> usize {
    (time::now_ns() as usize & 0x3fff_ffff) | 0x4000_0000
}

/// Something to be removed when the check ends, however it ends.
struct Object(usize, u32);

impl Drop for Object {
    fn drop(&mut self) {
        let args = if self.1 == __NR_semctl { [self.0, 0, RMID, 0, 0] } else { [self.0, RMID, 0, 0, 0] };
        let _ = call(self.1, args);
    }
}

fn set(count: usize) -> Result<Object> {
    call(__NR_semget, [0, count, 0o600, 0, 0]).map(|id| Object(id, __NR_semctl))
}

fn queue() -> Result<Object> {
    call(__NR_msgget, [0, 0o600, 0, 0, 0]).map(|id| Object(id, __NR_msgctl))
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Operation(u16, i16, u16);

fn operate(set: &Object, operations: &[Operation]) -> Result<()> {
    call(__NR_semop, [set.0, operations.as_ptr() as usize, operations.len(), 0, 0]).map(drop)
}

fn control(set: &Object, number: usize, command: usize, argument: usize) -> Result<usize> {
    call(__NR_semctl, [set.0, number, command, argument, 0])
}

fn sets_and_keys() -> Outcome {
    let key = key();
    equal!(call(__NR_semget, [key, 2, 0o600, 0, 0]), Err(Errno::ENOENT));
    equal!(call(__NR_semget, [key, 0, CREAT | 0o600, 0, 0]), Err(Errno::EINVAL));
    let set = Object(call(__NR_semget, [key, 2, CREAT | 0o600, 0, 0])?, __NR_semctl);
    equal!(call(__NR_semget, [key, 2, CREAT | EXCL | 0o600, 0, 0]), Err(Errno::EEXIST));
    equal!(call(__NR_semget, [key, 0, 0, 0, 0])?, set.0);
    equal!(call(__NR_semget, [key, 3, 0, 0, 0]), Err(Errno::EINVAL));
    equal!(call(__NR_semget, [0, 32_001, 0o600, 0, 0]), Err(Errno::EINVAL));
    let old = set.0;
    drop(set);
    equal!(call(__NR_semctl, [old, 0, GETVAL, 0, 0]), Err(Errno::EINVAL));
    // The place is used again, the identifier is not.
    let again = Object(call(__NR_semget, [key, 2, CREAT | 0o600, 0, 0])?, __NR_semctl);
    ensure!(again.0 != old, "an identifier came again");
    Ok(())
}

fn operations() -> Outcome {
    let set = set(3)?;
    let values = [5u16, 0, 7];
    control(&set, 0, SETALL, values.as_ptr() as usize)?;
    operate(&set, &[Operation(0, -5, 0), Operation(1, 2, 0), Operation(0, 0, 0)])?;
    let mut now = [9u16; 3];
    control(&set, 0, GETALL, now.as_mut_ptr() as usize)?;
    equal!(now, [0, 2, 7]);
    equal!(control(&set, 1, GETVAL, 0)?, 2);
    equal!(control(&set, 1, GETPID, 0)?, process::getpid() as usize);
    equal!(operate(&set, &[Operation(3, 1, 0)]), Err(Errno::EFBIG));
    equal!(operate(&set, &[]), Err(Errno::EINVAL));
    equal!(operate(&set, &[Operation(2, 32_767, 0)]), Err(Errno::ERANGE));
    equal!(control(&set, 0, SETVAL, 40_000), Err(Errno::ERANGE));
    equal!(control(&set, 3, SETVAL, 1), Err(Errno::EINVAL));
    equal!(control(&set, 0, 99, 0), Err(Errno::EINVAL));
    equal!(operate(&set, &[Operation(0, 1, 0); 501]), Err(Errno::E2BIG));
    Ok(())
}

fn all_or_nothing() -> Outcome {
    let set = set(2)?;
    control(&set, 0, SETVAL, 3)?;
    equal!(operate(&set, &[Operation(0, -3, NOWAIT), Operation(1, -1, NOWAIT)]), Err(Errno::EAGAIN));
    equal!(control(&set, 0, GETVAL, 0)?, 3);
    equal!(operate(&set, &[Operation(0, 0, NOWAIT)]), Err(Errno::EAGAIN));
    Ok(())
}

fn waiting() -> Outcome {
    let set = set(2)?;
    let Some(child) = process::fork()? else {
        // Waits for 2 to come, then for 0 in the other one.
        let done = operate(&set, &[Operation(0, -2, 0)]).and_then(|()| operate(&set, &[Operation(1, 0, 0)]));
        core::mem::forget(set);
        process::exit(i32::from(done.is_err()))
    };
    control(&set, 1, SETVAL, 1)?;
    while control(&set, 0, GETNCNT, 0)? != 1 {
        time::sleep_ns(1_000_000);
    }
    operate(&set, &[Operation(0, 1, 0)])?;
    operate(&set, &[Operation(0, 1, 0)])?;
    while control(&set, 1, GETZCNT, 0)? != 1 {
        time::sleep_ns(1_000_000);
    }
    equal!(control(&set, 0, GETNCNT, 0)?, 0);
    operate(&set, &[Operation(1, -1, 0)])?;
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    Ok(())
}

extern "C" fn nothing(_: i32) {}

fn limits_of_waiting() -> Outcome {
    let set = set(1)?;
    let soon = time::timespec(20_000_000);
    let one = [Operation(0, -1, 0)];
    let wait = |at: usize| call(__NR_semtimedop, [set.0, one.as_ptr() as usize, 1, at, 0]);
    equal!(wait(&raw const soon as usize), Err(Errno::EAGAIN));
    let bad = [0i64, -1];
    equal!(wait(bad.as_ptr() as usize), Err(Errno::EINVAL));
    // A handler ends it, whatever SA_RESTART says.
    signal::set_action(SIGUSR1, Action::Handle(nothing), SA_RESTART, 0)?;
    let parent = process::getpid();
    let Some(child) = process::fork()? else {
        core::mem::forget(set);
        let sent = until_asleep(parent).is_ok() && process::kill(parent, SIGUSR1).is_ok();
        process::exit(i32::from(!sent))
    };
    equal!(wait(0), Err(Errno::EINTR));
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    equal!(control(&set, 0, GETNCNT, 0)?, 0);
    Ok(())
}

fn taken_back() -> Outcome {
    let set = set(2)?;
    control(&set, 0, SETVAL, 5)?;
    let status = process::in_child(|| {
        let done = operate(&set, &[Operation(0, -3, UNDO), Operation(1, 4, UNDO)]);
        i32::from(done.is_err() || control(&set, 0, GETVAL, 0) != Ok(2))
    })?;
    equal!(status.exit_code(), Some(0));
    equal!((control(&set, 0, GETVAL, 0)?, control(&set, 1, GETVAL, 0)?), (5, 0));
    // A value that was set is nobody's to take back.
    let status = process::in_child(|| {
        let done = operate(&set, &[Operation(0, -3, UNDO)]).and_then(|()| control(&set, 0, SETVAL, 9));
        i32::from(done.is_err())
    })?;
    equal!(status.exit_code(), Some(0));
    equal!(control(&set, 0, GETVAL, 0)?, 9);
    Ok(())
}

fn set_removed() -> Outcome {
    let set = set(1)?;
    let Some(child) = process::fork()? else {
        let ended = operate(&set, &[Operation(0, -1, 0)]) == Err(Errno::EIDRM);
        core::mem::forget(set);
        process::exit(i32::from(!ended))
    };
    while control(&set, 0, GETNCNT, 0)? != 1 {
        time::sleep_ns(1_000_000);
    }
    drop(set);
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    Ok(())
}

/// The words of an `ipc64_perm`: key, uid, gid, cuid, cgid, mode.
fn set_status() -> Outcome {
    let key = key();
    let set = Object(call(__NR_semget, [key, 4, CREAT | 0o640, 0, 0])?, __NR_semctl);
    let mut status = [0u32; 32];
    control(&set, 0, STAT, status.as_mut_ptr() as usize)?;
    equal!((status[0] as usize, status[1], status[3], status[5] & 0o777), (key, 0, 0, 0o640));
    // The number of semaphores stands behind the times, which x86-64 spaces.
    let at = if cfg!(target_arch = "x86_64") { 20 } else { 16 };
    equal!(status[at], 4);
    (status[1], status[5]) = (1000, 0o666);
    control(&set, 0, SET, status.as_mut_ptr() as usize)?;
    control(&set, 0, STAT, status.as_mut_ptr() as usize)?;
    equal!((status[1], status[3], status[5] & 0o777), (1000, 0, 0o666));
    Ok(())
}

fn rights() -> Outcome {
    let set = set(1)?;
    let queue = queue()?;
    let status = process::in_child(|| {
        if call(__NR_setresuid, [1000, 1000, 1000, 0, 0]).is_err() {
            return 1;
        }
        let refused = [
            operate(&set, &[Operation(0, 1, 0)]) == Err(Errno::EACCES),
            control(&set, 0, GETVAL, 0) == Err(Errno::EACCES),
            control(&set, 0, SETVAL, 1) == Err(Errno::EACCES),
            control(&set, 0, RMID, 0) == Err(Errno::EPERM),
            send(&queue, 1, b"x", 0) == Err(Errno::EACCES),
            receive(&queue, 8, 0, 0).err() == Some(Errno::EACCES),
            call(__NR_msgctl, [queue.0, RMID, 0, 0, 0]) == Err(Errno::EPERM),
        ];
        if refused.iter().all(|right| *right) { 0 } else { 2 }
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

// ---- messages ----

const MSG_NOERROR: usize = 0o10000;
const MSG_EXCEPT: usize = 0o20000;
const MSG_NOWAIT: usize = NOWAIT as usize;

fn send(queue: &Object, kind: i64, text: &[u8], flags: usize) -> Result<()> {
    let mut message = Vec::from(kind.to_ne_bytes());
    message.extend_from_slice(text);
    call(__NR_msgsnd, [queue.0, message.as_ptr() as usize, text.len(), flags, 0]).map(drop)
}

fn receive(queue: &Object, room: usize, kind: i64, flags: usize) -> Result<(i64, Vec<u8>)> {
    let mut message = alloc::vec![0u8; room + 8];
    let at = message.as_mut_ptr() as usize;
    let len = call(__NR_msgrcv, [queue.0, at, room, kind as usize, flags])?;
    let kind = i64::from_ne_bytes(message[..8].try_into().unwrap_or_default());
    Ok((kind, message[8..8 + len].into()))
}

fn messages() -> Outcome {
    let queue = queue()?;
    send(&queue, 3, b"first", 0)?;
    send(&queue, 2, b"", 0)?;
    equal!(receive(&queue, 100, 0, 0)?, (3, b"first".to_vec()));
    equal!(receive(&queue, 0, 0, 0)?, (2, Vec::new()));
    equal!(receive(&queue, 100, 0, MSG_NOWAIT), Err(Errno::ENOMSG));
    send(&queue, 1, b"a long one", 0)?;
    equal!(receive(&queue, 4, 0, 0), Err(Errno::E2BIG));
    equal!(receive(&queue, 4, 0, MSG_NOERROR)?, (1, b"a lo".to_vec()));
    equal!(receive(&queue, 4, 0, MSG_NOWAIT), Err(Errno::ENOMSG));
    Ok(())
}

fn kinds_of_messages() -> Outcome {
    let queue = queue()?;
    for (kind, text) in [(5, b"a"), (3, b"b"), (4, b"c"), (3, b"d"), (9, b"e")] {
        send(&queue, kind, text, 0)?;
    }
    let take = |kind: i64, flags: usize| receive(&queue, 8, kind, flags | MSG_NOWAIT);
    equal!(take(4, 0)?, (4, b"c".to_vec()));
    equal!(take(7, 0), Err(Errno::ENOMSG));
    equal!(take(-4, 0)?, (3, b"b".to_vec()));
    equal!(take(5, MSG_EXCEPT)?, (3, b"d".to_vec()));
    equal!(take(-4, 0), Err(Errno::ENOMSG));
    equal!(take(-100, 0)?, (5, b"a".to_vec()));
    equal!(take(i64::MIN, 0)?, (9, b"e".to_vec()));
    Ok(())
}

fn full_queue() -> Outcome {
    let queue = queue()?;
    send(&queue, 1, &[7; 8192], 0)?;
    send(&queue, 1, &[7; 8192], 0)?;
    equal!(send(&queue, 1, b"x", MSG_NOWAIT), Err(Errno::EAGAIN));
    let Some(child) = process::fork()? else {
        let sent = send(&queue, 2, b"late", 0);
        core::mem::forget(queue);
        process::exit(i32::from(sent.is_err()))
    };
    time::sleep_ns(20_000_000);
    equal!(receive(&queue, 9000, 0, 0)?.1.len(), 8192);
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    equal!(receive(&queue, 9000, 2, 0)?, (2, b"late".to_vec()));
    Ok(())
}

fn waiting_for_messages() -> Outcome {
    let queue = queue()?;
    let Some(child) = process::fork()? else {
        let got = receive(&queue, 100, 7, 0);
        core::mem::forget(queue);
        process::exit(i32::from(got != Ok((7, b"for you".to_vec()))))
    };
    time::sleep_ns(20_000_000);
    send(&queue, 6, b"for others", 0)?;
    send(&queue, 7, b"for you", 0)?;
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    equal!(receive(&queue, 100, 0, 0)?, (6, b"for others".to_vec()));
    Ok(())
}

fn queue_removed() -> Outcome {
    let queue = queue()?;
    let Some(child) = process::fork()? else {
        let got = receive(&queue, 100, 7, 0);
        core::mem::forget(queue);
        process::exit(i32::from(got != Err(Errno::EIDRM) && got != Err(Errno::EINVAL)))
    };
    time::sleep_ns(50_000_000);
    let id = queue.0;
    drop(queue);
    equal!(process::wait_exit(child)?.exit_code(), Some(0));
    let dead = core::mem::ManuallyDrop::new(Object(id, __NR_msgctl));
    equal!(send(&dead, 1, b"x", 0), Err(Errno::EINVAL));
    Ok(())
}

fn queue_status() -> Outcome {
    let queue = queue()?;
    send(&queue, 1, b"12345", 0)?;
    send(&queue, 1, b"678", 0)?;
    let mut status = [0u64; 15];
    call(__NR_msgctl, [queue.0, STAT, status.as_mut_ptr() as usize, 0, 0])?;
    // Bytes, messages, the most bytes, the last sender.
    equal!((status[9], status[10], status[11]), (8, 2, 16_384));
    equal!(status[12] as u32, process::getpid() as u32);
    status[11] = 4;
    call(__NR_msgctl, [queue.0, SET, status.as_mut_ptr() as usize, 0, 0])?;
    receive(&queue, 9, 0, 0)?;
    receive(&queue, 9, 0, 0)?;
    equal!(send(&queue, 1, b"12345", MSG_NOWAIT), Err(Errno::EAGAIN));
    send(&queue, 1, b"1234", MSG_NOWAIT)?;
    Ok(())
}

fn bad_messages() -> Outcome {
    let queue = queue()?;
    equal!(send(&queue, 0, b"x", 0), Err(Errno::EINVAL));
    equal!(send(&queue, -1, b"x", 0), Err(Errno::EINVAL));
    equal!(send(&queue, 1, &[0; 8193], 0), Err(Errno::EINVAL));
    equal!(call(__NR_msgsnd, [queue.0, 8, 1, 0, 0]), Err(Errno::EFAULT));
    equal!(call(__NR_msgget, [key(), 0o600, 0, 0, 0]), Err(Errno::ENOENT));
    equal!(call(__NR_msgctl, [queue.0, 99, 0, 0, 0]), Err(Errno::EINVAL));
    Ok(())
}

// ---- shared memory ----

const SHM_RDONLY: usize = 0o10000;
const SHM_RND: usize = 0o20000;
const SHM_REMAP: usize = 0o40000;
const PAGE: usize = 4096;

fn segment(size: usize) -> Result<Object> {
    call(__NR_shmget, [0, size, 0o600, 0, 0]).map(|id| Object(id, __NR_shmctl))
}

fn attach(id: usize, address: usize, flags: usize) -> Result<usize> {
    call(__NR_shmat, [id, address, flags, 0, 0])
}

fn detach(address: usize) -> Result<()> {
    call(__NR_shmdt, [address, 0, 0, 0, 0]).map(drop)
}

/// `struct shmid_ds` as words: rights in six, then size, times (3), processes, attachments.
fn segment_status(id: usize) -> Result<[u64; 14]> {
    let mut status = [0u64; 14];
    call(__NR_shmctl, [id, STAT, status.as_mut_ptr() as usize, 0, 0])?;
    Ok(status)
}

fn word(address: usize) -> *mut u32 {
    address as *mut u32
}

fn segments() -> Outcome {
    let key = key();
    equal!(call(__NR_shmget, [key, 100, 0o600, 0, 0]), Err(Errno::ENOENT));
    equal!(call(__NR_shmget, [key, 0, CREAT | 0o600, 0, 0]), Err(Errno::EINVAL));
    let object = Object(call(__NR_shmget, [key, 3 * PAGE - 1, CREAT | 0o600, 0, 0])?, __NR_shmctl);
    equal!(call(__NR_shmget, [key, 1, CREAT | EXCL | 0o600, 0, 0]), Err(Errno::EEXIST));
    equal!(call(__NR_shmget, [key, 0, 0, 0, 0])?, object.0);
    equal!(call(__NR_shmget, [key, 3 * PAGE, 0, 0, 0]), Err(Errno::EINVAL));
    let (first, second) = (attach(object.0, 0, 0)?, attach(object.0, 0, SHM_RDONLY)?);
    ensure!(first != second, "attached twice at one place");
    // SAFETY: 1. both areas are three pages of shared memory.
    unsafe {
        word(first + 2 * PAGE).write_volatile(77);
        equal!(word(second + 2 * PAGE).read_volatile(), 77);
    }
    let status = segment_status(object.0)?;
    equal!((status[6], status[11]), (3 * PAGE as u64 - 1, 2));
    let pids = [status[10] as u32, (status[10] >> 32) as u32];
    equal!(pids, [process::getpid() as u32; 2]);
    let maps = rt::fs::read_file(c"/proc/self/maps")?;
    let maps = alloc::string::String::from_utf8_lossy(&maps).into_owned();
    let name = alloc::format!("/SYSV{key:08x} (deleted)");
    ensure!(maps.lines().filter(|line| line.ends_with(&name)).count() == 2, "not in maps: {maps}");
    detach(second)?;
    equal!(detach(second), Err(Errno::EINVAL));
    equal!(segment_status(object.0)?[11], 1);
    detach(first)?;
    Ok(())
}

fn attaching() -> Outcome {
    let object = segment(2 * PAGE)?;
    let place = attach(object.0, 0, 0)?;
    equal!(attach(object.0, place, 0), Err(Errno::EINVAL));
    equal!(attach(object.0, place, SHM_REMAP)?, place);
    equal!(segment_status(object.0)?[11], 1);
    detach(place)?;
    equal!(attach(object.0, place + 5, 0), Err(Errno::EINVAL));
    equal!(attach(object.0, place + 5, SHM_RND)?, place);
    detach(place)?;
    equal!(attach(object.0, 0, SHM_REMAP), Err(Errno::EINVAL));
    equal!(attach(0x7fff_ffff, 0, 0), Err(Errno::EINVAL));
    equal!(detach(place + 1), Err(Errno::EINVAL));
    // What is mapped there is no segment.
    equal!(detach(&raw const object as usize & !(PAGE - 1)), Err(Errno::EINVAL));
    Ok(())
}

fn inherited_segment() -> Outcome {
    let object = segment(PAGE)?;
    let place = attach(object.0, 0, 0)?;
    let (read, write) = rt::io::pipe(0)?;
    let child = process::fork()?;
    if child.is_none() {
        // SAFETY: 1. the area is a page of shared memory.
        unsafe { word(place).write_volatile(5) };
        let _ = rt::io::close(write);
        let _ = rt::io::read(read, &mut [0; 1]);
        process::exit(0);
    }
    equal!(segment_status(object.0)?[11], 2);
    rt::io::close(write)?;
    process::wait_exit(child.unwrap_or(0))?;
    // SAFETY: as above.
    equal!(unsafe { word(place).read_volatile() }, 5);
    equal!(segment_status(object.0)?[11], 1);
    detach(place)?;
    Ok(())
}

fn segment_removed() -> Outcome {
    let key = key();
    let id = call(__NR_shmget, [key, PAGE, CREAT | 0o600, 0, 0])?;
    let object = Object(id, __NR_shmctl);
    let place = attach(id, 0, 0)?;
    call(__NR_shmctl, [id, RMID, 0, 0, 0])?;
    // Its key is free; who knows the identifier may still attach it.
    equal!(call(__NR_shmget, [key, PAGE, 0o600, 0, 0]), Err(Errno::ENOENT));
    let again = attach(id, 0, 0)?;
    let status = segment_status(id)?;
    equal!((status[2] >> 32 & 0o1777, status[0] as u32), (0o1600, 0));
    // SAFETY: 1. both areas are the same page.
    unsafe {
        word(place).write_volatile(9);
        equal!(word(again).read_volatile(), 9);
    }
    detach(place)?;
    detach(again)?;
    equal!(segment_status(id), Err(Errno::EINVAL));
    equal!(attach(id, 0, 0), Err(Errno::EINVAL));
    core::mem::forget(object);
    Ok(())
}

/// A segment that a process makes and leaves behind.
fn orphan() -> Result<usize> {
    let (read, write) = rt::io::pipe(0)?;
    process::in_child(|| {
        let made = call(__NR_shmget, [0, PAGE, CREAT | 0o600, 0, 0]);
        i32::from(!made.is_ok_and(|id| rt::io::write(write, &id.to_ne_bytes()) == Ok(8)))
    })?;
    let mut id = [0; 8];
    rt::io::read(read, &mut id)?;
    [read, write].into_iter().try_for_each(rt::io::close)?;
    Ok(usize::from_ne_bytes(id))
}

/// shm_rmid_forced, where it is nobody else's business.
fn removed_by_force() -> Outcome {
    const NEWIPC: usize = 0x800_0000;
    let set = |text: &[u8]| {
        let fd = rt::fs::open(c"/proc/sys/kernel/shm_rmid_forced", O_WRONLY, 0)?;
        let written = rt::io::write(fd, text);
        rt::io::close(fd)?;
        written
    };
    let checked = || -> Outcome {
        let (mine, stays) = (segment(PAGE)?, orphan()?);
        equal!(set(b"2"), Err(Errno::EINVAL));
        set(b"1")?;
        // What nobody can come back to is gone, now and from now on.
        equal!(segment_status(stays), Err(Errno::EINVAL));
        equal!(segment_status(orphan()?), Err(Errno::EINVAL));
        segment_status(mine.0)?;
        detach(attach(mine.0, 0, 0)?)?;
        equal!(segment_status(mine.0), Err(Errno::EINVAL));
        core::mem::forget(mine);
        Ok(())
    };
    let status = process::in_child(|| {
        // SAFETY: 1. no memory is named.
        let apart = unsafe { syscall!(__NR_unshare, NEWIPC) };
        // EINVAL: there is but one.
        if !matches!(apart, Ok(_) | Err(Errno::EINVAL)) {
            return 2;
        }
        let outcome = checked();
        let restored = set(b"0");
        if let Err(failure) = &outcome {
            rt::eprintln!("{}", failure.0);
        }
        i32::from(outcome.is_err() || restored != Ok(1))
    })?;
    match status.exit_code() {
        Some(2) => Err(crate::skip("no right to set it")),
        code => {
            equal!(code, Some(0));
            Ok(())
        }
    }
}

fn detached_in_parts() -> Outcome {
    let object = segment(4 * PAGE)?;
    let place = attach(object.0, 0, 0)?;
    // SAFETY: 1. the second page is in the area that was just attached.
    unsafe { syscall!(__NR_munmap, place + PAGE, PAGE) }?;
    detach(place)?;
    equal!(segment_status(object.0)?[11], 0);
    let mut residence = [0u8; 4];
    // SAFETY: 1. the kernel writes four bytes.
    let seen = unsafe { syscall!(__NR_mincore, place, 4 * PAGE, residence.as_mut_ptr()) };
    equal!(seen, Err(Errno::ENOMEM));
    Ok(())
}

fn segment_rights() -> Outcome {
    let id = call(__NR_shmget, [0, PAGE, 0o400, 0, 0])?;
    let _object = Object(id, __NR_shmctl);
    let child = process::fork()?;
    if child.is_none() {
        // SAFETY: 1. setresuid takes numbers.
        let _ = unsafe { syscall!(__NR_setresuid, 1000, 1000, 1000) };
        let refused = attach(id, 0, 0) == Err(Errno::EACCES)
            && attach(id, 0, SHM_RDONLY) == Err(Errno::EACCES)
            && segment_status(id) == Err(Errno::EACCES)
            && call(__NR_shmctl, [id, RMID, 0, 0, 0]) == Err(Errno::EPERM)
            && call(__NR_shmctl, [id, 11, 0, 0, 0]) == Err(Errno::EPERM);
        process::exit(i32::from(!refused));
    }
    // As another user than the owner: only where the check runs as root.
    // SAFETY: 1. geteuid takes nothing.
    let root = unsafe { syscall!(__NR_geteuid) }? == 0;
    let status = process::wait_exit(child.unwrap_or(0))?;
    ensure!(!root || status.exit_code() == Some(0), "{:?}", status.exit_code());
    Ok(())
}

fn segment_locked() -> Outcome {
    let object = segment(PAGE)?;
    match call(__NR_shmctl, [object.0, 11, 0, 0, 0]) {
        Err(Errno::EPERM | Errno::ENOMEM) => return Err(crate::skip("no right to lock")),
        result => result.map(drop)?,
    }
    equal!(segment_status(object.0)?[2] >> 32 & 0o2000, 0o2000);
    call(__NR_shmctl, [object.0, 12, 0, 0, 0])?;
    equal!(segment_status(object.0)?[2] >> 32 & 0o2000, 0);
    Ok(())
}

fn told_in_proc() -> Outcome {
    let (object, set, queue) = (segment(PAGE + 1)?, set(7)?, queue()?);
    for (path, id, wanted, header) in [
        (
            c"/proc/sysvipc/shm",
            object.0,
            alloc::format!("{}", PAGE + 1),
            "key shmid perms size cpid lpid nattch",
        ),
        (c"/proc/sysvipc/sem", set.0, "7".into(), "key semid perms nsems uid gid cuid cgid otime ctime"),
        (c"/proc/sysvipc/msg", queue.0, "0".into(), "key msqid perms cbytes qnum lspid lrpid uid gid"),
    ] {
        let text = rt::fs::read_file(path)?;
        let text = alloc::string::String::from_utf8_lossy(&text).into_owned();
        let words = |line: &str| line.split_ascii_whitespace().map(Into::into).collect::<Vec<_>>();
        let lines: Vec<Vec<alloc::string::String>> = text.lines().map(words).collect();
        ensure!(lines.first().is_some_and(|line| line.join(" ").starts_with(header)), "{text}");
        let line = lines.iter().find(|line| line.get(1).is_some_and(|word| *word == alloc::format!("{id}")));
        equal!(line.map(|line| (line[2].as_str(), line[3].as_str())), Some(("600", wanted.as_str())));
    }
    let mut info = [0u64; 9];
    call(__NR_shmctl, [0, 3, info.as_mut_ptr() as usize, 0, 0])?;
    let shown = rt::fs::read_file(c"/proc/sys/kernel/shmmni")?;
    equal!(alloc::string::String::from_utf8_lossy(&shown).trim(), alloc::format!("{}", info[2]));
    equal!(info[1], 1);
    call(__NR_shmctl, [0, 14, info.as_mut_ptr() as usize, 0, 0])?;
    ensure!(info[0] as u32 >= 1 && info[1] >= 2, "{info:?}");
    Ok(())
}
