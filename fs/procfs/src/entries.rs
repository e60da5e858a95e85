//! The directory of a process or thread: a table of names.

use crate::fds::FdDir;
use crate::links::{self, Place, PlaceLink};
use crate::memory::{self, Areas, MemoryFile, View};
use crate::mounting::{HIDE_FILES, Options};
use crate::namespaces::Namespaces;
use crate::root::{NumberName, number_of};
use crate::texts::{ProcessText, Show, Spec, Store, permitted};
use abi::Errno;
use abi::cap::CAP_SYS_ADMIN;
use abi::errno::Result;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;
use kcore::{Subject, SubjectId, pid, show};
use kernfs::{Asker, Dir, Each, Kind, Meta, NET, Node, TextBuf, roots, written};
use vfs::{Caller, mount};

/// What an entry is.
enum What {
    Tasks,
    Fds { info: bool },
    Namespaces,
    Net,
    Link(Place),
    Areas { sizes: bool },
    Memory(View),
    Text(Spec),
}

impl What {
    fn is_directory(&self) -> bool {
        matches!(self, What::Tasks | What::Fds { .. } | What::Namespaces | What::Net)
    }
}

struct Entry {
    name: &'static str,
    what: What,
    /// In `/proc/PID` only, not in `task/TID`.
    process_only: bool,
}

const fn entry(name: &'static str, what: What) -> Entry {
    Entry { name, what, process_only: false }
}

/// A text for everybody.
const fn open(name: &'static str, show: Show) -> Entry {
    entry(name, What::Text(Spec { mode: 0o444, private: false, show, store: None, changes: None }))
}

/// A text for those who may look into the process.
const fn private(name: &'static str, show: Show) -> Entry {
    entry(name, What::Text(Spec { mode: 0o400, private: true, show, store: None, changes: None }))
}

/// A setting.
const fn setting(name: &'static str, show: Show, store: Store) -> Entry {
    entry(name, What::Text(Spec { mode: 0o644, private: false, show, store: Some(store), changes: None }))
}

/// A text about the mounts that a process sees; poll(2) tells when they change.
const fn mounts(name: &'static str, mode: u32, show: Show) -> Entry {
    let changes = Some(&mount::CHANGES);
    entry(name, What::Text(Spec { mode, private: false, show, store: None, changes }))
}

/// How ids inside a user namespace are those outside: in the only one there is, as they are. It was set for good.
const fn id_map(name: &'static str) -> Entry {
    Entry {
        process_only: true,
        ..setting(
            name,
            |out, _, _| written(writeln!(out, "{:>10} {:>10} {:>10}", 0, 0, u32::MAX)),
            |_, _, _| Err(Errno::EPERM),
        )
    }
}

/// In Linux's order.
static ENTRIES: [Entry; 42] = [
    Entry { name: "task", what: What::Tasks, process_only: true },
    entry("fd", What::Fds { info: false }),
    entry("fdinfo", What::Fds { info: true }),
    entry("ns", What::Namespaces),
    entry("net", What::Net),
    entry("environ", What::Memory(View::Environment)),
    private("auxv", |out, subject, _| memory::auxv(out, subject)),
    open("status", |out, subject, _| show::status(out, subject)),
    private("syscall", |out, subject, _| show::syscall(out, subject)),
    private("personality", |out, subject, _| show::personality(out, subject)),
    open("limits", |out, subject, _| show::limits(out, subject)),
    open("sched", |out, subject, _| sched_text(out, subject)),
    setting(
        "comm",
        |out, subject, _| show::comm(out, subject),
        |subject, text, asker| show::set_comm(subject, asker.tid, text),
    ),
    entry("cmdline", What::Memory(View::Arguments)),
    open("stat", |out, subject, asker| show::stat(out, subject, permitted(subject, asker))),
    open("statm", |out, subject, _| show::statm(out, subject)),
    entry("maps", What::Areas { sizes: false }),
    entry("mem", What::Memory(View::All)),
    entry("cwd", What::Link(links::cwd)),
    entry("root", What::Link(links::root)),
    entry("exe", What::Link(links::exe)),
    mounts("mounts", 0o444, |out, subject, _| written(mount::show_mounts(&links::root(subject)?, out))),
    mounts("mountinfo", 0o444, |out, subject, _| written(mount::show_mountinfo(&links::root(subject)?, out))),
    mounts("mountstats", 0o400, |out, subject, _| {
        written(mount::show_mountstats(&links::root(subject)?, out))
    }),
    entry("smaps", What::Areas { sizes: true }),
    entry(
        "smaps_rollup",
        What::Text(Spec {
            mode: 0o444,
            private: true,
            show: |out, subject, _| memory::rollup(out, subject),
            store: None,
            changes: None,
        }),
    ),
    entry("pagemap", What::Memory(View::Pages)),
    open("wchan", |out, subject, asker| show::wchan(out, subject, permitted(subject, asker))),
    entry("stack", What::Text(Spec { mode: 0o400, private: false, show: stack, store: None, changes: None })),
    open("schedstat", |out, subject, _| schedstat(out, subject)),
    open("oom_score", |out, subject, _| show::oom_score(out, subject)),
    setting(
        "oom_adj",
        |out, subject, _| show::oom_adj(out, subject),
        |subject, text, asker| show::set_oom_adj(subject, &asker.cred, text),
    ),
    setting(
        "oom_score_adj",
        |out, subject, _| show::oom_score_adj(out, subject),
        |subject, text, asker| show::set_oom_score_adj(subject, &asker.cred, text),
    ),
    // The one group that there is: the root of the one hierarchy.
    open("cgroup", |out, _, _| out.bytes(b"0::/\n")),
    private("io", |out, subject, _| show::io(out, subject)),
    id_map("uid_map"),
    id_map("gid_map"),
    id_map("projid_map"),
    Entry {
        process_only: true,
        ..setting("setgroups", |out, _, _| out.bytes(b"allow\n"), |_, _, _| Err(Errno::EPERM))
    },
    Entry {
        process_only: true,
        ..open("timers", |out, subject, _| written(kcore::timers::show(&subject.process, out)))
    },
    Entry {
        process_only: true,
        ..private("timerslack_ns", |out, subject, _| show::timerslack_ns(out, subject))
    },
    entry(
        "ochre_trace",
        What::Text(Spec {
            mode: 0o644,
            private: true,
            show: |out, subject, _| written(writeln!(out, "{}", u32::from(subject.process.is_traced()))),
            store: Some(set_trace),
            changes: None,
        }),
    ),
];

/// sched: what the scheduler knows of it.
fn sched_text(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let thread = subject.thread.as_ref().ok_or(Errno::ESRCH)?;
    let task = thread.task().ok_or(Errno::ESRCH)?;
    let threads = subject.process.thread_count();
    written(::sched::show::task(out, &task, &thread.comm(), subject.number(), threads))
}

/// schedstat: time on a CPU, time waiting for one, turns.
fn schedstat(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    match subject.thread.as_ref().and_then(|thread| thread.task()) {
        Some(task) => written(::sched::show::task_schedstat(out, &task)),
        None => out.bytes(b"0 0 0\n"),
    }
}

/// The strace-like trace into the kernel's log: 1 is on.
fn set_trace(subject: &Subject, text: &[u8], _asker: &Asker) -> Result<()> {
    match text.trim_ascii() {
        b"0" => subject.process.set_traced(false),
        b"1" => subject.process.set_traced(true),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// stack: EACCES without CAP_SYS_ADMIN.
fn stack(out: &mut TextBuf, subject: &Subject, asker: &Asker) -> Result<()> {
    if asker.cred.capable(CAP_SYS_ADMIN) { show::stack(out, subject) } else { Err(Errno::EACCES) }
}

/// `/proc/PID` or `/proc/PID/task/TID`.
pub struct ProcessDir {
    id: SubjectId,
    options: Arc<Options>,
    /// Below `task`.
    of_thread: bool,
}

impl ProcessDir {
    pub fn new(id: SubjectId, options: Arc<Options>) -> ProcessDir {
        ProcessDir { id, options, of_thread: false }
    }

    fn entries(&self) -> impl Iterator<Item = (u64, &'static Entry)> {
        let of_thread = self.of_thread;
        (0..).zip(&ENTRIES).filter(move |(_, entry)| !(of_thread && entry.process_only))
    }

    fn node(&self, what: &What) -> Node {
        let id = self.id;
        match what {
            What::Tasks => Node::Dir(Arc::new(TaskDir { id, options: self.options.clone() })),
            What::Fds { info } => Node::Dir(Arc::new(FdDir { id, info: *info })),
            What::Namespaces => Node::Dir(Arc::new(Namespaces { id })),
            What::Net => Node::Dir(roots::root(&NET)),
            What::Link(place) => Node::Link(Arc::new(PlaceLink { id, place: *place })),
            What::Areas { sizes } => Node::Records(Arc::new(Areas { id, sizes: *sizes })),
            What::Memory(view) => Node::File(Arc::new(MemoryFile { id, view: *view })),
            What::Text(spec) => Node::Text(Arc::new(ProcessText { id, spec: *spec })),
        }
    }
}

impl Meta for ProcessDir {
    fn mode(&self) -> u32 {
        0o555
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(self.id.find().map_or((0, 0), |subject| subject.effective_ids()))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }

    fn permission(&self, _mask: u32, caller: &Caller) -> Option<Result<()>> {
        let subject = self.id.find()?;
        if self.options.shows(HIDE_FILES, &subject, caller.cred, caller.tid) {
            return None;
        }
        Some(Err(if self.options.hides_names() { Errno::ENOENT } else { Errno::EPERM }))
    }
}

impl Dir for ProcessDir {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        if !self.is_alive() {
            return Err(Errno::ENOENT);
        }
        let found = self.entries().find(|(_, entry)| entry.name.as_bytes() == name);
        Ok(found.map(|(_, entry)| self.node(&entry.what)))
    }

    /// The process; a thread's directory below `task` stands for nothing.
    fn object(&self) -> Option<&dyn Any> {
        if self.of_thread { None } else { Some(&self.id) }
    }

    fn directories(&self) -> u32 {
        self.entries().filter(|(_, entry)| entry.what.is_directory()).count() as u32
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        for (number, entry) in self.entries().filter(|(number, _)| *number >= from) {
            let kind = match &entry.what {
                what if what.is_directory() => Kind::Dir,
                What::Link(_) => Kind::Link,
                _ => Kind::File,
            };
            if !each(number, entry.name.as_bytes(), kind) {
                break;
            }
        }
        Ok(())
    }
}

/// `/proc/PID/task`.
struct TaskDir {
    id: SubjectId,
    options: Arc<Options>,
}

impl Meta for TaskDir {
    fn mode(&self) -> u32 {
        0o555
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(self.id.find().map_or((0, 0), |subject| subject.effective_ids()))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }
}

impl Dir for TaskDir {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        let process = self.id.process().ok_or(Errno::ENOENT)?;
        let Some(tid) = number_of(name) else { return Ok(None) };
        let thread = pid::find_thread(tid).filter(|thread| Arc::ptr_eq(thread.process(), &process));
        let id = match thread {
            Some(thread) => SubjectId::of_thread(&thread),
            // A leader that ended first, or a zombie.
            None if tid == process.pid() => SubjectId::of_process(&process),
            None => return Ok(None),
        };
        Ok(Some(Node::Dir(Arc::new(ProcessDir { id, options: self.options.clone(), of_thread: true }))))
    }

    fn directories(&self) -> u32 {
        self.id.process().map_or(0, |process| process.thread_count().max(1) as u32)
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        let process = self.id.process().ok_or(Errno::ENOENT)?;
        let pid = u64::from(process.pid());
        let leads = process.leader().is_some();
        if !leads && from <= pid && !each(pid, NumberName::of(pid).as_bytes(), Kind::Dir) {
            return Ok(());
        }
        let mut next = from.try_into().unwrap_or(u32::MAX);
        loop {
            let (threads, count) = process.threads_from(next);
            if count == 0 {
                return Ok(());
            }
            for thread in threads.into_iter().flatten() {
                let tid = thread.tid();
                if !each(u64::from(tid), NumberName::of(u64::from(tid)).as_bytes(), Kind::Dir) {
                    return Ok(());
                }
                next = tid + 1;
            }
        }
    }
}
