//! What a host refuses before it does anything, by the same rules and with the same codes
//! (`docs/reference/kit-faults.md`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::command::Request;
use crate::{Fault, FaultKind};

/// The longest key, in bytes (`wit/store.wit`).
const KEY_BYTES_MAX: usize = 64;
/// Program, arguments and environment of a command, in bytes (`docs/concepts/kit-runtime.md`, Limits).
const ARGS_BYTES_MAX: usize = 512 << 10;
/// One argument or variable of a command, in bytes: what Linux takes.
const ARG_BYTES_MAX: usize = (128 << 10) - 1;
/// Standard input of a command, in bytes (`docs/concepts/kit-runtime.md`, Limits).
const STDIN_BYTES_MAX: usize = 1 << 20;
/// One write to a TCP connection, in bytes (`docs/concepts/kit-runtime.md`, Limits).
const WRITE_BYTES_MAX: usize = 1 << 20;
/// One read of a TCP connection, in bytes (`docs/concepts/kit-runtime.md`, Limits).
pub(super) const READ_BYTES_MAX: u32 = 256 << 10;
/// The largest UDP payload there is, in bytes.
pub(super) const DATAGRAM_BYTES_MAX: u32 = 65_507;
/// Sockets of a call (`docs/concepts/kit-runtime.md`, Limits).
const SOCKETS_MAX: usize = 16;
/// A secret, in bytes (`docs/concepts/kit-runtime.md`, Limits).
const SECRET_BYTES_MAX: usize = 64 << 10;
/// The environment variable by which a host finds the processes of a command.
const MARKER: &str = "MAINSTAY_COMMAND";

/// What the test has not defined.
pub(super) fn denied(what: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Denied, "not-granted", format!("{what} is not granted: the test defines no such thing"))
}

/// A connection after a fault.
pub(super) fn dead() -> Fault {
    Fault::new(FaultKind::Closed, "dead", "the connection failed before and cannot be used any more")
}

/// Writing to a peer that has closed, or after the kit has finished.
pub(super) fn broken() -> Fault {
    Fault::new(FaultKind::Closed, "broken", "the connection is closed and takes nothing more")
}

/// Nothing came.
pub(super) fn timeout(timeout_ms: u32) -> Fault {
    Fault::new(FaultKind::Timeout, "timeout", format!("nothing came within {timeout_ms} ms"))
}

/// Nothing more may be secured.
pub(super) fn tls_already() -> Fault {
    Fault::new(FaultKind::Invalid, "tls-already", "the connection is secured by TLS already")
}

/// A key of the store.
pub(super) fn key(key: &str) -> Result<(), Fault> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-';
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(allowed) {
        return Err(Fault::new(FaultKind::Invalid, "key", format!("{key:?} is no key: [a-z0-9.-]{{1,64}}")));
    }
    Ok(())
}

/// The content of a secret.
pub(super) fn secret(name: &str, value: &[u8]) -> Result<(), Fault> {
    at_most(value.len(), SECRET_BYTES_MAX, "secret-too-large", format_args!("the secret {name} has"))
}

/// One socket more than `open`.
pub(super) fn sockets(open: usize) -> Result<(), Fault> {
    if open < SOCKETS_MAX {
        return Ok(());
    }
    let message = format!("this call holds {open} sockets already, as many as it may; close one");
    Err(Fault::new(FaultKind::Limit, "too-many-sockets", message))
}

/// What is written to a TCP connection at once.
pub(super) fn write(data: &[u8]) -> Result<(), Fault> {
    at_most(data.len(), WRITE_BYTES_MAX, "write-too-large", "a write of")
}

/// What is asked for at once of a TCP connection.
pub(super) fn read(max: u32) -> Result<(), Fault> {
    if max > 0 {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Invalid, "read-nothing", "a read of 0 bytes would look like the end"))
}

/// A datagram to be sent.
pub(super) fn datagram(data: &[u8]) -> Result<(), Fault> {
    at_most(data.len(), DATAGRAM_BYTES_MAX as usize, "datagram-too-large", "a datagram of")
}

/// A datagram that came.
pub(super) fn received(data: &[u8], max: u32) -> Result<(), Fault> {
    at_most(data.len(), max as usize, "datagram-too-long", "a datagram came, was dropped, and has")
}

fn at_most(bytes: usize, bytes_max: usize, code: &str, what: impl std::fmt::Display) -> Result<(), Fault> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Limit, code, format!("{what} {bytes} bytes; {bytes_max} are allowed")))
}

/// The name that a server's certificate is to carry: a DNS name or an address.
pub(super) fn server_name(name: &str) -> Result<(), Fault> {
    let label = |label: &str| {
        let of = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(of) && !label.starts_with('-') && !label.ends_with('-')
    };
    let dns = name.len() <= 253 && name.strip_suffix('.').unwrap_or(name).split('.').all(label);
    if dns || name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let message = format!("{name:?} is no name or address that a certificate could carry");
    Err(Fault::new(FaultKind::Invalid, "server-name", message))
}

/// A command too large to be looked at.
pub(super) fn command_size(request: &Request) -> Result<(), Fault> {
    let variables = request.env.iter().map(|(name, value)| name.len() + value.len());
    let bytes: usize = request.args.iter().map(String::len).chain(variables).sum();
    let what = "arguments and environment have";
    at_most(bytes + request.program.len(), ARGS_BYTES_MAX, "command-too-large", what)?;
    at_most(request.stdin.len(), STDIN_BYTES_MAX, "command-too-large", "standard input has")
}

/// A granted command that nobody could run.
pub(super) fn command(request: &Request) -> Result<(), Fault> {
    let mut names = BTreeSet::new();
    let no_variable = |(name, value): &(String, String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') || name == MARKER
    };
    let too_long = request.args.iter().any(|arg| arg.len() > ARG_BYTES_MAX)
        || request.env.iter().any(|(name, value)| name.len() + value.len() + 1 > ARG_BYTES_MAX);
    let problem = if request.cwd.as_deref().is_some_and(|cwd| !cwd.starts_with('/') || cwd.contains('\0')) {
        format!("the working directory {:?} is no absolute path", request.cwd)
    } else if request.args.iter().any(|arg| arg.contains('\0')) {
        "a zero byte is in an argument".to_owned()
    } else if let Some((name, _)) = request.env.iter().find(|variable| no_variable(variable)) {
        format!("{name:?} is no environment variable, is mainstay's own, or holds a zero byte")
    } else if let Some((name, _)) = request.env.iter().find(|(name, _)| !names.insert(name)) {
        format!("the environment variable {name} is given twice")
    } else if too_long {
        format!("an argument or variable is longer than {ARG_BYTES_MAX} bytes")
    } else {
        return Ok(());
    };
    Err(Fault::new(FaultKind::Invalid, "command", format!("the request to run {}: {problem}", request.program)))
}
