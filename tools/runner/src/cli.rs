//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::arch::Arch;
use crate::machine::Machine;

const EXAMPLES: &str = "\
Examples:
  cargo run                                      a shell on riscv64; Ctrl-A X leaves
  cargo run -- --arch x86_64 --smp 4             the same on x86_64 with 4 CPUs
  cargo run -- exec -- uname -a                  one program; its output, its exit status
  echo hello | cargo run -- exec -- tr a-z A-Z   with stdin
  cargo run -- boot --share .                    this directory at /mnt/share
  cargo run -- exec --timeout 10 -- sh -c 'ps; exit 3'
  cargo run -- boot --root debian                bash on a disk with Debian
  cargo run -- boot --append 'loglevel=7 maxcpus=1' --gdb
  cargo run -- bench --against linux             how fast, beside Linux
  cargo run -- sim sched --help                  a scheduler without a kernel
  cargo test                                     everything that CI checks";

/// Build the Ochre kernel, boot it in QEMU, use it.
#[derive(Debug, Parser)]
#[command(name = "ochre", bin_name = "cargo run --", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What to do; without it: boot
    #[command(subcommand)]
    pub command: Option<Cmd>,

    /// The machine to boot
    #[command(flatten)]
    pub machine: Machine,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Cmd {
    /// Boot to a shell on this terminal (the default)
    #[command(after_help = BOOT_EXAMPLES)]
    Boot(Machine),
    /// Boot, run one program, pass its input, output and exit status
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// Build something if needed and print its path
    #[command(after_help = PATH_EXAMPLES)]
    Path(PathArgs),
    /// Measure, also beside Linux
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Run Debian's programs in a Debian system, and compare what they print
    #[command(after_help = ACCEPTANCE_EXAMPLES)]
    Acceptance(AcceptanceArgs),
    /// Run a policy under a virtual clock, without a kernel: `sim sched --help`
    #[command(disable_help_flag = true)]
    Sim {
        /// The simulator's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Install what is missing on this host, and say what is there
    #[command(after_help = SETUP_EXAMPLES)]
    Setup(SetupArgs),
}

const BOOT_EXAMPLES: &str = "\
Keys:
  Ctrl-A X   leave        Ctrl-A C   QEMU's monitor and back        Ctrl-A H   more

Examples:
  cargo run -- boot --arch x86_64 --machine microvm --mem 64M
  cargo run -- boot --append quiet
  cargo run -- boot --root debian:build-essential,vim --mem 1G
  cargo run -- boot --root disk.img --snapshot   an ext4 image, which stays as it is
  cargo run -- boot --kernel linux               Debian's Linux with the same root file system";

const EXEC_EXAMPLES: &str = "\
Exit status:
  that of the program; 128 and the signal that killed it; 127 or 126 if it was not found or cannot
  run; 125 if the guest itself failed (a panic, a hang past --timeout, a failed build).

Examples:
  cargo run -- exec -- cat /proc/cpuinfo
  cargo run -- exec --arch x86_64 --smp 4 -- sh -c 'uname -srm; nproc'
  cargo run -- exec --timeout 5 --env A=1 -- env
  tar c src | cargo run -- exec -- tar t
  cargo run -- exec --root debian -- dpkg -l
  cargo run -- exec --root debian:python3 --snapshot -- python3 -c 'import os; print(os.uname())'";

const PATH_EXAMPLES: &str = "\
Examples:
  qemu-system-riscv64 -M virt -m 256M -nographic \\
      -kernel $(cargo run -q -- path kernel) -initrd $(cargo run -q -- path initramfs)
  gdb $(cargo run -q -- path kernel --arch x86_64)
  rm $(cargo run -q -- path root --root debian)  the next run begins with a fresh one";

const SETUP_EXAMPLES: &str = "\
Examples:
  cargo run -- setup                             everything, for all architectures
  cargo run -- setup --arch riscv64 --busybox ./busybox

Needed: a Rust target (rustup, or Debian's rustc-web), QEMU 7.2 or later with firmware (apt), and
Debian's busybox-static (downloaded through apt into target/cache; the host's apt stays as it is).";

const BENCH_EXAMPLES: &str = "\
Examples:
  cargo run -- bench                             Ochre alone, riscv64
  cargo run -- bench --against linux --arch x86_64 --rounds 7
  cargo run -- bench --against linux --icount    instructions instead of time
  cargo run -- bench --disk --against linux      files on a disk
  cargo run -- bench --policies --arch x86_64    every replacement policy and I/O scheduler";

const ACCEPTANCE_EXAMPLES: &str = "\
Examples:
  cargo run -- acceptance                        every script, on every architecture
  cargo run -- acceptance --arch riscv64 bash dpkg
  cargo run -- acceptance --debug perl           with the kernel's debug checks
  cargo run -- acceptance --kernel linux         do the scripts print the same on Linux?

The scripts are tools/runner/acceptance/NAME.sh, what they must print is in NAME.out. They run on a
fresh image, which is made at the first run: that takes minutes.";

/// Options of `acceptance`.
#[derive(Debug, Args)]
pub struct AcceptanceArgs {
    /// Only on this architecture; without it, on all
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// Build the kernel with debug checks
    #[arg(long)]
    pub debug: bool,

    /// A kernel image to boot instead of Ochre; `linux` is Debian's
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// Only these scripts
    #[arg(value_name = "NAME")]
    pub only: Vec<String>,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    pub machine: Machine,

    /// Give up after so many seconds, with status 125
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,

    /// Show the kernel's messages on stderr
    #[arg(long, short)]
    pub verbose: bool,

    /// Add to the program's environment. May be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = assignment)]
    pub env: Vec<String>,

    /// The program's working directory in the guest
    #[arg(long, value_name = "DIR", default_value = "/root")]
    pub cwd: String,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What `path` prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Product {
    /// The kernel's image, an ELF file.
    Kernel,
    /// The initramfs, a cpio archive.
    Initramfs,
    /// The same files as a directory; with `--root debian`, the disk's image.
    Root,
}

/// Options of `path`.
#[derive(Debug, Args)]
pub struct PathArgs {
    /// What to build
    pub product: Product,

    #[command(flatten)]
    pub machine: Machine,
}

/// Options of `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Only for this architecture
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// A static BusyBox to use instead of Debian's
    #[arg(long, value_name = "FILE")]
    pub busybox: Option<PathBuf>,
}

/// Another system to measure beside Ochre.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Rival {
    /// Debian's Linux kernel.
    Linux,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only on this architecture; without it, on all
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// Measure this one, too, in alternating rounds
    #[arg(long, value_enum)]
    pub against: Option<Rival>,

    /// Number of rounds; the table has their medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Count instructions instead of time, with one CPU
    #[arg(long)]
    pub icount: bool,

    /// Measure ext4 on a virtio disk instead of system calls: time only
    #[arg(long, conflicts_with = "icount")]
    pub disk: bool,

    /// Compare the page replacement policies and the I/O schedulers, each under the same load, and plot it
    #[arg(long, conflicts_with_all = ["icount", "disk", "build_time", "only"])]
    pub policies: bool,

    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub smp: u32,

    /// Memory, as QEMU writes it
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub mem: String,

    /// Build the kernel from nothing, too, and say how long that took
    #[arg(long)]
    pub build_time: bool,

    /// Only these items; `exec -- bench --list` shows them
    #[arg(value_name = "ITEM")]
    pub only: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..1e9).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds is wanted".into()),
    }
}

fn assignment(text: &str) -> Result<String, String> {
    match text.find('=') {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("NAME=VALUE is wanted".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_boot_work_without_the_word() {
        let cli = Cli::try_parse_from(["runner", "--arch", "x86_64", "--smp", "4"]).expect("valid");
        assert!(cli.command.is_none());
        assert_eq!((cli.machine.arch, cli.machine.smp), (Arch::X86_64, 4));
    }
}
