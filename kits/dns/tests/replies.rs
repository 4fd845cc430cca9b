//! What comes back may be a refusal, a forgery, cut short, late, or no message at all: each has its own
//! answer, and none of it makes the kit panic or believe it.

mod server;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use domain::base::iana::{Rcode, Rtype};
use mainstay_kit_dns::{Dns, DnsParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Answer, Call, FakeHost};
use serde_json::{Value, json};
use server::{KEY, NOW_S, Over, SECRET, Seal, Sent, Server, TellsTime, framed};

const AT: &str = "192.0.2.53";

fn world() -> (FakeHost, Server) {
    let host = FakeHost::install();
    let server = Server::new();
    server.listen(&host, AT);
    host.secret("dns-key", SECRET);
    (host, server)
}

fn params() -> Value {
    json!({
        "zone": "example.org", "servers": [AT], "key": { "name": KEY, "secret": "dns-key" }, "on-remove": "delete",
        "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } },
    })
}

fn context(host: &FakeHost) -> Context<DnsParams> {
    host.context(params())
}

/// What restore says when it fails.
#[track_caller]
fn restore_error(host: &FakeHost) -> Error {
    Dns::restore(&context(host)).expect_err("restore cannot have worked")
}

#[track_caller]
fn is(error: &Error, kind: ErrorKind, code: &str, retry: Retry, effect: Effect) {
    assert_eq!((error.kind, error.code.as_str(), error.retry, error.effect), (kind, code, retry, effect), "{error}");
}

#[track_caller]
fn says(error: &Error, words: &str) {
    assert!(error.message.contains(words), "expected {words:?} in {:?}", error.message);
}

/// The datagrams sent so far.
fn sent(host: &FakeHost) -> Vec<Vec<u8>> {
    let calls = host.calls().into_iter();
    calls.filter_map(|call| if let Call::UdpSend { data } = call { Some(data) } else { None }).collect()
}

fn over_tcp(host: &FakeHost) -> bool {
    host.calls().iter().any(|call| matches!(call, Call::TcpConnect { .. }))
}

/// Whether a message is an update or the reply to one: its opcode is 5.
fn is_update(message: &[u8]) -> bool {
    message[2] >> 3 & 0xf == 5
}

/// A server whose updates end like this, after whatever `spoil` does to it.
fn spoilt(spoil: impl FnOnce(&Server)) -> (FakeHost, Server, Error) {
    let (host, server) = world();
    spoil(&server);
    let error = restore_error(&host);
    (host, server, error)
}

#[test]
fn every_refusal_has_its_own_error() {
    let cases = [
        (
            Rcode::REFUSED,
            ErrorKind::Denied,
            "refused",
            Retry::Elsewhere,
            "the key ms-key (hmac-sha256) or this node may not",
        ),
        (Rcode::NOTAUTH, ErrorKind::Failed, "not-auth", Retry::Nowhere, "the zone's name is wrong"),
        (Rcode::NOTZONE, ErrorKind::Failed, "not-zone", Retry::Nowhere, "a name is not in the zone (NOTZONE)"),
        (
            Rcode::NOTIMP,
            ErrorKind::Unsupported,
            "not-implemented",
            Retry::Nowhere,
            "dynamic updates are not switched on",
        ),
        (Rcode::SERVFAIL, ErrorKind::Unavailable, "server-failure", Retry::Here, "its own log says why"),
        (Rcode::FORMERR, ErrorKind::Failed, "format-error", Retry::Nowhere, "does not understand the message"),
        (Rcode::YXDOMAIN, ErrorKind::Failed, "rcode", Retry::Nowhere, "answered YXDOMAIN"),
    ];
    for (rcode, kind, code, retry, words) in cases {
        let (host, _, error) = spoilt(|server| server.set(|state| state.update_rcode = Some(rcode)));
        is(&error, kind, code, retry, Effect::None);
        says(&error, "update the zone example.org: 192.0.2.53:53 ");
        says(&error, words);
        assert!(!over_tcp(&host), "a signed refusal is believed at once");
    }
}

#[test]
fn a_refused_question_is_an_error_of_the_check() {
    for (rcode, code) in
        [(Rcode::REFUSED, "refused"), (Rcode::SERVFAIL, "server-failure"), (Rcode::NOTIMP, "not-implemented")]
    {
        let (host, server) = world();
        server.set(|state| state.question_rcode = Some(rcode));
        let error = Dns::quick_check(&context(&host)).unwrap_err();
        assert_eq!((error.code.as_str(), error.effect), (code, Effect::None));
        says(&error, "ask for mail.example.org A: 192.0.2.53:53 ");
    }
}

#[test]
fn an_answer_without_authority_is_not_taken() {
    let (host, server) = world();
    server.put("mail.example.org", Rtype::A, 30, &[&[192, 0, 2, 10]]);
    server.set(|state| state.no_authority = true);
    let error = Dns::quick_check(&context(&host)).unwrap_err();
    is(&error, ErrorKind::Failed, "no-authority", Retry::Nowhere, Effect::None);
}

#[test]
fn a_zone_the_server_does_not_have_is_said() {
    let (host, server) = world();
    server.set(|state| state.zones.remove(0));
    is(&restore_error(&host), ErrorKind::Denied, "refused", Retry::Elsewhere, Effect::None);
}

#[test]
fn a_key_the_server_does_not_know_is_said() {
    let (host, _server) = world();
    let mut other = params();
    other["key"]["name"] = json!("other-key");
    let error = Dns::restore(&host.context::<DnsParams>(other)).unwrap_err();
    is(&error, ErrorKind::Denied, "bad-key", Retry::Nowhere, Effect::None);
    says(&error, "does not accept the key other-key (hmac-sha256) (BADKEY)");
}

#[test]
fn a_secret_the_server_does_not_have_is_said() {
    let (host, _server) = world();
    host.secret("dns-key", "b3RoZXI=");
    let error = restore_error(&host);
    is(&error, ErrorKind::Denied, "bad-signature", Retry::Elsewhere, Effect::None);
    says(&error, "finds the signature by the key ms-key (hmac-sha256) wrong (BADSIG)");
}

#[test]
fn every_algorithm_signs_and_verifies() {
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let (host, _server) = world();
        let mut own = params();
        own["key"]["algorithm"] = json!(algorithm);
        assert!(Dns::restore(&host.context::<DnsParams>(own)).unwrap().changed, "{algorithm}");
    }
}

#[test]
fn clocks_too_far_apart_are_said_with_both_times_if_the_server_tells() {
    for (tells_time, words) in [
        (
            TellsTime::InOther,
            "its clock says 2023-11-14 23:20:00 UTC, this node's 2023-11-14 22:13:20 UTC, 4000 s apart; 300 s are allowed",
        ),
        (
            TellsTime::BySigning,
            "its clock says 2023-11-14 23:20:00 UTC, this node's 2023-11-14 22:13:20 UTC, 4000 s apart",
        ),
        (TellsTime::Not, "does not say which; this node's clock says 2023-11-14 22:13:20 UTC, 300 s apart are allowed"),
    ] {
        let (_, server, error) = spoilt(|server| {
            server.set(|state| {
                state.clock_off_s = 4_000;
                state.tells_time = tells_time;
            });
        });
        is(&error, ErrorKind::Failed, "bad-time", Retry::Elsewhere, Effect::None);
        says(&error, words);
        assert_eq!(server.values("mail.example.org", Rtype::A), None);
    }
    let (_, _, error) = spoilt(|server| server.set(|state| state.clock_off_s = -4_000));
    says(&error, "its clock says 2023-11-14 21:06:40 UTC");
}

#[test]
fn clocks_a_little_apart_are_fine() {
    for clock_off_s in [-300, 300] {
        let (host, server) = world();
        server.set(|state| state.clock_off_s = clock_off_s);
        assert!(Dns::restore(&context(&host)).unwrap().changed);
    }
}

#[test]
fn an_authentic_reply_from_another_time_is_a_clock_problem() {
    let (_, _, error) = spoilt(|server| server.set(|state| state.seal = Seal::Late));
    is(&error, ErrorKind::Failed, "bad-time", Retry::Elsewhere, Effect::None);
    says(&error, "3600 s apart");
}

#[test]
fn what_is_not_authentic_is_not_believed_even_over_tcp() {
    let cases = [
        (Seal::Missing, "unsigned-reply", "an unsigned reply that says NOERROR, to a signed request"),
        (Seal::Wrong, "forged-reply", "its signature is wrong"),
        (Seal::Short, "forged-reply", "its signature is wrong"),
        (Seal::OtherKey, "forged-reply", "it is signed by another key"),
        (Seal::NotLast, "forged-reply", "its signature is not at its end"),
    ];
    for (seal, code, words) in cases {
        let (host, _, error) = spoilt(|server| server.set(|state| state.seal = seal));
        is(&error, ErrorKind::Unavailable, code, Retry::Here, Effect::Unknown);
        says(&error, words);
        assert!(over_tcp(&host), "{seal:?}: over UDP anybody may have sent it");
    }
}

#[test]
fn an_unsigned_refusal_is_believed_over_tcp_and_said_to_be_unsigned() {
    let (host, _, error) = spoilt(|server| {
        server.set(|state| {
            state.seal = Seal::Missing;
            state.update_rcode = Some(Rcode::NOTAUTH);
        });
    });
    is(&error, ErrorKind::Failed, "not-auth", Retry::Nowhere, Effect::None);
    says(&error, ", in a reply that is not signed");
    assert!(over_tcp(&host));
}

#[test]
fn a_forged_reply_does_not_win_against_the_true_one_behind_it() {
    // What a question's answer cannot prove, only an update's can.
    let (any, signed) = (false, true);
    type Forge = fn(Vec<u8>) -> Vec<u8>;
    let forgeries: [(&str, bool, Forge); 6] = [
        ("no message", any, |_| vec![1, 2, 3]),
        ("another id", any, |mut reply| {
            reply[0] ^= 1;
            reply
        }),
        ("a query, no reply", any, |mut reply| {
            reply[2] &= 0x7f;
            reply
        }),
        ("unsigned", signed, |mut reply| {
            reply[11] = 0;
            reply[3] |= 5;
            reply
        }),
        ("the true one, changed", signed, |mut reply| {
            reply[3] |= 5;
            reply
        }),
        ("cut off", any, |reply| reply[..reply.len() - 1].to_vec()),
    ];
    for (what, only_updates, forge) in forgeries {
        let (host, server) = world();
        server.behave(move |_, reply| {
            let forged = (is_update(&reply) || !only_updates).then(|| forge(reply.clone()));
            Sent::Messages(forged.into_iter().chain([reply]).collect())
        });
        assert!(Dns::restore(&context(&host)).unwrap().changed, "{what}");
        assert!(!over_tcp(&host), "{what}");
        assert!(server.values("mail.example.org", Rtype::A).is_some(), "{what}");
    }
}

#[test]
fn a_forged_refusal_of_the_key_does_not_win_against_the_true_reply_behind_it() {
    let (host, server) = world();
    server.behave(|_, reply| {
        if !is_update(&reply) {
            return Sent::from(reply);
        }
        // The zone, and a signature's record without a MAC.
        let id = [reply[0], reply[1]];
        let mut forged = reply[..29].to_vec();
        forged[3] = 9;
        forged[11] = 1;
        forged.extend_from_slice(
            b"\x06ms-key\0\0\xfa\0\xff\0\0\0\0\0\x1d\x0bhmac-sha256\0\0\0\x65\x53\xf1\0\x01\x2c\0\0",
        );
        forged.extend_from_slice(&id);
        forged.extend_from_slice(&[0, 17, 0, 0]);
        Sent::Messages(vec![forged, reply])
    });
    assert!(Dns::restore(&context(&host)).unwrap().changed);
}

#[test]
fn useless_replies_are_named_by_what_they_are() {
    type Behaviour = fn(Over, Vec<u8>) -> Sent;
    let cases: [(&str, Behaviour); 6] = [
        ("garbage-reply", |_, _| vec![0; 5].into()),
        ("other-reply", |_, mut reply| {
            // A query, no reply.
            reply[2] &= 0x7f;
            reply.into()
        }),
        ("other-reply", |_, mut reply| {
            // The reply to a notification.
            reply[2] |= 4 << 3;
            reply.into()
        }),
        ("other-reply", |_, mut reply| {
            reply[1] ^= 1;
            reply.into()
        }),
        ("other-reply", |_, mut reply| {
            reply[13] ^= 1;
            reply.into()
        }),
        ("garbage-reply", |_, mut reply| {
            // More records than there are.
            reply[7] = 200;
            reply.into()
        }),
    ];
    for (code, behaviour) in cases {
        let (host, server) = world();
        server.behave(behaviour);
        let error = Dns::quick_check(&context(&host)).unwrap_err();
        is(&error, ErrorKind::Unavailable, code, Retry::Here, Effect::Unknown);
        assert!(over_tcp(&host));
    }
}

#[test]
fn useless_datagrams_and_no_tcp_are_said_together() {
    let (host, server) = world();
    server.behave(|over, mut reply| {
        reply[0] ^= 1;
        match over {
            Over::Udp => reply.into(),
            Over::Tcp => Sent::Raw(Answer::nothing().then_close()),
        }
    });
    let error = Dns::quick_check(&context(&host)).unwrap_err();
    is(&error, ErrorKind::Unavailable, "other-reply", Retry::Here, Effect::Unknown);
    says(&error, "answered with a message that answers something else (another id); over TCP it broke the connection");
}

#[test]
fn a_flood_of_datagrams_ends_by_itself() {
    let (host, server) = world();
    server.behave(|over, reply| match over {
        Over::Udp => Sent::Messages(vec![vec![0; 20]; 100_000]),
        Over::Tcp => reply.into(),
    });
    assert!(Dns::restore(&context(&host)).unwrap().changed, "over TCP the true replies come");
    let received = host.calls().iter().filter(|call| matches!(call, Call::UdpReceive { .. })).count();
    assert!(received < 500, "{received}");
}

#[test]
fn a_datagram_beyond_all_measure_is_ignored() {
    let (host, server) = world();
    server.behave(|over, reply| match over {
        Over::Udp => Sent::Messages(vec![vec![0; 60_000], reply]),
        Over::Tcp => reply.into(),
    });
    assert!(Dns::restore(&context(&host)).unwrap().changed);
}

#[test]
fn what_is_lost_is_asked_for_again() {
    let (host, server) = world();
    let count = Rc::new(Cell::new(0));
    server.behave(move |_, reply| {
        count.set(count.get() + 1);
        // Two of three are lost.
        Sent::Messages(if count.get() % 3 == 0 { vec![reply] } else { Vec::new() })
    });
    assert!(Dns::restore(&context(&host)).unwrap().changed);
    assert!(!over_tcp(&host));
}

#[test]
fn silence_is_an_error_that_says_for_how_long() {
    let (host, _server) = world();
    host.udp(AT, 53, |_| ());
    let error = Dns::quick_check(&context(&host)).unwrap_err();
    is(&error, ErrorKind::Unavailable, "no-answer", Retry::Here, Effect::Unknown);
    says(&error, "192.0.2.53:53 did not answer within 6000 ms (3 tries)");
}

#[test]
fn no_wait_is_longer_than_the_call() {
    for (budget_ms, server_count) in [(2_000, 1), (4_000, 2), (900, 1), (20_000, 3)] {
        let host = FakeHost::install();
        let mut silent = params();
        silent["servers"] = (0..server_count).map(|index| format!("192.0.2.{index}")).collect();
        for index in 0..server_count {
            host.udp(&format!("192.0.2.{index}"), 53, |_| ());
        }
        host.secret("dns-key", SECRET);
        host.set_budget(Duration::from_millis(budget_ms));
        let ctx = host.context::<DnsParams>(silent);
        let error = Dns::quick_check(&ctx).unwrap_err();
        assert_eq!(error.code, "no-answer");
        for index in 0..server_count {
            says(&error, &format!("192.0.2.{index}:53 did not answer within"));
        }
        let left = clock::remaining();
        assert!(left >= Duration::from_millis(400), "{budget_ms} ms, {server_count} servers: {left:?} left");
    }
}

#[test]
fn without_time_nothing_is_sent() {
    let (host, server) = world();
    host.set_budget(Duration::from_millis(300));
    let error = Dns::quick_check(&context(&host)).unwrap_err();
    is(&error, ErrorKind::Timeout, "no-time", Retry::Here, Effect::None);
    assert_eq!(server.set(|state| state.question_count), 0);
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so_and_nothing_was_done() {
    let (host, _server) = world();
    host.udp(AT, 53, |_| Fault::new(FaultKind::Unavailable, "connection-refused", "nobody listens at 192.0.2.53:53"));
    let error = restore_error(&host);
    is(&error, ErrorKind::Unavailable, "unreachable", Retry::Here, Effect::None);
    says(&error, "192.0.2.53:53 cannot be reached: nobody listens at 192.0.2.53:53");
}

#[test]
fn a_server_that_dies_between_question_and_update_may_have_done_it() {
    let (host, server) = world();
    server.behave(|_, reply| Sent::Messages(if is_update(&reply) { Vec::new() } else { vec![reply] }));
    let error = restore_error(&host);
    is(&error, ErrorKind::Unavailable, "no-answer", Retry::Here, Effect::Unknown);
    assert!(server.values("mail.example.org", Rtype::A).is_some(), "and here it had");
}

fn long_texts() -> Value {
    let mut long = params();
    let values: Vec<_> = (0..40).map(|index| format!("{index} {}", "x".repeat(100))).collect();
    long["records"] = json!({ "text": { "type": "TXT", "values": values } });
    long
}

#[test]
fn long_messages_go_and_come_by_tcp() {
    for read_max in [usize::MAX, 1] {
        let (host, server) = world();
        host.tcp_read_max(read_max);
        let ctx = host.context::<DnsParams>(long_texts());
        assert!(Dns::restore(&ctx).unwrap().changed);
        assert_eq!(server.values("text.example.org", Rtype::TXT).unwrap().len(), 40);
        assert_eq!(Dns::quick_check(&ctx).unwrap().health, Health::Healthy);
        assert!(Dns::remove(&ctx).unwrap().changed);
        let longest = sent(&host).iter().map(Vec::len).max();
        assert!(longest.unwrap() <= 512);
    }
}

#[test]
fn what_is_cut_short_even_over_tcp_is_an_error() {
    let (host, server) = world();
    server.behave(|_, mut reply| {
        reply[2] |= 2;
        reply
    });
    let error = Dns::quick_check(&context(&host)).unwrap_err();
    is(&error, ErrorKind::Unavailable, "truncated-reply", Retry::Here, Effect::Unknown);
    says(&error, "gave an answer too long for a datagram, and over TCP it cut its answer short");
}

#[test]
fn a_connection_that_breaks_or_hangs_is_an_error() {
    type Connection = fn(Vec<u8>) -> Answer;
    let cases: [(&str, Connection); 4] = [
        ("connection-broken", |_| Answer::nothing().then_close()),
        ("connection-broken", |reply| Answer::bytes(framed(&reply)[..20].to_vec()).then_close()),
        ("connection-broken", |_| Fault::new(FaultKind::Closed, "reset", "connection reset").into()),
        ("no-answer", |reply| Answer::bytes(framed(&reply)[..20].to_vec())),
    ];
    for (code, tcp) in cases {
        let (host, server) = world();
        server.behave(move |over, mut reply| match over {
            Over::Udp => {
                reply[2] |= 2;
                reply.into()
            }
            Over::Tcp => Sent::Raw(tcp(reply)),
        });
        let error = Dns::quick_check(&context(&host)).unwrap_err();
        is(&error, ErrorKind::Unavailable, code, Retry::Here, Effect::Unknown);
        says(&error, "gave an answer too long for a datagram, and over TCP it");
    }
}

#[test]
fn ids_are_never_the_same_twice_in_a_row() {
    let (host, _server) = world();
    let ctx = context(&host);
    Dns::restore(&ctx).unwrap();
    Dns::remove(&ctx).unwrap();
    let ids: Vec<_> = sent(&host).iter().map(|data| [data[0], data[1]]).collect();
    assert!(ids.len() >= 4 && ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
}

#[test]
fn the_signature_is_of_the_time_it_is_made() {
    let (host, _server) = world();
    host.set_unix_ms((NOW_S + 200) * 1_000);
    assert!(Dns::restore(&context(&host)).unwrap().changed);
    host.set_unix_ms((NOW_S + 400) * 1_000);
    assert_eq!(Dns::remove(&context(&host)).unwrap_err().code, "bad-time");
}
