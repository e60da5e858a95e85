//! Building for the bare targets, and finding the compiler that can.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arch::Arch;
use crate::{places, progress, shell, symtab_image};

/// Which compiler builds for the bare targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// The one that Cargo runs with: it has the target.
    Current,
    /// Debian's `rustc-web` and `rust-web-src`: the standard library is built from source (`-Zbuild-std`).
    DebianWeb,
}

/// The compiler of [`Toolchain::DebianWeb`].
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A built program.
#[derive(Clone, Debug)]
pub struct Program {
    /// The package it is from.
    pub package: String,
    /// Its name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// `cargo`, as this process was started by it.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or("cargo".into(), PathBuf::from)
}

fn rustc() -> PathBuf {
    std::env::var_os("RUSTC").map_or("rustc".into(), PathBuf::from)
}

/// Whether the current toolchain has the standard library (`core`) for the architecture's target.
pub fn has_target(arch: Arch) -> bool {
    let mut command = Command::new(rustc());
    command.current_dir(places::root()).args(["--print", "target-libdir", "--target", arch.target()]);
    let Ok(output) = command.output() else { return false };
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    output.status.success()
        && files.into_iter().any(|f| f.file_name().to_string_lossy().starts_with("libcore-"))
}

/// Builds the kernel; answers its image.
pub fn kernel(arch: Arch, toolchain: Toolchain, debug: bool) -> Result<PathBuf> {
    kernel_in(&places::target(), arch, toolchain, debug)
}

/// Builds the kernel in directories of `target`.
pub fn kernel_in(target: &Path, arch: Arch, toolchain: Toolchain, debug: bool) -> Result<PathBuf> {
    // Cargo's own lock covers its steps only, and the symbols are filled in after them. A lock for each build: while one
    // is made another one, which is there already, can start a guest.
    let profile = if debug { "debug" } else { "release" };
    let _one_at_a_time = places::lock(&target.join("kernel").join(format!("{arch}-{profile}.lock")))?;
    let vdso = vdso(target, arch, toolchain)?;
    let mut build = build("build", arch, toolchain, &target.join("kernel"));
    build.args(["-p", "boot", "--bin", "ochre"]).env("OCHRE_VDSO", vdso);
    if !debug {
        build.arg("--release");
    }
    let programs = run(build, &format!("the kernel for {arch}"))?;
    let kernel = programs.into_iter().find(|p| p.name == "ochre");
    let path = kernel.context("the build made no kernel")?.path;
    symtab_image::fill(&path)?;
    Ok(path)
}

/// Builds the programs in `user/`.
pub fn programs(arch: Arch, toolchain: Toolchain) -> Result<Vec<Program>> {
    let mut build = build("build", arch, toolchain, &places::target().join("user"));
    build.arg("--release").args(["--config", "profile.release.strip=true"]);
    // Fixed addresses, so that no program has to relocate itself. The code model stays the target's own, as
    // in the precompiled libraries: addresses below 2 GiB satisfy x86-64's "kernel" model, too.
    build.env("CARGO_ENCODED_RUSTFLAGS", "-Crelocation-model=static");
    for package in user_packages()? {
        build.args(["-p", &package]);
    }
    run(build, &format!("programs for {arch}"))
}

/// Builds the vDSO: a shared object, which Rust's bare targets do not make, so the linker is called here.
fn vdso(target: &Path, arch: Arch, toolchain: Toolchain) -> Result<PathBuf> {
    let source = places::root().join("user/vdso");
    let dir = target.join("user").join(arch.target());
    // Cargo's own lock ends before the linker is called.
    let _one_at_a_time = places::lock(&target.join("user").join(format!("vdso-{arch}.lock")))?;
    let (object, image) = (dir.join("vdso.o"), dir.join("vdso.so"));
    let mut build = build("rustc", arch, toolchain, &target.join("user"));
    // Link-time optimisation of the release profile would leave bitcode in place of code.
    build.args(["-p", "vdso", "--lib", "--release", "--config", "profile.release.lto=false"]);
    build.args(["--config", "profile.release.debug=false", "--config", "profile.release.codegen-units=1"]);
    build.arg("--").arg(format!("--emit=obj={}", object.display()));
    build.env(
        "CARGO_ENCODED_RUSTFLAGS",
        "-Crelocation-model=pic\x1f-Ccode-model=".to_owned() + arch.pic_code_model(),
    );
    run(build, &format!("the vDSO for {arch}"))?;
    let (linker, flavor) = linker(toolchain)?;
    let mut link = Command::new(linker);
    link.args(flavor).args([
        "-shared",
        "-Bsymbolic",
        "--no-undefined",
        "--hash-style=both",
        "--eh-frame-hdr",
    ]);
    link.args([
        "-soname",
        "linux-vdso.so.1",
        "-z",
        "max-page-size=4096",
        "--build-id=none",
        "--gc-sections",
        "-s",
    ]);
    link.arg("-T").arg(source.join("vdso.ld"));
    link.arg("--version-script").arg(source.join(format!("vdso-{arch}.map")));
    // Under another name first, and only when it differs: the kernel is built again when the file is newer.
    let fresh = dir.join(format!("vdso.{}.new", std::process::id()));
    shell::output(link.arg("-o").arg(&fresh).arg(&object)).context("cannot link the vDSO")?;
    if std::fs::read(&fresh)? == std::fs::read(&image).unwrap_or_default() {
        std::fs::remove_file(&fresh)?;
    } else {
        std::fs::rename(&fresh, &image)?;
    }
    Ok(image)
}

/// LLVM's linker, and the arguments that make it behave as Unix linkers do: Rust's own, else the host's.
fn linker(toolchain: Toolchain) -> Result<(PathBuf, &'static [&'static str])> {
    let rustc = match toolchain {
        Toolchain::Current => rustc(),
        Toolchain::DebianWeb => DEBIAN_RUSTC.into(),
    };
    let ask =
        |question: &[&str]| shell::output(Command::new(&rustc).args(question).current_dir(places::root()));
    let sysroot = ask(&["--print", "sysroot"])?;
    let version = ask(&["-vV"])?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not name its host")?;
    let own = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld");
    if own.exists() {
        return Ok((own, &["-flavor", "gnu"]));
    }
    let other = shell::find("ld.lld").context("there is neither rust-lld in the toolchain nor ld.lld")?;
    Ok((other, &[]))
}

/// The packages in `user/`.
fn user_packages() -> Result<Vec<String>> {
    let dir = places::root().join("user");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    // A package without programs (the runtime, the vDSO) is built as far as others need it.
    let has_programs = |dir: &Path| dir.join("src/main.rs").exists() || dir.join("src/bin").exists();
    let packages = entries.flatten().filter(|entry| has_programs(&entry.path()));
    let mut names: Vec<_> = packages.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The common part of a build for a bare target, in a build directory of its own: different flags than the host's.
fn build(verb: &str, arch: Arch, toolchain: Toolchain, dir: &Path) -> Command {
    let mut command = match toolchain {
        Toolchain::Current => Command::new(cargo()),
        Toolchain::DebianWeb => {
            let mut command = Command::new("/usr/bin/cargo");
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
            command
        }
    };
    command.arg(verb).args(["--target", arch.target(), "--target-dir"]).arg(dir);
    if toolchain == Toolchain::DebianWeb {
        command
            .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
        // The targets name `rust-lld`, which Debian has under its own name.
        let target = arch.target().to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{target}_LINKER"), "ld.lld");
    }
    // The flags of the repository's configuration hold, whatever the person's environment says for the host.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command.current_dir(places::root()).arg("--message-format=json-render-diagnostics");
    command
}

/// Runs a build, shows what it does, and answers the programs it made.
fn run(mut command: Command, what: &str) -> Result<Vec<Program>> {
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let stderr = child.stderr.take().context("no pipe")?;
    let log = std::thread::spawn(move || relay(stderr));
    let mut messages = String::new();
    child.stdout.take().context("no pipe")?.read_to_string(&mut messages)?;
    let status = child.wait()?;
    let hidden = log.join().unwrap_or_default();
    if !status.success() {
        eprint!("{hidden}");
        bail!("cannot build {what}");
    }
    Ok(messages.lines().filter_map(|line| program(&serde_json::from_str(line).ok()?)).collect())
}

/// Passes Cargo's own report on, but for the line that says it has finished; answers it when nothing may be shown.
fn relay(stderr: impl Read) -> String {
    let mut hidden = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if progress::is_quiet() {
            hidden += &line;
            hidden.push('\n');
        } else if !line.contains("Finished") {
            eprintln!("{line}");
        }
    }
    hidden
}

/// The program that one of Cargo's messages announces.
fn program(message: &Value) -> Option<Program> {
    let path = message.get("executable")?.as_str()?;
    let manifest = Path::new(message.get("manifest_path")?.as_str()?);
    Some(Program {
        package: manifest.parent()?.file_name()?.to_string_lossy().into_owned(),
        name: message.get("target")?.get("name")?.as_str()?.to_owned(),
        path: path.into(),
    })
}
