//! The Unix knot: threads, processes, signals, programs.
//!
//! **Problem.** A scheduled task becomes a Linux thread: it has a number, a parent, credentials, open
//! files, memory; it gets signals, waits for children, runs programs, and ends.
//!
//! **Interface.**
//!
//! | item | meaning |
//! |---|---|
//! | [`Ctx`] | who makes a system call: thread, process, user registers, and by methods its files, directories, credentials, memory. Handed down; deep code has no "current" |
//! | [`Thread`], [`Process`] | what is scheduled, and the group of threads that shares a pid |
//! | [`Group`], [`Session`], [`Terminal`] | job control; the terminal is a trait that `kernel/tty` implements |
//! | [`pid`] | numbers: who has which, the tree of processes, iteration for /proc |
//! | [`signal`] | sending, blocking, delivering, stopping |
//! | [`clone`], [`exec`], [`exit`], [`wait`] | the life of a process |
//! | [`timerfd`], [`signalfd`], [`pidfd`] | timers, signals and processes as descriptors |
//! | [`sigio`] | signals about files |
//! | [`Subject`], [`show`], [`access`] | what a directory of /proc is about, its texts, and who may read them |
//! | [`futex`], [`timers`], [`rlimit`], [`usage`], [`creds`], [`oom`] | what their names say |
//! | [`park`] | the lab: taking a thread off the CPU by hand |
//! | [`user`] | the loop in which each user thread lives; [`user::install_calls`] gives it the system calls |
//!
//! **Idea.** A trap is a return value: a user thread runs `loop { match user.run() { .. } ; deliver }`
//! ([`user`]). What only the thread itself changes lies on its own stack ([`Ctx`]'s private part), so a
//! system call reaches its files and credentials without a lock or a reference count; copies for other
//! threads' eyes are in [`Thread`] under a lock. Who belongs to whom (parent, group, session) is guarded
//! by one table lock ([`pid`]); everything about signals of a process by one lock of that process.
//!
//! Lock order: `ProcessTable` > `Process` > `Signals` > `SignalHandlers`, `ThreadSignals`. None of them
//! is taken by interrupt handlers: signals are sent from process context (timers call back in threads).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod clone;
pub mod creds;
mod ctx;
pub mod exec;
pub mod exit;
pub mod first;
pub mod futex;
pub mod inotify;
pub mod jobs;
pub mod kthread;
pub mod oom;
pub mod park;
pub mod pid;
pub mod pidfd;
pub mod prctl;
mod process;
pub mod ptrace;
pub mod rlimit;
pub mod rseq;
pub mod show;
pub mod sigio;
pub mod signal;
pub mod signalfd;
mod subject;
pub mod syslog;
pub mod sysrq;
pub mod sysv;
mod thread;
pub mod timerfd;
pub mod timers;
pub mod usage;
pub mod user;
pub mod usermem;
pub mod uts;
pub mod wait;

pub use abi::process::Pid;
pub use ctx::{Ctx, Restart};
pub use jobs::{Group, Session, Terminal, is_orphaned};
pub use process::{Process, ProcessState};
pub use signal::SigSet;
pub use subject::{Subject, SubjectId};
pub use thread::{Thread, work};

/// `abi::Result`, the result of everything that can fail with an errno.
pub use abi::errno::Result;
