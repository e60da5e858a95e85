//! The machine that a person asks for, as command-line options.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::arch::Arch;

/// How the guest's instructions are executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Accel {
    /// KVM when a trial start of it works, emulation otherwise.
    #[default]
    Auto,
    /// QEMU's emulation.
    Tcg,
    /// The host's virtualisation.
    Kvm,
}

/// Which PC is emulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Board {
    /// A PC with PCI Express and ACPI.
    #[default]
    Q35,
    /// The smallest PC there is.
    Microvm,
}

/// Options about the machine, shared by the commands that start one.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Architecture
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,

    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub smp: u32,

    /// Memory, as QEMU writes it: 64M, 1G ...
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub mem: String,

    /// x86_64: which PC
    #[arg(long = "machine", value_enum, default_value_t)]
    pub board: Board,

    /// How instructions are executed
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,

    /// Arguments for the kernel, after the runner's own. May be repeated
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Root file system; so far there is one
    #[arg(long, value_enum, default_value_t)]
    pub root: Root,

    /// Attach a disk image, /dev/vda and so on in order; `,snapshot` leaves the file as it is. A name with a colon is a
    /// protocol of QEMU's (blkdebug:CONFIG:FILE). May be repeated
    #[arg(long, value_name = "FILE[,snapshot]")]
    pub drive: Vec<Drive>,

    /// A static BusyBox to use instead of Debian's
    #[arg(long, value_name = "FILE")]
    pub busybox: Option<PathBuf>,

    /// Wait for gdb before the first instruction, and say how to attach it
    #[arg(long)]
    pub gdb: bool,

    /// Build the kernel with debug checks (lock order, poisoning) and little optimisation
    #[arg(long, conflicts_with = "release")]
    pub debug: bool,

    /// Build the kernel optimised (the default)
    #[arg(long)]
    pub release: bool,

    /// A kernel image to boot instead of Ochre; `linux` is Debian's
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// More arguments for QEMU, separated by spaces
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    pub qemu: Option<String>,
}

/// A raw disk image to attach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drive {
    /// The file, or a protocol of QEMU's.
    pub file: String,
    /// Whether writes are forgotten.
    pub snapshot: bool,
}

impl FromStr for Drive {
    type Err = String;

    fn from_str(text: &str) -> Result<Drive, String> {
        let (file, snapshot) = match text.strip_suffix(",snapshot") {
            Some(file) => (file, true),
            None => (text, false),
        };
        let is_protocol = file.contains(':');
        if !is_protocol && !Path::new(file).is_file() {
            return Err(format!("{file} is no file"));
        }
        Ok(Drive { file: file.to_owned(), snapshot })
    }
}

impl Drive {
    /// The arguments that attach it as disk number `number` of a machine whose virtio devices are `device`.
    pub fn arguments(&self, number: usize, device: &str) -> [String; 4] {
        // A comma in a name is written twice.
        let file = self.file.replace(',', ",,");
        let snapshot = if self.snapshot { ",snapshot=on" } else { "" };
        [
            "-drive".into(),
            format!("if=none,id=drive{number},format=raw,file={file}{snapshot}"),
            "-device".into(),
            format!("{device},drive=drive{number},serial=drive{number}"),
        ]
    }
}

/// What the guest's root file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Root {
    /// BusyBox in an initramfs.
    #[default]
    Busybox,
}

impl Machine {
    /// The machine one gets without options.
    pub fn new(arch: Arch) -> Self {
        Self {
            arch,
            smp: 2,
            mem: "256M".into(),
            board: Board::default(),
            accel: Accel::default(),
            append: Vec::new(),
            root: Root::default(),
            drive: Vec::new(),
            busybox: None,
            gdb: false,
            debug: false,
            release: false,
            kernel: None,
            qemu: None,
        }
    }

    /// How long the first user program may take to appear. Generous: emulation on a loaded host is slow.
    pub fn boot_limit(&self) -> Duration {
        if self.gdb { Duration::from_secs(24 * 3600) } else { Duration::from_secs(120) }
    }

    /// The kernel's command line: what the runner needs, then what was asked for.
    pub fn command_line(&self) -> String {
        // A panic restarts at once, which -no-reboot turns into the end of QEMU.
        let own = ["console=ttyS0", "panic=-1"];
        own.into_iter().chain(self.append.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }
}
