//! x86-64: QEMU q35 and microvm, Firecracker and the like, loaded through the PVH entry.
//!
//! **Reading order.** [`boot`] (32-bit entry to long mode), `pvh` (what the loader said), [`cpu`] and
//! `desc` (per-CPU area, descriptor tables), `entry` (all stubs of traps and system calls), [`user`] and
//! `traps` (their Rust halves), then the devices: `acpi`, `mptable`, `apic`, `ioapic`, [`timer`].

mod acpi;
mod apic;
pub mod backtrace;
pub mod boot;
pub mod console;
pub mod context;
pub mod cpu;
mod cpuid;
pub mod debug;
mod desc;
mod entry;
mod fpu;
pub mod io;
mod ioapic;
pub mod irq;
pub mod memory;
pub mod mmu;
mod mptable;
mod percpu;
pub mod platform;
pub mod power;
mod pvh;
mod reg;
pub mod rtc;
pub mod signal;
pub mod smp;
pub mod timer;
mod traps;
pub mod uaccess;
pub mod user;
