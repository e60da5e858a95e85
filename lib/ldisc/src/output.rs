//! Output processing (OPOST) and the column it leaves the cursor in.

use abi::tty::*;

/// Tracks the column, which echoing a tab or a backspace over one needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Column(pub usize);

impl Column {
    /// Moves for one byte that goes to the terminal.
    pub(crate) fn advance(&mut self, byte: u8) {
        match byte {
            b'\r' | b'\n' => self.0 = 0,
            b'\t' => self.0 = (self.0 | 7) + 1,
            0x08 => self.0 = self.0.saturating_sub(1),
            // Continuation bytes of UTF-8 take no column of their own.
            byte if byte >= 0x20 && byte & 0xc0 != 0x80 && byte != 0x7f => self.0 += 1,
            _ => {}
        }
    }
}

/// Sends one byte of output as the flags ask.
pub(crate) fn put(termios: &Termios, column: &mut Column, byte: u8, sink: &mut dyn FnMut(&[u8])) {
    let flags = termios.c_oflag;
    if flags & OPOST == 0 {
        return sink(&[byte]);
    }
    match byte {
        b'\n' if flags & ONLCR != 0 => {
            column.0 = 0;
            sink(b"\r\n");
        }
        b'\n' => {
            // Without ONLRET a line feed keeps the column.
            if flags & ONLRET != 0 {
                column.0 = 0;
            }
            sink(b"\n");
        }
        b'\r' if flags & ONOCR != 0 && column.0 == 0 => {}
        b'\r' if flags & OCRNL != 0 => put_plain(column, b'\n', sink),
        b'\t' if flags & TABDLY == XTABS => {
            let spaces = 8 - column.0 % 8;
            column.0 += spaces;
            sink(&b"        "[..spaces]);
        }
        byte if flags & OLCUC != 0 => put_plain(column, byte.to_ascii_uppercase(), sink),
        byte => put_plain(column, byte, sink),
    }
}

fn put_plain(column: &mut Column, byte: u8, sink: &mut dyn FnMut(&[u8])) {
    column.advance(byte);
    sink(&[byte]);
}
