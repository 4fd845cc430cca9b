//! Commands under their supervisor, while the daemon lives.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod common;

use std::time::{Duration, Instant};

use common::{Room, lives, run, text};
use mainstay_supervisor::{Ending, MARKER, Stage, StartError};
use mainstay_test_support::{WAIT_LIMIT, wait_for, wait_until};

/// Far longer than any test, far shorter than for ever.
const LONG: &str = "sleep 300";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_by_itself_says_how() {
    let room = Room::new();
    let commands = room.commands();
    let outcome = run(&commands, room.sh("echo out; echo err >&2")).await;
    assert_eq!(outcome.ending, Ending::Exited(0));
    assert_eq!((text(&outcome.stdout), text(&outcome.stderr)), ("out\n", "err\n"));
    assert!(!outcome.truncated);
    assert_eq!(outcome.evidence, None);
    assert_eq!(run(&commands, room.sh("exit 7")).await.ending, Ending::Exited(7));
    assert_eq!(run(&commands, room.sh("kill -SEGV $$")).await.ending, Ending::Signalled(11));
    // A real-time signal.
    assert_eq!(run(&commands, room.sh("kill -35 $$")).await.ending, Ending::Signalled(35));
    wait_until(WAIT_LIMIT, "the folders to be removed", || room.folders().is_empty());
    wait_until(WAIT_LIMIT, "the supervisors to be collected", || room.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_sees_what_the_request_says_and_nothing_of_the_daemon() {
    let room = Room::new();
    let commands = room.commands();
    // A descriptor that an unwary library of the daemon's left open for its children.
    let leak = std::fs::File::open("/dev/null").unwrap();
    nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let mut request = room.sh(
        "/usr/bin/env | sort; pwd; umask; ls /proc/self/fd | wc -l; \
         grep -E '^Sig(Blk|Ign)' /proc/self/status; read -r pid rest < /proc/$$/stat; set -- $rest; echo sid $(($5 - pid))",
    );
    request.env.push(("GREETING".to_owned(), "hello world".to_owned()));
    request.cwd = Some(room.folder.path().to_owned());
    let mut running = commands.start(request).await.unwrap();
    let id = running.id().to_owned();
    let outcome = running.outcome().await.unwrap();
    let path = room.folder.path().display();
    // `ls` has the folder open that it lists.
    let expected = format!(
        "GREETING=hello world\nLANG=C.UTF-8\n{MARKER}={id}\n{}={path}\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nPWD={path}\n\
         {path}\n0022\n4\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nsid 0\n",
        common::ROOM
    );
    assert_eq!(text(&outcome.stdout), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_the_limit_of_descriptors_that_the_daemon_was_started_with() {
    use nix::sys::resource::{Resource, getrlimit};
    let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    mainstay_supervisor::raise_descriptor_limit().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!(soft, hard);
    let room = Room::new();
    let mut running = room.commands().start(room.sh("ulimit -Sn")).await.unwrap();
    let outcome = running.outcome().await.unwrap();
    assert_eq!(text(&outcome.stdout).trim(), before.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_does_not_wait_for_children_that_hold_the_output() {
    let room = Room::new();
    let mut request = room.sh(&format!("{LONG} & echo started"));
    request.keep_children = true;
    let since = Instant::now();
    let outcome = run(&room.commands(), request).await;
    assert!(since.elapsed() < WAIT_LIMIT);
    assert_eq!((outcome.ending, text(&outcome.stdout)), (Ending::Exited(0), "started\n"));
    let children = room.programs(LONG);
    assert_eq!(children.len(), 1);
    // The supervisor stays with it, and goes with it.
    assert_eq!(room.supervisors().len(), 1);
    children[0].signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_until(WAIT_LIMIT, "the supervisor to end", || room.supervisors().is_empty());
    wait_until(WAIT_LIMIT, "the folder to be removed", || room.folders().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keep_children_what_is_left_is_ended() {
    let room = Room::new();
    // One that leaves its session and its parent, one that will not hear SIGTERM.
    let body = format!("(setsid {LONG} &); sh -c 'trap \"\" TERM; {LONG}; {LONG}' & sleep 0.3; exit 3");
    let outcome = run(&room.commands(), room.sh(&body)).await;
    assert_eq!(outcome.ending, Ending::Exited(3));
    assert!(room.programs("sleep").is_empty(), "{:?}", room.processes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keep_children_a_program_that_is_killed_leaves_nothing() {
    let room = Room::new();
    let mut request = room.sh(&format!("{LONG} & kill -KILL $$"));
    request.keep_children = true;
    assert_eq!(run(&room.commands(), request).await.ending, Ending::Signalled(9));
    assert!(room.programs("sleep").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_deadline_the_whole_tree_is_ended_and_evidence_kept() {
    let room = Room::new();
    let mut request = room.sh(&format!("echo waiting for the disk >&2; (setsid sh -c '{LONG}; :' &) ; {LONG}; :"));
    request.timeout_ms = 2_000;
    request.keep_children = true;
    let outcome = run(&room.commands(), request).await;
    assert_eq!(outcome.ending, Ending::TimedOut);
    assert!(outcome.duration_ms >= 2_000);
    assert!(room.programs("").is_empty(), "{:?}", room.processes());
    let evidence = outcome.evidence.unwrap();
    assert_eq!(evidence.command_line[..2], ["/bin/sh", "-c"]);
    assert_eq!(evidence.stderr, "waiting for the disk\n");
    let names: Vec<&str> = evidence.processes.iter().map(|process| process.comm.as_str()).collect();
    assert_eq!(names.iter().filter(|name| **name == "sleep").count(), 2, "{evidence:?}");
    assert_eq!(evidence.processes.len(), 4, "{evidence:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_returns_when_the_tree_is_gone() {
    let room = Room::new();
    let running = room.commands().start(room.sh(&format!("trap '' TERM; {LONG} & {LONG}; {LONG}"))).await.unwrap();
    wait_until(WAIT_LIMIT, "both children", || {
        room.programs("sleep").iter().filter(|it| !it.command_line.contains("sh")).count() == 2
    });
    let outcome = running.cancel().await.unwrap();
    assert_eq!(outcome.ending, Ending::Cancelled);
    assert!(room.programs("").is_empty());
    assert_eq!(outcome.evidence.unwrap().processes.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_comes_too_late_gives_the_outcome() {
    let room = Room::new();
    let running = room.commands().start(room.sh("echo done")).await.unwrap();
    wait_until(WAIT_LIMIT, "the command to be over", || room.folders().is_empty());
    let outcome = running.cancel().await.unwrap();
    assert_eq!((outcome.ending, text(&outcome.stdout)), (Ending::Exited(0), "done\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_command_that_is_dropped_is_cancelled() {
    let room = Room::new();
    let commands = room.commands();
    let mut running = commands.start(room.sh(LONG)).await.unwrap();
    // Waiting may be given up and taken up again.
    let waited = tokio::time::timeout(Duration::from_millis(50), running.outcome()).await;
    assert!(waited.is_err());
    drop(running);
    wait_until(WAIT_LIMIT, "the command to be gone", || room.processes().is_empty() && room.folders().is_empty());
    // Likewise if nobody waits for the start any more.
    for wait_ms in [0, 1, 2, 3, 5, 8, 13] {
        let start = commands.start(room.sh(LONG));
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), start).await;
    }
    wait_until(WAIT_LIMIT, "the commands to be gone", || room.processes().is_empty() && room.folders().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_tree_is_ended_too() {
    let room = Room::new();
    let running = room
        .commands()
        .start(room.sh(&format!("trap 'echo bye; exit' TERM; {LONG} & kill -STOP $! $$")))
        .await
        .unwrap();
    let stopped =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "));
    wait_until(WAIT_LIMIT, "the program to be stopped", || {
        let programs = room.programs("sleep");
        programs.len() == 2 && programs.iter().all(|program| stopped(program.pid))
    });
    let outcome = running.cancel().await.unwrap();
    assert_eq!(text(&outcome.stdout), "bye\n", "it could leave things in order");
    assert!(room.programs("").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_forks_all_the_time_is_ended() {
    let room = Room::new();
    let body = "f() { while :; do sleep 0.01 & sleep 0.01; done; }; f & f & f & f";
    let running = room.commands().start(room.sh(body)).await.unwrap();
    wait_until(WAIT_LIMIT, "a few processes", || room.programs("").len() > 8);
    running.cancel().await.unwrap();
    assert!(room.programs("").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_neither_fills_the_disk_nor_loses_the_last_words() {
    /// What may lie in the folder at any time, in bytes, of the 400 MB that are written. A busy machine looks late.
    const ON_DISK_MAX: u64 = 200_000_000;
    let room = Room::new();
    let mut request = room.sh("yes 0123456789 | head -c 400000000; echo last words; echo small >&2");
    request.output_bytes_max = 1000;
    let mut running = room.commands().start(request).await.unwrap();
    let mut largest = 0;
    let outcome = loop {
        let folder = room.dir().join(running.id());
        let sizes = std::fs::read_dir(folder).into_iter().flatten().flatten();
        largest = largest.max(sizes.map(|file| file.metadata().map_or(0, |file| file.len())).sum());
        if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(5), running.outcome()).await {
            break outcome.unwrap();
        }
    };
    assert_eq!(outcome.ending, Ending::Exited(0));
    assert_eq!(outcome.stdout.len(), 1000);
    assert!(
        text(&outcome.stdout).ends_with("0123456789\n0last words\n") || text(&outcome.stdout).ends_with("last words\n")
    );
    assert_eq!(text(&outcome.stderr), "small\n");
    assert!(outcome.truncated);
    assert!(largest < ON_DISK_MAX, "{largest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_application_that_prints_on_the_outcome_holds_what_was_before() {
    let room = Room::new();
    let mut request = room.sh("echo restored; (while :; do echo noise noise noise; done) & exit 0");
    request.keep_children = true;
    request.output_bytes_max = 500_000;
    let mut running = room.commands().start(request).await.unwrap();
    let id = running.id().to_owned();
    let outcome = running.outcome().await.unwrap();
    assert!(text(&outcome.stdout).starts_with("restored\n"), "{}", outcome.stdout.len());
    // It lives on, and its output stays short.
    let file = room.dir().join(id).join("stdout");
    let mut cuts = 0;
    let mut before = 0;
    wait_until(WAIT_LIMIT, "the output to be cut three times", || {
        let size = file.metadata().unwrap().len();
        cuts += u32::from(size < before);
        before = size;
        cuts >= 3
    });
    assert!(before < 50_000_000, "{before}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_is_read_or_not_as_the_program_likes() {
    let room = Room::new();
    let commands = room.commands();
    for (body, expected) in [("wc -c", "1048576\n"), ("echo no", "no\n"), ("wc -c < /dev/stdin", "1048576\n")] {
        let mut request = room.sh(body);
        request.stdin = vec![b'x'; 1 << 20];
        let outcome = run(&commands, request).await;
        assert_eq!((outcome.ending, text(&outcome.stdout)), (Ending::Exited(0), expected), "{body}");
    }
    assert_eq!(text(&run(&commands, room.sh("wc -c")).await.stdout), "0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_commands_run_at_once() {
    let room = Room::new();
    let commands = room.commands();
    // Each waits until all of them run.
    let gate = room.folder.path().join("gate");
    let mut running = Vec::new();
    for number in 0..100 {
        let commands = commands.clone();
        let mut request = room.sh(&format!("echo {number}; until [ -e {} ]; do sleep 0.2; done", gate.display()));
        request.timeout_ms = 120_000;
        running.push((number, tokio::spawn(async move { commands.start(request).await.unwrap() })));
    }
    let mut started = Vec::new();
    for (number, task) in running {
        started.push((number, task.await.unwrap()));
    }
    assert_eq!(room.supervisors().len(), 100);
    std::fs::write(&gate, "").unwrap();
    for (number, mut command) in started {
        let outcome = command.outcome().await.unwrap();
        assert_eq!((outcome.ending, text(&outcome.stdout)), (Ending::Exited(0), format!("{number}\n").as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_executed_is_an_error_of_the_start() {
    let room = Room::new();
    let commands = room.commands();
    let plain = room.folder.script("plain", "exit 0");
    std::fs::write(&plain, "exit 0\n").unwrap();
    let closed = room.folder.write("closed", "#!/bin/sh\n");
    let cases: [(&str, Option<&str>, Stage, &str); 4] = [
        ("/nowhere/at/all", None, Stage::Exec, "it, or the interpreter in its first line, is not there"),
        (plain.to_str().unwrap(), None, Stage::Exec, "such as #!/bin/sh"),
        ("/bin/true", Some("/nowhere"), Stage::Cwd, "cannot enter its working directory /nowhere"),
        (closed.to_str().unwrap(), None, Stage::Exec, "execute permission"),
    ];
    for (program, cwd, stage, words) in cases {
        let mut request = room.sh("");
        request.program = program.into();
        request.cwd = cwd.map(Into::into);
        match commands.start(request).await {
            Err(StartError::Program(failure)) => {
                assert_eq!(failure.stage, stage);
                assert!(failure.to_string().contains(words), "{failure}");
            }
            other => panic!("{program}: {other:?}"),
        }
    }
    wait_until(WAIT_LIMIT, "the folders to be removed", || room.folders().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_is_missing_is_an_error_of_the_start() {
    let room = Room::new();
    let exe = mainstay_supervisor::SupervisorExe::alone("/nowhere/mainstay");
    let commands = mainstay_supervisor::Commands::open(&room.dir(), exe).unwrap();
    let error = commands.start(room.sh("")).await.unwrap_err();
    assert!(error.to_string().starts_with("the supervisor /nowhere/mainstay could not be started"), "{error}");
    assert!(room.folders().is_empty());
    // One that is not a supervisor.
    let exe = mainstay_supervisor::SupervisorExe::alone("/bin/true");
    let commands = mainstay_supervisor::Commands::open(&room.dir(), exe).unwrap();
    let error = commands.start(room.sh("")).await.unwrap_err();
    assert!(matches!(error, StartError::SupervisorGone { .. }), "{error}");
    wait_until(WAIT_LIMIT, "the folder to be removed", || room.folders().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_may_end_before_anybody_looks() {
    let room = Room::new();
    let commands = room.commands();
    for _ in 0..30 {
        let mut request = room.sh("");
        request.program = "/bin/true".into();
        request.durable = false;
        assert_eq!(run(&commands, request).await.ending, Ending::Exited(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_commands_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new();
    room.commands();
    std::fs::set_permissions(room.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = mainstay_supervisor::Commands::open(&room.dir(), common::exe()).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_to_the_supervisor_of_an_application_ends_nothing() {
    use nix::sys::signal::Signal;
    let room = Room::new();
    let mut request = room.sh(&format!("{LONG} & exit 0"));
    request.keep_children = true;
    run(&room.commands(), request).await;
    let supervisor = wait_for(WAIT_LIMIT, "the supervisor", || room.supervisors().pop());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        supervisor.signal(signal).unwrap();
    }
    // It is still there to see the application go.
    let application = room.programs(LONG).pop().unwrap();
    assert!(lives(application.pid) && lives(supervisor.pid));
    application.signal(Signal::SIGKILL).unwrap();
    wait_until(WAIT_LIMIT, "the folder to be removed", || room.folders().is_empty());
}
