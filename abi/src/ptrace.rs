//! ptrace(2): requests, options, events.

pub const PTRACE_TRACEME: usize = 0;
pub const PTRACE_PEEKTEXT: usize = 1;
pub const PTRACE_PEEKDATA: usize = 2;
pub const PTRACE_PEEKUSR: usize = 3;
pub const PTRACE_POKETEXT: usize = 4;
pub const PTRACE_POKEDATA: usize = 5;
pub const PTRACE_POKEUSR: usize = 6;
pub const PTRACE_CONT: usize = 7;
pub const PTRACE_KILL: usize = 8;
pub const PTRACE_SINGLESTEP: usize = 9;
pub const PTRACE_GETREGS: usize = 12;
pub const PTRACE_SETREGS: usize = 13;
pub const PTRACE_GETFPREGS: usize = 14;
pub const PTRACE_SETFPREGS: usize = 15;
pub const PTRACE_ATTACH: usize = 16;
pub const PTRACE_DETACH: usize = 17;
pub const PTRACE_SYSCALL: usize = 24;
pub const PTRACE_SETOPTIONS: usize = 0x4200;
pub const PTRACE_GETEVENTMSG: usize = 0x4201;
pub const PTRACE_GETSIGINFO: usize = 0x4202;
pub const PTRACE_SETSIGINFO: usize = 0x4203;
pub const PTRACE_GETREGSET: usize = 0x4204;
pub const PTRACE_SETREGSET: usize = 0x4205;
pub const PTRACE_SEIZE: usize = 0x4206;
pub const PTRACE_INTERRUPT: usize = 0x4207;
pub const PTRACE_LISTEN: usize = 0x4208;
pub const PTRACE_GETSIGMASK: usize = 0x420a;
pub const PTRACE_SETSIGMASK: usize = 0x420b;
pub const PTRACE_GET_SYSCALL_INFO: usize = 0x420e;

pub const PTRACE_O_TRACESYSGOOD: u32 = 1;
pub const PTRACE_O_TRACEFORK: u32 = 1 << PTRACE_EVENT_FORK;
pub const PTRACE_O_TRACEVFORK: u32 = 1 << PTRACE_EVENT_VFORK;
pub const PTRACE_O_TRACECLONE: u32 = 1 << PTRACE_EVENT_CLONE;
pub const PTRACE_O_TRACEEXEC: u32 = 1 << PTRACE_EVENT_EXEC;
pub const PTRACE_O_TRACEVFORKDONE: u32 = 1 << PTRACE_EVENT_VFORK_DONE;
pub const PTRACE_O_TRACEEXIT: u32 = 1 << PTRACE_EVENT_EXIT;
pub const PTRACE_O_EXITKILL: u32 = 1 << 20;

pub const PTRACE_EVENT_FORK: u32 = 1;
pub const PTRACE_EVENT_VFORK: u32 = 2;
pub const PTRACE_EVENT_CLONE: u32 = 3;
pub const PTRACE_EVENT_EXEC: u32 = 4;
pub const PTRACE_EVENT_VFORK_DONE: u32 = 5;
pub const PTRACE_EVENT_EXIT: u32 = 6;
pub const PTRACE_EVENT_STOP: u32 = 128;

/// The sets of PTRACE_GETREGSET (notes of core files).
pub const NT_PRSTATUS: usize = 1;
pub const NT_PRFPREG: usize = 2;
pub const NT_X86_XSTATE: usize = 0x202;

pub const PTRACE_SYSCALL_INFO_NONE: u8 = 0;
pub const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;
pub const PTRACE_SYSCALL_INFO_EXIT: u8 = 2;

crate::abi_struct! {
    /// `struct ptrace_syscall_info` of an entry; an exit uses the first words of `words` for value and error flag.
    pub struct SyscallInfo = 88 {
        pub op: u8,
        pub pad: u8,
        pub pad2: u16,
        pub arch: u32,
        pub pc: u64,
        pub sp: u64,
        pub nr: u64,
        pub arg0: u64,
        pub arg1: u64,
        pub arg2: u64,
        pub arg3: u64,
        pub arg4: u64,
        pub arg5: u64,
        pub reserved: u64,
    }
}

/// `AUDIT_ARCH_*` of this architecture: machine number of ELF, 64 bits, little endian.
#[cfg(target_arch = "x86_64")]
pub const AUDIT_ARCH: u32 = 62 | 0xc000_0000;
#[cfg(not(target_arch = "x86_64"))]
pub const AUDIT_ARCH: u32 = 243 | 0xc000_0000;

/// Whether the architecture has the old requests for whole register sets (PTRACE_GETREGS).
pub const HAS_GETREGS: bool = cfg!(target_arch = "x86_64");
