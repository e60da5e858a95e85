//! The descriptors of a process, shared by threads made with CLONE_FILES.

use crate::file::File;
use abi::poll::PollEvents;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use fdmap::{FdMap, Full, Replaced};
use sync::SpinLock;
use sync::levels;

/// Descriptors to files. Calls that may drop a file do so without the lock: closing may sleep.
pub struct FileTable {
    map: SpinLock<FdMap<Arc<File>>, levels::FileTable>,
}

fn index(fd: i32) -> Result<usize> {
    usize::try_from(fd).map_err(|_| Errno::EBADF)
}

fn full(full: Full) -> Errno {
    match full {
        Full::Limit => Errno::EMFILE,
        Full::Memory => Errno::ENOMEM,
    }
}

impl Default for FileTable {
    fn default() -> Self {
        FileTable { map: SpinLock::new(FdMap::new()) }
    }
}

impl FileTable {
    /// A table with nothing open.
    pub fn new() -> Arc<FileTable> {
        Arc::new(FileTable::default())
    }

    /// The file of a descriptor that can do more than name a place; EBADF.
    #[inline(always)] // a call more is 20 instructions of the 400 of read(2)
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        let file = self.get_any(fd)?;
        if file.is_path_only() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// The file of a descriptor, O_PATH or not; EBADF.
    #[inline(always)]
    pub fn get_any(&self, fd: i32) -> Result<Arc<File>> {
        let fd = index(fd)?;
        self.map.lock().get(fd).cloned().ok_or(Errno::EBADF)
    }

    /// Looks several descriptors up under one hold of the lock. `action` must not sleep, nor drop a file.
    #[inline]
    pub fn look_up<R>(&self, action: impl FnOnce(Lookup<'_>) -> R) -> R {
        action(Lookup(&self.map.lock()))
    }

    /// Puts a file under the lowest free number below `limit` (RLIMIT_NOFILE).
    pub fn insert(&self, file: Arc<File>, close_on_exec: bool, limit: u64) -> Result<i32> {
        self.insert_from(0, file, close_on_exec, limit)
    }

    /// As [`FileTable::insert`], at or above `from` (F_DUPFD).
    pub fn insert_from(&self, from: u32, file: Arc<File>, close_on_exec: bool, limit: u64) -> Result<i32> {
        let limit = limit.min(MAX_FDS) as usize;
        let result = self.map.lock().insert(from as usize, limit, close_on_exec, file);
        result.map(|fd| fd as i32).map_err(|(reason, _file)| full(reason))
    }

    /// Takes a number before the file exists, so that open(2) fails with EMFILE before it creates
    /// anything. [`Reserved::fill`] uses it, dropping it gives it back.
    pub fn reserve(&self, close_on_exec: bool, limit: u64) -> Result<Reserved<'_>> {
        let limit = limit.min(MAX_FDS) as usize;
        let fd = self.map.lock().reserve(0, limit, close_on_exec).map_err(full)?;
        Ok(Reserved { table: self, fd, filled: false })
    }

    /// Puts a file under this number (dup2), closing what is there.
    pub fn replace(&self, fd: i32, file: Arc<File>, close_on_exec: bool, limit: u64) -> Result<i32> {
        let number = index(fd)?;
        if number as u64 >= limit.min(MAX_FDS) {
            return Err(Errno::EBADF);
        }
        let result = self.map.lock().replace(number, close_on_exec, file);
        match result {
            Ok(Replaced::Done(Some(old))) => {
                // An error of closing the old file is lost, as dup2(2) says.
                let _ = self.closed(&old);
                Ok(fd)
            }
            Ok(Replaced::Done(None)) => Ok(fd),
            Ok(Replaced::Busy(_)) => Err(Errno::EBUSY),
            Err((reason, _)) => Err(full(reason)),
        }
    }

    /// close(2). The number is free afterwards even when an error is returned.
    pub fn close(&self, fd: i32) -> Result<()> {
        let number = index(fd)?;
        let file = {
            let mut map = self.map.lock();
            if map.get(number).is_none() {
                return Err(Errno::EBADF);
            }
            map.remove(number)
        };
        file.map_or(Err(Errno::EBADF), |file| self.closed(&file))
    }

    /// What every close of a descriptor does besides dropping the file.
    fn closed(&self, file: &Arc<File>) -> Result<()> {
        if file.is_path_only() {
            return Ok(());
        }
        crate::locks::descriptor_closed(self.owner_id(), file);
        crate::dnotify::descriptor_closed(file, self.owner_id());
        file.ops().flush(file)
    }

    /// Who owns POSIX record locks taken through this table.
    pub fn owner_id(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }

    /// close_range(2): closes `first..=last`.
    pub fn close_range(&self, first: u32, last: u32) {
        let mut from = first as usize;
        while let Some(fd) = self.next(from).filter(|fd| *fd <= last as usize) {
            let _ = self.close(fd as i32);
            from = fd + 1;
        }
    }

    /// Sets close-on-exec for `first..=last`.
    pub fn close_range_on_exec(&self, first: u32, last: u32) {
        let mut map = self.map.lock();
        let mut from = first as usize;
        while let Some(fd) = map.next(from).filter(|fd| *fd <= last as usize) {
            map.set_close_on_exec(fd, true);
            from = fd + 1;
        }
    }

    /// execve(2): closes what is marked.
    pub fn close_on_exec(&self) {
        let mut from = 0;
        loop {
            let fd = self.map.lock().next_close_on_exec(from);
            let Some(fd) = fd else { return };
            let _ = self.close(fd as i32);
            from = fd + 1;
        }
    }

    /// exit(2): closes everything.
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX);
    }

    /// Whether the descriptor closes on exec.
    pub fn is_close_on_exec(&self, fd: i32) -> Result<bool> {
        self.map.lock().close_on_exec(index(fd)?).ok_or(Errno::EBADF)
    }

    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()> {
        let number = index(fd)?;
        if self.map.lock().set_close_on_exec(number, on) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// The first open descriptor at or above `from`: to list them without holding the lock.
    pub fn next(&self, from: usize) -> Option<usize> {
        self.map.lock().next(from)
    }

    /// `FDSize` of /proc/PID/status.
    pub fn capacity(&self) -> usize {
        self.map.lock().capacity()
    }

    /// A copy for a child (fork, unshare).
    pub fn duplicate(&self) -> Result<Arc<FileTable>> {
        let mut needed = self.map.lock().slots_needed();
        loop {
            // Memory is taken without the lock; should the table have grown meanwhile, once more.
            let mut copy = FdMap::with_capacity(needed).map_err(full)?;
            let map = self.map.lock();
            let now = map.slots_needed();
            if now <= needed {
                copy.copy_from(&map);
                drop(map);
                return Ok(Arc::new(FileTable { map: SpinLock::new(copy) }));
            }
            needed = now;
        }
    }
}

/// A locked table.
#[derive(Clone, Copy)]
pub struct Lookup<'a>(&'a FdMap<Arc<File>>);

impl<'a> Lookup<'a> {
    /// As [`FileTable::get`].
    #[inline(always)]
    pub fn get(self, fd: i32) -> Option<Arc<File>> {
        self.borrow(fd).cloned()
    }

    #[inline(always)]
    fn borrow(self, fd: i32) -> Option<&'a Arc<File>> {
        self.0.get(usize::try_from(fd).ok()?).filter(|file| !file.is_path_only())
    }

    /// What of `wanted` is ready, NVAL when nothing is open there; `None` when the file has to be asked without the
    /// lock. Counting a reference up and down for each of 100 descriptors, two atomic operations, took as long under
    /// emulation as all the rest of poll(2).
    #[inline(always)]
    pub fn ready_now(self, fd: i32, wanted: PollEvents) -> Option<PollEvents> {
        match self.borrow(fd) {
            Some(file) => file.poll_lockless().map(|ready| ready & (wanted | PollEvents::ALWAYS)),
            None => Some(PollEvents::NVAL),
        }
    }
}

/// A table that dies with files in it closes them (the last thread left).
impl Drop for FileTable {
    fn drop(&mut self) {
        // Also where no file is closed for good this time.
        task::might_sleep();
        self.close_all();
    }
}

/// The highest number any table allows (Linux's fs.nr_open).
pub const MAX_FDS: u64 = 1 << 20;

/// A descriptor number on its way to a file.
pub struct Reserved<'a> {
    table: &'a FileTable,
    fd: usize,
    filled: bool,
}

impl Reserved<'_> {
    /// The number.
    pub fn number(&self) -> i32 {
        self.fd as i32
    }

    /// Gives the number its file.
    pub fn fill(mut self, file: Arc<File>) -> i32 {
        self.filled = true;
        self.table.map.lock().fill(self.fd, file);
        self.fd as i32
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.table.map.lock().remove(self.fd);
        }
    }
}
