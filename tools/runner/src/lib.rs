//! `cargo run`: from a fresh checkout to a shell on Ochre, and everything else one does with the kernel.
//!
//! Problem: a kernel is not started by running its binary. It needs a compiler for a bare target, an emulator,
//! firmware, a root file system, a console, and somebody who ends all that when it is over.
//!
//! Interface: the commands of [`cli`]; for tests, [`testing::sh`], which runs scripts in a booted machine.
//!
//! Idea, in the order of a run: [`setup`] sees that the host has what is needed ([`debian`] fetches Debian packages
//! of any architecture without touching the host's), [`cargo`] builds kernel and programs, [`initramfs`] packs them
//! with BusyBox ([`tree`], [`cpio`], [`busybox`]), [`qemu`] writes the command line and owns the process, and then
//! either a person has the console ([`boot`]) or the agent in the guest speaks with us over it ([`guest`], [`exec`]).
#![forbid(unsafe_code)]

pub mod acceptance;
pub mod arch;
pub mod bench;
pub mod boot;
pub mod busybox;
pub mod cargo;
pub mod cleanup;
pub mod cli;
pub mod commands;
pub mod cpio;
pub mod debian;
pub mod exec;
pub mod guest;
pub mod image;
pub mod initramfs;
pub mod machine;
pub mod places;
pub mod progress;
pub mod qemu;
pub mod setup;
pub mod shell;
pub mod symbols;
mod symtab_image;
pub mod terminal;
pub mod testing;
pub mod tree;
