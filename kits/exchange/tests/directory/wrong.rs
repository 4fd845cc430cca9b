//! What becomes of every wrong answer: an error of its own, within the call's time, and nothing taken for done.

use mainstay_sdk::testing::{Answer, Call, Operation};

use super::*;
use crate::server::{Asked, BASE, Sent, disconnection, message, result};

/// The error of a directory that does this with what it would send.
#[track_caller]
fn spoilt<S: Into<Sent>>(
    behaviour: impl FnMut(Asked, i64, Vec<Vec<u8>>) -> S + 'static,
) -> (FakeHost, Directory, Error) {
    let (host, directory) = world(5);
    directory.behave(behaviour);
    let error = error(json!({}));
    (host, directory, error)
}

/// As `spoilt`, in answers of one kind alone.
#[track_caller]
fn spoilt_at(at: Asked, mut behaviour: impl FnMut(i64, Vec<Vec<u8>>) -> Sent + 'static) -> Error {
    spoilt(move |asked, id, messages| if asked == at { behaviour(id, messages) } else { Sent::Messages(messages) }).2
}

fn secured(host: &FakeHost) -> bool {
    host.calls().iter().any(|call| matches!(call, Call::TcpStartTls { .. }))
}

#[test]
fn wrong_credentials_are_told_and_not_tried_elsewhere() {
    let (host, directory) = world(1);
    let other = Directory::new(1);
    other.listen(&host, DC2, 389);
    host.secret("directory", "wrong");
    let error = error(json!({ "servers": [DC1, DC2] }));
    is(&error, ErrorKind::Denied, "bad-credentials", Retry::Nowhere, Effect::None);
    says(
        &error,
        "ask the directory what it holds: dc1.corp.test:389 does not accept the account mainstay@corp.test: the password is wrong (invalidCredentials (49): 8009",
    );
    assert_eq!((directory.count("bind"), other.count("bind")), (1, 0), "each try counts towards locking the account");
}

#[test]
fn an_empty_password_is_never_sent() {
    let (host, directory) = world(1);
    host.secret("directory", "");
    let error = error(json!({}));
    is(&error, ErrorKind::InvalidParams, "bind-secret", Retry::Nowhere, Effect::None);
    assert_eq!(directory.count("bind"), 0);
}

#[test]
fn the_password_is_in_no_message_and_no_line() {
    let (host, _directory) = world(1);
    host.secret("directory", "hunter2hunter2");
    let error = error(json!({}));
    assert!(!format!("{error:?} {:?}", host.logged()).contains("hunter2"));
}

#[test]
fn a_certificate_that_is_wrong_is_told_and_nothing_is_said_to_that_server() {
    for tls in ["start-tls", "ldaps"] {
        let (host, directory) = world(1);
        directory.listen(&host, DC1, 636);
        let words = "dc1.corp.test:389 does not prove to be dc1.corp.test, checked by the authority in the secret ca";
        host.fail(Operation::TcpStartTls, Fault::new(FaultKind::Failed, "tls-certificate", words));
        let error = error(json!({ "tls": tls }));
        is(&error, ErrorKind::Denied, "tls", Retry::Elsewhere, Effect::None);
        says(&error, words);
        assert_eq!((directory.count("bind"), directory.count("search")), (0, 0), "{tls}");
    }
}

#[test]
fn a_server_without_tls_is_not_spoken_to() {
    let (host, directory) = world(1);
    directory.set(|state| state.codes = vec![(Asked::StartTls, 10, 52)]);
    let error = error(json!({}));
    is(&error, ErrorKind::Failed, "no-start-tls", Retry::Nowhere, Effect::None);
    says(&error, "refuses StartTLS with unavailable (52)");
    assert_eq!(directory.count("bind"), 0);
    assert!(!secured(&host));
}

#[test]
fn what_is_sent_between_start_tls_and_tls_is_not_taken() {
    let error = spoilt_at(Asked::StartTls, |_, messages| {
        Sent::Messages(messages.into_iter().chain([result(2, 1, 0, "", None, None)]).collect())
    });
    is(&error, ErrorKind::Denied, "start-tls-injected", Retry::Elsewhere, Effect::None);
}

#[test]
fn a_server_that_wants_tls_says_so() {
    let (_host, directory) = world(1);
    directory.set(|state| state.codes = vec![(Asked::Bind, 10, 8)]);
    let error = error(json!({ "tls": "none" }));
    is(&error, ErrorKind::Denied, "insecure", Retry::Nowhere, Effect::None);
    says(&error, "wants the connection secured (strongerAuthRequired (8)): set `tls`");
}

#[test]
fn nothing_is_tried_that_is_not_granted() {
    let host = FakeHost::install();
    host.secret("directory", "x");
    let error = error(json!({}));
    is(&error, ErrorKind::Denied, "not-granted", Retry::Nowhere, Effect::None);
    says(&error, "dc1.corp.test:389 is not granted");
}

#[test]
fn silence_ends() {
    for at in [Asked::StartTls, Asked::Bind, Asked::Search] {
        let error = spoilt_at(at, |_, _| Answer::nothing().into());
        is(&error, ErrorKind::Unavailable, "no-answer", Retry::Here, Effect::None);
        says(&error, "dc1.corp.test:389 did not answer within");
    }
    let error = spoilt_at(Asked::Modify, |_, _| Answer::nothing().into());
    is(&error, ErrorKind::Unavailable, "no-answer", Retry::Here, Effect::Unknown);
}

#[test]
fn slow_bytes_end() {
    for (bytes, ms) in [(1, 100), (1, 9_000), (7, 2_000)] {
        let (host, directory) = world(5);
        host.tcp_read_max(bytes);
        host.tcp_read_takes(Duration::from_millis(ms));
        let error = error(json!({}));
        is(&error, ErrorKind::Unavailable, "no-answer", Retry::Here, Effect::None);
        assert_eq!(directory.count("modify"), 0);
    }
}

#[test]
fn a_message_that_never_ends_ends() {
    // It says that a megabyte follows, or less than is read, and then nothing, or not enough.
    for (start, code) in
        [(b"\x30\x83\x10\x00\x00".as_slice(), "garbage-answer"), (b"\x30\x82\xff\xff\x02", "no-answer")]
    {
        let error = spoilt_at(Asked::Search, move |_, _| Answer::bytes(start).and(vec![0; 1_000]).into());
        assert_eq!((error.code.as_str(), error.effect), (code, Effect::None), "{error}");
    }
    let error = spoilt_at(Asked::Bind, |_, _| Answer::bytes(b"\x30\x84\xff\xff\xff\xff".as_slice()).into());
    says(&error, "dc1.corp.test:389 sent a message of 4294967301 bytes, of which 262144 are read");
}

#[test]
fn results_without_end_end() {
    // In one page.
    let error = spoilt_at(Asked::Search, |_, messages| {
        Sent::Messages(if messages.len() == 6 { vec![messages[0].clone(); 2_000] } else { messages })
    });
    assert_eq!(error.code, "endless-answer", "{error}");
    says(&error, "goes on answering without end (more results than asked for)");

    // In pages: there is always one more, and it is empty. What the first search found is read to its end by this cookie.
    let error = spoilt_at(Asked::Search, |id, messages| {
        let empty = result(id, 5, 0, "", None, Some(b"0/1"));
        Sent::Messages(if messages.len() == 1 { vec![empty] } else { messages })
    });
    assert_eq!(error.code, "endless-answer", "{error}");
    says(&error, "(pages)");

    // Things aside, and references.
    let error = spoilt_at(Asked::Bind, |_, _| Sent::Messages(vec![message(0, 25, vec![], None); 100]));
    says(&error, "(things aside)");
    let error = spoilt_at(Asked::Search, |id, messages| {
        let reference = message(id, 19, vec![], None);
        Sent::Messages(std::iter::repeat_n(reference, 500).chain(messages).collect())
    });
    says(&error, "(references)");
}

#[test]
fn a_server_that_says_a_little_aside_is_listened_to() {
    let (_host, directory) = world(5);
    directory.behave(|_, _, messages: Vec<Vec<u8>>| {
        let aside = message(0, 25, vec![], None);
        messages.into_iter().flat_map(|message| [aside.clone(), message]).collect::<Vec<_>>()
    });
    assert_eq!(apply(json!({})).changed, 5);
}

#[test]
fn an_answer_to_something_else_is_not_taken() {
    for (at, operation) in [(Asked::Bind, 7), (Asked::Search, 7), (Asked::Modify, 5), (Asked::StartTls, 1)] {
        let error = spoilt_at(at, move |id, _| Sent::Messages(vec![result(id, operation, 0, "", None, None)]));
        assert_eq!(error.code, "garbage-answer", "{at:?}: {error}");
        says(&error, "that was not made");
        let error = spoilt_at(at, move |id, _| Sent::Messages(vec![result(id + 77, operation, 0, "", None, None)]));
        says(&error, "sent an answer to something that was not asked");
    }
}

#[test]
fn garbage_is_told() {
    for (bytes, words) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "sent what is no LDAP message (it does not begin as one)"),
        (b"\x30\x03\x02\x01\x02".to_vec(), "its operation is missing"),
        (b"\x30\x80\x00\x00".to_vec(), "its length is left open"),
    ] {
        let sent = bytes.clone();
        let error = spoilt_at(Asked::Search, move |_, _| Answer::bytes(sent.clone()).into());
        is(&error, ErrorKind::Unavailable, "garbage-answer", Retry::Here, Effect::None);
        says(&error, words);
    }
}

#[test]
fn a_notice_of_disconnection_is_told() {
    for at in [Asked::Bind, Asked::Search] {
        let error = spoilt_at(at, |_, _| Answer::bytes(disconnection(52)).then_close().into());
        is(&error, ErrorKind::Unavailable, "disconnected", Retry::Here, Effect::None);
        says(&error, "ended the connection, saying unavailable (52): going down");
    }
}

#[test]
fn a_connection_that_breaks_is_made_anew() {
    let (_host, directory) = world(50);
    let mut broken = 0;
    directory.behave(move |asked, _, messages: Vec<Vec<u8>>| {
        // Once in a search, and once after some changes were answered.
        let counts = matches!(asked, Asked::Search | Asked::Modify);
        broken += usize::from(counts);
        if counts && (broken == 3 || broken == 40) {
            return Sent::Raw(Answer::nothing().then_close());
        }
        Sent::Messages(messages)
    });
    let done = apply(json!({}));
    assert_eq!((done.changed, done.refused.len()), (50, 0), "what was changed without an answer counts too");
    assert_eq!(directory.homed_at("EX02", "Mailbox Store"), 50);
    assert_eq!(directory.count("bind"), 3);
}

#[test]
fn the_next_server_goes_on_when_one_dies_in_the_middle() {
    let (host, first) = world(100);
    first.replica().listen(&host, DC2, 389);
    let mut changes = 0;
    first.behave(move |asked, _, messages: Vec<Vec<u8>>| {
        changes += usize::from(asked == Asked::Modify);
        if changes > 30 { Sent::Raw(Answer::nothing().then_close()) } else { Sent::Messages(messages) }
    });
    let done = apply(json!({ "servers": [DC1, DC2] }));
    assert_eq!((done.changed, done.already), (100, 0));
    assert_eq!(first.homed_at("EX02", "Mailbox Store"), 100);
    let connected =
        |at: &str| host.calls().iter().any(|call| matches!(call, Call::TcpConnect { host, .. } if host == at));
    assert!(connected(DC1) && connected(DC2));
}

#[test]
fn the_next_server_is_asked_when_the_first_cannot_be_trusted() {
    let (host, first) = world(3);
    let second = Directory::new(3);
    second.listen(&host, DC2, 389);
    host.fail(Operation::TcpStartTls, Fault::new(FaultKind::Failed, "tls-certificate", "it has expired"));
    assert_eq!(apply(json!({ "servers": [DC1, DC2] })).changed, 3);
    assert_eq!((first.count("bind"), second.homed_at("EX02", "Mailbox Store")), (0, 3));
}

#[test]
fn a_server_that_cannot_just_now_is_waited_for() {
    for code in [51, 52, 53, 3] {
        let (_host, directory) = world(5);
        directory.set(|state| state.codes = vec![(Asked::Search, 2, code), (Asked::Modify, 3, code)]);
        let done = apply(json!({}));
        assert_eq!((done.changed, done.refused.len()), (5, 0), "{code}");
    }
    let (_host, directory) = world(5);
    directory.set(|state| state.codes = vec![(Asked::Bind, 2, 51)]);
    assert_eq!(apply(json!({})).changed, 5);
}

#[test]
fn a_server_that_never_can_is_given_up() {
    let (_host, directory) = world(5);
    directory.set(|state| state.codes = vec![(Asked::Search, usize::MAX, 51)]);
    let error = error(json!({}));
    is(&error, ErrorKind::Unavailable, "busy", Retry::Here, Effect::None);
    says(&error, "dc1.corp.test:389 cannot just now, saying busy (51)");
    assert!((30..200).contains(&directory.count("search")), "five a round, for as long as there is time");
}

#[test]
fn changes_that_a_server_never_can_make_are_refused() {
    let (_host, directory) = world(5);
    directory.set(|state| state.codes = vec![(Asked::Modify, usize::MAX, 53)]);
    let done = apply(json!({}));
    assert_eq!((done.changed, done.refused.len()), (0, 5));
    assert_eq!(done.refused[0].1, "unwillingToPerform (53)");
    assert_eq!(directory.count("modify"), 25);
}

#[test]
fn with_little_time_it_ends_in_time() {
    for (at, code) in [(Asked::Search, "busy"), (Asked::Modify, "no-time")] {
        let (host, directory) = world(5);
        host.set_budget(Duration::from_secs(2));
        directory.set(|state| state.codes = vec![(at, usize::MAX, 51)]);
        let error = error(json!({}));
        assert_eq!((error.code.as_str(), error.effect), (code, Effect::None), "{error}");
        assert!(clock::remaining() > Duration::ZERO);
    }
}

#[test]
fn smaller_pages_are_asked_for_when_there_is_a_limit() {
    let (_host, directory) = world(100);
    directory.set(|state| state.page_size_max = Some(40));
    assert_eq!(apply(json!({})).changed, 100);
    directory.set(|state| assert!(state.page_sizes.starts_with(&[500, 250, 125, 62, 31])));
}

#[test]
fn a_server_that_gives_nothing_at_all_is_told() {
    let (_host, directory) = world(5);
    directory.set(|state| state.page_size_max = Some(0));
    let error = error(json!({}));
    is(&error, ErrorKind::Failed, "size-limit", Retry::Nowhere, Effect::None);
    says(&error, "gives no results, not even one at a time: sizeLimitExceeded (4)");
}

#[test]
fn a_referral_is_told_and_never_followed() {
    for at in [Asked::Search, Asked::Modify] {
        let (host, directory) = world(5);
        directory.set(|state| {
            state.codes = vec![(at, usize::MAX, 10)];
            state.referral = Some("ldap://rwdc.corp.test/".into());
        });
        let error = error(json!({}));
        // Of the other changes under way the answers are not waited for.
        let effect = if at == Asked::Modify { Effect::Unknown } else { Effect::None };
        is(&error, ErrorKind::Failed, "referral", Retry::Nowhere, effect);
        says(
            &error,
            "says that another server has it (ldap://rwdc.corp.test/): name that one in `directory.servers`, and grant it",
        );
        assert!(host.calls().iter().all(|call| !matches!(call, Call::TcpConnect { host, .. } if host != DC1)));
    }
}

#[test]
fn a_server_that_may_only_read_leaves_it_to_the_next() {
    let (host, reader) = world(5);
    reader.set(|state| {
        state.codes = vec![(Asked::Modify, usize::MAX, 10)];
        state.referral = Some("ldap://dc2.corp.test/".into());
    });
    let writer = Directory::new(5);
    writer.listen(&host, DC2, 389);
    let done = apply(json!({ "servers": [DC1, DC2] }));
    assert_eq!((done.changed, writer.homed_at("EX02", "Mailbox Store")), (5, 5));
}

#[test]
fn what_the_server_says_no_to_is_told() {
    let (_host, directory) = world(5);
    directory.set(|state| state.codes = vec![(Asked::Search, usize::MAX, 12)]);
    let error = error(json!({}));
    is(&error, ErrorKind::Failed, "refused", Retry::Nowhere, Effect::None);
    says(&error, "refuses with unavailableCriticalExtension (12)");
}

#[test]
fn two_servers_of_one_name_are_told() {
    let (_host, directory) = world(1);
    directory.add(
        &format!("CN=EX01,CN=Copy,CN=Microsoft Exchange,CN=Services,CN=Configuration,{BASE}"),
        &[("objectClass", &["msExchExchangeServer"]), ("cn", &["EX01"])],
    );
    let error = error(json!({}));
    is(&error, ErrorKind::Conflict, "two-servers", Retry::Nowhere, Effect::None);
}
