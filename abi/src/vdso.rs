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
    /// `realtime_ns = m + real_offset_ns + ((m - real_since_ns) * real_rate >> 48)` at monotonic time `m`.
    pub real_since_ns: u64,
    pub real_offset_ns: i64,
    pub real_rate: i64,
}

const _: () = assert!(size_of::<VvarData>() == 56);

impl VvarData {
    /// The bytes as the page holds them.
    pub fn to_bytes(&self) -> [u8; 56] {
        let mut bytes = [0; 56];
        bytes[..4].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.shift.to_le_bytes());
        let (offset, rate) = (self.real_offset_ns as u64, self.real_rate as u64);
        let words = [self.base, self.base_ns, self.mult, self.real_since_ns, offset, rate];
        for (at, word) in words.into_iter().enumerate() {
            bytes[8 + at * 8..16 + at * 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
