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

/// The path with the texts of links, of which each names only later ones, put in their places.
fn substituted(path: &str, links: &[(&str, &str)]) -> String {
    let place = |component: &str| match links.iter().position(|(from, _)| *from == component) {
        Some(at) => substituted(links[at].1, &links[at + 1..]),
        None => component.to_owned(),
    };
    path.split('/').map(place).collect::<Vec<_>>().join("/")
}

/// Components of a text without links, as [`walk`] tells them.
fn split(text: &str) -> Vec<(String, bool, bool)> {
    let ends = text.trim_end_matches('/');
    let name = |(at, name): (usize, &str)| {
        (name.to_owned(), at + name.len() == ends.len(), text[at + name.len()..].starts_with('/'))
    };
    let start = |name: &str| name.as_ptr() as usize - text.as_ptr() as usize;
    text.split('/').filter(|name| !name.is_empty()).map(|part| name((start(part), part))).collect()
}

proptest! {
    #[test]
    fn links_are_walked_as_if_their_texts_stood_there(
        path in "[a-e/]{0,12}",
        texts in prop::array::uniform4("[/]{0,1}([d-e]/{1,2}){0,3}[d-e]/{0,1}"),
        nested in prop::array::uniform3(0..4usize),
    ) {
        // a leads through b and c, where the dice say so; d and e are no links.
        let name = |text: &str, dice: usize, link: &str| if dice > 0 { text.replacen('d', link, dice) } else { text.into() };
        let a = name(&name(&texts[0], nested[0], "b"), nested[1], "c");
        let b = name(&texts[1], nested[2], "c");
        let links = [("a", a.as_str()), ("b", b.as_str()), ("c", texts[2].as_str())];
        // A slash behind a link at the end was told with the link.
        let told = |seen: Vec<(String, bool, bool)>| -> Vec<_> {
            seen.into_iter().map(|(name, last, slash)| (name, last, slash || last)).collect()
        };
        prop_assert_eq!(told(walk(&path, &links)), told(split(&substituted(&path, &links))));
    }

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
