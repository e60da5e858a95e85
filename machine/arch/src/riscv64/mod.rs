//! RISC-V, 64 bits: QEMU's virt machine and its like, in supervisor mode on an SBI firmware (OpenSBI).
//!
//! **Reading order.** [`boot`] (from the firmware to `ochre_main`), `fdt` (the device tree), [`cpu`] (what
//! `tp` points to), `entry` (the assembly of all traps) with [`user`] and `trap` (their Rust halves),
//! [`irq`] (masking that costs no CSR), then the devices: `plic`, [`timer`], [`rtc`].
//!
//! **Registers.** In the kernel `tp` is this CPU's [`cpu::Local`]; `gp` and the floating-point and vector
//! registers are the user's and never touched; `sscratch` is not used (see `entry`).

pub mod backtrace;
pub mod boot;
pub mod console;
pub mod context;
pub mod cpu;
mod csr;
pub mod debug;
mod entry;
mod fdt;
mod fpu;
pub mod io;
pub mod irq;
pub mod memory;
pub mod mmu;
pub mod platform;
mod plic;
pub mod power;
pub mod rtc;
mod sbi;
pub mod signal;
pub mod smp;
pub mod timer;
mod trap;
pub mod uaccess;
pub mod user;
