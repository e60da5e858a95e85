//! The lock order of the whole kernel: one list, lowest rank first taken.
//!
//! A task that holds a lock may take only locks of a higher rank. Two locks of one level may be held
//! together only through `lock_nested`, whose caller orders them (by address, or parent before child).
//! `irq` levels are taken by interrupt handlers too, so taking one turns interrupts off.
//! Sleeping locks come first: a spin lock is never held while one is taken.

/// The place of a lock in the order. Implemented by the types that [`levels!`] declares.
pub trait Level: 'static {
    const RANK: u16;
    const NAME: &'static str;
    /// Interrupt handlers take it: interrupts go off with it.
    const IRQ: bool;
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident $rank:literal $($irq:ident)?;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}
            impl Level for $name {
                const RANK: u16 = $rank;
                const NAME: &'static str = stringify!($name);
                const IRQ: bool = levels!(@irq $($irq)?);
            }
        )*
        /// Every level with its rank, for `/proc/lockdep` and the test that ranks ascend.
        pub const ALL: &[(&str, u16)] = &[$((stringify!($name), $rank)),*];
    };
    (@irq irq) => { true };
    (@irq) => { false };
}

levels! {
    // ---- sleeping locks (task::Mutex, task::RwSemaphore) ----
    /// Serialises administrative changes: policy switch, module load.
    Admin 5;
    /// Binding and connecting a socket; held across a path walk.
    Socket 6;
    /// Namespace of mounts.
    MountTree 10;
    /// Rename across directories (Linux's s_vfs_rename_mutex).
    Rename 14;
    /// A file's position (Linux's f_pos_lock): held while the file is read or written.
    FilePosition 18;
    /// A directory's or file's contents (Linux's i_rwsem). Parent before child.
    InodeContents 20;
    /// Copying up in an overlay; the layers' own locks come below it.
    OverlayCopy 22;
    /// The part of a generated file that was made last; held while more is made and copied out.
    KernelText 24;
    /// Process tree, groups and sessions, when a change must sleep.
    ProcessTree 28;
    /// What an epoll instance watches; held while the watched file is polled.
    EpollItems 29;
    /// A pipe's, socket's, terminal's or event object's buffers.
    Terminal 30;
    PipeBuffer 32;
    /// The places of a file's blocks (Linux's invalidate_lock): shared while pages come in from them or become
    /// writable, exclusive while they change. Faults only try it: the holder takes areas' locks to unmap.
    Invalidate 38;
    /// The areas of an address space (Linux's mmap_lock).
    AddressSpace 40;
    /// The thread of a mounted FAT, while it works.
    FatWorker 41;
    /// The thread of a mounted ext4, while it works.
    Ext4Worker 42;
    /// All of a mounted FAT: its table, directories, files in use. Held while metadata is read and written.
    FatVolume 43;
    /// A page-cache folio being filled or written.
    FolioIo 44;
    /// One ext4 inode: its map of blocks and attributes. Held while metadata is read.
    Ext4Node 45;
    /// ext4's log and its list of orphans. Held while they are written.
    Ext4Log 46;
    /// A driver's own sleeping lock.
    Driver 48;
    /// A subsystem's settings that files show and change: the scheduling policy and its knobs.
    Settings 50;

    // ---- spin locks of the Unix objects ----
    /// The tables of all processes, groups and sessions (Linux's tasklist_lock).
    ProcessTable 100;
    /// One process's mutable state (children, credentials, limits).
    Process 104;
    /// Signal handlers and pending signals of a process (Linux's sighand lock).
    Signals 108;
    /// The sigaction table, which processes may share.
    SignalHandlers 110;
    /// Pending signals of one thread.
    ThreadSignals 112;
    /// Descriptor table of a process.
    FileTable 116;
    /// root, cwd, umask.
    FsContext 120;
    /// An open file's flags and owner.
    OpenFile 124;
    /// Record locks of an inode.
    FileLocks 128;
    /// Superblock lists, file-system type table, mount hash.
    SuperBlock 132;
    /// A dentry's children and name.
    Dentry 136;
    /// The dentry hash bucket and LRU.
    DentryHash 140;
    /// FAT's short locks: inodes in use, files that nobody uses any more.
    Fat 142;
    /// The inodes in use of a mounted ISO 9660.
    Iso 143;
    /// An inode's metadata.
    Inode 144;
    /// ext4's short locks: block groups, the running transaction, the cache of metadata.
    Ext4 145;
    /// The bytes of one ext4 metadata block.
    Ext4Block 146;
    /// 9P's short locks: inodes in use, identities that nobody uses any more.
    P9 147;
    /// A mapping's tree of folios (Linux's i_pages lock).
    PageCache 148;
    /// A CPU's pages on their way to the replacement policy.
    LruBatch 149;
    /// The pages that the replacement policy knows.
    Lru 150;
    /// Futex hash bucket.
    Futex 152;
    /// All futexes with priority inheritance that somebody waits for.
    PiFutex 153;
    /// The identifiers of a kind of System V objects.
    SysvTable 154;
    /// One System V object.
    SysvObject 155;
    /// The directory of POSIX message queues, and what new ones are to hold.
    MessageQueues 156;
    /// One POSIX message queue.
    MessageQueue 157;
    /// A user page table (Linux's page_table_lock).
    PageTable 160;
    /// Swap areas and their slots.
    Swap 165;
    /// Device and driver tables.
    DeviceTable 170;
    /// A terminal's line discipline and job control. Output goes out under it.
    TerminalLine 180;
    /// The watch descriptors of an inotify instance.
    WatchTable 184;
    /// The marks of an inode; held while their watchers are told.
    Watches 186;
    /// What adjtimex(2) has set.
    TimeDiscipline 188;
    /// Anything short that takes no other lock of this range.
    Leaf 190;

    // ---- taken by interrupt handlers ----
    /// The handlers of interrupt lines; held while they run.
    IrqTable 192 irq;
    /// A hardware queue of a disk: requests on their way to the driver and under way.
    BlockDispatch 194 irq;
    /// Requests that wait: software queues, the I/O scheduler, the flush machine.
    BlockQueue 196 irq;
    /// A disk's free requests; bios that wait for the completion thread.
    BlockPool 198 irq;
    /// The list of a wait queue.
    WaitQueue 200 irq;
    /// An epoll instance's ready list: filled by wake-up callbacks, under the wait queue's lock.
    EventPoll 202 irq;
    /// A device driver's state shared with its interrupt handler.
    DriverIrq 204 irq;
    /// A terminal's input queue, filled by the interrupt handler.
    TerminalInput 208 irq;
    /// Timer bases.
    Timer 212 irq;
    /// A task's own state, taken before its run queue (Linux's pi_lock).
    TaskState 220 irq;
    /// Run queue of a CPU. Two at once by ascending CPU number.
    RunQueue 224 irq;
    /// The numbers of tasks: the last reference to a task may go in an interrupt handler.
    TaskIds 226 irq;
    /// Clock and timekeeping.
    TimeKeeper 228 irq;
    /// Cross-CPU call queue.
    CrossCall 232 irq;
    /// Slab caches and their node lists.
    Slab 240 irq;
    /// vmalloc areas and kernel page tables.
    Vmalloc 244 irq;
    /// Buddy zones.
    Zone 250 irq;
    /// The printk ring.
    Log 254 irq;
    /// The console hardware.
    Console 255 irq;
}
