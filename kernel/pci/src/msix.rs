//! MSI-X: a table of messages, one for each reason a device has to interrupt.

use crate::function::Function;
use arch::Msi;
use arch::io::IoRegion;
use irq::Handler;

const CONTROL: usize = 2;
const TABLE: usize = 4;
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;

const ENTRY: usize = 16;
const DATA: usize = 8;
const ENTRY_CONTROL: usize = 12;

/// A function's table, turned on.
#[derive(Debug)]
pub struct Msix {
    table: IoRegion,
    vectors: u16,
}

impl Msix {
    /// Turns it on by the capability at `at`, all vectors masked.
    pub(crate) fn enable(function: &Function, at: usize) -> Option<Msix> {
        let config = function.config();
        let control = config.read16(at + CONTROL);
        let vectors = (control & 0x7ff) + 1;
        let place = config.read32(at + TABLE);
        let bar = function.bar(place as usize & 7)?;
        let table = bar.window(place as usize & !7, usize::from(vectors) * ENTRY)?;
        config.write16(at + CONTROL, control | ENABLE | MASK_ALL);
        for vector in 0..usize::from(vectors) {
            table.write32(vector * ENTRY + ENTRY_CONTROL, 1);
        }
        config.write16(at + CONTROL, control & !MASK_ALL | ENABLE);
        Some(Msix { table, vectors })
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Has a vector call `handler` on a CPU. `false` when the machine has no line left for it. Process
    /// context.
    pub fn request(&self, vector: u16, cpu: usize, name: &str, handler: Handler) -> bool {
        if vector >= self.vectors {
            return false;
        }
        let Some(Msi { line, address, data }) = arch::irq::alloc_msi(cpu) else { return false };
        if !irq::request(line, name, handler) {
            return false;
        }
        let at = usize::from(vector) * ENTRY;
        self.table.write32(at, address as u32);
        self.table.write32(at + 4, (address >> 32) as u32);
        self.table.write32(at + DATA, data);
        self.table.write32(at + ENTRY_CONTROL, 0);
        true
    }
}
