//! What happens when a disk cannot be read, written or flushed (V10).

use super::*;

#[test]
fn v10_a_source_whose_backing_fails_answers_errors_and_says_so() {
    let mut rig = Rig::hot(config());
    rig.write(1, 0, false);
    let (id, _) = rig.disk()[0];
    rig.holds = false;
    rig.input(Input::Disk { id, result: Err(DiskError::Errno(5)) });
    rig.write(2, 0, false);
    assert_eq!(rig.replies(), [(1, Err(RequestError::Backing)), (2, Err(RequestError::Backing))]);
    let status = rig.volume.status();
    assert_eq!((status.copy, status.role), (CopyState::Failed, Role::Target));
    let sent = rig.sent();
    assert!(sent.contains(&&Message::End) && sent.contains(&&Message::Failed { marked: true }), "{sent:?}");
    assert!(rig.volume.intent.dirty().has(Region(0)), "the bit stays");
}

#[test]
fn v10_whoever_asked_is_answered_when_label_or_log_cannot_be_written() {
    let failed = Err(DiskError::Errno(5));
    let backing = |rig: &Rig, operator: u64| {
        let id = crate::io::OperatorId(operator);
        let answers = |output: &&Output| matches!(output, Output::Answer { id: of, result: Err(Refusal::Backing(_)) } if *of == id);
        rig.out.iter().filter(answers).count()
    };
    // Who asks, and whether it is the log that fails, or the label.
    let requests = [
        (OperatorRequest::Promote(Basis::Confirmed), false),
        (OperatorRequest::Promote(Basis::Force), true),
        (OperatorRequest::Pause, false),
    ];
    for (request, in_log) in requests {
        let mut rig = Rig::new(config(), request != OperatorRequest::Promote(Basis::Force));
        rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
        rig.out.clear();
        rig.holds = true;
        rig.input(Input::Operator { id: crate::io::OperatorId(9), request });
        // A second one, behind the first.
        rig.input(Input::Operator { id: crate::io::OperatorId(10), request: OperatorRequest::Pause });
        for _ in 0..8 {
            let writes: Vec<_> = rig.out.drain(..).collect();
            for output in writes {
                match output {
                    Output::WriteLabel { id, .. } => {
                        let result = if in_log { Ok(()) } else { failed };
                        rig.input(Input::Written { id, result });
                    }
                    Output::WriteLog { id, .. } => rig.input(Input::Written { id, result: failed }),
                    Output::Disk { id, .. } => rig.input(Input::Disk { id, result: Ok(DiskDone::Done) }),
                    answer @ Output::Answer { .. } => rig.out.push(answer),
                    _ => {}
                }
            }
        }
        assert_eq!(backing(&rig, 9), 1, "{request:?}: {:?}", rig.out);
        assert_eq!(rig.volume.status().copy, CopyState::Failed);
        assert!(in_log || backing(&rig, 10) == 1, "{request:?}: {:?}", rig.out);
    }
}

#[test]
fn v10_a_promotion_ends_when_the_disk_cannot_be_flushed() {
    let mut rig = Rig::new(config(), true);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    rig.holds = true;
    rig.out.clear();
    rig.confirm();
    let [(flush, DiskOp::Flush)] = rig.disk()[..] else { panic!("{:?}", rig.out) };
    rig.input(Input::Disk { id: flush, result: Err(DiskError::Errno(5)) });
    let refused = |output: &Output| matches!(output, Output::Answer { result: Err(Refusal::Backing(_)), .. });
    assert!(rig.out.iter().any(refused), "{:?}", rig.out);
}

#[test]
fn v10_what_a_resync_cannot_read_is_copied_as_soon_as_it_can_be_read() {
    let mut rig = Rig::new(config(), true);
    rig.unreadable = Some(Region(3));
    rig.copy_all();
    let status = rig.volume.status();
    assert_eq!((status.role, status.copy, status.alone), (Role::Source, CopyState::UpToDate, false));
    assert_eq!(status.link, LinkState::Resync(Progress { done: 7, of: 8 }));
    let unread = Unread { regions: 1, first: Region(3), error: DiskError::Errno(5) };
    assert_eq!(status.unread, Some(unread));
    assert!(rig.volume.intent.dirty().has(Region(3)), "the bit stays");
    // Nobody waits for it.
    rig.write(1, Region(3).offset(), false);
    assert!(matches!(rig.sent()[..], [Message::Write { .. }]), "{:?}", rig.out);
    rig.answer_all();
    let copied = |rig: &Rig| rig.sent().iter().any(|sent| matches!(sent, Message::Copy { region: Region(3), .. }));
    for second in 1..5 {
        rig.says(Message::Ping);
        rig.at(second * 1_000);
        assert!(!copied(&rig) && rig.events().is_empty(), "{:?}", rig.out);
    }
    rig.at(5_000);
    assert!(!copied(&rig) && rig.events().is_empty(), "it is as it was: {:?}", rig.out);
    assert_eq!(rig.volume.status().unread, Some(unread));
    rig.unreadable = None;
    rig.says(Message::Ping);
    rig.at(10_000);
    assert!(copied(&rig), "{:?}", rig.out);
    rig.answer_all();
    rig.says(Message::UpToDate);
    let status = rig.volume.status();
    assert_eq!((status.link, status.unread), (LinkState::Connected, None));
}

#[test]
fn v10_what_a_source_cannot_read_is_not_compared() {
    let mut rig = Rig::mirroring(config());
    rig.unreadable = Some(Region(3));
    rig.operator(OperatorRequest::Verify).unwrap();
    let unread = Unread { regions: 1, first: Region(3), error: DiskError::Errno(5) };
    assert_eq!(rig.events(), [&Event::VerifyUnread(unread)]);
    assert_eq!(rig.volume.status().unread, Some(unread));
    for region in [0, 1, 2, 4, 5, 6, 7].map(Region) {
        rig.says(Message::Checked { region, same: true });
    }
    assert!(rig.events().contains(&&Event::Verified { regions: 8, different: 0, unread: 1 }), "{:?}", rig.out);
    let status = rig.volume.status();
    assert_eq!((status.role, status.link, status.unread), (Role::Source, LinkState::Connected, None));
}

#[test]
fn v10_what_a_target_cannot_read_differs() {
    let mut rig = Rig::new(config(), false);
    rig.link(1);
    let first = Generation { epoch: 0, side: Side::B, began: UnixMs(1) };
    rig.hello(&peer(7, first));
    rig.says(Message::Begin(Box::new(Identity { source: true, ..peer(7, first) })));
    rig.out.clear();
    rig.unreadable = Some(Region(3));
    for region in [2, 3].map(Region) {
        rig.says(Message::Check { region, checksum: 7 });
    }
    let answers = [2, 3].map(|region| Message::Checked { region: Region(region), same: region == 2 });
    assert_eq!(rig.sent(), [&answers[0], &answers[1]]);
    assert_eq!(rig.events(), [&Event::CheckUnread(Region(3), DiskError::Errno(5))]);
    assert_eq!(rig.volume.status().copy, CopyState::Inconsistent, "it has not failed");
}
