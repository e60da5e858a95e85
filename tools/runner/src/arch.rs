//! The architectures, and what is called differently on each.

use clap::ValueEnum;

/// An architecture that the kernel runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Arch {
    /// RISC-V, 64 bits, QEMU's `virt` machine.
    #[default]
    Riscv64,
    /// x86-64, QEMU's `q35` or `microvm` machine.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
}

impl Arch {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Riscv64, Self::X86_64];

    /// The name that commands and directories use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Rust's bare target.
    pub fn target(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64gc-unknown-none-elf",
            Self::X86_64 => "x86_64-unknown-none",
        }
    }

    /// The code model of position-independent code.
    pub fn pic_code_model(self) -> &'static str {
        match self {
            Self::Riscv64 => "medium",
            Self::X86_64 => "small",
        }
    }

    /// The emulator.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::Riscv64 => "qemu-system-riscv64",
            Self::X86_64 => "qemu-system-x86_64",
        }
    }

    /// Debian's name for the architecture.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::X86_64 => "amd64",
        }
    }

    /// Debian packages with the emulator and its firmware, the first that exists of each list.
    pub fn qemu_packages(self) -> &'static [&'static [&'static str]] {
        match self {
            // Newer releases split the RISC-V emulator from the others.
            Self::Riscv64 => &[&["qemu-system-riscv", "qemu-system-misc"], &["opensbi"]],
            Self::X86_64 => &[&["qemu-system-x86"], &["seabios"]],
        }
    }

    /// Whether this is the host's own architecture, so that its programs and KVM run natively.
    pub fn is_host(self) -> bool {
        std::env::consts::ARCH == self.name()
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
