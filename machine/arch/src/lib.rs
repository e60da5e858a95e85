//! The architecture layer: all assembly and every `cfg(target_arch)` of the kernel.
//!
//! **Problem.** The kernel above must not know whether it runs on RISC-V or x86-64.
//!
//! **Interface.** Each architecture folder supplies modules of the same names with the items listed
//! below; this file picks one and re-exports it. The layer calls nobody upward: a trap from user mode
//! is the return value of [`user::UserContext::run`], and what happens in kernel mode (interrupts,
//! faults in user copies, oopses) goes through the function table in [`hooks`], installed once at boot.
//!
//! **Contract** (both architectures, identical signatures):
//!
//! | module | items |
//! |---|---|
//! | `boot` | `_start` (assembly): early page table (direct map of at least the first 4 GiB of RAM, kernel image), boot stack, bss cleared, then `extern "Rust" fn ochre_main(&'static BootInfo) -> !` on CPU 0 with interrupts off. The root it leaves active holds, besides, whatever device registers the architecture itself needs early, above `KERNEL_BASE`; a final kernel table keeps those entries or is built by changing this one |
//! | `debug` | hardware breakpoints of the current thread, for a tracer: `DebugRegs` (`COUNT` registers, `get`, `set`), `current()`, `set_current(&DebugRegs)` |
//! | `cpu` | `id() -> usize`, `count() -> usize` (CPUs that firmware describes, at most [`MAX_CPUS`]; known before `ochre_main`), `relax()`, `init_local(cpu)`, preemption word: `preempt_count() -> u32`, `preempt_count_add(u32)`, `preempt_count_sub(u32) -> u32` (new value), `need_resched() -> bool`, `set_need_resched(bool)` (this CPU), `current() -> *const ()`, `set_current(*const ())`, `describe(cpu, &mut dyn fmt::Write)` (one /proc/cpuinfo stanza), `stack_canary_seed() -> u64` entropy |
//! | `irq` | `disable() -> Flags`, `restore(Flags)`, `enable()`, `is_enabled() -> bool`, `idle_wait()` (called with interrupts off: sleeps until one is pending, lets it run, returns with interrupts off), `unmask(line)`, `mask(line)`, `lines() -> u32`, `chip_name(line) -> &'static str`, `alloc_msi(cpu) -> Option<Msi>` (a line of its own for a device that signals by messages, delivered to that CPU; `None` where the machine has no such controller) |
//! | `smp` | `start(cpu, stack_top: VirtAddr) -> Result<(), ()>` (the new CPU calls `hooks().secondary_main(cpu)`), `send_ipi(CpuMask, Ipi)` |
//! | `timer` | `now_ns() -> u64` monotonic since boot, `set_deadline_ns(u64)` (absolute, this CPU, one shot), `disarm()`, `init_local()`, `vdso_clock() -> VdsoClock` (counter to ns parameters), `frequency_hz() -> u64` |
//! | `rtc` | `read_unix_s() -> Option<u64>` |
//! | `mmu` | `Pte` (see [`paging`]), `levels() -> usize`, `USER_TOP: usize` / `user_top() -> usize` (exclusive), `asid_bits() -> u32`, `unsafe activate(root: PhysAddr, asid: u16)`, `active_root() -> PhysAddr`, `flush_page(va, asid)`, `flush_asid(asid)`, `FLUSH_PAGES_MAX` (above so many pages the latter is cheaper), `flush_all()` (this CPU incl. global), `flush_kernel_range_all_cpus(start, len)`, `shootdown(CpuMask, asid, start, len)` (other CPUs; returns when done; callable with interrupts on or off) |
//! | `context` | `TaskState` (kernel registers, FPU/vector state, TLS bases), `TaskState::new(stack_top, entry: extern "C" fn(usize) -> !, arg: usize)`, `unsafe switch(prev: *mut TaskState, next: *mut TaskState)`, `TaskState::fork_user(&mut self)` (copies the *current* task's FPU and TLS state into self), `reset_user()` (exec: FPU initial, TLS 0, current task), `saved_frame(&self) -> (usize, usize)` (frame pointer and pc of a task that is switched out) |
//! | `user` | `UserContext` (Clone; general registers, pc, sp, status), `UserContext::new(pc, sp)`, `run(&mut self) -> Trap` (see [`trap`]; called with interrupts on or off (the caller looks for pending work with them off), returns with them on), accessors `pc/set_pc/sp/set_sp/syscall_nr/syscall_args() -> [usize; 6]/set_return(isize)/return_value()/set_tls(usize)/rewind_syscall(nr)` (makes the thread execute the system call `nr` again with its original first argument), `ptrace_regs() -> [u64; PTRACE_WORDS]` and `set_ptrace_regs` (`struct user_regs_struct`, by the thread itself), `set_single_step(bool) -> bool` (whether there is such a thing), `show_call_entry()` |
//! | `signal` | `setup_frame(..)`, `restore_frame(..)` : the rt_sigframe of Linux on this architecture, see [`sigframe`]; `TRAMPOLINE: &[u8]` code of rt_sigreturn for the vDSO page; for debuggers, of the current thread: `float_regs() -> Vec<u8>` (NT_PRFPREG), `set_float_regs(&[u8])`, `extended_regs() -> Vec<u8>` (NT_X86_XSTATE; empty: none), `set_extended_regs(&[u8])` |
//! | `uaccess` | `unsafe copy_from_user(dst: *mut u8, src: usize, len) -> usize` (bytes NOT copied), `unsafe copy_to_user(dst: usize, src: *const u8, len) -> usize`, `clear_user(dst: usize, len) -> usize`, `load_u32(usize) -> Result<u32, Fault>`, `store_u32`, `cmpxchg_u32(addr, old, new) -> Result<u32, Fault>` (previous value), `load_u8`, `load_u64`, `store_u64`. They check the range against `USER_TOP`. A fault calls `hooks().uaccess_fault` when preemption is on (may sleep) and retries, else (or when that fails) the exception table ends the copy |
//! | `io` | `IoRegion`: `read8/16/32/write8/16/32(offset)`, `window(offset, len)`, MMIO or port I/O; made by `platform` or `unsafe IoRegion::mmio(VirtAddr, len)` |
//! | `console` | `early_write(&[u8])` polled, any context, before everything; `early_init(&BootInfo)` |
//! | `platform` | `uart() -> Option<UartInfo>`, `virtio_mmio() -> impl Iterator<Item = VirtioMmio>`, `pci_host() -> Option<PciHost>` (types in [`devices`]), `pci_line(device, pin) -> Option<u32>` (the line of an INTx pin, 1 to 4, of a device on the root bus), `machine_name() -> &str`, `init(&BootInfo)` (parses device tree / ACPI, maps device registers through the direct map or `hooks().ioremap`) |
//! | `power` | `off() -> !`, `reboot() -> !`, `halt() -> !` |
//! | `backtrace` | `walk(fp: usize, pc: usize, &mut dyn FnMut(usize) -> bool)` over kernel frame pointers, bounds-checked against the stack; `here() -> (usize, usize)` |
//!
//! **Idea.** Constants of the address-space layout are the same on both, inside the highest 256 GiB, so
//! that they hold for Sv39, Sv48, Sv57 and 4-level x86-64 alike (see [`layout`]).

#![no_std]

extern crate alloc;

pub mod addr;
pub mod bootinfo;
pub mod devices;
pub mod hooks;
pub mod layout;
pub mod paging;
pub mod sigframe;
pub mod symbols;
pub mod trap;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};
pub use bootinfo::{BootInfo, MemKind, MemRegion};
pub use devices::{Msi, PciHost, UartInfo, VirtioMmio};
pub use hooks::{Access, Fault, Hooks, Ipi, KernelFault, hooks, install_hooks};
pub use trap::{Exception, Trap};

#[cfg(target_arch = "riscv64")]
#[path = "riscv64/mod.rs"]
mod imp;

#[cfg(target_arch = "x86_64")]
#[path = "x86_64/mod.rs"]
mod imp;

pub use imp::{
    backtrace, boot, console, context, cpu, debug, io, irq, memory, mmu, platform, power, rtc, signal, smp,
    timer, uaccess, user,
};

/// The most CPUs one kernel runs. A limit of the machine layer (CPU masks are one word), not a table
/// that programs fill.
pub const MAX_CPUS: usize = 64;

/// A set of CPUs by logical number; bit `n` is CPU `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuMask(pub u64);

impl CpuMask {
    pub const NONE: CpuMask = CpuMask(0);

    pub const fn one(cpu: usize) -> CpuMask {
        CpuMask(1 << cpu)
    }

    /// The first `n` CPUs.
    pub const fn first(n: usize) -> CpuMask {
        CpuMask(if n >= 64 { u64::MAX } else { (1 << n) - 1 })
    }

    pub const fn contains(self, cpu: usize) -> bool {
        cpu < MAX_CPUS && self.0 & (1 << cpu) != 0
    }

    pub const fn without(self, cpu: usize) -> CpuMask {
        CpuMask(self.0 & !(1 << cpu))
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The CPUs of the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let cpu = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(cpu)
        })
    }
}
