//! Zeroing a range, by the device's own means where it has them.

use crate::bio::{Batch, Bio, BioFlags, Op};
use crate::device::BlockDevice;
use crate::plug::Plug;
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;

/// Makes the sectors read as zeroes; where the device cannot do that itself, by writing zeroes. Waits.
pub fn zero_out(device: &Arc<BlockDevice>, sector: u64, sectors: u64) -> Result<()> {
    match device.write_zeroes(sector, sectors) {
        Err(Errno::EOPNOTSUPP) => write(device, sector, sectors),
        done => done,
    }
}

/// Writes the shared page of zeroes, over and over.
fn write(device: &Arc<BlockDevice>, mut sector: u64, mut sectors: u64) -> Result<()> {
    /// Pages in a bio, and bios before their end is waited for.
    const PAGES: u64 = 64;
    const AT_ONCE: usize = 64;
    while sectors > 0 {
        let batch = Batch::new();
        let mut plug = Plug::new();
        let mut outcome = Ok(());
        for _ in 0..AT_ONCE {
            let part = sectors.min(PAGES * 8);
            if part == 0 {
                break;
            }
            match zeroes(sector, part) {
                Ok(bio) => batch.submit(&mut plug, device, bio),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            (sector, sectors) = (sector + part, sectors - part);
        }
        drop(plug);
        batch.wait().and(outcome)?;
    }
    Ok(())
}

fn zeroes(sector: u64, sectors: u64) -> Result<alloc::boxed::Box<Bio>> {
    let mut bio = Bio::new(Op::Write, sector)?;
    bio.flags |= BioFlags::SYNC;
    bio.reserve(sectors.div_ceil(8) as usize)?;
    let mut left = sectors as usize * 512;
    while left > 0 {
        let part = left.min(arch::PAGE_SIZE);
        bio.push(mem::zero_folio(), 0, part)?;
        left -= part;
    }
    Ok(bio)
}
