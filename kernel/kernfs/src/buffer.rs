//! The memory that a text is made in.

use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;
use core::fmt;

/// Takes text through [`fmt::Write`] and bytes through [`TextBuf::bytes`]; a text that finds no memory ends
/// with ENOMEM. A `String` would end the kernel: programs decide how long some texts get.
#[derive(Debug, Default)]
pub struct TextBuf {
    bytes: Vec<u8>,
    out_of_memory: bool,
}

impl TextBuf {
    pub const fn new() -> TextBuf {
        TextBuf { bytes: Vec::new(), out_of_memory: false }
    }

    /// Appends bytes that need not be text. ENOMEM.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.bytes.try_reserve(bytes.len()).is_err() {
            self.out_of_memory = true;
            return Err(Errno::ENOMEM);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a text; a lack of memory shows at the end.
    pub fn push_str(&mut self, text: &str) {
        let _ = self.bytes(text.as_bytes());
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what it has; keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written. ENOMEM when a part of it found no memory.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.out_of_memory { Err(Errno::ENOMEM) } else { Ok(self.bytes) }
    }
}

impl fmt::Write for TextBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// The result of writing text as an errno: it fails only when memory does.
pub fn written(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}
