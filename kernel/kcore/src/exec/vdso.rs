//! The vDSO: code of the kernel that runs in user mode (vdso(7)).
//!
//! Until a complete image is installed, one page holds the sigreturn trampoline, which programs need on
//! architectures whose signal handlers bring no restorer.

use crate::Result;
use abi::Errno;
use abi::mm::Prot;
use alloc::sync::Arc;
use alloc::vec::Vec;
use elf::ElfBytes;
use elf::endian::LittleEndian;
use mem::{AllocFlags, Folio};
use sync::Once;
use vm::{AddressSpace, Layout, Special};

struct Vdso {
    /// What the code reads, in the pages right before it.
    data: Vec<Folio>,
    image: Vec<Folio>,
    /// Offset of the sigreturn code in the image.
    sigreturn: usize,
    is_elf: bool,
}

static VDSO: Once<Vdso> = Once::new();

/// Where it is in one process.
pub(super) struct Mapped {
    /// AT_SYSINFO_EHDR; 0: there is no ELF image.
    pub base: usize,
    pub sigreturn: usize,
}

/// Installs the vDSO: an ELF image that is mapped as it is, and the page of data that it expects right before
/// itself. Once, at boot, before the first program. EINVAL for a broken image.
pub fn set_vdso(image: &[u8], data: Folio) -> Result<()> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(|_| Errno::EINVAL)?;
    let sigreturn = find_symbol(&elf, "__vdso_rt_sigreturn").unwrap_or(0);
    let _ = VDSO.set(Vdso { data: Vec::from([data]), image: pages_of(image)?, sigreturn, is_elf: true });
    Ok(())
}

fn find_symbol(elf: &ElfBytes<LittleEndian>, wanted: &str) -> Option<usize> {
    let (symbols, names) = elf.dynamic_symbol_table().ok()??;
    let symbol = symbols.iter().find(|s| names.get(s.st_name as usize).is_ok_and(|name| name == wanted))?;
    usize::try_from(symbol.st_value).ok()
}

fn pages_of(bytes: &[u8]) -> Result<Vec<Folio>> {
    let mut folios = Vec::new();
    for chunk in bytes.chunks(arch::PAGE_SIZE) {
        let folio = Folio::alloc(0, AllocFlags::KERNEL | AllocFlags::ZERO)?;
        folio.write(0, chunk);
        folios.push(folio);
    }
    Ok(folios)
}

fn vdso() -> Result<&'static Vdso> {
    if VDSO.get().is_none() {
        let image = pages_of(arch::signal::TRAMPOLINE)?;
        let _ = VDSO.set(Vdso { data: Vec::new(), image, sigreturn: 0, is_elf: false });
    }
    Ok(VDSO.get_expect())
}

/// Maps it above the stack or where there is room. Data and image are areas of their own: gdb takes the area that begins at
/// AT_SYSINFO_EHDR for all of the vDSO, and the data is nothing to execute.
pub(super) fn map(mm: &Arc<AddressSpace>, layout: &Layout) -> Result<Mapped> {
    let vdso = vdso()?;
    let mut parts = Vec::new();
    if !vdso.data.is_empty() {
        parts.push((Prot::READ, Special { name: "[vvar]", folios: vdso.data.clone() }));
    }
    parts.push((Prot::READ | Prot::EXEC, Special { name: "[vdso]", folios: vdso.image.clone() }));
    let start = mm.map_special(layout.mmap_base as usize, parts)?;
    let base = start + vdso.data.len() * arch::PAGE_SIZE;
    Ok(Mapped { base: if vdso.is_elf { base } else { 0 }, sigreturn: base + vdso.sigreturn })
}
