//! The table of messages.

use crate::Malformed;
use crate::fields::{Field, Lock, Names, Qid, Qids, Reader, Writer};

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $number:literal { $($field:ident: $kind:ty),* }),* $(,)?) => {
        /// A message; `T` to the server, `R` from it. Times are seconds and nanoseconds; strings are bytes without
        /// a terminating zero; `count` is the length of a payload behind the message, or of what is asked for.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub enum Message<'a> {
            $($(#[$doc])* $name { $($field: $kind),* },)*
        }

        impl<'a> Message<'a> {
            /// The number in the type field.
            pub const fn kind(&self) -> u8 {
                match self { $(Message::$name { .. } => $number,)* }
            }

            /// Its name, for messages about messages.
            pub const fn name(&self) -> &'static str {
                match self { $(Message::$name { .. } => stringify!($name),)* }
            }

            pub(crate) fn put_fields(&self, writer: &mut Writer<'_>) {
                match self {
                    $(Message::$name { $($field),* } => { $(Field::put($field, writer);)* let _ = &writer; })*
                }
            }

            pub(crate) fn get_fields(kind: u8, reader: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
                match kind {
                    $($number => { let _ = &reader; Ok(Message::$name { $($field: <$kind as Field>::get(reader)?),* }) })*
                    _ => Err(Malformed),
                }
            }
        }
    };
}

messages! {
    /// An errno of Linux.
    Rlerror = 7 { ecode: u32 },
    Tstatfs = 8 { fid: u32 },
    Rstatfs = 9 {
        kind: u32, bsize: u32, blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, fsid: u64, namelen: u32
    },
    Tlopen = 12 { fid: u32, flags: u32 },
    Rlopen = 13 { qid: Qid, iounit: u32 },
    /// `fid` is the directory before and the open file after it.
    Tlcreate = 14 { fid: u32, name: &'a [u8], flags: u32, mode: u32, gid: u32 },
    Rlcreate = 15 { qid: Qid, iounit: u32 },
    Tsymlink = 16 { dfid: u32, name: &'a [u8], target: &'a [u8], gid: u32 },
    Rsymlink = 17 { qid: Qid },
    Tmknod = 18 { dfid: u32, name: &'a [u8], mode: u32, major: u32, minor: u32, gid: u32 },
    Rmknod = 19 { qid: Qid },
    Trename = 20 { fid: u32, dfid: u32, name: &'a [u8] },
    Rrename = 21 {},
    Treadlink = 22 { fid: u32 },
    Rreadlink = 23 { target: &'a [u8] },
    /// `mask`: bits of [`crate::attr`].
    Tgetattr = 24 { fid: u32, mask: u64 },
    Rgetattr = 25 {
        valid: u64, qid: Qid, mode: u32, uid: u32, gid: u32, nlink: u64, rdev: u64, size: u64, blksize: u64,
        blocks: u64, atime_s: u64, atime_ns: u64, mtime_s: u64, mtime_ns: u64, ctime_s: u64, ctime_ns: u64,
        btime_s: u64, btime_ns: u64, generation: u64, data_version: u64
    },
    /// `valid`: bits of [`crate::set`].
    Tsetattr = 26 {
        fid: u32, valid: u32, mode: u32, uid: u32, gid: u32, size: u64, atime_s: u64, atime_ns: u64, mtime_s: u64,
        mtime_ns: u64
    },
    Rsetattr = 27 {},
    /// `newfid` stands for the value of the attribute, or for the list of names when `name` is empty.
    Txattrwalk = 30 { fid: u32, newfid: u32, name: &'a [u8] },
    Rxattrwalk = 31 { size: u64 },
    /// What is written to `fid` becomes the value when it is clunked; no bytes remove it.
    Txattrcreate = 32 { fid: u32, name: &'a [u8], size: u64, flags: u32 },
    Rxattrcreate = 33 {},
    Treaddir = 40 { fid: u32, offset: u64, count: u32 },
    Rreaddir = 41 { count: u32 },
    Tfsync = 50 { fid: u32, data_only: u32 },
    Rfsync = 51 {},
    Tlock = 52 { fid: u32, kind: u8, flags: u32, range: Lock, client: &'a [u8] },
    Rlock = 53 { status: u8 },
    Tgetlock = 54 { fid: u32, kind: u8, range: Lock, client: &'a [u8] },
    Rgetlock = 55 { kind: u8, range: Lock, client: &'a [u8] },
    Tlink = 70 { dfid: u32, fid: u32, name: &'a [u8] },
    Rlink = 71 {},
    Tmkdir = 72 { dfid: u32, name: &'a [u8], mode: u32, gid: u32 },
    Rmkdir = 73 { qid: Qid },
    Trenameat = 74 { old_dfid: u32, old_name: &'a [u8], new_dfid: u32, new_name: &'a [u8] },
    Rrenameat = 75 {},
    Tunlinkat = 76 { dfid: u32, name: &'a [u8], flags: u32 },
    Runlinkat = 77 {},
    Tversion = 100 { msize: u32, version: &'a [u8] },
    Rversion = 101 { msize: u32, version: &'a [u8] },
    Tattach = 104 { fid: u32, afid: u32, uname: &'a [u8], aname: &'a [u8], n_uname: u32 },
    Rattach = 105 { qid: Qid },
    Tflush = 108 { old_tag: u16 },
    Rflush = 109 {},
    Twalk = 110 { fid: u32, newfid: u32, names: Names<'a> },
    Rwalk = 111 { qids: Qids },
    Tread = 116 { fid: u32, offset: u64, count: u32 },
    Rread = 117 { count: u32 },
    Twrite = 118 { fid: u32, offset: u64, count: u32 },
    Rwrite = 119 { count: u32 },
    Tclunk = 120 { fid: u32 },
    Rclunk = 121 {},
    Tremove = 122 { fid: u32 },
    Rremove = 123 {},
}
