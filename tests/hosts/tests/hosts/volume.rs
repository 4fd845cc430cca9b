//! A mirrored volume under the application, over a line of 45 Mbit/s.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_test_hosts::volume::{self, BACKING_BYTES, MIRROR, REGION_BYTES, VOLUME};
use mainstay_test_hosts::{Host, Lab, Mode, Wishes, long};
use mainstay_test_support::{WAIT_LIMIT, wait_for};
use serde_json::Value;

use crate::confirm;

/// What the line to the other site carries, in Mbit a second.
const LINE_MBIT_PER_S: u32 = 45;
/// The same in bytes.
const LINE_BYTES_PER_S: f64 = LINE_MBIT_PER_S as f64 * 1e6 / 8.0;
/// A first copy, at that rate, on a machine that does much else.
const COPY: Duration = Duration::from_secs(90);
/// Between two looks at a first copy, in ms.
const LOOK_MS: u64 = 250;
/// Before that the rate is one of a second or two.
const STEADY: Duration = Duration::from_secs(3);
/// So many letters are in the store at the most; then the oldest is written anew.
const LETTERS_MAX: usize = 400;
const LETTER_BYTES: usize = 8 << 10;
/// What else goes over the line while changes are copied: heartbeats, what daemons tell each other, run lengths of what
/// differs, and the headers of every packet, of which there are some 45 in a region.
const BESIDE_BYTES: u64 = 1 << 20;

/// What the daemon of a host says of its copy, as the operator sees it.
#[track_caller]
fn view(host: &Host) -> Value {
    let text = host.mainstay(&["volume", "status", VOLUME, "--json"]).ok();
    let mut all: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
    all.pop().expect("there is one")
}

#[track_caller]
fn wait_for_volume(host: &Host, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
    wait_for(WAIT_LIMIT, &format!("the volume on {}: {what}", host.name()), || Some(view(host)).filter(&mut is))
}

/// What was copied or written last may be under way to the other copy for as long as its bits stay in the log, and is
/// copied once more after a break: waits until that is little.
#[track_caller]
fn wait_until_cold(host: &Host) {
    wait_for_volume(host, "little in its log", |volume| {
        volume["status"]["dirty-regions"].as_u64().is_some_and(|regions| regions * REGION_BYTES < BACKING_BYTES / 4)
    });
}

/// What was written and acknowledged as durable, and has to be there ever after.
#[derive(Default)]
struct Letters {
    written: BTreeMap<usize, u8>,
    count: usize,
}

impl Letters {
    fn write(&mut self, host: &Host) {
        let (number, content) = (self.count % LETTERS_MAX, (self.count % 251) as u8);
        let path = host.seen(&volume::mount_point(host)).join(format!("letter-{number}"));
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(&[content; LETTER_BYTES])?;
            file.sync_all()
        });
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.written.insert(number, content);
        self.count += 1;
    }

    /// What in the story is an hour.
    fn write_for_an_hour(&mut self, host: &Host) {
        self.write(host);
        let began = Instant::now();
        while began.elapsed() < long(5, Duration::from_secs(2)) {
            self.write(host);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn are_all_there(&self, host: &Host) {
        for (number, content) in &self.written {
            let path = host.seen(&volume::mount_point(host)).join(format!("letter-{number}"));
            let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(found == vec![*content; LETTER_BYTES], "{} is not what was written", path.display());
        }
    }
}

/// A first copy, as it was shown.
struct Shown {
    at: Instant,
    percent: u64,
    done: u64,
    of: u64,
    rate: Option<u64>,
    left_s: Option<u64>,
    text: String,
}

/// Looks at the first copy until it is done.
#[track_caller]
fn watch_first_copy(lab: &Lab, host: &Host) -> (Vec<Shown>, Instant) {
    let (mut shown, began) = (Vec::<Shown>::new(), Instant::now());
    loop {
        let now = view(host);
        if now["status"]["link"] == "connected" {
            return (shown, Instant::now());
        }
        if let Some(progress) = now["progress"].as_object() {
            let number = |name: &str| progress[name].as_u64();
            shown.push(Shown {
                at: Instant::now(),
                percent: number("percent").unwrap_or(u64::MAX),
                done: number("done-bytes").unwrap_or(u64::MAX),
                of: number("of-bytes").unwrap_or(0),
                rate: number("bytes-per-s"),
                left_s: number("left-s"),
                text: host.mainstay(&["volume", "status", VOLUME]).ok(),
            });
        }
        assert!(began.elapsed() < COPY, "the first copy takes longer than {COPY:?}: {now:#}\n{}", lab.host("b").log());
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// It was shown as it was: forward only, no faster than the line, and the time left was about what it then took.
#[track_caller]
fn first_copy_was_shown(shown: &[Shown], end: Instant) {
    let told: Vec<String> = shown
        .iter()
        .map(|it| {
            let left = end.duration_since(it.at).as_secs_f64();
            format!(
                "{} %, {} of {}, {:?} B/s, {:?} s left; it was {left:.1}",
                it.percent, it.done, it.of, it.rate, it.left_s
            )
        })
        .collect();
    let told = told.join("\n");
    let first = shown.first().unwrap_or_else(|| panic!("it was not shown"));
    // All of the volume, and not one byte of what is not in the file of the test.
    assert!(shown.iter().all(|it| it.of > BACKING_BYTES * 9 / 10 && it.of <= BACKING_BYTES), "{told}");
    assert!(shown.windows(2).all(|pair| pair[0].done <= pair[1].done && pair[0].percent <= pair[1].percent), "{told}");
    assert!(shown.iter().all(|it| it.percent == it.done * 100 / it.of), "{told}");
    let steady: Vec<&Shown> = shown.iter().filter(|it| it.at.duration_since(first.at) > STEADY).collect();
    assert!(steady.len() >= 3, "it was too short to be seen:\n{told}");
    for it in &steady {
        let (rate, left) = (it.rate.unwrap_or(0) as f64, it.left_s.map_or(f64::MAX, |left| left as f64));
        // What the journal has not used yet is zero, and costs the line nothing.
        assert!(rate > 0.0 && rate <= LINE_BYTES_PER_S * 1.1, "{rate} B/s over {LINE_BYTES_PER_S}:\n{told}");
        let really = end.duration_since(it.at).as_secs_f64();
        assert!(left <= 3.0 * really + 2.0 && really <= 3.0 * left + 3.0, "{left} s for {really}:\n{told}");
        assert!(["mirror: resync ", "mirror: connected"].iter().any(|words| it.text.contains(words)), "{}", it.text);
    }
    assert!(steady.iter().any(|it| it.text.contains("/s, ") && it.text.contains(" left")), "{}", steady[0].text);
}

/// The last number that stands between these words in a host's log.
fn last_number(host: &Host, before: &str, after: &str) -> u64 {
    let log = host.log();
    let mut numbers = log.lines().filter_map(|line| line.split_once(before)?.1.split_once(after)?.0.parse().ok());
    numbers.next_back().unwrap_or_else(|| panic!("{} has not said {before}...{after}:\n{log}", host.name()))
}

/// Once `back` is done the changes travel from one host to the other, and nothing else does.
#[track_caller]
fn only_changes_travel(lab: &Lab, from: &str, to: &str, back: impl FnOnce()) {
    let source = lab.host(from);
    let sent = || view(source)["status"]["resync-bytes"].as_u64().expect("it is counted");
    let (sent_before, carried_before) = (sent(), lab.net.carried_bytes_to(to, MIRROR));
    back();
    wait_for_volume(source, "connected", |volume| volume["status"]["link"] == "connected");
    let (sent, carried) = (sent() - sent_before, lab.net.carried_bytes_to(to, MIRROR) - carried_before);
    let regions = last_number(source, "resync is done: ", " regions copied");
    let begun = last_number(source, "resync of ", " regions begins");
    println!(
        "{begun} regions differed, {regions} were copied: {sent} bytes of data, {carried} on the line; the volume is of {} regions",
        BACKING_BYTES / REGION_BYTES
    );
    let budget = regions * REGION_BYTES * 105 / 100;
    assert!(sent <= budget, "{sent} bytes of data for {regions} regions");
    assert!(carried <= budget + BESIDE_BYTES, "{carried} bytes on the line for {regions} regions");
    assert!(regions <= begun + 32, "{regions} regions for {begun} that differed");
    assert!(regions * REGION_BYTES < BACKING_BYTES / 2, "{regions} regions are no small part of the volume");
}

/// The first copy over the line, an hour of changes while the line is cut, an hour of changes while the first host has no
/// power, and back.
#[test]
fn the_story_over_a_line_of_45_mbit() {
    let wishes = Wishes { volume: true, ..Wishes::default() };
    let Some(lab) = Lab::with(Mode::Confirm, &["a", "b"], wishes, |host| host.start()) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    let mut letters = Letters::default();
    lab.net.limit(MIRROR, LINE_MBIT_PER_S);

    // The first copy. It is in service meanwhile.
    volume::fill(a);
    a.mainstay(&["volume", "create", VOLUME, "--first"]).ok();
    b.mainstay(&["volume", "create", VOLUME]).ok();
    let (shown, end) = watch_first_copy(&lab, a);
    first_copy_was_shown(&shown, end);
    let timeline = lab.prober.timeline();
    assert_eq!(timeline.served_since(Duration::ZERO), ["a"], "it was to serve while it was copied: {timeline}");
    lab.wait_until_settled("a");
    letters.write_for_an_hour(a);
    wait_until_cold(a);

    // The line is cut, and the other path is not: the copy on b is marked over that one, and a goes on.
    lab.net.cut(&[MIRROR]);
    letters.write_for_an_hour(a);
    let alone = view(a);
    assert_eq!((&alone["status"]["link"], &alone["status"]["alone"]), (&"broken".into(), &true.into()), "{alone:#}");
    wait_for_volume(b, "marked outdated", |volume| volume["status"]["copy"] == "outdated");
    only_changes_travel(&lab, "a", "b", || lab.net.heal());
    lab.wait_until_settled("a");
    assert_eq!(lab.prober.timeline().runs().len(), 1, "{}", lab.prober.timeline());

    // The power cord. The operator is shown when a was last heard, by the mirror and by the daemon.
    letters.write_for_an_hour(a);
    let off = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_millis() as u64;
    a.power_off();
    let silent = lab.wait_for_alarm("b", "is silent on every comm path, last heard ");
    assert!(!silent.is_empty());
    let seen = wait_for_volume(b, "last known good", |volume| volume["status"]["copy"] == "last known good");
    let since = seen["status"]["copy-since-ms"].as_u64().expect("it is known");
    assert!((off - 3000..off + 1000).contains(&since), "last heard at {since}, the power went at {off}");
    assert_eq!(seen["status"]["promotion"]["confirm"]["since-ms"], since, "{seen:#}");
    let text = b.mainstay(&["volume", "status", VOLUME]).ok();
    assert!(text.contains("target, last known good since 20") && text.contains("mirror: no contact"), "{text}");
    lab.nothing_happens(&[]);
    confirm(&lab, "b");
    lab.wait_until_served_by(&["b"]);
    letters.are_all_there(b);
    letters.write_for_an_hour(b);

    // It comes back as the target.
    only_changes_travel(&lab, "b", "a", || {
        a.power_on();
        a.start();
    });
    lab.wait_until_settled("b");

    // And back.
    letters.write_for_an_hour(b);
    b.mainstay(&["switchover", "shop", "a", "--timeout", "2m"]).ok();
    lab.wait_until_settled("a");
    letters.are_all_there(a);
    letters.write(a);
    lab.prober.never_two();
    a.mainstay(&["out-of-service", "shop", "--timeout", "2m"]).ok();
    wait_for_volume(a, "at rest", |volume| volume["status"]["role"] == "target" && volume["status"]["requests"] == 0);
    assert_eq!(volume::first_difference(a, b), None, "the first region that differs");
}
