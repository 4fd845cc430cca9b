//! One connection and its deadline: lines go in, lines come out, and nothing waits for longer than is left.

use std::time::Duration;

use mainstay_sdk::net::{Tcp, Tls};
use mainstay_sdk::prelude::*;

use super::{Bad, Stop, What};
use crate::plan::Endpoint;
use crate::versions::Protocol;

/// The longest line, in bytes; the protocols have 512 to 8,192, and what is longer is not theirs.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The most lines of one answer: capabilities and the state of a mailbox have a few dozen.
const ANSWER_LINES_MAX: usize = 256;
/// How much is read at once, in bytes.
const READ_BYTES: u32 = 4 * 1024;
/// How much of what a server said is shown, in characters.
const SHOWN_MAX: usize = 160;

/// A connection to a server.
pub(super) struct Talk {
    tcp: Tcp,
    protocol: Protocol,
    /// For people.
    at: String,
    /// For one answer, and for the greeting from the connection on.
    time: Duration,
    /// When the wait for what is awaited now is over.
    until: Duration,
    unread: Vec<u8>,
}

impl Talk {
    /// Connects, and secures the connection where that is done first.
    pub(super) fn begin(endpoint: &Endpoint, time: Duration) -> Result<Self, Stop> {
        let until = clock::monotonic() + time;
        let at = endpoint.at();
        let tcp = Tcp::connect(&endpoint.host, endpoint.port, time)
            .map_err(|fault| of_fault(endpoint.protocol, &at, &fault))?;
        let mut talk = Self { tcp, protocol: endpoint.protocol, at, time, until, unread: Vec::new() };
        if let Some(tls) = &endpoint.implicit {
            talk.secure(tls)?;
        }
        Ok(talk)
    }

    /// Goes on through TLS.
    pub(super) fn secure(&mut self, tls: &Tls) -> Result<(), Stop> {
        if !self.unread.is_empty() {
            // It would be read as if it had come through TLS.
            return Err(self.bad(What::Tls, "went on in the clear when it was to begin TLS"));
        }
        let left = self.left()?;
        self.tcp.start_tls(tls, left).map_err(|fault| self.of_tls(fault))
    }

    /// From now on another answer is awaited.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.until = clock::monotonic() + self.time;
        let left = self.left()?;
        self.tcp.write(bytes, left).map_err(|fault| self.of(&fault))
    }

    /// Says goodbye. What comes of it does not matter: what there was to see has been seen.
    pub(super) fn leave(&mut self, bytes: &[u8]) {
        if let Err(fault) = self.tcp.write(bytes, self.time) {
            mainstay_sdk::debug!("{} at {}: the connection ended before its goodbye: {fault}", self.protocol, self.at);
        }
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Result<String, Stop> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.unread.len() > LINE_BYTES_MAX {
                let begin = shown(&String::from_utf8_lossy(&self.unread));
                return Err(self.bad(What::Greeting, &format!("sends what is no line of {}: {begin}", self.protocol)));
            }
            self.more()?;
        }
    }

    /// Waits for more bytes; none: the server closed.
    pub(super) fn more(&mut self) -> Result<usize, Stop> {
        let left = self.left()?;
        let piece = self.tcp.read(READ_BYTES, left).map_err(|fault| self.of(&fault))?;
        if piece.is_empty() {
            let had = match shown(&String::from_utf8_lossy(&self.unread)) {
                nothing if nothing.is_empty() => "without a word".to_owned(),
                said => format!("after {said}"),
            };
            return Err(self.bad(What::Closed, &format!("accepted the connection and closed it {had}")));
        }
        self.unread.extend_from_slice(&piece);
        Ok(piece.len())
    }

    /// What has come and was not read as lines.
    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Lines up to the one that `last` takes, which is the last of the answer.
    pub(super) fn answer(&mut self, last: impl Fn(&str) -> bool) -> Result<Vec<String>, Stop> {
        let mut lines = Vec::new();
        while lines.len() < ANSWER_LINES_MAX {
            let line = self.line()?;
            let is_last = last(&line);
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
        Err(self.bad(What::Transaction, &format!("answers without end: more than {ANSWER_LINES_MAX} lines")))
    }

    /// Something is wrong; `said` goes on where the server is the subject.
    pub(super) fn bad(&self, what: What, said: &str) -> Stop {
        Stop::Bad(Bad::new(what, format!("{} at {} {said}", self.protocol, self.at)))
    }

    /// What is left of the wait. With nothing left, it is over.
    fn left(&self) -> Result<Duration, Stop> {
        match self.until.checked_sub(clock::monotonic()) {
            Some(left) if !left.is_zero() => Ok(left),
            Some(_) | None => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Stop {
        let time = self.time.as_millis();
        let said = match shown(&String::from_utf8_lossy(&self.unread)) {
            nothing if nothing.is_empty() => format!("accepted the connection and did not answer within {time} ms"),
            begun => format!("did not answer in full within {time} ms; what came: {begun}"),
        };
        self.bad(What::NoAnswer, &said)
    }

    fn of(&self, fault: &Fault) -> Stop {
        match fault.kind {
            FaultKind::Timeout => self.too_late(),
            FaultKind::Closed => self.bad(What::Closed, &format!("broke the connection off: {}", fault.message)),
            FaultKind::Denied
            | FaultKind::Invalid
            | FaultKind::NotFound
            | FaultKind::Unavailable
            | FaultKind::Limit
            | FaultKind::Failed => of_fault(self.protocol, &self.at, fault),
        }
    }

    fn of_tls(&self, fault: Fault) -> Stop {
        match fault.code.as_str() {
            "tls-certificate" => {
                let said = format!("shows a certificate that is not believed: {}", fault.message);
                self.bad(What::Certificate, &said)
            }
            "tls-closed" | "tls" => self.bad(What::Tls, &format!("does not get TLS done: {}", fault.message)),
            // The host could not even try, or what it was given for it is wrong.
            "tls-trust" | "tls-identity" | "server-name" => cannot_tell(self.protocol, &self.at, &fault),
            _ if fault.kind == FaultKind::NotFound => cannot_tell(self.protocol, &self.at, &fault),
            _ => self.of(&fault),
        }
    }
}

/// A fault of the connection, or of making it.
fn of_fault(protocol: Protocol, at: &str, fault: &Fault) -> Stop {
    let bad = |what, said: String| Stop::Bad(Bad::new(what, format!("{protocol} at {at} {said}")));
    match fault.kind {
        FaultKind::Unavailable if fault.code == "unreachable" => {
            bad(What::Down, format!("does not take connections: {}", fault.message))
        }
        FaultKind::Timeout => bad(What::NoAnswer, "did not take the connection in time".to_owned()),
        FaultKind::Closed => bad(What::Closed, format!("broke the connection off: {}", fault.message)),
        FaultKind::Unavailable
        | FaultKind::Denied
        | FaultKind::Invalid
        | FaultKind::NotFound
        | FaultKind::Limit
        | FaultKind::Failed => cannot_tell(protocol, at, fault),
    }
}

/// It says nothing about the server.
fn cannot_tell(protocol: Protocol, at: &str, fault: &Fault) -> Stop {
    Stop::CannotTell(Error::from(fault.clone()).doing(format_args!("look at {protocol} at {at}")).no_effect())
}

/// What somebody else said, for a message: one line, of bounded length.
pub(super) fn shown(text: &str) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{} ...", &clean[..end]),
        None => clean,
    }
}
