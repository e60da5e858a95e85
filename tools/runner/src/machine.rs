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

    /// Root file system: `busybox`, in memory; `debian[:PACKAGE,...]`, a disk with Debian and these packages; or an ext4
    /// image. Disks keep what is written
    #[arg(long, value_name = "busybox|debian[:PACKAGE,...]|FILE", default_value = "busybox")]
    pub root: Root,

    /// Forget what is written to disks when the machine ends
    #[arg(long)]
    pub snapshot: bool,

    /// Attach a disk image, /dev/vda and so on in order; `,snapshot` leaves the file as it is. A name with a colon is a
    /// protocol of QEMU's (blkdebug:CONFIG:FILE). May be repeated
    #[arg(long, value_name = "FILE[,snapshot]")]
    pub drive: Vec<Drive>,

    /// Share a directory of the host's with the guest, at /mnt/share, the next ones at /mnt/share1 and so on; `,readonly`
    /// keeps the guest from changing it. May be repeated
    #[arg(long, value_name = "DIR[,readonly]")]
    pub share: Vec<Share>,

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
            // What the guest discards becomes holes in the file.
            format!("if=none,id=drive{number},format=raw,discard=unmap,file={file}{snapshot}"),
            "-device".into(),
            format!("{device},drive=drive{number},serial=drive{number}"),
        ]
    }
}

/// A directory of the host's for the guest, by virtio-9p.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The directory.
    pub dir: PathBuf,
    /// Whether the guest may not change it.
    pub read_only: bool,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let (dir, read_only) = match text.strip_suffix(",readonly") {
            Some(dir) => (dir, true),
            None => (text, false),
        };
        if Path::new(dir).is_dir() {
            Ok(Share { dir: dir.into(), read_only })
        } else {
            Err(format!("{dir} is no directory"))
        }
    }
}

impl Share {
    /// The arguments that attach it as share number `number` of a machine whose virtio devices end in `bus`. The
    /// guest's program `init` knows the tags: share, share1 and so on.
    pub fn arguments(&self, number: usize, bus: &str) -> [String; 4] {
        let dir = self.dir.display().to_string().replace(',', ",,");
        let access = if self.read_only { ",readonly=on" } else { "" };
        let tag = if number == 0 { "share".to_owned() } else { format!("share{number}") };
        // Below one directory there may be several devices, whose inode numbers must not meet.
        [
            "-fsdev".into(),
            format!("local,id=share{number},path={dir},security_model=none,multidevs=remap{access}"),
            "-device".into(),
            format!("virtio-9p-{bus},fsdev=share{number},mount_tag={tag}"),
        ]
    }
}

/// What the guest's root file system is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Root {
    /// BusyBox in an initramfs.
    #[default]
    Busybox,
    /// Debian on a disk, with these packages besides those that every system has.
    Debian(Vec<String>),
    /// Whatever is on this disk.
    Image(PathBuf),
}

impl FromStr for Root {
    type Err = String;

    fn from_str(text: &str) -> Result<Root, String> {
        let (name, packages) = text.split_once(':').unwrap_or((text, ""));
        let is_package = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        match name {
            "busybox" if name == text => Ok(Root::Busybox),
            "debian" => {
                let mut packages: Vec<&str> = packages.split(',').filter(|name| !name.is_empty()).collect();
                packages.sort_unstable();
                packages.dedup();
                match packages.iter().find(|name| !is_package(name)) {
                    Some(name) => Err(format!("{name} is no name of a package")),
                    None => Ok(Root::Debian(packages.into_iter().map(str::to_owned).collect())),
                }
            }
            _ if Path::new(text).is_file() => Ok(Root::Image(text.into())),
            _ => Err(format!("{text} is neither busybox, nor debian, nor a file")),
        }
    }
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
            snapshot: false,
            drive: Vec::new(),
            share: Vec::new(),
            busybox: None,
            gdb: false,
            debug: false,
            release: false,
            kernel: None,
            qemu: None,
        }
    }

    /// The same machine with `disk` as its first one, from which it takes its root.
    pub fn with_root_disk(&self, disk: &Path) -> Self {
        let mut machine = self.clone();
        machine.drive.insert(0, Drive { file: disk.to_string_lossy().into_owned(), snapshot: false });
        machine.append.insert(0, "root=/dev/vda rw".into());
        machine
    }

    /// How long the first user program may take to appear. Generous: emulation on a loaded host is slow.
    pub fn boot_limit(&self) -> Duration {
        if self.gdb { Duration::from_secs(24 * 3600) } else { Duration::from_secs(120) }
    }

    /// How long switching off may take: what is written back to disks first may be much.
    pub fn end_limit(&self) -> Duration {
        Duration::from_secs(if self.drive.is_empty() { 5 } else { 300 })
    }

    /// The kernel's command line: what the runner needs, then what was asked for.
    pub fn command_line(&self) -> String {
        // A panic restarts at once, which -no-reboot turns into the end of QEMU.
        let own = ["console=ttyS0", "panic=-1"];
        own.into_iter().chain(self.append.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }
}
