//! Whatever bytes come back, the kit neither panics, nor goes on without end, nor says that something was done which was not.

use mainstay_kit_exchange::directory::compare;
use mainstay_sdk::testing::Answer;
use proptest::prelude::*;

use super::*;
use crate::server::{Asked, Sent};

/// An answer with some bytes changed, cut off, put in, or in another place.
fn mutate(mut answer: Vec<u8>, changes: &[(u8, u16, u8)]) -> Vec<u8> {
    for (kind, at, byte) in changes {
        let at = usize::from(*at) % (answer.len() + 1);
        match kind % 6 {
            0 => answer.truncate(at),
            1 => answer.insert(at, *byte),
            2 if at < answer.len() => drop(answer.remove(at)),
            // A length that is very long, or a tag that nests.
            3 if at < answer.len() => answer[at] = [0x84, 0x30, 0x80, 0xff][usize::from(byte % 4)],
            4 if at < answer.len() => answer.rotate_left(at),
            _ if at < answer.len() => answer[at] = *byte,
            _ => {}
        }
    }
    answer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_it_panic_or_lie(
        changes in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u8>()), 1..6),
        spoil in 0_usize..30,
        all_after in any::<bool>(),
        close in any::<bool>(),
    ) {
        let (host, directory) = world(12);
        let mut count = 0;
        directory.behave(move |_, _, messages: Vec<Vec<u8>>| {
            count += 1;
            if count < spoil || (count > spoil && !all_after) {
                return Sent::Messages(messages);
            }
            let answer = Answer::bytes(mutate(messages.concat(), &changes));
            Sent::Raw(if close { answer.then_close() } else { answer })
        });
        let began = clock::monotonic();
        let done = rehome(&params(json!({ "page-size": 5, "batch": 3 })), &away(), Mode::Apply);
        prop_assert!(clock::monotonic() - began < BUDGET);
        // Bytes in between may make an error of a success, and hide recipients; nothing makes more of them than there are.
        let stored = directory.stored_at("EX02", "Mailbox Store");
        if let Ok(done) = &done {
            prop_assert!(done.changed <= stored, "{} of {stored}", done.changed);
        }
        directory.behave(|_, _, messages| messages);
        host.set_budget(BUDGET);
        // Whatever it came to: done again, without anybody spoiling it, it ends right.
        let done = rehome(&params(json!({})), &away(), Mode::Apply);
        prop_assert!(done.is_ok(), "{done:?}");
        prop_assert_eq!(directory.stored_at("EX02", "Mailbox Store"), 12);
    }

    #[test]
    fn no_bytes_make_it_panic(answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..4), at in 0_usize..4) {
        let (_host, directory) = world(2);
        let spoilt = [Asked::StartTls, Asked::Bind, Asked::Search, Asked::Modify][at];
        directory.behave(move |asked, _, messages| {
            if asked != spoilt {
                return Sent::Messages(messages);
            }
            let bytes = answers.iter().map(|answer| {
                // Within a message, so that more than its beginning is read.
                [&[0x30, answer.len() as u8][..], answer].concat()
            });
            Sent::Messages(bytes.collect())
        });
        let rehomed = rehome(&params(json!({})), &away(), Mode::Apply);
        prop_assert!(rehomed.is_err(), "{rehomed:?}");
        let compared = compare(&params(json!({})), "EX02", "EX01", &[]);
        prop_assert!(compared.is_err() || spoilt == Asked::Modify);
    }
}
