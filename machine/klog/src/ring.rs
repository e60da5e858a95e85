//! The ring of log records.
//!
//! Records lie one after the other in a circular byte array, each a fixed header and its text; a record
//! may wrap around the end. The oldest ones are dropped to make room.

/// Bytes of log kept (Linux's default for `CONFIG_LOG_BUF_SHIFT=17`).
pub const RING_BYTES: usize = 1 << 17;
const HEADER: usize = 12;

/// One line of the log; its text is in the reader's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub sequence: u64,
    /// The level, plus eight times the facility: 0 for the kernel's own.
    pub prefix: u8,
    /// Monotonic, since boot.
    pub time_ns: u64,
    /// Bytes of text in the buffer.
    pub len: usize,
}

pub struct Ring {
    bytes: [u8; RING_BYTES],
    /// Positions count all bytes ever written; the place in the array is the position modulo its size.
    head: u64,
    tail: u64,
    first: u64,
    next: u64,
    /// Where the last reader stopped, so that reading in order is not quadratic.
    cursor: (u64, u64),
}

impl Ring {
    pub const fn new() -> Ring {
        Ring { bytes: [0; RING_BYTES], head: 0, tail: 0, first: 0, next: 0, cursor: (0, 0) }
    }

    pub fn first_sequence(&self) -> u64 {
        self.first
    }

    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    pub fn push(&mut self, prefix: u8, time_ns: u64, text: &[u8]) {
        let need = (HEADER + text.len()) as u64;
        while self.head - self.tail + need > RING_BYTES as u64 {
            let (_, _, len) = self.header(self.tail);
            self.tail += (HEADER + len) as u64;
            self.first += 1;
        }
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&time_ns.to_le_bytes());
        header[8..10].copy_from_slice(&(text.len() as u16).to_le_bytes());
        header[10] = prefix;
        self.put(self.head, &header);
        self.put(self.head + HEADER as u64, text);
        self.head += need;
        self.next += 1;
    }

    pub fn read(&mut self, sequence: u64, buffer: &mut [u8]) -> Option<Record> {
        let wanted = sequence.max(self.first);
        if wanted >= self.next {
            return None;
        }
        let (mut at, mut position) = if self.cursor.0 >= self.first && self.cursor.0 <= wanted {
            self.cursor
        } else {
            (self.first, self.tail)
        };
        while at < wanted {
            position += (HEADER + self.header(position).2) as u64;
            at += 1;
        }
        let (time_ns, prefix, full) = self.header(position);
        let len = full.min(buffer.len());
        self.get(position + HEADER as u64, &mut buffer[..len]);
        self.cursor = (wanted + 1, position + (HEADER + full) as u64);
        Some(Record { sequence: wanted, prefix, time_ns, len })
    }

    /// Time, prefix and text length of the record at `position`.
    fn header(&self, position: u64) -> (u64, u8, usize) {
        let mut header = [0; HEADER];
        self.get(position, &mut header);
        let mut time = [0; 8];
        time.copy_from_slice(&header[..8]);
        (u64::from_le_bytes(time), header[10], usize::from(u16::from_le_bytes([header[8], header[9]])))
    }

    fn put(&mut self, position: u64, data: &[u8]) {
        let start = position as usize % RING_BYTES;
        let first = data.len().min(RING_BYTES - start);
        self.bytes[start..start + first].copy_from_slice(&data[..first]);
        self.bytes[..data.len() - first].copy_from_slice(&data[first..]);
    }

    fn get(&self, position: u64, data: &mut [u8]) {
        let start = position as usize % RING_BYTES;
        let first = data.len().min(RING_BYTES - start);
        let rest = data.len() - first;
        data[..first].copy_from_slice(&self.bytes[start..start + first]);
        data[first..].copy_from_slice(&self.bytes[..rest]);
    }
}
