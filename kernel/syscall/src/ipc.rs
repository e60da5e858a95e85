//! System V IPC: sysvipc(7).

use crate::{Ctx, Errno, Result};
use abi::ipc::*;
use abi::time::Timespec;
use alloc::vec::Vec;
use kcore::sysv::msg::{self, Message, Wanted};
use kcore::sysv::{sem, shm};
use kcore::usermem;

pub fn semget(ctx: &mut Ctx, key: i32, count: i32, flags: u32) -> Result<usize> {
    sem::get(ctx, key, count, flags).map(|id| id as usize)
}

pub fn semop(ctx: &mut Ctx, id: i32, operations: usize, count: usize) -> Result<usize> {
    semtimedop(ctx, id, operations, count, 0)
}

pub fn semtimedop(ctx: &mut Ctx, id: i32, operations: usize, count: usize, timeout: usize) -> Result<usize> {
    if count < 1 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if count > SEMOPM {
        return Err(Errno::E2BIG);
    }
    let operations: Vec<SemBuf> = mem::user::read_array(operations, count)?;
    let deadline_ns = match timeout {
        0 => None,
        at => {
            let timeout: Timespec = usermem::read(at)?;
            let ns = timeout.to_ns().ok_or(Errno::EINVAL)?;
            Some(time::monotonic_ns().saturating_add(ns))
        }
    };
    let set = sem::find(id)?;
    sem::operate(ctx, &set, &operations, deadline_ns).map(|()| 0)
}

pub fn semctl(ctx: &mut Ctx, id: i32, number: i32, command: u32, argument: usize) -> Result<usize> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        IPC_INFO | SEM_INFO => {
            let (info, highest) = sem::info(command == SEM_INFO);
            usermem::write(argument, &info).map(|()| highest)
        }
        SEM_STAT | SEM_STAT_ANY => {
            let (id, set) = sem::at(id)?;
            usermem::write(argument, &set.stat(ctx, command == SEM_STAT_ANY)?).map(|()| id as usize)
        }
        IPC_STAT => usermem::write(argument, &sem::find(id)?.stat(ctx, false)?).map(|()| 0),
        IPC_SET => {
            let new: SemidDs = usermem::read(argument)?;
            sem::find(id)?.set(ctx, &new.perm).map(|()| 0)
        }
        IPC_RMID => sem::remove(ctx, id).map(|()| 0),
        GETVAL | GETPID | GETNCNT | GETZCNT => sem::find(id)?.look(ctx, number, command),
        GETALL => {
            let values = sem::find(id)?.values(ctx)?;
            mem::user::write_array(argument, &values).map(|()| 0).map_err(|_| Errno::EFAULT)
        }
        SETVAL => sem::find(id)?.put(ctx, number, &[argument as i32]).map(|()| 0),
        SETALL => {
            let set = sem::find(id)?;
            let values: Vec<u16> = mem::user::read_array(argument, set.count())?;
            let mut wide: Vec<i32> = Vec::new();
            wide.try_reserve_exact(values.len()).map_err(|_| Errno::ENOMEM)?;
            wide.extend(values.iter().map(|value| i32::from(*value)));
            set.put(ctx, 0, &wide).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn msgget(ctx: &mut Ctx, key: i32, flags: u32) -> Result<usize> {
    msg::get(ctx, key, flags).map(|id| id as usize)
}

pub fn msgsnd(ctx: &mut Ctx, id: i32, message: usize, len: usize, flags: u32) -> Result<usize> {
    let kind: i64 = usermem::read(message)?;
    if len > MSGMAX || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let bytes = mem::user::read_array(message + size_of::<i64>(), len)?;
    msg::find(id)?.send(ctx, Message { kind, bytes }, flags & IPC_NOWAIT != 0).map(|()| 0)
}

pub fn msgrcv(ctx: &mut Ctx, id: i32, message: usize, len: usize, kind: i64, flags: u32) -> Result<usize> {
    if id < 0 || len > isize::MAX as usize {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 {
        // Linux has it for checkpoints only (CONFIG_CHECKPOINT_RESTORE).
        return Err(Errno::ENOSYS);
    }
    let (except, cut) = (flags & MSG_EXCEPT != 0, flags & MSG_NOERROR != 0);
    let wanted = Wanted { kind, except, cut, room: len };
    let got = msg::find(id)?.receive(ctx, &wanted, flags & IPC_NOWAIT != 0)?;
    usermem::write(message, &got.kind)?;
    usermem::write_bytes(message + size_of::<i64>(), &got.bytes)?;
    Ok(got.bytes.len())
}

pub fn msgctl(ctx: &mut Ctx, id: i32, command: u32, argument: usize) -> Result<usize> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        IPC_INFO | MSG_INFO => {
            let (info, highest) = msg::info(command == MSG_INFO);
            usermem::write(argument, &info).map(|()| highest)
        }
        MSG_STAT | MSG_STAT_ANY => {
            let (id, queue) = msg::at(id)?;
            usermem::write(argument, &queue.stat(ctx, command == MSG_STAT_ANY)?).map(|()| id as usize)
        }
        IPC_STAT => usermem::write(argument, &msg::find(id)?.stat(ctx, false)?).map(|()| 0),
        IPC_SET => {
            let new: MsqidDs = usermem::read(argument)?;
            msg::find(id)?.set(ctx, &new).map(|()| 0)
        }
        IPC_RMID => msg::remove(ctx, id).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn shmget(ctx: &mut Ctx, key: i32, size: usize, flags: u32) -> Result<usize> {
    shm::get(ctx, key, size as u64, flags).map(|id| id as usize)
}

pub fn shmat(ctx: &mut Ctx, id: i32, address: usize, flags: u32) -> Result<usize> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    shm::attach(ctx, id, address, flags)
}

pub fn shmdt(ctx: &mut Ctx, address: usize) -> Result<usize> {
    shm::detach(ctx, address).map(|()| 0)
}

pub fn shmctl(ctx: &mut Ctx, id: i32, command: u32, argument: usize) -> Result<usize> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        IPC_INFO => {
            let (limits, highest) = shm::limits();
            usermem::write(argument, &limits).map(|()| highest)
        }
        SHM_INFO => {
            let (info, highest) = shm::info();
            usermem::write(argument, &info).map(|()| highest)
        }
        SHM_STAT | SHM_STAT_ANY => {
            let (id, segment) = shm::at(id)?;
            usermem::write(argument, &segment.stat(ctx, command == SHM_STAT_ANY)?).map(|()| id as usize)
        }
        IPC_STAT => usermem::write(argument, &shm::find(id)?.stat(ctx, false)?).map(|()| 0),
        IPC_SET => {
            let new: ShmidDs = usermem::read(argument)?;
            shm::find(id)?.set(ctx, &new.perm).map(|()| 0)
        }
        IPC_RMID => shm::remove(ctx, id).map(|()| 0),
        SHM_LOCK | SHM_UNLOCK => shm::find(id)?.lock(ctx, command == SHM_LOCK).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
