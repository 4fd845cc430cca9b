//! Clients and strangers that do not behave: what they do is bounded, and nobody else notices it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_test_support::{WAIT_LIMIT, wait_until};
use serde_json::json;

use crate::disk::{self, Mount};
use crate::pair::client::{Client, Command};
use crate::pair::model::{End, Random, Shared, Writers};
use crate::pair::{A, B, Half, LABEL, PROGRAM, Pair, SIZE, run};

/// The longest request.
const LONG: u32 = 32 << 20;
/// What one that misbehaves may cost others.
const SOON: Duration = Duration::from_secs(10);

fn started() -> Pair {
    let mut pair = Pair::new();
    pair.start();
    pair
}

/// Somebody else is served, and soon.
fn others_are_served(pair: &Pair) {
    let began = Instant::now();
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    assert_eq!(client.once(Command::Write, true, (4096, 4096), &[1; 4096]).unwrap(), 0);
    assert_eq!(client.read(8192).unwrap()[4096..], [1; 4096]);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

fn open_files(pair: &mut Pair, copy: Half) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pair.process(copy).pid())).unwrap().count()
}

/// The most memory that the process ever had, in bytes.
fn peak_bytes(pair: &mut Pair, copy: Half) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pair.process(copy).pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn garbage_disturbs_no_session() {
    let mut pair = started();
    let model = Shared::new(SIZE);
    let mut random = Random(7);
    let writers = Writers::start(&model, &pair.nbd(A), &mut random);
    wait_until(WAIT_LIMIT, "something is durable", || model.lock().durable > 20);
    let before = model.lock().durable;
    for round in 0..40 {
        let garbage: Vec<u8> = (0..1 + random.below(3000)).map(|_| random.next() as u8).collect();
        // Whoever is thrown out while it speaks does not mind.
        for copy in [A, B] {
            let _ = UnixStream::connect(pair.nbd(copy)).unwrap().write_all(&garbage);
            let _ = UnixStream::connect(pair.control(copy)).unwrap().write_all(&garbage);
        }
        let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
        let _ = client.stream().write_all(&garbage);
        // At the mirror link, and as if it were TLS.
        let mut stranger = TcpStream::connect(pair.link()).unwrap();
        if round % 2 == 0 {
            let _ = stranger.write_all(&[0x16, 3, 1, 2, 0]);
        }
        let _ = stranger.write_all(&garbage);
    }
    wait_until(WAIT_LIMIT, "more is durable", || model.lock().durable > before + 20);
    let (ends, _) = writers.stop();
    assert_eq!(ends, [End::Told; 2]);
    others_are_served(&pair);
    let met = pair.process(A).output().matches("the peer is there").count();
    assert_eq!((met, &pair.status(A)["link"]), (1, &json!("connected")), "the link was never lost");
    pair.stop_the_same();
}

#[test]
fn strangers_who_say_nothing_do_not_keep_the_peer_out() {
    let mut pair = Pair::relayed([None, None], &json!({ "stall-ms": 30_000 }));
    pair.start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // As many as there may be; who is thrown out comes again.
        let (address, over) = (pair.link(), &over);
        for _ in 0..8 {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut stranger = TcpStream::connect(address).unwrap();
                    stranger.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                    let is_open = |stranger: &mut TcpStream| match stranger.read(&mut [0; 64]) {
                        Ok(count) => count > 0,
                        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                    };
                    while !over.load(Ordering::Relaxed) && is_open(&mut stranger) {}
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
        thread::sleep(Duration::from_millis(500));
        pair.relay().drop_connections();
        wait_until(WAIT_LIMIT, "the link is gone", || pair.status(A)["link"] != json!("connected"));
        let began = Instant::now();
        let connected = mainstay_test_support::poll_until(SOON, || pair.status(A)["link"] == json!("connected"));
        over.store(true, Ordering::Relaxed);
        assert!(connected, "not within {:?}", began.elapsed());
    });
    pair.stop_the_same();
}

#[test]
fn who_takes_no_answers_costs_others_nothing() {
    let mut pair = started();
    let mut deaf: Vec<Client> = (0..4).map(|_| Client::connect(&pair.nbd(A), "mail").unwrap()).collect();
    for client in &mut deaf {
        for cookie in 0..8 {
            client.ask(Command::Read, false, cookie, (0, LONG), &[]).unwrap();
        }
    }
    let mut writing = Client::connect(&pair.nbd(A), "mail").unwrap();
    for cookie in 0..1000 {
        writing.ask(Command::Write, false, cookie, (65536, 512), &[2; 512]).unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    others_are_served(&pair);
    let peak = peak_bytes(&mut pair, A);
    assert!(peak < 500 << 20, "{peak} bytes");
    // Who takes them at last gets them all.
    let mut data = vec![0; LONG as usize];
    for cookie in 0..8 {
        assert_eq!(deaf[0].answer().unwrap(), (0, cookie));
        deaf[0].stream().read_exact(&mut data).unwrap();
    }
    for _ in 0..1000 {
        assert_eq!(writing.answer().unwrap().0, 0);
    }
    drop((deaf, writing));
    wait_until(WAIT_LIMIT, "no memory is in use", || pair.status(A)["server"]["clients"] == json!(0));
    others_are_served(&pair);
    pair.stop_the_same();
}

#[test]
fn who_stops_amid_a_write_costs_others_nothing() {
    let mut pair = started();
    let (half, byte) = (LONG as usize / 2, |client: usize| [8, 8, 9, 9][client]);
    let mut clients: Vec<Client> = (0..4)
        .map(|number| {
            let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
            let at = if number < 2 { (0, LONG) } else { (u64::from(LONG), LONG) };
            client.ask(Command::Write, true, 5, at, &vec![byte(number); half]).unwrap();
            client
        })
        .collect();
    others_are_served(&pair);
    // Two of them are gone, two go on.
    for client in clients.drain(..2) {
        client.vanish();
    }
    for client in &mut clients {
        client.stream().write_all(&vec![9; half]).unwrap();
        assert_eq!(client.answer().unwrap(), (0, 5));
    }
    let read = Client::connect(&pair.nbd(A), "mail").unwrap().read(SIZE as usize).unwrap();
    assert!(read[8192..LONG as usize] == vec![0; LONG as usize - 8192], "half a request is none");
    assert!(read[LONG as usize..] == vec![9; LONG as usize]);
    drop(clients);
    wait_until(WAIT_LIMIT, "all are gone", || pair.status(A)["server"]["clients"] == json!(0));
    let used = pair.status(A)["server"]["buffers-bytes"].as_u64().unwrap();
    assert!(used < 2 << 20, "{used} bytes are still in use");
    pair.stop_the_same();
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let mut pair = started();
    others_are_served(&pair);
    wait_until(WAIT_LIMIT, "all are gone", || pair.status(A)["server"]["clients"] == json!(0));
    let before = open_files(&mut pair, A);
    for _ in 0..200 {
        drop(UnixStream::connect(pair.nbd(A)).unwrap());
        // Too many may not be gone yet.
        wait_until(WAIT_LIMIT, "it is let in", || Client::connect(&pair.nbd(A), "mail").is_ok());
    }
    wait_until(WAIT_LIMIT, "all are gone", || pair.status(A)["server"]["clients"] == json!(0));
    // One is the question's own.
    wait_until(WAIT_LIMIT, "all is closed", || open_files(&mut pair, A) <= before);
    others_are_served(&pair);
    pair.stop_the_same();
}

#[test]
fn a_log_on_a_file_system_that_fills_up_has_its_room() {
    if !disk::is_possible() {
        return;
    }
    let mount = Mount::new("none", &["-t", "tmpfs", "-o", "size=1m"]);
    let mut pair = Pair::new();
    let log = mount.at().join("log");
    pair.set(A, "log", json!(log));
    fs::File::create(pair.backing(A)).unwrap().set_len(SIZE + LABEL).unwrap();
    run(PROGRAM.as_ref(), &["create", &pair.config(A).display().to_string(), "--first"]);
    pair.start();
    let full = fs::write(mount.at().join("other"), vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(28), "ENOSPC: {full}");
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    for region in 0..SIZE >> 16 {
        assert_eq!(client.once(Command::Write, false, (region << 16, 512), &[3; 512]).unwrap(), 0);
    }
    drop(client);
    assert_eq!(pair.status(A)["link"], json!("connected"));
    // A generation begins: the label and the log's header are written.
    pair.kill(B);
    others_are_served(&pair);
    pair.serve(B);
    pair.wait_connected(A);
    pair.stop_the_same();
}
