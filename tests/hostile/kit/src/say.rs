//! Misbehaviour with words: in answers, in errors, in the log.

use mainstay_sdk::prelude::*;

use crate::Answer;

/// `bytes` bytes of text.
pub(crate) fn text(bytes: u32) -> String {
    "x".repeat(bytes as usize)
}

pub(crate) fn answer(summary_bytes: u32, details: u32, detail_bytes: u32) -> Answer {
    let details = (0..details).map(|n| (format!("detail-{n}"), text(detail_bytes))).collect();
    Answer { summary: text(summary_bytes), details }
}

pub(crate) fn error(message_bytes: u32, code_bytes: u32, details: u32) -> Error {
    let error = Error::new(ErrorKind::Failed, text(code_bytes), text(message_bytes));
    (0..details).fold(error, |error, n| error.detail(format!("detail-{n}"), "x"))
}

/// Bytes that no text holds, in a `String` nevertheless.
pub(crate) fn no_text() -> String {
    let bytes = vec![b'a', 0xff, 0xfe, 0xc0, b'z'];
    // SAFETY: there is none: that a kit can do this, and what the host makes of it, is what is tried. Nothing
    // but the host's lifting looks at the text.
    unsafe { String::from_utf8_unchecked(bytes) }
}

/// A text that lies outside the kit's memory.
pub(crate) fn from_nowhere() -> String {
    let outside = std::hint::black_box(usize::MAX - 0xfff) as *mut u8;
    // SAFETY: there is none: that a kit can do this, and what the host makes of it, is what is tried. The
    // host traps before anything in the kit touches it again.
    unsafe { String::from_raw_parts(outside, 0x100, 0x100) }
}

pub(crate) fn log_forever() -> ! {
    let mut n = 0_u64;
    loop {
        log::emit(log::Level::Info, &format!("line {n}"), &Vec::new());
        n += 1;
    }
}

pub(crate) fn log_line(bytes: u32) -> Answer {
    log::emit(log::Level::Warn, &text(bytes), &vec![("field".to_owned(), text(bytes))]);
    Answer::new("logged")
}

pub(crate) fn log_lines(count: u32) -> Answer {
    for n in 0..count {
        log::emit(log::Level::Info, &format!("line {n} of {count}"), &Vec::new());
    }
    Answer::new("logged")
}

pub(crate) fn log_control() -> Answer {
    let forged = "harmless\n2026-01-01T00:00:00Z ERROR mainstay: forged\r\x1b[2Jgone\u{2028}line\u{202e}desrever";
    let fields = vec![("key\nforged".to_owned(), "value\nforged".to_owned())];
    log::emit(log::Level::Info, forged, &fields);
    Answer::new("logged")
}

pub(crate) fn log_no_text() -> Answer {
    log::emit(log::Level::Info, &no_text(), &Vec::new());
    Answer::new("logged")
}
