use super::*;
use abi::tty::*;
use proptest::prelude::*;

/// Types `input`; returns the echo and the events that are not `None` or `Readable`.
fn type_in(ldisc: &mut LineDiscipline, input: &[u8]) -> (Vec<u8>, Vec<Event>) {
    let mut echo = Vec::new();
    let mut events = Vec::new();
    for &byte in input {
        let event = ldisc.receive(byte, &mut |bytes| echo.extend_from_slice(bytes));
        if !matches!(event, Event::None | Event::Readable) {
            events.push(event);
        }
    }
    (echo, events)
}

fn read_all(ldisc: &mut LineDiscipline) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut buffer = [0; 8192];
    while let ReadOutcome::Bytes(count) = ldisc.read(&mut buffer) {
        lines.push(buffer[..count].to_vec());
    }
    lines
}

fn check(input: &[u8], lines: &[&[u8]], echo: &[u8]) {
    let mut ldisc = LineDiscipline::new();
    let (got_echo, _) = type_in(&mut ldisc, input);
    assert_eq!(got_echo, echo, "echo of {input:?}");
    assert_eq!(read_all(&mut ldisc), lines, "lines of {input:?}");
}

#[test]
fn canonical_lines() {
    check(b"ab\r", &[b"ab\n"], b"ab\r\n");
    check(b"one\rtwo\rrest", &[b"one\n", b"two\n"], b"one\r\ntwo\r\nrest");
    check(b"ab\x7fc\r", &[b"ac\n"], b"ab\x08 \x08c\r\n");
    check(b"ab\x15c\r", &[b"c\n"], b"ab\x08 \x08\x08 \x08c\r\n");
    check(b"foo bar\x17x\r", &[b"foo x\n"], b"foo bar\x08 \x08\x08 \x08\x08 \x08x\r\n");
    check(b"\x04", &[b""], b"");
    check(b"ab\x04", &[b"ab"], b"ab");
    check(b"a\x16\x03b\r", &[b"a\x03b\n"], b"a^\x08^Cb\r\n");
    check(b"\x7f\r", &[b"\n"], b"\r\n");
}

#[test]
fn erasing_what_takes_more_columns() {
    check(b"\x16\x01\x7f\r", &[b"\n"], b"^\x08^A\x08 \x08\x08 \x08\r\n");
    check(b"ab\t\x7f\r", &[b"ab\n"], &[b"ab\t".as_slice(), &b"\x08 \x08".repeat(6), b"\r\n"].concat());
}

#[test]
fn signals_flush_and_echo() {
    let mut ldisc = LineDiscipline::new();
    let (echo, events) = type_in(&mut ldisc, b"sleep\x03\x1a\x1c");
    assert_eq!(events, [Event::Interrupt, Event::Suspend, Event::Quit]);
    assert_eq!(echo, b"sleep^C^Z^\\");
    type_in(&mut ldisc, b"\r");
    assert_eq!(read_all(&mut ldisc), [b"\n"]);
}

#[test]
fn raw_mode_passes_everything() {
    let mut ldisc = LineDiscipline::new();
    let mut termios = *ldisc.termios();
    termios.c_lflag = 0;
    termios.c_iflag = 0;
    termios.c_oflag = 0;
    ldisc.set_termios(termios);
    let (echo, events) = type_in(&mut ldisc, b"\x03\x04\r\n\x7f");
    assert!(echo.is_empty() && events.is_empty());
    assert_eq!(read_all(&mut ldisc), [b"\x03\x04\r\n\x7f"]);
}

#[test]
fn vmin_counts_without_a_timer() {
    let mut ldisc = LineDiscipline::new();
    let mut termios = *ldisc.termios();
    termios.c_lflag &= !ICANON;
    termios.c_cc[VMIN] = 3;
    ldisc.set_termios(termios);
    type_in(&mut ldisc, b"ab");
    assert!(!ldisc.is_readable());
    type_in(&mut ldisc, b"c");
    assert!(ldisc.is_readable());
}

#[test]
fn changing_modes_keeps_what_was_typed() {
    let mut ldisc = LineDiscipline::new();
    type_in(&mut ldisc, b"one\rtw");
    let cooked = *ldisc.termios();
    let mut raw = cooked;
    raw.c_lflag &= !ICANON;
    ldisc.set_termios(raw);
    assert_eq!(ldisc.available(), 6);
    ldisc.set_termios(cooked);
    assert_eq!(read_all(&mut ldisc), [b"one\ntw"]);
}

#[test]
fn output_processing() {
    let mut ldisc = LineDiscipline::new();
    let mut out = Vec::new();
    ldisc.write(b"a\nb\tc", &mut |bytes| out.extend_from_slice(bytes));
    assert_eq!(out, b"a\r\nb\tc");
    let mut termios = *ldisc.termios();
    termios.c_oflag = OPOST | XTABS;
    ldisc.set_termios(termios);
    out.clear();
    ldisc.write(b"\rab\tc", &mut |bytes| out.extend_from_slice(bytes));
    assert_eq!(out, b"\rab      c");
}

#[test]
fn short_reads_leave_the_rest_of_the_line() {
    let mut ldisc = LineDiscipline::new();
    type_in(&mut ldisc, b"hello\r");
    let mut two = [0; 2];
    assert_eq!(ldisc.read(&mut two), ReadOutcome::Bytes(2));
    assert_eq!(read_all(&mut ldisc), [b"llo\n"]);
}

#[test]
fn a_line_too_long_still_ends() {
    let mut ldisc = LineDiscipline::new();
    type_in(&mut ldisc, &[b'x'; 5000]);
    type_in(&mut ldisc, b"\r");
    let lines = read_all(&mut ldisc);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() <= INPUT_MAX && lines[0].ends_with(b"x\n"));
}

proptest! {
    /// Nothing typed makes the state inconsistent: lines in `ready` always add up.
    #[test]
    fn any_input_any_modes(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), 0usize..40), 0..400),
        lflag in any::<u32>(), iflag in any::<u32>(), oflag in any::<u32>(),
    ) {
        let mut ldisc = LineDiscipline::new();
        let mut buffer = [0; 64];
        for (at, (byte, change, count)) in steps.into_iter().enumerate() {
            if change > 250 {
                let mut termios = Termios::STANDARD;
                (termios.c_lflag, termios.c_iflag, termios.c_oflag) = (lflag ^ at as u32, iflag, oflag);
                ldisc.set_termios(termios);
            }
            ldisc.receive(byte, &mut |_| {});
            prop_assert!(ldisc.room() <= INPUT_MAX);
            if count < 4 {
                let available = ldisc.available();
                if let ReadOutcome::Bytes(got) = ldisc.read(&mut buffer[..count]) {
                    prop_assert!(got <= available.min(count));
                }
            }
        }
    }
}
