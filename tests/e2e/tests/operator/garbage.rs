//! Whoever reaches a node's ports may send anything, and as much as they like: it harms nobody.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mainstay_test_e2e::Cluster;

/// Bytes that look like nothing, the same in every run (splitmix64).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_le_bytes()
        })
        .flatten()
        .take(count)
        .collect()
    }
}

/// What a stranger says before anything else.
fn openings(noise: &mut Noise) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        // Frames that promise 4 GiB, 32 MiB, nothing.
        [&0xffff_ffff_u32.to_be_bytes()[..], b"{}"].concat(),
        [&(32u32 << 20).to_be_bytes()[..], b"{"].concat(),
        0u32.to_be_bytes().to_vec(),
        [&0xffff_ffff_u32.to_le_bytes()[..], b"{}"].concat(),
        b"mainstay-beat-2\n".to_vec(),
        b"{\"protocol\":1,\"cluster\":\"e2e\",\"from\":\"a\",\"to\":\"b\"}".to_vec(),
    ];
    all.extend([1, 3, 4, 5, 100, 4096, 65_536].map(|count| noise.bytes(count)));
    all
}

/// The most memory that the daemon ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn garbage_on_the_comm_path_harms_nobody() {
    let (cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    let at: SocketAddr = cluster.node("b").listens().unwrap();
    let pid = cluster.node("b").daemon().pid();
    let before = peak_kib(pid);
    let mut noise = Noise(7);

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..200 {
        for opening in openings(&mut noise) {
            let _ = udp.send_to(&opening[..opening.len().min(60_000)], at);
            // As if it were one of ours, cut off or with something behind it.
            let mut beat = b"mainstay-beat-2\n".to_vec();
            beat.extend(noise.bytes(round * 7));
            let _ = udp.send_to(&beat, at);
        }
    }
    for opening in openings(&mut noise) {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(&opening);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "it waits for ever");
        assert!(answer.len() < 4096, "a stranger is told little");
    }
    // Many who say nothing, and many who come and go.
    let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(at).unwrap()).collect();
    for _ in 0..1000 {
        drop(TcpStream::connect(at).unwrap());
    }
    // Frames that go on for ever.
    let mut endless = TcpStream::connect(at).unwrap();
    endless.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    for _ in 0..512 {
        if endless.write_all(&noise.bytes(256 << 10)).is_err() {
            break;
        }
    }

    let status = cluster.node("b").status();
    assert_eq!((status.reach("a"), status.alarms()), ("alive", vec![]));
    cluster.node("a").mainstay(&["switchover", "shop", "b"]).ok();
    cluster.wait_until_served_by("b");
    drop(silent);
    let grown = peak_kib(pid).saturating_sub(before) / 1024;
    assert!(grown < 64, "it took {grown} MiB more");
    app.was_never_doubled();
}

#[test]
fn garbage_on_the_local_api_harms_nobody() {
    let (cluster, _app) = Cluster::of_one();
    let socket = cluster.node("a").socket();
    let before = peak_kib(cluster.node("a").daemon().pid());
    let mut noise = Noise(11);
    let mut more: Vec<Vec<u8>> = vec![
        b"GET /v1/status HTTP/1.1\r\n".to_vec(),
        b"POST /v1/requests HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{"
            .to_vec(),
        b"POST /v1/requests HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"
            .to_vec(),
        [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"A: b\r\n".repeat(100_000), b"\r\n".to_vec()].concat(),
    ];
    more.extend(openings(&mut noise));
    let mut open = Vec::new();
    for opening in more {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(&opening);
        open.push(stream);
    }
    open.extend((0..300).map(|_| UnixStream::connect(&socket).unwrap()));
    assert_eq!(cluster.node("a").status().state("web", "a"), "ISP");
    cluster.node("a").mainstay(&["out-of-service", "shop"]).ok();
    cluster.node("a").mainstay(&["in-service", "shop"]).ok();
    drop(open);
    let grown = peak_kib(cluster.node("a").daemon().pid()).saturating_sub(before) / 1024;
    assert!(grown < 64, "it took {grown} MiB more");
}
