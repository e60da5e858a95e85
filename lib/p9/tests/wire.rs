//! There and back for every message; nothing but an error from bytes that are none.

use p9wire::{
    Entries, Entry, HEADER, Lock, MAX_WALK, Malformed, Message, Names, Qid, Qids, READ_REPLY, TooLong,
    Writer, answer, decode,
};
use proptest::collection::vec;
use proptest::prelude::*;

const ROOM: usize = 8192;

fn qid() -> impl Strategy<Value = Qid> {
    any::<(u8, u32, u64)>().prop_map(|(kind, version, path)| Qid { kind, version, path })
}

/// A message of each kind whose fields come from a few numbers and strings.
fn every_message<'a>(
    n: &[u64; 4],
    a: &'a [u8],
    b: &'a [u8],
    names: &'a [&'a [u8]],
    qids: &[Qid],
) -> Vec<Message<'a>> {
    use Message::*;
    let [w, x, y, z] = *n;
    let (fid, dfid, other) = (w as u32, x as u32, y as u32);
    let qid = qids.first().copied().unwrap_or_default();
    let range = Lock { start: w, length: x, proc_id: other };
    vec![
        Rlerror { ecode: fid },
        Tstatfs { fid },
        Rstatfs {
            kind: fid,
            bsize: dfid,
            blocks: w,
            bfree: x,
            bavail: y,
            files: z,
            ffree: w,
            fsid: x,
            namelen: other,
        },
        Tlopen { fid, flags: other },
        Rlopen { qid, iounit: other },
        Tlcreate { fid, name: a, flags: dfid, mode: other, gid: fid },
        Rlcreate { qid, iounit: fid },
        Tsymlink { dfid, name: a, target: b, gid: other },
        Rsymlink { qid },
        Tmknod { dfid, name: b, mode: fid, major: other, minor: dfid, gid: fid },
        Rmknod { qid },
        Trename { fid, dfid, name: a },
        Rrename {},
        Treadlink { fid },
        Rreadlink { target: b },
        Tgetattr { fid, mask: z },
        Rgetattr {
            valid: w,
            qid,
            mode: fid,
            uid: dfid,
            gid: other,
            nlink: x,
            rdev: y,
            size: z,
            blksize: w,
            blocks: x,
            atime_s: y,
            atime_ns: z,
            mtime_s: w,
            mtime_ns: x,
            ctime_s: y,
            ctime_ns: z,
            btime_s: w,
            btime_ns: x,
            generation: y,
            data_version: z,
        },
        Rsetattr {},
        Tsetattr {
            fid,
            valid: other,
            mode: dfid,
            uid: fid,
            gid: other,
            size: w,
            atime_s: x,
            atime_ns: y,
            mtime_s: z,
            mtime_ns: w,
        },
        Txattrwalk { fid, newfid: dfid, name: a },
        Rxattrwalk { size: w },
        Txattrcreate { fid, name: b, size: y, flags: other },
        Rxattrcreate {},
        Treaddir { fid, offset: w, count: other },
        Rreaddir { count: fid },
        Tfsync { fid, data_only: other },
        Rfsync {},
        Tlock { fid, kind: w as u8, flags: dfid, range, client: a },
        Rlock { status: x as u8 },
        Tgetlock { fid, kind: y as u8, range, client: b },
        Rgetlock { kind: z as u8, range, client: a },
        Tlink { dfid, fid, name: b },
        Rlink {},
        Tmkdir { dfid, name: a, mode: other, gid: fid },
        Rmkdir { qid },
        Trenameat { old_dfid: fid, old_name: a, new_dfid: dfid, new_name: b },
        Rrenameat {},
        Tunlinkat { dfid, name: b, flags: other },
        Runlinkat {},
        Tversion { msize: fid, version: a },
        Rversion { msize: dfid, version: b },
        Tattach { fid, afid: dfid, uname: a, aname: b, n_uname: other },
        Rattach { qid },
        Tflush { old_tag: w as u16 },
        Rflush {},
        Twalk { fid, newfid: dfid, names: Names::List(names) },
        Rwalk { qids: Qids::new(qids) },
        Tread { fid, offset: x, count: other },
        Rread { count: dfid },
        Twrite { fid, offset: z, count: fid },
        Rwrite { count: other },
        Tclunk { fid },
        Rclunk {},
        Tremove { fid },
        Rremove {},
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_come_back(
        numbers in any::<[u64; 4]>(), tag in any::<u16>(), payload in 0..1u32 << 20,
        a in vec(any::<u8>(), 0..300), b in vec(any::<u8>(), 0..4096),
        names in vec(vec(any::<u8>(), 0..255), 0..=MAX_WALK), qids in vec(qid(), 0..=MAX_WALK),
    ) {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        for message in every_message(&numbers, &a, &b, &names, &qids) {
            let mut out = [0xaa; ROOM];
            let len = message.encode(tag, payload, &mut out).expect("it fits");
            let got = decode(&out).expect("it is a message");
            prop_assert_eq!((got.message, got.tag, got.size), (message, tag, len as u32 + payload));
            // Cut anywhere, it is no message any more; with room for less, it is not written.
            prop_assert!((0..len).all(|cut| decode(&out[..cut]) == Err(Malformed)));
            prop_assert_eq!(message.encode(tag, 0, &mut [0; ROOM][..len - 1]), Err(TooLong));
        }
    }

    #[test]
    fn bytes_that_are_no_message_do_no_harm(kind in any::<u8>(), size in any::<u32>(), rest in vec(any::<u8>(), 0..600)) {
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(rest);
        if let Ok(got) = decode(&bytes) {
            // What was understood is within the bytes and within the size.
            prop_assert!(got.size as usize >= HEADER && got.rest.len() <= bytes.len());
            let mut again = [0; ROOM];
            let len = got.message.encode(got.tag, 0, &mut again).expect("what fitted once fits again");
            prop_assert_eq!(&again[4..len], &bytes[4..len]);
        }
        Entries::new(&bytes).for_each(drop);
    }

    #[test]
    fn wrong_answers_are_none(
        mut bytes in vec(any::<u8>(), 0..300), tag in any::<u16>(), len in 0..400usize, room in 0..400usize,
        proper in any::<bool>(), count in 0..400u32,
    ) {
        if proper && bytes.len() >= READ_REPLY {
            Message::Rread { count }.encode(tag, count, &mut bytes).expect("it fits");
        }
        match answer(&bytes, tag, len) {
            Ok(got) => {
                prop_assert!(got.tag == tag && got.size as usize <= len);
                prop_assert!(answer(&bytes, tag ^ 1, len).is_err());
                prop_assert!(answer(&bytes, tag, got.size as usize - 1).is_err());
                if let Some(payload) = got.payload(room) {
                    prop_assert!(payload <= room && payload + READ_REPLY <= len);
                }
                prop_assert!(!got.is_whole(len) || got.size as usize == len);
            }
            // One that is proper is refused only when more should have come.
            Err(Malformed) => prop_assert!(!proper || bytes.len() < READ_REPLY || READ_REPLY + count as usize > len),
        }
    }

    #[test]
    fn entries_come_back(
        entries in vec((qid(), any::<u64>(), any::<u8>(), "[^/\0]{1,80}"), 0..20), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = vec![0; 1 << 16];
        let mut writer = Writer::new(&mut bytes);
        let entry = |(qid, next, kind, name): &'_ (Qid, u64, u8, String)| (*qid, *next, *kind, name.clone());
        for (qid, next, kind, name) in entries.iter().map(entry) {
            Entry { qid, next, kind, name: name.as_bytes() }.put(&mut writer);
        }
        let len = writer.finish().expect("they fit");
        let got: Vec<_> = Entries::new(&bytes[..len]).map(|entry| entry.expect("whole")).collect();
        prop_assert_eq!(got.len(), entries.len());
        for (got, (qid, next, kind, name)) in got.iter().zip(&entries) {
            prop_assert_eq!((got.qid, got.next, got.kind, got.name), (*qid, *next, *kind, name.as_bytes()));
        }
        if len > 0 {
            let broken = Entries::new(&bytes[..cut.index(len)]);
            prop_assert!(broken.clone().filter(Result::is_err).count() <= 1 && broken.count() <= entries.len());
        }
    }
}

#[test]
fn names_with_a_slash_or_a_zero_are_none() {
    for name in [&b""[..], b"a/b", b"/", b"a\0", b"\0"] {
        let mut bytes = [0; 64];
        let mut writer = Writer::new(&mut bytes);
        Entry { qid: Qid::default(), next: 1, kind: 8, name }.put(&mut writer);
        let len = writer.finish().expect("it fits");
        assert_eq!(Entries::new(&bytes[..len]).collect::<Vec<_>>(), [Err(Malformed)], "{name:?}");
    }
}

#[test]
fn a_size_that_ends_within_the_fields_is_no_message() {
    let mut bytes = [0; 64];
    let len = Message::Tgetattr { fid: 1, mask: 2 }.encode(3, 0, &mut bytes).expect("it fits");
    for size in 0..len as u32 {
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Malformed), "{size}");
    }
}

#[test]
fn the_bytes_are_those_of_the_protocol() {
    let mut bytes = [0; 64];
    let len = Message::Tversion { msize: 8192, version: p9wire::VERSION }
        .encode(0xffff, 0, &mut bytes)
        .expect("it fits");
    assert_eq!(&bytes[..len], b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\x009P2000.L");
    let len = Message::Twalk { fid: 1, newfid: 2, names: Names::List(&[b"ab", b"c"]) }
        .encode(5, 0, &mut bytes)
        .expect("it fits");
    assert_eq!(&bytes[..len], b"\x18\0\0\0\x6e\x05\0\x01\0\0\0\x02\0\0\0\x02\0\x02\0ab\x01\0c");
}
