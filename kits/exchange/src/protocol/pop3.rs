//! POP3 (RFC 1939), as far as a client goes that only looks: greeting, CAPA (RFC 2449), STLS (RFC 2595), USER and PASS, STAT,
//! QUIT. Nothing is fetched and nothing is deleted.

use super::talk::{Talk, shown};
use super::{Depth, Login, Stop, What};
use crate::plan::Endpoint;

pub(super) fn look(talk: &mut Talk, endpoint: &Endpoint, depth: Depth, login: Option<&Login>) -> Result<(), Stop> {
    let greeting = talk.line()?;
    if !is_ok(&greeting) {
        return Err(talk.bad(What::Greeting, &format!("greets with \"{}\" in place of +OK", shown(&greeting))));
    }
    if depth == Depth::Greeting {
        talk.leave(b"QUIT\r\n");
        return Ok(());
    }
    if let Some(tls) = &endpoint.starttls {
        ask(talk, b"STLS\r\n", What::Tls, "STLS")?;
        talk.secure(tls)?;
    }
    if let Some(login) = login {
        if endpoint.implicit.is_none() && endpoint.starttls.is_none() && !may_log_in(talk)? {
            return Err(talk.bad(What::TlsRequired, "takes no password in the clear: say tls = \"start-tls\""));
        }
        log_in(talk, login)?;
        ask(talk, b"STAT\r\n", What::Transaction, "STAT")?;
    }
    ask(talk, b"QUIT\r\n", What::Transaction, "QUIT")
}

/// Whether USER is among the capabilities. A server that has no CAPA takes it always.
fn may_log_in(talk: &mut Talk) -> Result<bool, Stop> {
    talk.send(b"CAPA\r\n")?;
    let first = talk.line()?;
    if !is_ok(&first) {
        return Ok(true);
    }
    let able = talk.answer(|line| line == ".")?;
    Ok(able.iter().any(|line| line.eq_ignore_ascii_case("USER")))
}

fn log_in(talk: &mut Talk, login: &Login) -> Result<(), Stop> {
    ask(talk, format!("USER {}\r\n", login.user).as_bytes(), What::Login, "USER")?;
    talk.send(&[b"PASS ", login.password.expose(), b"\r\n"].concat())?;
    let answer = talk.line()?;
    if is_ok(&answer) {
        return Ok(());
    }
    // RFC 3206: the system, and not who logs in, is the reason; RFC 2449: so is somebody else in the mailbox, who goes again.
    let what = if answer.starts_with("-ERR [SYS/") { What::Transaction } else { What::Login };
    Err(talk.bad(what, &format!("does not let {} in: \"{}\"", login.user, shown(&answer))))
}

fn ask(talk: &mut Talk, words: &[u8], what: What, name: &str) -> Result<(), Stop> {
    talk.send(words)?;
    let answer = talk.line()?;
    if is_ok(&answer) {
        return Ok(());
    }
    Err(talk.bad(what, &format!("answers {name} with \"{}\"", shown(&answer))))
}

fn is_ok(line: &str) -> bool {
    line.strip_prefix("+OK").is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}
