//! The Exchange cmdlets, by PowerShell.
//!
//! What is run is always the same script, `cmdlets.ps1`. What is asked goes in as JSON on standard input, so that nothing that
//! an operator writes is ever a part of a script; what comes of it is one marked line with JSON, which carries the number of the
//! question. An exit code alone is never believed: there are programs of this name that return 0 for everything.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mainstay_sdk::command::{Ending, Request};
use mainstay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::plan::Portability;

/// What is run.
pub(crate) const SCRIPT: &str = include_str!("cmdlets.ps1");
/// What the line of the answer begins with.
const MARKER: &str = "mainstay-answer ";
/// How much of what it said goes into a message, in bytes: the last few lines, which say why.
const MESSAGE_BYTES_MAX: usize = 256;
/// How much of its output is kept, in bytes: the answer is of a few KiB, with the names of 64 databases.
const OUTPUT_BYTES_MAX: u32 = 256 * 1024;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Nothing: how it is.
    Look,
    /// This server's databases are mounted.
    Mount,
    /// This server's databases are mounted, and the mailboxes of the others' pointed at them.
    Restore,
    /// This server's databases are dismounted.
    Dismount,
}

impl Action {
    fn doing(self) -> &'static str {
        match self {
            Self::Look => "look at the databases",
            Self::Mount => "mount the databases",
            Self::Restore => "mount the databases and point the mailboxes at them",
            Self::Dismount => "dismount the databases",
        }
    }
}

#[derive(Serialize)]
struct Question<'a> {
    id: &'a str,
    action: Action,
    server: &'a str,
    databases: Vec<Pair<'a>>,
}

#[derive(Serialize)]
struct Pair<'a> {
    here: &'a str,
    others: &'a [String],
}

/// What the script says. Every field is there in every answer, so that a part of one is none.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Raw {
    id: String,
    ok: bool,
    code: String,
    message: String,
    server: Option<Server>,
    databases: Vec<Mounted>,
    mounted: u32,
    dismounted: u32,
    repointed: u32,
    left: u32,
    refused: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) server: Server,
    /// This server's, in the order they were asked for, then the others'.
    pub(crate) databases: Vec<Mounted>,
    /// How many databases were mounted, and how many dismounted.
    pub(crate) mounted: u32,
    pub(crate) dismounted: u32,
    /// How many mailboxes were pointed at a database here.
    pub(crate) repointed: u32,
    /// How many mailboxes are left where they were.
    pub(crate) left: u32,
    /// Why, for the first few.
    pub(crate) refused: Vec<String>,
}

/// The Exchange server of this node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// As Exchange words it, with its build.
    pub(crate) version: String,
    /// The database availability group it is a member of; empty if it is none.
    pub(crate) dag: String,
}

/// A database, as Exchange sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Mounted {
    pub(crate) name: String,
    /// The server that it belongs to.
    pub(crate) server: String,
    /// None: nobody could say.
    pub(crate) mounted: Option<bool>,
    /// `None` unless it has copies.
    pub(crate) replication: String,
    /// What its log files begin with.
    pub(crate) log_prefix: String,
    /// Where its file is.
    pub(crate) edb: String,
}

impl Answer {
    /// The database of this name.
    pub(crate) fn database(&self, name: &str) -> Option<&Mounted> {
        self.databases.iter().find(|database| database.name.to_lowercase() == name.to_lowercase())
    }
}

/// Runs the cmdlets. What is asked is in `id`, unique for each question of a call.
pub(crate) fn ask(of: &Portability, id: &str, action: Action, time_max: Duration) -> Result<Answer, Error> {
    let doing = |error: Error| error.doing(action.doing()).detail("program", &of.program);
    let time = time_max.min(crate::time_left());
    if time.is_zero() {
        let message = "the call's time is over before the cmdlets can be run: give the operation more time";
        return Err(doing(Error::timeout("no-time", message).here().no_effect()));
    }
    let pairs = of.databases.iter().map(|database| Pair { here: &database.here, others: &database.others }).collect();
    let question = ascii_json(&Question { id, action, server: &of.server, databases: pairs }).map_err(doing)?;
    let request = Request::new(&of.program)
        .args(["-NoLogo", "-NoProfile", "-NonInteractive", "-InputFormat", "Text", "-OutputFormat", "Text"])
        .args(["-EncodedCommand", &encoded(SCRIPT)])
        .stdin(question)
        .output_bytes_max(OUTPUT_BYTES_MAX)
        .timeout(time);
    let completed = request.run().map_err(|fault| {
        // Only a program that never started is known to have done nothing.
        let may_have_run = matches!(fault.kind, FaultKind::Timeout | FaultKind::Closed | FaultKind::Failed);
        let error = doing(Error::from(fault));
        if may_have_run { error } else { error.no_effect() }
    })?;
    let said = completed.tail(MESSAGE_BYTES_MAX);
    let said = if said.is_empty() { "it said nothing".to_owned() } else { format!("it said: {said}") };
    let how = match completed.ending {
        Ending::Exited(code) => format!("{} exited with {code}", of.program),
        Ending::Signalled(signal) => format!("{} was ended by signal {signal}", of.program),
        Ending::TimedOut => {
            let message =
                format!("{} did not end within {} ms and was ended; {said}", of.program, completed.duration_ms);
            return Err(doing(Error::timeout("powershell-timeout", message)));
        }
    };
    let Some(answer) = answer_in(&completed.stdout) else {
        let message = format!("{how} without an answer, so nothing is known of what it did; {said}");
        return Err(doing(Error::failed("powershell-no-answer", message)));
    };
    let raw = read(answer).map_err(|why| {
        doing(Error::failed("powershell-answer", format!("{how} with an answer that makes no sense: {why}")))
    })?;
    judge(raw, id).map_err(doing)
}

fn judge(raw: Raw, id: &str) -> Result<Answer, Error> {
    if raw.id != id {
        let message = format!("the answer is to another question ({} in place of {id})", raw.id);
        return Err(Error::failed("powershell-answer", message));
    }
    let Raw { id: _, ok, code, message, server, databases, mounted, dismounted, repointed, left, refused } = raw;
    match (ok, server) {
        (true, Some(server)) => Ok(Answer { server, databases, mounted, dismounted, repointed, left, refused }),
        (true, None) => Err(Error::failed("powershell-answer", "the answer names no server")),
        (false, _) => Err(match code.as_str() {
            "no-cmdlets" => Error::unsupported("no-cmdlets", message),
            "dag-member" => {
                let to_do = "its databases move by the group itself, and this kit leaves them alone";
                Error::unsupported("dag-member", format!("{message}: {to_do}")).nowhere()
            }
            "replicated" => {
                Error::unsupported("replicated", format!("{message}, and this kit leaves such a database alone"))
                    .nowhere()
            }
            "other-server" => {
                Error::unsupported("other-server", format!("{message}: correct the param databases or servers"))
                    .nowhere()
            }
            "no-edb-file" => Error::failed("no-edb-file", message).elsewhere(),
            _ => Error::failed("cmdlet", message),
        }),
    }
}

/// The marked line; the last one, if there are more.
fn answer_in(stdout: &[u8]) -> Option<&str> {
    let line = |bytes| std::str::from_utf8(bytes).ok().and_then(|line: &str| line.trim().strip_prefix(MARKER));
    stdout.split(|byte| *byte == b'\n').rev().find_map(line)
}

fn read(answer: &str) -> Result<Raw, String> {
    let json = STANDARD.decode(answer.trim()).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

/// JSON in ASCII alone: in which encoding a program reads its input differs by machine.
fn ascii_json(question: &Question<'_>) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_string(question)
        .map_err(|error| Error::failed("powershell-question", error.to_string()).no_effect())?;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(out.into_bytes())
}

/// As `-EncodedCommand` wants it: base64 of UTF-16, the low byte first.
fn encoded(script: &str) -> String {
    STANDARD.encode(script.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Windows takes as a command line at the most, in characters.
    const COMMAND_LINE_MAX: usize = 32_767;

    #[test]
    fn the_script_fits_into_a_command_line_and_is_ascii() {
        assert!(SCRIPT.is_ascii());
        assert!(encoded(SCRIPT).len() + 1_024 < COMMAND_LINE_MAX, "{}", encoded(SCRIPT).len());
    }

    #[test]
    fn a_question_is_ascii_whatever_the_names() {
        let others = ["Ö\u{1f4e7}\"$(x)'".to_owned()];
        let databases = vec![Pair { here: "Büro", others: &others }];
        let question = Question { id: "1", action: Action::Mount, server: "EX01", databases };
        let json = ascii_json(&question).unwrap();
        assert!(json.is_ascii());
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["databases"][0]["here"], "Büro");
        assert_eq!(read["databases"][0]["others"][0], others[0]);
        assert_eq!(read["action"], "mount");
    }

    #[test]
    fn the_answer_is_the_last_marked_line() {
        let check = |stdout: &str, answer: Option<&str>| assert_eq!(answer_in(stdout.as_bytes()), answer, "{stdout:?}");
        check("", None);
        check("noise\r\nmainstay-answer e30=\r\n", Some("e30="));
        check("mainstay-answer old\nmainstay-answer new", Some("new"));
        check("echo mainstay-answer e30=", None);
        assert_eq!(answer_in(b"\xff\xfe\nmainstay-answer x\n\xff"), Some("x"));
    }
}
