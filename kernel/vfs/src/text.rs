//! Text for /proc: escaping and readable sizes.

use core::fmt;

/// Writes bytes as text; those in `special`, the backslash, and bytes outside ASCII's printable range that
/// would break the line, as `\ooo` (Linux's seq_escape).
pub fn write_escaped(out: &mut dyn fmt::Write, bytes: &[u8], special: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let byte = u8::try_from(character).unwrap_or(0x80);
            if byte.is_ascii() && (special.contains(&byte) || (byte == b'\\' && special.len() > 1)) {
                write!(out, "\\{byte:03o}")?;
            } else {
                out.write_char(character)?;
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\{byte:03o}")?;
        }
    }
    Ok(())
}
