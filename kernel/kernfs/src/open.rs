//! Open files of a [`crate::Text`] and of [`crate::Records`].

use crate::buffer::TextBuf;
use crate::{Asker, Next, RecordSource, Text};
use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels::OpenFile;
use task::Mutex;
use vfs::{File, FileOps, FileTraits, IoBuf, PollTable};

/// The longest text that one write(2) may bring.
pub const MAX_WRITE: usize = 65_536;

/// A file whose whole text is made at once.
///
/// No lock is held while the text is made or copied out: making it takes locks of any level, and copying
/// may fault.
pub(crate) struct OpenText {
    text: Arc<dyn Text>,
    asker: Asker,
    made: SpinLock<Option<Arc<Vec<u8>>>, OpenFile>,
    /// The changes that the opener knows of.
    seen: AtomicU64,
}

impl OpenText {
    pub fn new(text: Arc<dyn Text>, asker: Asker) -> OpenText {
        let seen = text.changes().map_or(0, |changes| changes.count());
        OpenText { text, asker, made: SpinLock::new(None), seen: AtomicU64::new(seen) }
    }

    fn keep(&self, text: Option<Arc<Vec<u8>>>) {
        let old = core::mem::replace(&mut *self.made.lock(), text);
        drop(old);
    }

    fn made(&self, pos: u64) -> Result<Arc<Vec<u8>>> {
        let kept = self.made.lock().clone();
        if let Some(text) = kept.filter(|_| pos != 0) {
            return Ok(text);
        }
        let mut out = TextBuf::new();
        self.text.show(&mut out, &self.asker)?;
        let text = Arc::new(out.finish()?);
        self.keep(Some(text.clone()));
        Ok(text)
    }
}

impl FileOps for OpenText {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        buf.put_at(&self.made(*pos)?, pos)
    }

    fn write(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let bytes = take(buf)?;
        self.text.store(&bytes, &self.asker)?;
        self.keep(None);
        *pos += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn traits(&self) -> FileTraits {
        if self.text.changes().is_some() { FileTraits::POLLABLE } else { FileTraits::empty() }
    }

    /// A change is told once; the text itself can always be read.
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let Some(changes) = self.text.changes() else { return PollEvents::REGULAR };
        if let Some(table) = table {
            table.add(changes.queue());
        }
        let count = changes.count();
        let changed = self.seen.swap(count, Relaxed) != count;
        PollEvents::READABLE | if changed { PollEvents::ERR | PollEvents::PRI } else { PollEvents::empty() }
    }
}

/// What one write(2) brings. EINVAL for more than [`MAX_WRITE`].
fn take(buf: &mut IoBuf) -> Result<Vec<u8>> {
    let len = buf.remaining();
    if len > MAX_WRITE {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    let taken = buf.take(&mut bytes)?;
    bytes.truncate(taken);
    Ok(bytes)
}

/// A file whose records are made while it is read.
///
/// ```text
///   record 0 | record 1 | record 2 | record 3 ...
///                       ^ start    ^ cursor: the next one to make
///                       [ window  ]
/// ```
///
/// Reading on costs each record once; reading elsewhere starts from the beginning, as Linux's seq_file does.
pub(crate) struct OpenRecords {
    source: Box<dyn RecordSource>,
    state: Mutex<Window, sync::levels::KernelText>,
}

#[derive(Default)]
struct Window {
    /// Byte of the file at which `text` begins.
    start: u64,
    text: TextBuf,
    /// The record after those in `text`; `None`: there is no more.
    cursor: Option<u64>,
    begun: bool,
}

/// Text made ahead, in bytes: enough for the common buffer of a reader.
const WINDOW: usize = 4096;

impl OpenRecords {
    pub fn new(source: Box<dyn RecordSource>) -> OpenRecords {
        OpenRecords { source, state: Mutex::new(Window::default()) }
    }

    /// Moves the window forward until it has byte `pos`; false at the end.
    fn seek(&self, window: &mut Window, pos: u64) -> Result<bool> {
        if !window.begun || pos < window.start || pos == 0 {
            *window = Window { cursor: Some(0), begun: true, ..Window::default() };
        }
        while pos >= window.start + window.text.len() as u64 {
            if !self.advance(window)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next records into the window; false when there are none.
    fn advance(&self, window: &mut Window) -> Result<bool> {
        window.start += window.text.len() as u64;
        window.text.clear();
        while window.text.len() < WINDOW {
            let Some(cursor) = window.cursor else { break };
            window.cursor = match self.source.next(cursor, &mut window.text)? {
                Next::At(next) => Some(next),
                Next::End => None,
            };
        }
        Ok(!window.text.is_empty())
    }
}

impl FileOps for OpenRecords {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let mut window = self.state.lock();
        let mut done = 0;
        while buf.remaining() > 0 {
            match self.seek(&mut window, *pos) {
                Ok(true) => {}
                Err(error) if done == 0 => return Err(error),
                Ok(false) | Err(_) => break,
            }
            let offset = (*pos - window.start) as usize;
            match buf.put(&window.text.as_bytes()[offset..]) {
                Ok(count) => {
                    done += count;
                    *pos += count as u64;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}
