//! From the first kernel thread to the first user process.

use abi::errno::Result;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::BootInfo;
use cmdline::CommandLine;
use core::fmt::Write;
use kcore::first::First;
use kernfs::PROC;
use klog::{pr_err, pr_info, pr_warn};
use task::NewTask;
use vfs::Path;

/// Starts the thread that brings up what needs a thread.
pub fn start(info: &'static BootInfo, line: CommandLine) {
    let body = Box::new(move || run(info, &line));
    if NewTask::kernel("init", body).spawn().is_err() {
        panic!("no memory for the first thread");
    }
}

fn run(info: &'static BootInfo, line: &CommandLine) {
    if let Some(seconds) = line.value("panic").and_then(|v| v.parse().ok()) {
        crate::panic::set_timeout_s(seconds);
    }
    crate::panic::set_panic_on_oops(line.value("oops") == Some("panic"));
    if let Err(error) = bring_up(info, line) {
        panic!("start of the system failed: {error}");
    }
}

fn bring_up(info: &'static BootInfo, line: &CommandLine) -> Result<()> {
    start_threads()?;
    choose_policy(line);
    mem::set_reclaimer(free_memory);
    mem::set_waiter(wait_for_memory);
    sched::set_sample_hook(|_, _| kcore::usage::account_tick());
    vfs::init(mem::total_bytes() as u64, &entropy());
    reclaim::init(&crate::RECLAIM_POLICIES)?;
    reclaim::set_spaces(|from| {
        let process = kcore::pid::next_process(from)?;
        Some((process.pid().saturating_add(1), process.mm()))
    });
    crate::vdso::init();
    let root = vfs::mount::set_root(tmpfs::rootfs()?)?;
    tmpfs::init()?;
    kcore::syslog::init();
    devtmpfs::init()?;
    devpts::init()?;
    sysfs::init()?;
    procfs::init(info.cmdline)?;
    ext4::init()?;
    fat::init()?;
    iso9660::init()?;
    ninep::init()?;
    overlay::init()?;
    register_files();
    schedfs::init();
    kcore::park::init();
    kcore::sysv::init();
    mqueue::init()?;
    block::init(&crate::IO_SCHEDULERS, |task, cpu| sched::pin(task, cpu))?;
    unix::init();
    if let Some(console) = uart16550::init() {
        tty::set_console(console);
    }
    tty::devices::init()?;
    crate::panic::register_files();
    #[cfg(debug_assertions)]
    lkdtm::init();
    pci::init();
    virtio::init();
    virtio_blk::init();
    virtio_console::init();
    virtio_9p::init();
    loopdev::init()?;
    zram::init(line)?;
    syscall::install();
    vfs::sigio::install(kcore::sigio::send);
    unpack_initramfs(info, &root);
    start_first(line, crate::root::choose(line, root))?;
    kcore::kthread::start_kthreadd()
}

fn start_threads() -> Result<()> {
    let pin = |task: &alloc::sync::Arc<task::Task>, cpu: usize| sched::pin(task, cpu);
    irq::softirq::start_threads(pin)?;
    time::start_threads(pin)?;
    sched::start_threads()?;
    Ok(())
}

/// Files in /proc of crates that come above procfs, and the panic's.
fn register_files() {
    PROC.add("ochre/enosys", kernfs::text(|out| syscall::enosys::show(out)));
    PROC.add(
        "sys/kernel/panic",
        kernfs::knob(
            0o644,
            |out| writeln!(out, "{}", crate::panic::timeout_s()),
            |text| {
                crate::panic::set_timeout_s(text.parse().map_err(|_| abi::Errno::EINVAL)?);
                Ok(())
            },
        ),
    );
}

/// `sched=NAME`: the fair policy to begin with.
fn choose_policy(line: &CommandLine) {
    if let Some(name) = line.value("sched")
        && sched::set_policy(name).is_err()
    {
        pr_warn!("sched={name}: no such policy");
    }
}

/// Memory is short: caches first, then somebody has to go.
fn free_memory(pages_wanted: usize) -> usize {
    match reclaim::direct(pages_wanted) {
        0 => kcore::oom::reclaim(pages_wanted),
        pages => pages,
    }
}

/// For an allocation that cannot fail: somebody has to go, and this task waits for that.
fn wait_for_memory(kill: bool) {
    const PAUSE_NS: u64 = 5_000_000;
    if kill && !kcore::oom::out_of_memory(0) {
        panic!("System is deadlocked on memory");
    }
    task::sleep_for_ns(PAUSE_NS);
}

/// What the machine offers as entropy at boot: hardware random numbers where there are some, the time of
/// several events, and the real-time clock.
fn entropy() -> [u8; 64] {
    let mut bytes = [0; 64];
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        let mixed = arch::cpu::stack_canary_seed().rotate_left(at as u32 * 7) ^ arch::timer::now_ns();
        chunk.copy_from_slice(&(mixed ^ time::realtime_ns()).to_le_bytes());
    }
    bytes
}

/// Unpacks the initial RAM disk, then gives its memory back.
fn unpack_initramfs(info: &BootInfo, root: &Path) {
    let complain = |name: &[u8], error| pr_err!("initramfs: {}: {error}", String::from_utf8_lossy(name));
    if let Err(failed) = vfs::initramfs::unpack(root, vfs::initramfs::DEFAULT.as_bytes(), complain) {
        pr_err!("initramfs: the built-in one: {failed}");
    }
    let Some((start, len)) = info.initrd else { return };
    let archive = mem::boot_memory(start, len);
    match vfs::initramfs::unpack(root, archive, complain) {
        Ok(summary) => pr_info!("initramfs: {} files, {} KiB", summary.files, summary.bytes >> 10),
        Err(corrupt) => pr_err!("initramfs: damaged: {corrupt}"),
    }
    mem::free_initrd(start, len);
}

/// Linux's search for a program: `rdinit=` or `/init` when there is an initramfs, `init=`, and the usual
/// places.
fn start_first(line: &CommandLine, root: Path) -> Result<()> {
    let mut programs = Vec::new();
    programs.push(line.value("rdinit").unwrap_or("/init").to_string());
    programs.extend(["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"].map(ToString::to_string));
    let mut env: Vec<String> = ["HOME=/", "TERM=linux"].map(ToString::to_string).into();
    let mut args = Vec::new();
    // Words that are nobody's parameter are init's, except those with a dot, which modules would take.
    for param in line.params.iter().filter(|p| !is_known(&p.name) && !p.name.contains('.')) {
        match &param.value {
            Some(value) => env.push(alloc::format!("{}={value}", param.name)),
            None => args.push(param.name.clone()),
        }
    }
    args.extend(line.init_args.iter().cloned());
    kcore::first::start(First {
        root,
        programs,
        requested: line.value("init").map(ToString::to_string),
        args,
        env,
        traced: line.has("ochre.trace"),
        memory_bytes: mem::total_bytes() as u64,
    })
}

/// Whether the kernel understands a parameter.
fn is_known(name: &str) -> bool {
    const KNOWN: &[&str] = &[
        "console",
        "init",
        "rdinit",
        "root",
        "rootfstype",
        "rootflags",
        "rw",
        "ro",
        "quiet",
        "debug",
        "loglevel",
        "panic",
        "oops",
        "maxcpus",
        "mem",
        "nokaslr",
        "sched",
        "slab_debug",
        "satp",
        "initrd",
        "BOOT_IMAGE",
    ];
    KNOWN.contains(&name)
}
