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
use vm::{AddressSpace, Layout};

struct Vdso {
    /// Mapped from here on; the pages of data come first.
    folios: Vec<Folio>,
    /// Pages before the ELF image.
    data_pages: usize,
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
    let mut folios = Vec::from([data]);
    folios.extend(pages_of(image)?);
    let sigreturn = find_symbol(&elf, "__vdso_rt_sigreturn").unwrap_or(0);
    let _ = VDSO.set(Vdso { folios, data_pages: 1, sigreturn, is_elf: true });
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
        let folios = pages_of(arch::signal::TRAMPOLINE)?;
        let _ = VDSO.set(Vdso { folios, data_pages: 0, sigreturn: 0, is_elf: false });
    }
    Ok(VDSO.get_expect())
}

/// Maps it above the stack or where there is room.
pub(super) fn map(mm: &Arc<AddressSpace>, layout: &Layout) -> Result<Mapped> {
    let vdso = vdso()?;
    let near = layout.mmap_base as usize;
    let start = mm.map_special(near, "[vdso]", vdso.folios.clone(), Prot::READ | Prot::EXEC)?;
    let base = start + vdso.data_pages * arch::PAGE_SIZE;
    Ok(Mapped { base: if vdso.is_elf { base } else { 0 }, sigreturn: base + vdso.sigreturn })
}
