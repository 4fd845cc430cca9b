//! Whatever bytes come back, the kit neither panics nor says that something was done which was not.

mod server;

use domain::base::iana::Rtype;
use mainstay_kit_dns::{Dns, DnsParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Answer, FakeHost};
use proptest::prelude::*;
use serde_json::json;
use server::{KEY, Over, SECRET, Sent, Server, framed};

const AT: &str = "192.0.2.53";

fn world() -> (FakeHost, Server, Context<DnsParams>) {
    let host = FakeHost::install();
    let server = Server::new();
    server.listen(&host, AT);
    host.secret("dns-key", SECRET);
    let ctx = host.context(json!({
        "zone": "example.org", "servers": [AT], "key": { "name": KEY, "secret": "dns-key" }, "on-remove": "delete",
        "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } },
    }));
    (host, server, ctx)
}

fn is_update(message: &[u8]) -> bool {
    message[2] >> 3 & 0xf == 5
}

/// A reply with some bytes changed, cut off, or put in.
fn mutate(mut reply: Vec<u8>, changes: &[(u8, u16, u8)]) -> Vec<u8> {
    for (kind, at, byte) in changes {
        let at = usize::from(*at) % (reply.len() + 1);
        match kind % 5 {
            0 => reply.truncate(at),
            1 => reply.insert(at, *byte),
            2 if at < reply.len() => drop(reply.remove(at)),
            // A pointer, to see names that run in circles.
            3 if at + 1 < reply.len() => reply[at..at + 2].copy_from_slice(&[0xc0 | byte >> 6, *byte]),
            _ if at < reply.len() => reply[at] = *byte,
            _ => {}
        }
    }
    reply
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes back to an update, the kit neither panics nor says that it worked unless it did.
    #[test]
    fn no_reply_makes_it_panic_or_lie(
        changes in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u8>()), 1..6),
        spoil_updates in any::<bool>(),
        spoil_questions in any::<bool>(),
        raw_tcp in any::<bool>(),
    ) {
        let (_host, server, ctx) = world();
        server.behave(move |over, reply| {
            let spoil = if is_update(&reply) { spoil_updates } else { spoil_questions };
            match (spoil, over) {
                (false, _) => reply.into(),
                (true, Over::Tcp) if raw_tcp => Sent::Raw(Answer::bytes(mutate(framed(&reply), &changes)).then_close()),
                (true, _) => mutate(reply, &changes).into(),
            }
        });
        let _ = Dns::quick_check(&ctx);
        let restored = Dns::restore(&ctx);
        if restored.is_ok() && !spoil_questions {
            prop_assert!(server.values("mail.example.org", Rtype::A).is_some());
        }
        let removed = Dns::remove(&ctx);
        // Only a signed reply says that it is gone.
        if removed.is_ok() {
            prop_assert!(server.values("mail.example.org", Rtype::A).is_none());
        }
    }

    /// Nothing at all of what comes need have to do with what was asked.
    #[test]
    fn no_bytes_make_it_panic(replies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..4)) {
        let (_host, server, ctx) = world();
        server.behave(move |_, asked| {
            let with_id = replies.iter().map(|reply| [&asked[..4.min(reply.len())], &reply[4.min(reply.len())..]].concat());
            Sent::Messages(with_id.collect())
        });
        prop_assert!(Dns::remove(&ctx).is_err());
        let _ = Dns::quick_check(&ctx);
    }
}
