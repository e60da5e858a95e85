//! Hands the linker the script of the architecture that is built for, and the kernel its vDSO image.

use std::path::Path;
use std::{env, fs};

fn main() {
    let var = |name: &str| env::var(name).unwrap_or_default();
    let scripts = format!("{}/../../machine/arch/src", var("CARGO_MANIFEST_DIR"));
    let script = format!("{scripts}/{}/kernel.ld", var("CARGO_CFG_TARGET_ARCH"));
    println!("cargo:rustc-link-arg-bins=-L{scripts}");
    println!("cargo:rerun-if-changed={scripts}/hot.ld");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!("cargo:rustc-link-arg-bins=--no-relax");
    println!("cargo:rerun-if-changed={script}");

    // The runner builds the image and names it here; without it (a plain `cargo check`) programs get no
    // vDSO and use system calls.
    let image = var("OCHRE_VDSO");
    let copy = Path::new(&var("OUT_DIR")).join("vdso.so");
    let bytes = if image.is_empty() {
        Vec::new()
    } else {
        fs::read(&image).expect("OCHRE_VDSO names a readable file")
    };
    fs::write(copy, bytes).expect("OUT_DIR is writable");
    println!("cargo:rerun-if-env-changed=OCHRE_VDSO");
    if !image.is_empty() {
        println!("cargo:rerun-if-changed={image}");
    }
}
