//! SMTP (RFC 5321), as far as a client goes that has no mail: greeting, EHLO, STARTTLS (RFC 3207), QUIT.

use super::talk::{Talk, shown};
use super::{Depth, Stop, What};
use crate::plan::Endpoint;

/// What the kit calls itself: it is on this machine, and has no name of its own.
const EHLO: &[u8] = b"EHLO localhost\r\n";

pub(super) fn look(talk: &mut Talk, endpoint: &Endpoint, depth: Depth) -> Result<(), Stop> {
    expect(talk, What::Greeting, "greets with", "220")?;
    if depth == Depth::Greeting {
        talk.leave(b"QUIT\r\n");
        return Ok(());
    }
    let able = command(talk, EHLO, "answers EHLO with", "250")?;
    if let Some(tls) = &endpoint.starttls {
        if !able.iter().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS"))) {
            return Err(talk.bad(What::Tls, "does not offer STARTTLS"));
        }
        command(talk, b"STARTTLS\r\n", "answers STARTTLS with", "220")?;
        talk.secure(tls)?;
        command(talk, EHLO, "answers EHLO through TLS with", "250")?;
    }
    command(talk, b"QUIT\r\n", "answers QUIT with", "221")?;
    Ok(())
}

fn command(talk: &mut Talk, words: &[u8], doing: &str, code: &str) -> Result<Vec<String>, Stop> {
    talk.send(words)?;
    expect(talk, What::Transaction, doing, code)
}

/// An answer with this code: its lines.
fn expect(talk: &mut Talk, what: What, doing: &str, code: &str) -> Result<Vec<String>, Stop> {
    // "250-" goes on; "250 ", "250" and what is no answer at all end it.
    let goes_on =
        |line: &str| line.as_bytes().iter().take(3).all(u8::is_ascii_digit) && line.as_bytes().get(3) == Some(&b'-');
    let lines = talk.answer(|line| !goes_on(line))?;
    let well = |line: &String| line.starts_with(code) && matches!(line.as_bytes().get(3), None | Some(b' ' | b'-'));
    if lines.iter().all(well) {
        return Ok(lines);
    }
    let said = lines.iter().find(|line| !well(line)).map_or("", String::as_str);
    Err(talk.bad(what, &format!("{doing} \"{}\" in place of {code}", shown(said))))
}
