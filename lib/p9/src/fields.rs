//! What messages are made of: numbers, strings, qids, lists; reading and writing them.

use crate::{MAX_WALK, Malformed, TooLong};

/// Identifies a file on its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Qid {
    /// Bits of the file's type: 0x80 directory, 0x02 symbolic link.
    pub kind: u8,
    /// Changes when the file does, as far as the server knows.
    pub version: u32,
    /// Differs between all files that exist.
    pub path: u64,
}

/// The range of `Tlock`, `Tgetlock` and `Rgetlock`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lock {
    pub start: u64,
    /// 0: to the end.
    pub length: u64,
    pub proc_id: u32,
}

/// Writes fields into a buffer; what does not fit is noticed at the end.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    failed: bool,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut [u8]) -> Writer<'a> {
        Writer { out, at: 0, failed: false }
    }

    /// How long it became.
    pub fn finish(self) -> Result<usize, TooLong> {
        if self.failed { Err(TooLong) } else { Ok(self.at) }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.at..).and_then(|room| room.get_mut(..bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.failed = true,
        }
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// A string of at most 65535 bytes.
    pub fn string(&mut self, text: &[u8]) {
        match u16::try_from(text.len()) {
            Ok(len) => {
                self.u16(len);
                self.bytes(text);
            }
            Err(_) => self.failed = true,
        }
    }

    pub fn qid(&mut self, qid: Qid) {
        self.u8(qid.kind);
        self.u32(qid.version);
        self.u64(qid.path);
    }
}

/// Reads fields from bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Nothing beyond `end` (from the front of the bytes) is read.
    pub fn limit(&mut self, end: usize) {
        self.bytes = &self.bytes[..end.clamp(self.at, self.bytes.len().max(self.at))];
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.rest().get(..len).ok_or(Malformed)?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(len.into())
    }

    pub fn qid(&mut self) -> Result<Qid, Malformed> {
        Ok(Qid { kind: self.u8()?, version: self.u32()?, path: self.u64()? })
    }
}

/// A kind of field.
pub(crate) trait Field<'a>: Sized {
    fn put(&self, writer: &mut Writer<'_>);
    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed>;
}

macro_rules! plain {
    ($($kind:ty: $method:ident),*) => {$(
        impl<'a> Field<'a> for $kind {
            fn put(&self, writer: &mut Writer<'_>) {
                writer.$method(*self);
            }
            fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
                reader.$method()
            }
        }
    )*};
}

plain!(u8: u8, u16: u16, u32: u32, u64: u64, &'a [u8]: string, Qid: qid);

impl<'a> Field<'a> for Lock {
    fn put(&self, writer: &mut Writer<'_>) {
        writer.u64(self.start);
        writer.u64(self.length);
        writer.u32(self.proc_id);
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Lock { start: reader.u64()?, length: reader.u64()?, proc_id: reader.u32()? })
    }
}

/// The names of `Twalk`, at most [`MAX_WALK`].
#[derive(Clone, Copy, Debug)]
pub enum Names<'a> {
    /// To be sent.
    List(&'a [&'a [u8]]),
    /// As they came: so many strings.
    Received(u16, &'a [u8]),
}

impl<'a> Names<'a> {
    pub fn len(&self) -> usize {
        match self {
            Names::List(list) => list.len(),
            Names::Received(count, _) => usize::from(*count),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let (list, mut reader) = match *self {
            Names::List(list) => (list, Reader::new(&[])),
            Names::Received(_, bytes) => (&[][..], Reader::new(bytes)),
        };
        list.iter().copied().chain(core::iter::from_fn(move || reader.string().ok()))
    }
}

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Names<'_> {}

impl<'a> Field<'a> for Names<'a> {
    fn put(&self, writer: &mut Writer<'_>) {
        if self.len() > MAX_WALK {
            writer.failed = true;
            return;
        }
        writer.u16(self.len() as u16);
        self.iter().for_each(|name| writer.string(name));
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = reader.u16()?;
        if usize::from(count) > MAX_WALK {
            return Err(Malformed);
        }
        let all = reader.rest();
        for _ in 0..count {
            reader.string()?;
        }
        Ok(Names::Received(count, &all[..all.len() - reader.rest().len()]))
    }
}

/// The qids of `Rwalk`, at most [`MAX_WALK`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Qids {
    list: [Qid; MAX_WALK],
    len: usize,
}

impl Qids {
    /// Of a list; what is too much is left out.
    pub fn new(list: &[Qid]) -> Qids {
        let mut qids = Qids { len: list.len().min(MAX_WALK), ..Qids::default() };
        qids.list.iter_mut().zip(list).for_each(|(to, from)| *to = *from);
        qids
    }

    pub fn as_slice(&self) -> &[Qid] {
        &self.list[..self.len]
    }
}

impl<'a> Field<'a> for Qids {
    fn put(&self, writer: &mut Writer<'_>) {
        writer.u16(self.len as u16);
        self.as_slice().iter().for_each(|qid| writer.qid(*qid));
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = usize::from(reader.u16()?);
        if count > MAX_WALK {
            return Err(Malformed);
        }
        let mut qids = Qids { len: count, ..Qids::default() };
        for qid in &mut qids.list[..count] {
            *qid = reader.qid()?;
        }
        Ok(qids)
    }
}
