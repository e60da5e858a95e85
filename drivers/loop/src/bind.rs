//! One loop device: its file, and the ioctls that bind it.

use crate::worker::{self, Job};
use abi::block::*;
use abi::stat::DevId;
use abi::{Errno, errno::Result};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::{Arc, Weak};
use block::{DEFAULT_MAX_SECTORS, DiscardLimits, Disk, DiskInfo, Limits, Queued, Request};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kcore::Thread;
use mem::user;
use sync::levels::{Driver as DriverLevel, DriverIrq};
use sync::{Once, SpinLock};
use task::{Mutex, NewTask, WaitQueue};
use vfs::{File, FileMode};

const MAJOR: u32 = 7;
/// Requests under way.
const DEPTH: u16 = 32;
/// Flags that LOOP_SET_STATUS64 may change.
const CHANGEABLE: u32 = LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN;
const KNOWN: u32 = CHANGEABLE | LO_FLAGS_READ_ONLY | LO_FLAGS_DIRECT_IO;

/// A file bound to a device.
pub(crate) struct Bound {
    pub file: Arc<File>,
    pub offset: u64,
    /// Bytes; 0: to the end of the file.
    limit: u64,
    flags: u32,
    name: [[u8; 32]; 2],
}

/// One device.
pub(crate) struct Loop {
    number: u32,
    bound: Mutex<Option<Arc<Bound>>, DriverLevel>,
    disk: Once<Weak<Disk>>,
    pub(crate) jobs: SpinLock<VecDeque<Job>, DriverIrq>,
    pub(crate) work: WaitQueue,
    /// It was taken away: no request is served, and the thread ends.
    gone: AtomicBool,
}

impl Loop {
    /// Makes device number `number` and announces it.
    pub(crate) fn make(number: u32) -> Result<Arc<Loop>> {
        let mut jobs = VecDeque::new();
        jobs.try_reserve_exact(DEPTH.into()).map_err(|_| Errno::ENOMEM)?;
        let device = Arc::new(Loop {
            number,
            bound: Mutex::new(None),
            disk: Once::new(),
            jobs: SpinLock::new(jobs),
            work: WaitQueue::new(&"loop_thread"),
            gone: AtomicBool::new(false),
        });
        let limits = Limits {
            max_sectors: DEFAULT_MAX_SECTORS,
            max_segments: 128,
            discard: Some(DiscardLimits { max_sectors: u32::MAX >> 9, granularity: 4096 }),
            max_write_zeroes: u32::MAX >> 9,
            write_cache: true,
            ..Limits::default()
        };
        let info = DiskInfo {
            name: format!("loop{number}"),
            dev: DevId::new(MAJOR, number),
            minors: 1,
            sectors: 0,
            read_only: false,
            removable: false,
            partitions: true,
            limits,
            hw_queues: 1,
            depth: DEPTH,
        };
        let disk = Disk::new(info, device.clone())?;
        let _ = device.disk.set(Arc::downgrade(&disk));
        let of = Arc::downgrade(&device);
        NewTask::kernel(format!("loop{number}"), move || worker::run(&of)).spawn()?;
        block::add_disk(&disk, "loop")?;
        Ok(device)
    }

    pub(crate) fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.get()?.upgrade()
    }

    /// The device was taken away.
    pub(crate) fn end(&self) {
        let jobs = self.jobs.lock();
        self.gone.store(true, Relaxed);
        drop(jobs);
        self.work.wake_all();
    }

    /// Whether there will be no request any more. Under the jobs' lock.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    pub(crate) fn bound(&self) -> Option<Arc<Bound>> {
        self.bound.lock().clone()
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.bound.lock().is_some()
    }

    /// Binds a file of the caller's. EBUSY when there is one, EINVAL for what is neither file nor device.
    fn bind(&self, fd: u32, offset: u64, limit: u64, flags: u32, name: [[u8; 32]; 2]) -> Result<()> {
        // The descriptor is a number of the program that calls: who that is, only its thread says.
        let thread = Thread::current().ok_or(Errno::EBADF)?;
        let file = thread.files().ok_or(Errno::EBADF)?.get(fd as i32)?;
        if !file.mode().contains(FileMode::READ) {
            return Err(Errno::EBADF);
        }
        size_of(&file)?;
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        let writable = file.mode().contains(FileMode::WRITE) && flags & LO_FLAGS_READ_ONLY == 0;
        let flags = if writable { flags } else { flags | LO_FLAGS_READ_ONLY };
        {
            let mut bound = self.bound.lock();
            if bound.is_some() {
                return Err(Errno::EBUSY);
            }
            *bound = Some(Arc::new(Bound { file, offset, limit, flags, name }));
        }
        disk.whole().set_read_only(!writable);
        self.set_capacity()?;
        if flags & LO_FLAGS_PARTSCAN != 0 { block::rescan(&disk) } else { Ok(()) }
    }

    /// Takes over the file's size.
    fn set_capacity(&self) -> Result<()> {
        let bound = self.bound().ok_or(Errno::ENXIO)?;
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        let bytes = size_of(&bound.file)?.saturating_sub(bound.offset);
        let bytes = if bound.limit == 0 { bytes } else { bytes.min(bound.limit) };
        disk.whole().set_sectors(bytes >> block::SECTOR_SHIFT);
        Ok(())
    }

    /// Lets the file go. What is dirty in the device's cache is written first.
    fn clear(&self) -> Result<()> {
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        if !self.is_bound() {
            return Err(Errno::ENXIO);
        }
        let synced = disk.whole().sync();
        disk.whole().set_sectors(0);
        block::rescan(&disk)?;
        let gone = self.bound.lock().take();
        drop(gone);
        disk.whole().set_read_only(false);
        synced
    }

    fn set_status(&self, info: &LoopInfo64) -> Result<()> {
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        let old = self.bound().ok_or(Errno::ENXIO)?;
        let moved = old.offset != info.lo_offset || old.limit != info.lo_sizelimit;
        if moved {
            // What is cached belongs to the old place.
            disk.whole().sync()?;
            disk.whole().set_sectors(0);
        }
        let flags = old.flags & !CHANGEABLE | info.lo_flags & CHANGEABLE;
        let new = Bound {
            file: old.file.clone(),
            offset: info.lo_offset,
            limit: info.lo_sizelimit,
            flags,
            name: info.lo_file_name,
        };
        let replaced = self.bound.lock().replace(Arc::new(new));
        drop(replaced);
        self.set_capacity()?;
        if flags & LO_FLAGS_PARTSCAN != 0 { block::rescan(&disk) } else { Ok(()) }
    }

    fn status(&self) -> Result<LoopInfo64> {
        let bound = self.bound().ok_or(Errno::ENXIO)?;
        let inode = bound.file.inode();
        Ok(LoopInfo64 {
            lo_device: inode.sb.dev.encode(),
            lo_inode: inode.ino,
            lo_rdevice: inode.rdev.encode(),
            lo_offset: bound.offset,
            lo_sizelimit: bound.limit,
            lo_number: self.number,
            lo_flags: bound.flags,
            lo_file_name: bound.name,
            ..LoopInfo64::default()
        })
    }

    fn configure(&self, argument: usize) -> Result<()> {
        let mut bytes = [0; LOOP_CONFIG_SIZE];
        user::read(argument, &mut bytes).map_err(|_| Errno::EFAULT)?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (fd, block_size) = (word(0), word(4));
        let info = info_from(&bytes[LOOP_CONFIG_INFO..])?;
        if info.lo_flags & !KNOWN != 0 || !matches!(block_size, 0 | 512) {
            return Err(Errno::EINVAL);
        }
        // There is no direct path: the flag is not shown as set.
        let flags = info.lo_flags & !LO_FLAGS_DIRECT_IO;
        self.bind(fd, info.lo_offset, info.lo_sizelimit, flags, info.lo_file_name)
    }
}

fn info_from(bytes: &[u8]) -> Result<LoopInfo64> {
    let bytes = bytes.get(..LoopInfo64::SIZE).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
    let info = LoopInfo64::from_bytes(bytes);
    if info.lo_encrypt_type != 0 || info.lo_offset % 512 != 0 || info.lo_offset > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    Ok(info)
}

/// Bytes of a regular file or block device.
fn size_of(file: &File) -> Result<u64> {
    match block::of_file(file) {
        Some(device) => Ok(device.bytes()),
        None if file.inode().is_regular() => Ok(file.inode().size()),
        None => Err(Errno::EINVAL),
    }
}

impl block::Driver for Loop {
    fn queue_rq(&self, _hw: usize, tag: u16, request: &Request) -> Queued {
        match Job::of(tag, request) {
            Some(job) => {
                let mut jobs = self.jobs.lock();
                if self.is_gone() {
                    return Queued::Failed(Errno::EIO);
                }
                jobs.push_back(job);
                Queued::Yes
            }
            None => Queued::Failed(Errno::ENOMEM),
        }
    }

    fn commit_rqs(&self, _hw: usize) {
        self.work.wake_one();
    }

    fn ioctl(&self, command: u32, argument: usize) -> Result<usize> {
        match command {
            LOOP_SET_FD => self.bind(argument as u32, 0, 0, 0, [[0; 32]; 2]),
            LOOP_CONFIGURE => self.configure(argument),
            LOOP_CLR_FD => self.clear_fd(),
            LOOP_SET_CAPACITY => self.set_capacity(),
            LOOP_SET_STATUS64 => {
                let mut bytes = [0; LoopInfo64::SIZE];
                user::read(argument, &mut bytes).map_err(|_| Errno::EFAULT)?;
                self.set_status(&info_from(&bytes)?)
            }
            LOOP_GET_STATUS64 => {
                let bytes = self.status()?.to_bytes();
                user::write(argument, &bytes).map_err(|_| Errno::EFAULT)
            }
            LOOP_SET_DIRECT_IO if argument == 0 => self.bound().map(drop).ok_or(Errno::ENXIO),
            LOOP_SET_BLOCK_SIZE if argument == 512 => self.bound().map(drop).ok_or(Errno::ENXIO),
            LOOP_SET_DIRECT_IO | LOOP_SET_BLOCK_SIZE | LOOP_CHANGE_FD => Err(Errno::EINVAL),
            _ => return Err(Errno::ENOTTY),
        }
        .map(|()| 0)
    }

    fn last_close(&self) {
        if self.bound().is_some_and(|bound| bound.flags & LO_FLAGS_AUTOCLEAR != 0) {
            // Nobody is left to be told.
            let _ = self.clear();
        }
    }
}

impl Loop {
    /// Lets the file go when the caller is the only one who has the device open, else at the last close.
    fn clear_fd(&self) -> Result<()> {
        let disk = self.disk().ok_or(Errno::ENXIO)?;
        let old = self.bound().ok_or(Errno::ENXIO)?;
        if disk.users() <= 1 {
            drop(old);
            return self.clear();
        }
        let new = Bound {
            file: old.file.clone(),
            offset: old.offset,
            limit: old.limit,
            flags: old.flags | LO_FLAGS_AUTOCLEAR,
            name: old.name,
        };
        let replaced = self.bound.lock().replace(Arc::new(new));
        drop(replaced);
        Ok(())
    }
}
