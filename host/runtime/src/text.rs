//! Text that came from a kit or from what a kit ran, made fit to be shown, logged and kept.
//!
//! Never longer than asked, never with characters that could move a terminal's cursor or forge a log line.

/// Does not move a cursor, end a line, or turn the direction in which what follows is shown: with the latter a
/// text can be read as something that it does not say.
fn is_harmless(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_a_line = matches!(c, '\u{2028}' | '\u{2029}');
    matches!(c, '\n' | '\t') || !(c.is_control() || turns || ends_a_line)
}

/// `text` with at most `bytes_max` bytes, cut at a character with a mark; of control characters and their
/// like only line breaks and tabs are kept.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    /// Says that something is missing.
    const MARK: &str = " [cut]";
    let whole = text.len() <= bytes_max;
    if whole && text.chars().all(is_harmless) {
        return text.to_owned();
    }
    let room = if whole { bytes_max } else { bytes_max.saturating_sub(MARK.len()) };
    let mut out = String::with_capacity(room.min(text.len()) + MARK.len());
    for c in text.chars().filter(|c| is_harmless(*c)) {
        if out.len() + c.len_utf8() > room {
            break;
        }
        out.push(c);
    }
    if !whole {
        out.push_str(MARK);
    }
    out
}

/// The last `bytes_max` bytes of `bytes` as text, cleaned, without white space around it.
pub(crate) fn tail(bytes: &[u8], bytes_max: usize) -> String {
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(bytes_max)..]);
    let text: String = tail.chars().filter(|c| is_harmless(*c)).collect();
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{fffd}').to_owned()
}

/// One line: line breaks and tabs become spaces.
pub(crate) fn one_line(text: &str, bytes_max: usize) -> String {
    clean(text, bytes_max).replace(['\n', '\t'], " ")
}

/// The one of `known` that `given` was probably meant to be: at most a third of its letters differ.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer names are not compared: the work grows with the square of the length.
    const NAME_CHARS_MAX: usize = 64;
    if given.chars().count() > NAME_CHARS_MAX {
        return None;
    }
    known
        .into_iter()
        .filter(|name| name.chars().count() <= NAME_CHARS_MAX)
        .map(|name| (distance(given, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(given.chars().count()).div_ceil(3))
        .min()
        .map(|(_, name)| name)
}

/// How many letters have to be changed, added or taken away (Levenshtein), capitals and `_` for `-` not counted.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, to) in b.iter().enumerate() {
            let changed = before[column] + usize::from(from != to);
            now.push(changed.min(before[column + 1] + 1).min(now[column] + 1));
        }
        before = now;
    }
    before[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_and_is_harmless_stays_as_it_is() {
        assert_eq!(clean("two\nlines\tand ü", 64), "two\nlines\tand ü");
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_says_so() {
        let cut = clean(&"ü".repeat(100), 21);
        assert_eq!(cut, "üüüüüüü [cut]");
        assert!(cut.len() <= 21);
    }

    #[test]
    fn escape_sequences_do_not_get_through() {
        assert_eq!(clean("a\u{1b}[2Jb\r\u{0}c", 64), "a[2Jbc");
        assert_eq!(one_line("a\nforged line", 64), "a forged line");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200f}d\u{2028}e", 64), "abcde");
        assert_eq!(tail("a\u{202e}b".as_bytes(), 64), "ab");
    }

    #[test]
    fn a_tail_keeps_the_newest() {
        assert_eq!(tail(b"old\nnew \xff\n", 6), "new");
        assert_eq!(tail(b"", 6), "");
    }

    #[test]
    fn a_typo_is_guessed_and_something_else_is_not() {
        let known = ["restore", "remove", "quick-check", "recover"];
        assert_eq!(nearest("restor", known), Some("restore"));
        assert_eq!(nearest("quickCheck", known), Some("quick-check"));
        assert_eq!(nearest("quick_check", known), Some("quick-check"));
        assert_eq!(nearest("colour", known), None);
    }
}
