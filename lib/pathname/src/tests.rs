use crate::*;
use proptest::prelude::*;
use std::sync::Arc;

fn walk(path: &str, links: &[(&str, &str)]) -> Vec<(String, bool, bool)> {
    let mut cursor = Cursor::new(path.as_bytes(), 7);
    let mut seen = Vec::new();
    loop {
        let Some(c) = cursor.next_component() else { return seen };
        assert_eq!(c.hash, hash(7, c.name));
        let name = String::from_utf8(c.name.to_vec()).unwrap();
        let (last, slash) = (c.last, c.slash);
        match links.iter().find(|(from, _)| *from == name) {
            Some((_, to)) => cursor.push(Arc::from(to.as_bytes())),
            None => seen.push((name, last, slash)),
        }
    }
}

fn check(path: &str, links: &[(&str, &str)], expected: &str) {
    let seen: Vec<String> = walk(path, links)
        .into_iter()
        .map(|(name, last, slash)| {
            format!("{name}{}{}", if slash { "/" } else { "" }, if last { "!" } else { "" })
        })
        .collect();
    assert_eq!(seen.join(" "), expected, "{path}");
}

#[test]
fn components() {
    check("", &[], "");
    check("///", &[], "");
    check("a", &[], "a!");
    check("/a//b/", &[], "a/ b/!");
    check("a/b", &[], "a/ b!");
}

#[test]
fn links_come_first() {
    check("a/l/b", &[("l", "x/y")], "a/ x/ y/ b!");
    check("l", &[("l", "x/y")], "x/ y!");
    check("l", &[("l", "m/z"), ("m", "x/y/")], "x/ y/ z!");
    check("l/", &[("l", "m"), ("m", "/x")], "x!");
    check("l/q", &[("l", "")], "q!");
}

#[test]
fn names() {
    for len in [0, 1, 21, 22, 23, 255] {
        let bytes = vec![b'x'; len];
        assert_eq!(Name::new(&bytes).as_bytes(), &bytes[..]);
    }
    assert!(Name::from("a") < Name::from("b"));
    assert_eq!(size_of::<Name>(), 24);
}

proptest! {
    #[test]
    fn splits_as_the_standard_library_does(path in "[a-c/.]{0,20}") {
        let mine: Vec<String> = walk(&path, &[]).into_iter().map(|c| c.0).collect();
        let theirs: Vec<&str> = path.split('/').filter(|c| !c.is_empty()).collect();
        prop_assert_eq!(mine, theirs);
    }

    #[test]
    fn a_name_hashes_alike_wherever_it_stands(name in "[^/\\x00]{0,20}", after in "[a/]{0,20}", seed: u64) {
        let alone = component(seed, name.as_bytes());
        prop_assert_eq!(alone.0, name.len());
        let path = format!("{name}/{after}");
        prop_assert_eq!(component(seed, path.as_bytes()), alone);
    }

    #[test]
    fn names_that_differ_in_a_byte_hash_apart(name in "[a-z]{1,20}", at: prop::sample::Index, seed: u64) {
        let mut other = name.clone().into_bytes();
        let at = at.index(other.len());
        other[at] ^= 1;
        prop_assert_ne!(hash(seed, &other), hash(seed, name.as_bytes()));
    }

    #[test]
    fn a_name_is_itself_alone(a in "[ab]{0,26}", b in "[ab]{0,26}") {
        prop_assert!(Name::from(a.as_str()).is(a.as_bytes()));
        prop_assert_eq!(Name::from(a.as_str()).is(b.as_bytes()), a == b);
    }

    #[test]
    fn nul_is_found(bytes in prop::array::uniform32(0u8..3)) {
        let words: Vec<u64> = bytes.chunks(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap())).collect();
        prop_assert_eq!(find_nul(&words), bytes.iter().position(|&b| b == 0));
    }

    #[test]
    fn exactly_the_last_component_is_last(path in "[ab/l]{0,20}") {
        let seen = walk(&path, &[]);
        for (i, (_, last, _)) in seen.iter().enumerate() {
            prop_assert_eq!(*last, i + 1 == seen.len());
        }
    }
}
