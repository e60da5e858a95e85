//! The types of faults, and the file that takes their names.

use abi::Errno;
use abi::errno::Result;
use core::fmt::Write;
use core::hint::black_box;
use kernfs::TextBuf;
use klog::pr_info;
use sync::SpinLock;
use sync::levels::{Inode, PageTable};

type Break = fn();

const TYPES: &[(&str, Break)] = &[
    ("PANIC", panic_in_interrupt_context),
    ("BUG", bug),
    ("EXCEPTION", mem::provoke::null_write),
    ("EXHAUST_STACK", exhaust_stack),
    ("WRITE_AFTER_FREE", mem::provoke::write_after_free),
    ("SLAB_LINEAR_OVERFLOW", mem::provoke::write_past_end),
    ("SLAB_FREE_DOUBLE", mem::provoke::free_twice),
    ("SLEEP_IN_ATOMIC", sleep_in_atomic),
    ("LOCK_ORDER", lock_order),
    ("PREEMPT_LEAK", preempt_leak),
];

/// Makes the file.
pub fn init() {
    let show = |out: &mut TextBuf| {
        writeln!(out, "Available crash types:")?;
        TYPES.iter().try_for_each(|(name, _)| writeln!(out, "{name}"))
    };
    kernfs::DEBUG.add("provoke-crash/DIRECT", kernfs::knob(0o644, show, provoke));
}

fn provoke(name: &str) -> Result<()> {
    let (name, broken) = TYPES.iter().find(|(known, _)| *known == name).ok_or(Errno::EINVAL)?;
    pr_info!("lkdtm: Performing direct entry {name}");
    broken();
    Ok(())
}

/// Where nobody can be given up.
fn panic_in_interrupt_context() {
    let _off = sync::preempt_off();
    panic!("dumptest");
}

fn bug() {
    panic!("dumptest in process context");
}

fn exhaust_stack() {
    fn deeper(depth: usize) -> usize {
        let frame = black_box([depth as u8; 512]);
        if depth == 0 { 0 } else { deeper(depth - 1) + usize::from(frame[depth % 512]) }
    }
    pr_info!("lkdtm: {}", deeper(black_box(1 << 20)));
}

fn sleep_in_atomic() {
    let _off = sync::preempt_off();
    task::sleep_for_ns(1000);
}

fn lock_order() {
    static INNER: SpinLock<(), PageTable> = SpinLock::new(());
    static OUTER: SpinLock<(), Inode> = SpinLock::new(());
    let _inner = INNER.lock();
    let _outer = OUTER.lock();
}

/// A lock that is still held when the system call returns.
fn preempt_leak() {
    core::mem::forget(sync::preempt_off());
}
