//! The misbehaviours, one list: what the kit does, what is to come of it, what has to be said.

use std::time::Duration;

use mainstay_runtime::{ErrorKind, FaultKind};
use mainstay_test_hostile::house::SECRET;
use serde_json::{Value, json};

use crate::case::{Case, Expect, Server, fault, says};

/// It uses up the processor, the stack or the memory, or breaks.
pub(crate) fn computing() -> Vec<Case> {
    let does = |what: &str| json!({ "does": what });
    vec![
        Case::new(
            "an endless loop",
            does("spin"),
            fault(FaultKind::CpuTimeout),
            &["kit hostile 0.1.0: quick-check of resource-", "300 ms are allowed", "bug of the kit"],
        ),
        Case::new("an endless loop of tiny host calls", does("tiny-calls"), fault(FaultKind::CpuTimeout), &["300 ms"]),
        Case::new("random bytes without end", does("random-forever"), fault(FaultKind::CpuTimeout), &["300 ms"]),
        Case::new("log lines without end", does("log-forever"), fault(FaultKind::CpuTimeout), &["300 ms"]),
        Case::new(
            "writes to its store without end",
            does("store-forever"),
            Expect::Fault(&[FaultKind::WallTimeout, FaultKind::CpuTimeout]),
            &["was stopped"],
        )
        .budget(Duration::from_secs(2)),
        Case::new(
            "a recursion without end",
            does("recurse"),
            fault(FaultKind::Trap),
            &["stack is exhausted", "recursion", "author"],
        ),
        Case::new(
            "a recursion that fills its memory",
            does("recurse-in-memory"),
            fault(FaultKind::Trap),
            &["outside of its memory", "recursion", "author"],
        ),
        Case::new(
            "a panic",
            json!({ "does": "panic", "text-bytes": 20 }),
            fault(FaultKind::Trap),
            &["panicked", "author"],
        ),
        Case::new(
            "a panic with a text of 1 MB",
            json!({ "does": "panic", "text-bytes": 1_000_000 }),
            fault(FaultKind::Trap),
            &["panicked"],
        ),
        Case::new("an abort", does("abort"), fault(FaultKind::Trap), &["panicked or aborted"]),
        Case::new(
            "a read outside its memory",
            does("wild-read"),
            fault(FaultKind::Trap),
            &["outside of its memory", "author"],
        ),
        Case::new(
            "memory without end",
            does("grow"),
            fault(FaultKind::OutOfMemory),
            &["67108864 are allowed", "raise the limit"],
        ),
        Case::new(
            "2 GB at once",
            json!({ "does": "grow-at-once", "bytes": 2_000_000_000 }),
            fault(FaultKind::OutOfMemory),
            &["67108864 are allowed"],
        ),
        Case::new(
            "memory until it is refused, then an answer",
            does("grow-politely"),
            says("was refused after 6"),
            &["MiB"],
        ),
    ]
}

fn say(summary: u32, details: u32, detail: u32) -> Value {
    json!({ "does": "say", "summary-bytes": summary, "details": details, "detail-bytes": detail })
}

fn fail(message: u32, code: u32, details: u32) -> Value {
    json!({ "does": "fail", "message-bytes": message, "code-bytes": code, "details": details })
}

/// It says too much, or what is no text, or is told too much.
pub(crate) fn words() -> Vec<Case> {
    let log_line = |bytes: u32| json!({ "does": "log-line", "bytes": bytes });
    let told = |bytes: usize| json!({ "does": "store-keys", "keys": ["x".repeat(bytes)] });
    vec![
        Case::new("a summary of 100 KB", say(100_000, 0, 0), says("xxx"), &["[cut]"]),
        Case::new("a summary of 20 MB", say(20_000_000, 0, 0), fault(FaultKind::Trap), &["fuel"]),
        Case::new("50 details of 50 KB", say(10, 50, 50_000), says("xxx"), &["[cut]"]),
        Case::new("10,000 details", say(10, 10_000, 1), says("xxx"), &["details-left-out", "9936"]),
        Case::new(
            "an error of 100 KB",
            fail(100_000, 10, 0),
            Expect::Error(ErrorKind::Failed, "xxxxxxxxxx"),
            &["[cut]"],
        ),
        Case::new(
            "an error with a code of 100 KB",
            fail(10, 100_000, 0),
            Expect::Error(ErrorKind::Failed, "[cut]"),
            &[],
        ),
        Case::new(
            "an error with 10,000 details",
            fail(10, 3, 10_000),
            Expect::Error(ErrorKind::Failed, "xxx"),
            &["9936"],
        ),
        Case::new("an error of 20 MB", fail(20_000_000, 3, 0), fault(FaultKind::Trap), &["fuel"]),
        Case::new("an answer that is no text", json!({ "does": "say-no-text" }), fault(FaultKind::Trap), &["utf-8"]),
        Case::new(
            "an answer from nowhere",
            json!({ "does": "say-from-nowhere" }),
            fault(FaultKind::Trap),
            &["out of bounds"],
        ),
        Case::new(
            "an answer that moves the cursor",
            json!({ "does": "say-control" }),
            says("one"),
            &["two", "red", "end"],
        ),
        Case::new("a log line of 1 MB", log_line(1_000_000), says("logged"), &[]),
        Case::new("a log line of 20 MB", log_line(20_000_000), fault(FaultKind::Trap), &["fuel"]),
        Case::new("a log line that is no text", json!({ "does": "log-no-text" }), fault(FaultKind::Trap), &["utf-8"]),
        Case::new("params of 200 KB", told(200_000), says("1 keys"), &["invalid"]),
        Case::new(
            "params of 20 MB",
            told(20_000_000),
            fault(FaultKind::Unavailable),
            &["params have 200", "262144 are allowed"],
        ),
        Case::new(
            "1 GB of random bytes",
            json!({ "does": "random", "bytes": 1_000_000_000 }),
            fault(FaultKind::Trap),
            &["1000000000", "65536"],
        ),
        Case::new("64 KiB of random bytes", json!({ "does": "random", "bytes": 65_536 }), says("65536 bytes"), &[]),
    ]
}

/// It waits longer than it has.
pub(crate) fn waiting() -> Vec<Case> {
    vec![
        Case::new(
            "a sleep of 49 days",
            json!({ "does": "sleep", "ms": u32::MAX }),
            fault(FaultKind::WallTimeout),
            &["did not end within its 1000 ms", "clock.sleep", "look at what it waits for"],
        )
        .budget(Duration::from_secs(1)),
        Case::new(
            "an endless loop of sleeps",
            json!({ "does": "sleep-forever" }),
            Expect::Fault(&[FaultKind::WallTimeout, FaultKind::CpuTimeout]),
            &["was stopped"],
        )
        .budget(Duration::from_secs(1)),
    ]
}

/// It reaches for what it may not have.
pub(crate) fn reaching() -> Vec<Case> {
    let denied = Expect::Error(ErrorKind::Denied, "not-granted");
    let to = |does: &str, host: &str, port: u16| json!({ "does": does, "host": host, "port": port });
    let run = |program: &str| json!({ "does": "run", "program": program });
    let mount = |device: &str, point: &str| json!({ "does": "mount", "device": device, "point": point });
    let look = |point: &str| json!({ "does": "mount-look", "point": point });
    let secret = |name: &str| json!({ "does": "secret", "name": name });
    let service = |does: &str, name: &str| json!({ "does": does, "name": name });
    vec![
        Case::new("a program that is not granted", run("/bin/sh"), denied, &["/bin/sh is not granted", "granted: "]),
        Case::new("a program by another way", run("/bin/../bin/sh"), denied, &["not granted"]),
        Case::new("a program in no folder", run("sh"), denied, &["not granted"]),
        Case::new("no program", run(""), denied, &["not granted"]),
        Case::new("a program with a zero in it", run("/bin/sh\0x"), denied, &["not granted"]),
        Case::new(
            "a host that is not granted",
            to("connect", "192.0.2.1", 80),
            denied,
            &["192.0.2.1:80 is not granted"],
        ),
        Case::new("a port that is not granted", to("connect", "127.0.0.1", 22), denied, &["granted: 127.0.0.1:9"]),
        Case::new("the granted address, written otherwise", to("connect", "127.1", 9), denied, &["not granted"]),
        Case::new("the granted address by its name", to("connect", "localhost", 9), denied, &["not granted"]),
        Case::new(
            "a datagram to whom it may not",
            to("datagram", "192.0.2.1", 53),
            denied,
            &["192.0.2.1:53 is not granted"],
        ),
        Case::new("a host of 1 MB", to("connect", &"x".repeat(100_000), 80), denied, &["not granted"]),
        Case::new(
            "a secret that is not granted",
            secret("dns-key"),
            denied,
            &["dns-key is not granted", "granted: own-secret"],
        ),
        Case::new("a secret that is a path", secret("../../../../etc/passwd"), denied, &["not granted"]),
        Case::new("a secret that is granted", secret(SECRET), says("5 bytes"), &[]),
        Case::new(
            "a volume that is not granted",
            json!({ "does": "volume", "name": "../own-volume" }),
            denied,
            &["granted: own-volume"],
        ),
        Case::new(
            "a device that is not granted",
            mount("/dev/vda", "/nonexistent/point"),
            denied,
            &["granted: /nonexistent/point"],
        ),
        Case::new(
            "a place that is not granted",
            mount("/dev/vda", "/etc"),
            denied,
            &["/dev/vda at /etc is not granted"],
        ),
        Case::new("the granted place, written otherwise", look("/nonexistent/../etc"), denied, &["not granted"]),
        Case::new("a place of 100 kB", look(&"/x".repeat(50_000)), denied, &["not granted"]),
        Case::new("a place with a zero in it", look("/nonexistent/point\0"), denied, &["not granted"]),
        Case::new("a place that is granted", look("/nonexistent/point"), says("a folder: false"), &[]),
        Case::new(
            "a service that is not granted",
            service("service-stop", "dbus.service"),
            denied,
            &["the service dbus.service is not granted", "granted: mainstay-nobody.service"],
        ),
        Case::new("a service of 100 kB", service("service", &"x".repeat(100_000)), denied, &["not granted"]),
        Case::new("a unit that is none", service("service-stop", "mainstay-nobody.socket"), denied, &["not granted"]),
        Case::new("every service there is", service("service-stop", "*"), denied, &["not granted"]),
        Case::new(
            "more in its store than there is room",
            json!({ "does": "store-much", "bytes": 1024, "count": 1000 }),
            says("stored 63"),
            &["store-full", "65536"],
        ),
        Case::new(
            "one value of 70 KB",
            json!({ "does": "store-much", "bytes": 70_000, "count": 1 }),
            says("stored 0"),
            &["store-full"],
        ),
        Case::new(
            "keys that are paths",
            json!({ "does": "store-keys", "keys": [
            "../outside", "/etc/passwd", "a/b", "..\\outside", "", "UPPER", "with space", "ü", "\u{0}", "a\n",
            "x".repeat(65),
        ] }),
            says("11 keys"),
            &["[invalid invalid invalid]"],
        ),
        Case::new(
            "keys that look like folders",
            json!({ "does": "store-keys", "keys": [".", "..", "...", "-", "--help"] }),
            says("5 keys"),
            &["[ok ok ok]"],
        ),
    ]
}

/// It reaches past the contract. Without WASI, Rust's own library refuses all of it, or panics.
pub(crate) fn outside(wasi: bool) -> Vec<Case> {
    let environment = if wasi { says("0 variables, 0 arguments") } else { fault(FaultKind::Trap) };
    let exit: &[&str] = if wasi { &["exit code 1", "author"] } else { &["panicked or aborted", "author"] };
    let refused = Expect::Error(ErrorKind::Denied, "outside");
    vec![
        Case::new("a file", json!({ "does": "read-file", "path": "/etc/passwd" }), refused, &[]),
        Case::new("its environment", json!({ "does": "environment" }), environment, &[]),
        Case::new("a connection", json!({ "does": "std-connect", "address": "127.0.0.1:22" }), refused, &[]),
        Case::new("an exit", json!({ "does": "exit", "code": 1 }), fault(FaultKind::Trap), exit),
        Case::new("lines to its output", json!({ "does": "print", "lines": 1000 }), says("printed"), &[]),
        Case::new(
            "lines to its output without end",
            json!({ "does": "print-forever" }),
            fault(FaultKind::CpuTimeout),
            &["300 ms"],
        ),
    ]
}

/// What it connects to does not behave either.
pub(crate) fn peers() -> Vec<Case> {
    let to = |does: &str| json!({ "does": does, "host": "127.0.0.1" });
    vec![
        Case::new(
            "a peer that is silent for ever",
            to("listen"),
            Expect::Error(ErrorKind::Timeout, "timeout"),
            &["longer than"],
        )
        .server(Server::Silent)
        .budget(Duration::from_secs(3)),
        Case::new("a peer that never ends, all of it at once", to("read-much"), says("heard"), &[])
            .server(Server::Flood),
        Case::new(
            "3 MB to a peer at once",
            json!({ "does": "write-much", "host": "127.0.0.1", "bytes": 3_000_000 }),
            Expect::Error(ErrorKind::Failed, "too-large"),
            &["1048576"],
        )
        .server(Server::Silent),
        Case::new(
            "20 MB to a peer at once",
            json!({ "does": "write-much", "host": "127.0.0.1", "bytes": 20_000_000 }),
            fault(FaultKind::Trap),
            &["fuel"],
        )
        .server(Server::Silent),
        Case::new(
            "100,000 sockets",
            json!({ "does": "hold-sockets", "host": "127.0.0.1", "count": 100_000 }),
            says("holds 16"),
            &["too-many-sockets"],
        )
        .server(Server::Silent),
    ]
}

/// What it runs does not behave either. A program's deadline lies a second before the call's.
pub(crate) fn programs() -> Vec<Case> {
    let run = json!({ "does": "run", "timeout-ms": u32::MAX });
    let flood = json!({ "does": "run", "output-bytes-max": u32::MAX });
    let short = Duration::from_secs(3);
    vec![
        Case::new("a program that never ends", run.clone(), says("ran out of time"), &[])
            .budget(short)
            .program("exec sleep 1000"),
        // Each has less time than the one before, so the end finds the kit in any of them, or between two.
        Case::new(
            "a program that never ends, again and again",
            json!({ "does": "run-forever" }),
            fault(FaultKind::WallTimeout),
            &["did not end within its 3000 ms"],
        )
        .budget(short)
        .program("exec sleep 1000"),
        // Killing it takes longer than the second that the kit has left for an answer.
        Case::new(
            "a program that will not be told",
            run.clone(),
            fault(FaultKind::WallTimeout),
            &["command.run (", "the command it ran was ended"],
        )
        .budget(short)
        .program("trap '' TERM INT HUP QUIT; while :; do sleep 1; done"),
        Case::new("a program that leaves a daemon", run.clone(), says("exited with 0"), &[])
            .program("setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' > /dev/null 2>&1 & exit 0"),
        // 255 shells with as many sleeps, half of them in sessions of their own. Ending them takes longer than the
        // second that the kit has left.
        Case::new(
            "a program that forks in both halves",
            run.clone(),
            fault(FaultKind::WallTimeout),
            &["command.run (", "the command it ran was ended"],
        )
        .budget(Duration::from_secs(8))
        .program(
            "depth=${1:-7}; trap '' TERM\n\
                 [ $depth = 0 ] || { setsid \"$0\" $((depth - 1)) & \"$0\" $((depth - 1)) & }\n\
                 sleep 1000",
        ),
        Case::new("a program that forks all the time", run, says("ran out of time"), &[])
            .budget(Duration::from_secs(4))
            .program("f() { while :; do sleep 0.05 & sleep 0.05; done; }; f & f & f & f & wait"),
        Case::new(
            "300 MB of output",
            flood.clone(),
            says("exited with 0"),
            &["stdout-bytes: 262144", "truncated: true"],
        )
        .program("head -c 300000000 /dev/zero"),
        Case::new("output without end", flood, says("ran out of time"), &["stdout-bytes: 262144", "truncated: true"])
            .budget(short)
            .program("exec yes"),
        Case::new(
            "2 MB of input",
            json!({ "does": "run", "stdin-bytes": 2_000_000 }),
            Expect::Error(ErrorKind::Failed, "command-too-large"),
            &["standard input", "1048576"],
        )
        .program("cat > /dev/null"),
        Case::new(
            "1 MB of input that is not read",
            json!({ "does": "run", "stdin-bytes": 1_000_000 }),
            says("exited with 0"),
            &[],
        )
        .program("exit 0"),
        Case::new(
            "an argument of 200 KB",
            json!({ "does": "run", "args": ["x".repeat(200_000)] }),
            Expect::Error(ErrorKind::Failed, "command"),
            &[],
        )
        .program("exit 0"),
        Case::new(
            "as another user",
            json!({ "does": "run", "user": "nobody" }),
            Expect::Error(ErrorKind::Denied, "not-granted"),
            &["as nobody is not granted"],
        )
        .program("id"),
        Case::new(
            "a program that others may write",
            json!({ "does": "run" }),
            Expect::Error(ErrorKind::Denied, "program-writable"),
            &["chmod"],
        )
        .program("exit 0")
        .writable(),
    ]
}
