//! The kernel command line, as Linux reads it.
//!
//! Words are separated by blanks; double quotes keep blanks inside a word and are dropped. `name=value`
//! sets a parameter, `name` alone is a flag; `-` and `_` in names are the same. A word that the kernel
//! does not know goes to init: as an environment variable when it has a value, as an argument when not;
//! everything after `--` is an argument. Source: kernel-parameters.rst of Linux.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

/// One word of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    /// `None` for a flag.
    pub value: Option<String>,
}

/// A command line in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    pub params: Vec<Param>,
    /// The words after `--`.
    pub init_args: Vec<String>,
}

/// Splits into words, honouring quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(core::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

impl CommandLine {
    /// Takes a command line apart. Never fails: an open quote ends with the text.
    pub fn parse(text: &str) -> CommandLine {
        let mut line = CommandLine::default();
        let mut words = words(text).into_iter();
        for word in words.by_ref().take_while(|word| word != "--") {
            let param = match word.split_once('=') {
                Some((name, value)) => Param { name: name.into(), value: Some(value.into()) },
                None => Param { name: word, value: None },
            };
            line.params.push(param);
        }
        line.init_args = words.collect();
        line
    }

    /// The last value given for a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.params.iter().rev().filter(|p| same_name(&p.name, name)).find_map(|p| p.value.as_deref())
    }

    /// All values given for a parameter, in order (`console=` may come more than once).
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.params.iter().filter(move |p| same_name(&p.name, name)).filter_map(|p| p.value.as_deref())
    }

    /// Whether the word stands there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.params.iter().any(|p| same_name(&p.name, name))
    }

    /// A number: decimal, or hexadecimal after 0x.
    pub fn number(&self, name: &str) -> Option<u64> {
        let text = self.value(name)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// A size with the suffix K, M, G or T.
    pub fn size(&self, name: &str) -> Option<u64> {
        parse_size(self.value(name)?)
    }
}

/// "64M" is 67,108,864. `None` for anything that is not a number with at most one suffix, or too large.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        (at, 't' | 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

fn same_name(a: &str, b: &str) -> bool {
    let plain = |c| if c == b'-' { b'_' } else { c };
    a.len() == b.len() && a.bytes().map(plain).eq(b.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_flags_and_values() {
        let line =
            CommandLine::parse("quiet  console=ttyS0 init=\"/bin/my init\" console=tty1 x=a=b -- one two");
        assert!(line.has("quiet") && !line.has("loud"));
        assert_eq!(line.value("console"), Some("tty1"));
        assert_eq!(line.values("console").collect::<Vec<_>>(), ["ttyS0", "tty1"]);
        assert_eq!(line.value("init"), Some("/bin/my init"));
        assert_eq!(line.value("x"), Some("a=b"));
        assert_eq!(line.init_args, ["one", "two"]);
    }

    #[test]
    fn dashes_and_underscores_are_the_same() {
        assert_eq!(CommandLine::parse("slab-debug=F").value("slab_debug"), Some("F"));
    }

    #[test]
    fn sizes() {
        let cases = [
            ("64M", Some(64 << 20)),
            ("0", Some(0)),
            ("3k", Some(3072)),
            ("M", None),
            ("", None),
            ("9M9", None),
            ("99999999999T", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn open_quotes_and_emptiness_are_harmless() {
        assert_eq!(CommandLine::parse("\"").params, []);
        assert_eq!(CommandLine::parse("   ").params, []);
        assert_eq!(CommandLine::parse("a=\"b c").value("a"), Some("b c"));
    }
}
