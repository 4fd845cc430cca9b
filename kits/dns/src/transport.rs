//! Carrying one message to one server and its answer back: UDP first, TCP where UDP will not do.
//!
//! Over UDP anybody can answer, so what does not fit the request is ignored and the wait goes on; over TCP
//! what comes is the server's, so the first reply counts. It decides nothing about what an answer says,
//! and nothing about other servers. No wait is longer than `until`.

use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use mainstay_sdk::net::{Address, Tcp, Udp};
use mainstay_sdk::prelude::*;

use crate::message::{MESSAGE_BYTES_MAX, Request};
use crate::reply::{Ignored, Judged, judge};
use crate::trouble::{Asked, Trouble};
use crate::tsig::Key;

/// How long a datagram's answer is waited for, in ms, and how often it is sent: a lost one costs a second,
/// a slow server has six.
const UDP_WAIT_MS: [u64; 3] = [1_000, 2_000, 3_000];
/// The longest datagram sent, in bytes: what every server takes (RFC 1035, 4.2.1). More goes by TCP.
const UDP_SEND_BYTES_MAX: usize = 512;
/// The longest datagram received, in bytes. Asked for are 1,232; a server that sends more is let be.
const UDP_RECEIVE_BYTES_MAX: u32 = 4_096;
/// How many useless datagrams are looked at: after that the flood is left alone, and TCP tried.
const USELESS_COUNT_MAX: usize = 64;
/// How long a proper answer is still waited for after an unsigned one that says the key is wrong, in ms:
/// whoever forged it was faster than the server, but not by more.
const KEY_REFUSED_GRACE_MS: u64 = 300;
/// The whole of an exchange over TCP, in ms.
const TCP_MS_MAX: u64 = 5_000;
/// Bytes asked for in one read.
const TCP_READ_BYTES_MAX: usize = 16 * 1024;

/// What came of UDP.
enum Heard {
    Answer(Message<Vec<u8>>),
    TooLong,
    Useless(Ignored),
}

/// One message, and what belongs to it.
pub(crate) struct Exchange<'a> {
    /// Where to.
    pub(crate) server: &'a Address,
    /// What.
    pub(crate) request: &'a Request,
    /// What signed it.
    pub(crate) key: Option<&'a Key>,
    /// What it is, for words.
    pub(crate) asked: &'a Asked,
    /// The end of it, on the monotonic clock.
    pub(crate) until: Duration,
}

impl Exchange<'_> {
    /// Carries it out. The answer is as authentic as the request asked for, and complete.
    pub(crate) fn run(&self) -> Result<Message<Vec<u8>>, Trouble> {
        if clock::monotonic() >= self.until {
            return Err(Trouble::NoTime);
        }
        if self.request.bytes.len() > UDP_SEND_BYTES_MAX {
            return self.over_tcp();
        }
        match self.over_udp()? {
            Heard::Answer(message) => Ok(message),
            Heard::TooLong => self.over_tcp().map_err(|trouble| Trouble::OverTcp(Box::new(trouble))),
            Heard::Useless(heard) => self.over_tcp().map_err(|trouble| {
                // What a server says over TCP is its own word; that it says nothing there explains nothing.
                if trouble.weight() > 0 { trouble } else { Trouble::Useless { heard, tcp: Some(Box::new(trouble)) } }
            }),
        }
    }

    fn over_udp(&self) -> Result<Heard, Trouble> {
        let began = clock::monotonic();
        let udp = Udp::connect(&self.server.host, self.server.port).map_err(Trouble::from_fault)?;
        let mut tries = 0;
        for wait_ms in UDP_WAIT_MS {
            let end = (clock::monotonic() + Duration::from_millis(wait_ms)).min(self.until);
            if clock::monotonic() >= end {
                break;
            }
            tries += 1;
            udp.send(&self.request.bytes).map_err(Trouble::from_fault)?;
            if let Some(heard) = self.listen(&udp, end)? {
                return Ok(heard);
            }
        }
        Err(Trouble::Silent { tries, waited_ms: (clock::monotonic() - began).as_millis() })
    }

    /// Listens until `end`: nothing, or what to go by. Whatever useless came, the same datagram again would
    /// not bring better.
    fn listen(&self, udp: &Udp, mut end: Duration) -> Result<Option<Heard>, Trouble> {
        let mut useless = None;
        let mut useless_count = 0;
        let mut key_refused = None;
        loop {
            let now = clock::monotonic();
            if now >= end || useless_count >= USELESS_COUNT_MAX {
                break;
            }
            let ignored = match udp.receive(UDP_RECEIVE_BYTES_MAX, end - now) {
                Ok(bytes) => match self.judge(bytes) {
                    Judged::Answer(message) if message.header().tc() => return Ok(Some(Heard::TooLong)),
                    Judged::Answer(message) => return Ok(Some(Heard::Answer(message))),
                    Judged::Clocks(trouble) => return Err(trouble),
                    Judged::KeyRefused(trouble) => {
                        key_refused = Some(trouble);
                        end = end.min(clock::monotonic() + Duration::from_millis(KEY_REFUSED_GRACE_MS));
                        useless_count += 1;
                        continue;
                    }
                    Judged::Ignored(ignored) => ignored,
                },
                Err(fault) if fault.kind == FaultKind::Timeout => break,
                Err(fault) if fault.kind == FaultKind::Limit => Ignored::Garbage,
                Err(fault) => return Err(Trouble::from_fault(fault)),
            };
            useless = Some(ignored);
            useless_count += 1;
        }
        match (key_refused, useless) {
            (Some(trouble), _) => Err(trouble),
            (None, useless) => Ok(useless.map(Heard::Useless)),
        }
    }

    fn judge(&self, bytes: Vec<u8>) -> Judged {
        judge(self.request, self.key, bytes, clock::unix_ms() / 1_000)
    }

    fn over_tcp(&self) -> Result<Message<Vec<u8>>, Trouble> {
        let began = clock::monotonic();
        let end = (began + Duration::from_millis(TCP_MS_MAX)).min(self.until);
        let bytes = self.tcp_reply(end).map_err(|fault| match fault.kind {
            FaultKind::Timeout => Trouble::Silent { tries: 1, waited_ms: (clock::monotonic() - began).as_millis() },
            FaultKind::Denied
            | FaultKind::Invalid
            | FaultKind::NotFound
            | FaultKind::Unavailable
            | FaultKind::Closed
            | FaultKind::Limit
            | FaultKind::Failed => Trouble::from_fault(fault),
        })?;
        match self.judge(bytes) {
            Judged::Answer(message) if message.header().tc() => Err(Trouble::Truncated),
            Judged::Answer(message) => Ok(message),
            Judged::Clocks(trouble) | Judged::KeyRefused(trouble) => Err(trouble),
            Judged::Ignored(Ignored::Unsigned(rcode)) if rcode != Rcode::NOERROR => {
                Err(Trouble::Refusal { rcode, asked: self.asked.clone(), proven: false })
            }
            Judged::Ignored(heard) => Err(Trouble::Useless { heard, tcp: None }),
        }
    }

    /// A message behind its length in two bytes, and the same back (RFC 1035, 4.2.2).
    fn tcp_reply(&self, end: Duration) -> Result<Vec<u8>, Fault> {
        let tcp = Tcp::connect(&self.server.host, self.server.port, left(end)?)?;
        let length = u16::try_from(self.request.bytes.len()).map_err(|_| {
            Fault::new(
                FaultKind::Limit,
                "message-too-long",
                format!("the message has more than {MESSAGE_BYTES_MAX} bytes"),
            )
        })?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&self.request.bytes);
        tcp.write(&framed, left(end)?)?;
        let length = read(&tcp, 2, end)?;
        read(&tcp, usize::from(u16::from_be_bytes([length[0], length[1]])), end)
    }
}

/// Exactly `count` bytes, however many pieces they come in, by `end`.
fn read(tcp: &Tcp, count: usize, end: Duration) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    while out.len() < count {
        let wanted = (count - out.len()).min(TCP_READ_BYTES_MAX);
        // At most 16 KiB.
        let piece = tcp.read(wanted as u32, left(end)?)?;
        if piece.is_empty() {
            let message = format!("the server closed the connection after {} of {count} bytes", out.len());
            return Err(Fault::new(FaultKind::Closed, "closed-early", message));
        }
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

fn left(end: Duration) -> Result<Duration, Fault> {
    let now = clock::monotonic();
    if now < end { Ok(end - now) } else { Err(Fault::new(FaultKind::Timeout, "no-time", "the time for it is over")) }
}
