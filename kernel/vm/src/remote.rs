//! Access to a space that need not be the active one: ptrace, /proc/PID/mem, process_vm_readv, exec.

use crate::area::VmFlags;
use crate::fault::FaultError;
use crate::limits::{Limits, Unlimited};
use crate::space::AddressSpace;
use crate::{PAGE, page_down, table};
use arch::Access;
use arch::paging::PteFlags;
use mem::{Entry, Folio, UserTable};

impl AddressSpace {
    /// Reads from `addr` on; returns how many bytes could be read. May sleep. `force` reads what the
    /// program itself may not (PTRACE_PEEKDATA, /proc/PID/mem).
    pub fn read_remote(&self, addr: usize, buffer: &mut [u8], force: bool) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = addr.checked_add(done) else { break };
            let offset = at % PAGE as usize;
            let part = (PAGE as usize - offset).min(buffer.len() - done);
            let target = &mut buffer[done..done + part];
            match self.page(at as u64, Access::Read, force) {
                Some((folio, page)) => folio.read(page * PAGE as usize + offset, target),
                None => break,
            }
            done += part;
        }
        done
    }

    /// Writes from `addr` on; returns how many bytes could be written. May sleep. `force` writes what the
    /// program itself may not: into a private copy (breakpoints).
    pub fn write_remote(&self, addr: usize, bytes: &[u8], force: bool) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some(at) = addr.checked_add(done) else { break };
            let offset = at % PAGE as usize;
            let part = (PAGE as usize - offset).min(bytes.len() - done);
            match self.page(at as u64, Access::Write, force) {
                Some((folio, page)) => folio.write(page * PAGE as usize + offset, &bytes[done..done + part]),
                None => break,
            }
            done += part;
        }
        done
    }

    /// Sets bytes to zero; returns how many could be.
    pub fn clear_remote(&self, addr: usize, len: usize) -> usize {
        const ZEROES: [u8; 512] = [0; 512];
        let mut done = 0;
        while done < len {
            let part = ZEROES.len().min(len - done);
            let Some(at) = addr.checked_add(done) else { break };
            let wrote = self.write_remote(at, &ZEROES[..part], false);
            done += wrote;
            if wrote < part {
                break;
            }
        }
        done
    }

    /// The page at `addr`, faulted in for the access: the folio, referenced, and which of its pages.
    pub fn page(&self, addr: u64, access: Access, force: bool) -> Option<(Folio, usize)> {
        // A page can go between the fault and the look at the table; programs that unmap in a loop
        // must not keep us here for ever.
        for _ in 0..16 {
            if let Some(found) = self.present_page(addr, access, force) {
                return found;
            }
            let done = if force {
                self.fault_forced(addr, access)
            } else {
                self.handle_fault(addr as usize, access, &Unlimited as &dyn Limits).map(|_| ())
            };
            match done {
                Err(FaultError::Moving) => self.wait_for_blocks(addr),
                done => done.ok()?,
            }
        }
        None
    }

    /// `Some(None)`: not allowed. `None`: a fault must bring it.
    #[allow(clippy::option_option)]
    fn present_page(&self, addr: u64, access: Access, force: bool) -> Option<Option<(Folio, usize)>> {
        let areas = self.areas.read();
        let vma = areas.set.find(addr)?;
        if !may_access(vma.data.flags, access, force) {
            return Some(None);
        }
        let guard = self.table.lock();
        let Entry::Page(page) = guard.get(page_down(addr) as usize) else { return None };
        if access == Access::Write && !page.flags.contains(PteFlags::WRITE) {
            // A forced write has made a private page that stays read-only for the program.
            let forced =
                force && page.flags.contains(PteFlags::SOFT) && !vma.data.flags.contains(VmFlags::WRITE);
            let (folio, index) = table::folio_at(&guard, addr)?;
            return if forced && folio.refs() == 2 { Some(Some((folio, index))) } else { None };
        }
        if UserTable::is_zero_page(page.phys) {
            return Some(Some((mem::zero_folio().clone(), 0)));
        }
        table::folio_at(&guard, addr).map(Some)
    }

    /// A fault as if the area allowed the access.
    fn fault_forced(&self, addr: u64, access: Access) -> Result<(), FaultError> {
        let areas = self.areas.read();
        let vma = areas.set.find(addr).ok_or(FaultError::MapErr)?;
        if access == Access::Write && !vma.data.flags.contains(VmFlags::WRITE) {
            return self.private_copy(vma, addr);
        }
        if !vma.data.flags.intersects(VmFlags::ACCESS) {
            return self.fault_unchecked(vma, addr, Access::Read);
        }
        self.fault_in(vma, addr, access).map(|_| ())
    }
}

/// Whether a remote access is allowed. Forced writes need a private area that might be made writable.
fn may_access(flags: VmFlags, access: Access, force: bool) -> bool {
    let shared = flags.contains(VmFlags::SHARED);
    match access {
        Access::Write if force => {
            flags.contains(VmFlags::WRITE) || (flags.contains(VmFlags::MAYWRITE) && !shared)
        }
        Access::Write => flags.contains(VmFlags::WRITE),
        _ if force => flags.contains(VmFlags::MAYREAD),
        _ => flags.intersects(VmFlags::ACCESS),
    }
}
