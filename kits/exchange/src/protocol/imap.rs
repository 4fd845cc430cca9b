//! IMAP (RFC 3501), as far as a client goes that only looks: greeting, STARTTLS, LOGIN, EXAMINE, LOGOUT. EXAMINE opens the inbox
//! without a trace.

use super::talk::{Talk, shown};
use super::{Depth, Login, Stop, What};
use crate::plan::Endpoint;

pub(super) fn look(talk: &mut Talk, endpoint: &Endpoint, depth: Depth, login: Option<&Login>) -> Result<(), Stop> {
    let greeting = talk.line()?;
    if !greeting.starts_with("* OK") && !greeting.starts_with("* PREAUTH") {
        return Err(talk.bad(What::Greeting, &format!("greets with \"{}\" in place of * OK", shown(&greeting))));
    }
    if depth == Depth::Greeting {
        talk.leave(b"a1 LOGOUT\r\n");
        return Ok(());
    }
    if let Some(tls) = &endpoint.starttls {
        ask(talk, "a1", "STARTTLS", What::Tls)?;
        talk.secure(tls)?;
    }
    if let Some(login) = login {
        let able = ask(talk, "a2", "CAPABILITY", What::Transaction)?;
        let secured = endpoint.implicit.is_some() || endpoint.starttls.is_some();
        if !secured && able.iter().any(|line| line.to_ascii_uppercase().contains("LOGINDISABLED")) {
            return Err(talk.bad(What::TlsRequired, "takes no password in the clear: say tls = \"start-tls\""));
        }
        log_in(talk, login)?;
        ask(talk, "a4", "EXAMINE INBOX", What::Transaction)?;
    }
    ask(talk, "a5", "LOGOUT", What::Transaction)?;
    Ok(())
}

/// User and password as literals, so that whatever is in them is taken for what it is.
fn log_in(talk: &mut Talk, login: &Login) -> Result<(), Stop> {
    let (user, password) = (login.user.as_bytes(), login.password.expose());
    let refused = |talk: &Talk, answer: &str| {
        // RFC 5530: it cannot be done just now, and not because of who logs in.
        let unavailable = answer.to_ascii_uppercase().contains("[UNAVAILABLE]");
        let what = if unavailable { What::Transaction } else { What::Login };
        talk.bad(what, &format!("does not let {} in: \"{}\"", login.user, shown(answer)))
    };
    let first = format!("a3 LOGIN {{{}}}\r\n", user.len()).into_bytes();
    let second = [user, format!(" {{{}}}\r\n", password.len()).as_bytes()].concat();
    for words in [first, second] {
        talk.send(&words)?;
        let go_on = tagged_or_more(talk, "a3")?;
        if !go_on.starts_with('+') {
            return Err(refused(talk, &go_on));
        }
    }
    talk.send(&[password, b"\r\n"].concat())?;
    let answer = tagged_or_more(talk, "a3")?;
    if answer.starts_with("a3 OK") { Ok(()) } else { Err(refused(talk, &answer)) }
}

/// The line that ends an answer, or asks for more.
fn tagged_or_more(talk: &mut Talk, tag: &str) -> Result<String, Stop> {
    let mut lines = talk.answer(|line| line.starts_with('+') || is_tagged(line, tag))?;
    Ok(lines.pop().unwrap_or_default())
}

/// A command that has to work: its answer.
fn ask(talk: &mut Talk, tag: &str, words: &str, what: What) -> Result<Vec<String>, Stop> {
    talk.send(format!("{tag} {words}\r\n").as_bytes())?;
    let lines = talk.answer(|line| is_tagged(line, tag))?;
    let last = lines.last().map_or("", String::as_str);
    let ok = last.strip_prefix(tag).is_some_and(|rest| rest == " OK" || rest.starts_with(" OK "));
    if ok {
        return Ok(lines);
    }
    Err(talk.bad(what, &format!("answers {words} with \"{}\"", shown(last))))
}

fn is_tagged(line: &str, tag: &str) -> bool {
    line.strip_prefix(tag).is_some_and(|rest| rest.starts_with(' '))
}
