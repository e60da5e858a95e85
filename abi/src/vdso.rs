//! The page that the kernel shares with the vDSO's code, just below it in every process.

/// What the vDSO reads to tell the time without a system call. One writer; a sequence lock: the reader
/// retries while `sequence` is odd or has changed.
///
/// `monotonic_ns = base_ns + ((counter - base) * mult >> shift)`, with a 128-bit product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VvarData {
    pub sequence: u32,
    pub shift: u32,
    pub base: u64,
    pub base_ns: u64,
    pub mult: u64,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC, ns.
    pub realtime_offset_ns: i64,
}

const _: () = assert!(size_of::<VvarData>() == 40);

impl VvarData {
    /// The bytes as the page holds them.
    pub fn to_bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.shift.to_le_bytes());
        for (at, word) in
            [self.base, self.base_ns, self.mult, self.realtime_offset_ns as u64].into_iter().enumerate()
        {
            bytes[8 + at * 8..16 + at * 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
