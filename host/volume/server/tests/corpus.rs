//! What the fuzzers of `tests/fuzz` begin from goes through the same functions here, and changed variants of it.
//!
//! The files are made of real values, written by this test with `MAINSTAY_BLESS=1`; others may lie beside them, such as
//! what a fuzzer once found.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use mainstay_test_support::corpus::hold;
use mainstay_volume::fuzz;
use mainstay_volume::link::frame::head;
use mainstay_volume_core::message::{Message, Sent};
use mainstay_volume_core::types::{Extent, Region, Side, checksum};

/// Changed variants of each file: enough to turn every byte of most of them over.
const VARIANTS: u64 = 300;

fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    [&b"IHAVEOPT"[..], &kind.to_be_bytes(), &u32::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

fn request(flags: u16, kind: u16, offset: u64, length: u32, data: &[u8]) -> Vec<u8> {
    [
        &0x2560_9513u32.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &7u64.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
        data,
    ]
    .concat()
}

#[test]
fn clients() {
    let flags = 3u32.to_be_bytes();
    let go = option(7, &[&4u32.to_be_bytes()[..], b"mail", &1u16.to_be_bytes(), &3u16.to_be_bytes()].concat());
    let begun = [&flags[..], &option(8, &[]), &go].concat();
    let with = |requests: &[Vec<u8>]| [&begun[..], &requests.concat()].concat();
    let everything = with(&[
        request(0, 0, 512, 4096, &[]),
        request(1, 1, 0, 512, &[7; 512]),
        request(0, 3, 0, 0, &[]),
        request(0, 4, 0, 1 << 20, &[]),
        request(2, 6, 0, 65536, &[]),
        request(0, 2, 0, 0, &[]),
    ]);
    let seeds = vec![
        ("cut", everything[..everything.len() - 30].to_vec(), true),
        ("everything", everything, true),
        ("by-name", [&1u32.to_be_bytes()[..], &option(1, b"mail"), &request(0, 3, 0, 0, &[])].concat(), true),
        ("list-abort", [&flags[..], &option(3, &[]), &option(2, &[])].concat(), false),
        ("info-other", [&flags[..], &option(6, &[0, 0, 0, 1, b'x', 0, 0])].concat(), false),
        ("past-the-end", with(&[request(0, 0, 1 << 20, 512, &[])]), false),
        ("overflow", with(&[request(0, 4, u64::MAX - 511, 512, &[])]), false),
        ("write-4-gib", with(&[request(0, 1, 0, u32::MAX, &[])]), false),
        ("option-4-gib", [&flags[..], b"IHAVEOPT", &7u32.to_be_bytes(), &[0xff; 4]].concat(), false),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        ("empty", Vec::new(), false),
    ];
    hold("nbd-client", VARIANTS, seeds, fuzz::client);
}

#[test]
fn frames() {
    let write = Message::Write { id: Sent(7), extent: Extent { offset: 512, length: 512 }, fua: true, barrier: false };
    let data = vec![7; 512];
    let copy = Message::Copy { region: Region(3), length: 512, checksum: checksum(&data) };
    let session = [
        head(&Message::Bits(vec![3, 4, 5])),
        head(&Message::Resync { regions: 4 }),
        head(&Message::Behind),
        head(&copy),
        data.clone(),
        head(&Message::CopyDone { region: Region(3) }),
        head(&write),
        data.clone(),
        head(&Message::Done { id: Sent(7) }),
        head(&Message::Resolve(Side::B)),
        head(&Message::Ping),
    ]
    .concat();
    assert_eq!(fuzz::frames(&session), 9);
    let damaged = [head(&copy), vec![8; 512]].concat();
    let long =
        Message::Write { id: Sent(7), extent: Extent { offset: 0, length: u32::MAX }, fua: false, barrier: false };
    let seeds = vec![
        ("cut", session[..session.len() / 2].to_vec(), true),
        ("session", session, true),
        ("write", [head(&write), data].concat(), true),
        ("ping", head(&Message::Ping), true),
        ("copy-damaged", damaged, false),
        ("write-4-gib", head(&long), false),
        ("claims-4-gib", vec![0xff; 8], false),
        ("nothing", vec![0; 4], false),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
    ];
    hold("mirror-frames", VARIANTS, seeds, |bytes| fuzz::frames(bytes) > 0);
}

#[test]
fn asks() {
    let ask = |text: &str| text.as_bytes().to_vec();
    let right = r#"{"id":1,"ask":{"right":{"epoch":{"counter":7,"side":"A"},"until-boot-ms":90000}}}"#;
    let mark = r#"{"id":1,"ask":{"mark-outdated":{"epoch":{"counter":7,"side":"A"},"generation":{"epoch":7,"side":"A","began":9}}}}"#;
    let seeds = vec![
        ("status", ask(r#"{"id":1,"ask":"status"}"#), true),
        ("promote", ask(r#"{"ask":{"promote":{"arbiter":{"marked":false}}}}"#), true),
        ("right", ask(right), true),
        ("mark-outdated", ask(mark), true),
        ("resolve", ask(r#"{"id":18446744073709551615,"ask":{"resolve":"B"}}"#), true),
        ("unknown", ask(r#"{"id":1,"ask":"stattus"}"#), false),
        ("no-json", ask("status"), false),
        ("deep", vec![b'['; 2000], false),
    ];
    hold("volume-control", VARIANTS, seeds, fuzz::control);
}
