//! The Exchange kit against a real Active Directory: recipients are rehomed, and whatever stands in the way is told.
//!
//! The shipped component is run by `mainstay kit run`, beside a Samba domain controller of the test's own.

mod node;
mod samba;

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mainstay_test_support::{Guard, wait_until};
use node::{Kit, WRONG_AUTHORITY, WRONG_PASSWORD};
use samba::{RECIPIENT_COUNT, REFUSING, Samba};
use serde_json::{Value, json};

/// What rehoming 1,000 recipients may take: each change costs Samba twenty milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(300);

#[track_caller]
fn is(error: &Value, kind: &str, code: &str, effect: &str, words: &str) {
    let error = &error["error"];
    assert_eq!(
        (&error["kind"], &error["code"], &error["effect"]),
        (&json!(kind), &json!(code), &json!(effect)),
        "{error:#}"
    );
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "expected {words:?} in {message:?}");
}

/// A number that is another one each time, below `end`.
fn random(end: u128) -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    now.as_nanos() / 1_000 % end
}

/// A thousand recipients go to EX02 and back. On the way there the kit is killed at a random point, and the next one goes on.
#[test]
fn a_thousand_recipients_go_there_and_back_though_the_kit_is_killed() {
    let Some(samba) = Samba::start() else { return };
    let Some(kit) = Kit::new(&samba) else { return };
    let mut run =
        Guard::start("the kit", &mut kit.restore("ex02", &json!({}))).unwrap_or_else(|error| panic!("{error}"));
    wait_until(LIMIT, "the first recipients to be moved", || samba.homed_at("EX02") > 0);
    thread::sleep(Duration::from_millis(u64::try_from(random(10_000)).expect("below ten seconds")));
    run.kill_alone();
    let moved = samba.homed_at("EX02");
    println!("killed after {moved} of {RECIPIENT_COUNT} recipients");
    assert_eq!(samba.homed_at("EX01") + moved, RECIPIENT_COUNT, "each is at one of both, whole");

    let done = kit.done("ex02", &json!({}));
    assert_eq!((samba.homed_at("EX01"), samba.homed_at("EX02")), (0, RECIPIENT_COUNT), "{done:#}");
    let again = kit.done("ex02", &json!({}));
    assert_eq!(again["done"]["changed"], json!(false), "{again:#}");

    let began = Instant::now();
    kit.done("ex01", &json!({}));
    println!("{RECIPIENT_COUNT} recipients went back in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!((samba.homed_at("EX01"), samba.homed_at("EX02")), (RECIPIENT_COUNT, 0));
}

/// The domain controller dies in the middle. What was asked ends, and goes on where it ended when it is there again.
#[test]
fn a_domain_controller_that_dies_in_the_middle_is_told_and_it_goes_on() {
    let Some(samba) = Samba::start() else { return };
    let Some(kit) = Kit::new(&samba) else { return };
    let run = Guard::start("the kit", &mut kit.restore("ex02", &json!({ "timeout": "5s" })));
    let mut run = run.unwrap_or_else(|error| panic!("{error}"));
    wait_until(LIMIT, "the first recipients to be moved", || samba.homed_at("EX02") > 0);
    samba.kill();
    let status = run.wait(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", run.output());
    let said = run.output();
    assert!(said.contains("\"unreachable\"") || said.contains("\"connection-broken\""), "{said}");
    samba.power_on();
    let moved = samba.homed_at("EX02");
    assert!(0 < moved && moved < RECIPIENT_COUNT, "{moved}");
    kit.done("ex02", &json!({}));
    assert_eq!(samba.homed_at("EX02"), RECIPIENT_COUNT);
}

/// It is back at once, as a service that is restarted: one call does it all.
#[test]
fn a_domain_controller_that_is_restarted_is_waited_for() {
    let Some(samba) = Samba::start() else { return };
    let Some(kit) = Kit::new(&samba) else { return };
    let run = Guard::start("the kit", &mut kit.restore("ex02", &json!({})));
    let mut run = run.unwrap_or_else(|error| panic!("{error}"));
    wait_until(LIMIT, "the first recipients to be moved", || samba.homed_at("EX02") > 0);
    samba.kill();
    samba.power_on();
    let status = run.wait(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", run.output());
    assert_eq!(samba.homed_at("EX02"), RECIPIENT_COUNT);
}

/// One recipient may not be changed by the account: the others are, and it is named.
#[test]
fn a_recipient_that_refuses_is_named_and_the_others_go_on() {
    let Some(samba) = Samba::start() else { return };
    samba.deny(REFUSING);
    let Some(kit) = Kit::new(&samba) else { return };
    let error = kit.error("ex02", &json!({}));
    let words = format!(
        "1 of {RECIPIENT_COUNT} recipients keep their home on the failed server, because the directory refuses to change them: {REFUSING}: insufficientAccessRights (50)"
    );
    is(&error, "failed", "recipients-refused", "partial", &words);
    assert_eq!((samba.homed_at("EX01"), samba.homed_at("EX02")), (1, RECIPIENT_COUNT - 1));
}

/// What the kit is not let in for.
#[test]
fn who_is_not_known_or_not_trusted_is_told() {
    let Some(samba) = Samba::start() else { return };
    let Some(kit) = Kit::new(&samba) else { return };
    // Partial: the services were started, and run.
    let wrong = kit.error("ex02", &json!({ "bind": { "user": samba::USER, "secret": WRONG_PASSWORD } }));
    is(&wrong, "denied", "bad-credentials", "partial", "127.0.0.1:389 does not accept the account mainstay@corp.test");

    let strangers = kit.error("ex02", &json!({ "trust": WRONG_AUTHORITY }));
    is(
        &strangers,
        "denied",
        "tls",
        "partial",
        "127.0.0.1:389 does not prove to be dc1.corp.test, checked by the authority in the secret wrong-ca",
    );
    let named = kit.error("ex02", &json!({ "server-name": "dc2.corp.test" }));
    is(&named, "denied", "tls", "partial", "127.0.0.1:389 does not prove to be dc2.corp.test");
    let unknown = kit.error("ex02", &json!({ "tls": "ldaps", "trust": WRONG_AUTHORITY }));
    is(&unknown, "denied", "tls", "partial", "127.0.0.1:636 does not prove to be dc1.corp.test");

    let readable = kit.error("ex02", &json!({ "tls": "none" }));
    is(&readable, "denied", "insecure", "partial", "strongerAuthRequired (8)");
    assert_eq!(samba.homed_at("EX01"), RECIPIENT_COUNT);
}

/// TLS from the first byte as well as by StartTLS; what the standby finds; and what there is to do.
#[test]
fn both_ways_of_tls_lead_to_it() {
    let Some(samba) = Samba::start() else { return };
    let Some(kit) = Kit::new(&samba) else { return };
    for tls in ["start-tls", "ldaps"] {
        let found = kit.assess("ex02", &json!({ "tls": tls }));
        assert_eq!(found["findings"], json!([]), "{tls}: {found:#}");
    }
    // There are more than a page holds, and the last page is not full.
    kit.done("ex02", &json!({ "tls": "ldaps", "page-size": 137, "batch": 100 }));
    assert_eq!(samba.homed_at("EX02"), RECIPIENT_COUNT);
    samba.deny(REFUSING);
    let found = kit.assess("ex01", &json!({ "base": REFUSING }));
    let finding = &found["findings"][0];
    assert_eq!((&finding["weight"], &finding["code"]), (&json!("blocking"), &json!("no-rights")), "{found:#}");
}
