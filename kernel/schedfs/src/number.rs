//! Numbers as Linux's kstrtoull and kstrtoint read them.

use abi::Errno;
use abi::errno::Result;

/// Decimal, `0x` hexadecimal or `0` octal. EINVAL for what is no number, ERANGE for one that is too large.
pub fn unsigned(text: &str) -> Result<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Errno::ERANGE)
}

/// A decimal number with a sign, of `int`'s range. EINVAL otherwise, as sysctl files answer.
pub fn signed(text: &str) -> Result<i32> {
    text.parse().map_err(|_| Errno::EINVAL)
}
