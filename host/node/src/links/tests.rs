//! Two nodes with real sockets, certificates and links that can be cut; and whatever else can be sent to one.

use std::path::Path;

use mainstay_test_support::Relay;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::beats::Inbox;
use super::dropped::Reason;
use super::keys::{SECRET_BYTES, SessionKeys, Side};
use super::wire::{Frame, HELLO_BYTES_MAX, Hello, PROTOCOL, read, write};
use super::*;
use crate::certificates::make::{self, Validity};

/// What takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(100);

/// As JSON, so that a field that core adds is no matter of the tests'.
pub(super) fn heartbeat(cluster: &str, from: &str, to: &str, path: &str, incarnation: u64) -> Heartbeat {
    let beat = json!({
        "cluster": cluster, "from": from, "to": to, "path": path, "incarnation": incarnation, "asks": false
    });
    serde_json::from_value(beat).expect("it is a heartbeat")
}

/// An authority, the files of its nodes, and the links that lead to them.
struct World {
    dir: tempfile::TempDir,
    relays: BTreeMap<(NodeName, PathName), Relay>,
    spec: Spec,
}

impl World {
    fn new(nodes: &[&str], paths: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        authority(dir.path(), nodes);
        let mut text = format!("cluster = \"mail\"\nkits = \"k\"\ncertificates = \"{}\"\n", dir.path().display());
        let mut relays = BTreeMap::new();
        for (priority, path) in paths.iter().enumerate() {
            text += &format!("[path.{path}]\npriority = {}\nheartbeat-interval = \"100ms\"\n", priority + 1);
        }
        for node in nodes {
            text += &format!("[node.{node}]\n");
            for path in paths {
                let relay = Relay::new().unwrap();
                text += &format!("address.{path} = \"{}\"\nlisten.{path} = \"127.0.0.1:0\"\n", relay.address());
                relays.insert((NodeName::new(*node), PathName::new(*path)), relay);
            }
        }
        let (spec, wrong) = Spec::read("x", &text);
        Self { dir, relays, spec: spec.unwrap_or_else(|| panic!("{wrong:?}")) }
    }

    async fn start(&self, node: &str) -> Running {
        self.start_with(node, &self.dir.path().join(node)).await
    }

    /// With the certificates of another directory.
    async fn start_with(&self, node: &str, certificates: &Path) -> Running {
        let store = Store::new(certificates.to_owned(), "mail".into(), node.into());
        let (sender, happenings) = mpsc::channel(1000);
        let links = Links::open(&self.spec, &node.into(), Some(store), sender).await.unwrap();
        for (path, at) in links.listening() {
            self.relays[&(node.into(), path.clone())].set_target(*at);
        }
        Running { name: node.into(), links: Arc::new(links), happenings }
    }

    fn each_of(&self, path: &str, change: impl Fn(&Relay)) {
        self.relays.iter().filter(|((_, on), _)| on.as_str() == path).for_each(|(_, relay)| change(relay));
    }
}

fn authority(dir: &Path, nodes: &[&str]) {
    make::authority(dir, "mail", Validity::days(100)).unwrap();
    for node in nodes {
        make::node(dir, &dir.join(node), node, Validity::days(100)).unwrap();
    }
}

/// A node as its driver sees it.
struct Running {
    name: NodeName,
    links: Arc<Links>,
    happenings: mpsc::Receiver<Happening>,
}

impl Running {
    /// Waits for what `is` looks for; everything else is passed over.
    async fn wait<T>(&mut self, what: &str, mut is: impl FnMut(Happening) -> Option<T>) -> T {
        let found = async {
            loop {
                let happening = self.happenings.recv().await.expect("the links are there");
                if let Some(found) = is(happening) {
                    return found;
                }
            }
        };
        timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }

    async fn session_up(&mut self) {
        self.wait("a session", |it| matches!(it, Happening::SessionUp(..)).then_some(())).await;
    }

    async fn heard(&mut self, path: &str) {
        let on = |it| matches!(it, Happening::Heartbeat(beat) if beat.path.as_str() == path).then_some(());
        self.wait("a heartbeat", on).await;
    }

    /// Sends a heartbeat on every path, again and again, until this is dropped.
    fn beat(&self, to: &str) -> JoinSet<()> {
        let (links, name, to) = (self.links.clone(), self.name.clone(), to.to_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                for path in links.listening().keys() {
                    links.beat(&heartbeat("mail", name.as_str(), &to, path.as_str(), 1));
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        tasks
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.links.dropped().count(reason)
    }

    async fn has_dropped(&self, reason: Reason) {
        let some = async {
            while self.dropped(reason) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, some).await.unwrap_or_else(|_| panic!("nothing was dropped: {reason}"));
    }

    fn has_heard_nothing(&mut self) {
        assert!(self.happenings.try_recv().is_err());
    }
}

#[tokio::test]
async fn heartbeats_are_believed_from_the_first_session_on_and_outlive_it() {
    let world = World::new(&["a", "b"], &["lan"]);
    let mut a = world.start("a").await;
    let _beats = a.beat("b");
    let mut b = world.start("b").await;
    let _others = b.beat("a");
    a.session_up().await;
    b.session_up().await;
    a.heard("lan").await;
    b.heard("lan").await;
    // The connection breaks; what is sealed with its keys still counts.
    let relay = &world.relays[&("b".into(), "lan".into())];
    relay.drop_connections();
    b.wait("its end", |it| matches!(it, Happening::SessionLost(..)).then_some(())).await;
    b.heard("lan").await;
    b.session_up().await;
    b.heard("lan").await;
    assert_eq!((a.dropped(Reason::Foreign), b.dropped(Reason::Foreign)), (0, 0));
}

#[tokio::test]
async fn a_daemon_that_comes_back_is_heard_again() {
    let world = World::new(&["a", "b"], &["lan"]);
    for back in ["a", "b"] {
        let other = if back == "a" { "b" } else { "a" };
        let mut stays = world.start(other).await;
        let goes = world.start(back).await;
        stays.session_up().await;
        let _beats = stays.beat(back);
        drop(goes);
        let mut new = world.start(back).await;
        let _others = new.beat(other);
        new.session_up().await;
        new.heard("lan").await;
        stays.session_up().await;
        stays.heard("lan").await;
    }
}

#[tokio::test]
async fn when_a_path_is_cut_a_session_comes_over_another_and_the_old_one_is_replaced() {
    let world = World::new(&["a", "b"], &["lan", "wan"]);
    let (mut a, mut b) = (world.start("a").await, world.start("b").await);
    let _beats = (a.beat("b"), b.beat("a"));
    a.session_up().await;
    b.session_up().await;
    a.heard("lan").await;
    a.heard("wan").await;
    world.each_of("lan", Relay::cut);
    let cut = Instant::now();
    a.session_up().await;
    let took = cut.elapsed();
    b.session_up().await;
    a.links.send(
        &"b".into(),
        PeerMessage::Leave { incarnation: 1, hold: mainstay_core::time::Millis(1), released: false },
    );
    b.wait("a message", |it| matches!(it, Happening::Message(..)).then_some(())).await;
    // A few intervals on an idle machine; a busy one is slower.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn who_has_another_authority_gets_nothing() {
    let world = World::new(&["a", "b"], &["lan"]);
    // The same names, and made by somebody else.
    let other = tempfile::tempdir().unwrap();
    authority(other.path(), &["a", "b"]);
    for (own, foreign) in [("b", "a"), ("a", "b")] {
        let mut own = world.start(own).await;
        let mut stranger = world.start_with(foreign, &other.path().join(foreign)).await;
        own.has_dropped(Reason::Foreign).await;
        stranger.has_dropped(Reason::Foreign).await;
        own.has_heard_nothing();
        stranger.has_heard_nothing();
    }
}

#[tokio::test]
async fn who_answers_with_the_certificate_of_another_node_is_not_spoken_to() {
    let world = World::new(&["a", "b", "c"], &["lan"]);
    let mut a = world.start("a").await;
    let c = world.start("c").await;
    // What leads to b leads to c, as when addresses are mixed up in the config.
    let at = c.links.listening()[&PathName::new("lan")];
    world.relays[&("b".into(), "lan".into())].set_target(at);
    a.has_dropped(Reason::Foreign).await;
    let met = a.wait("a session", |it| if let Happening::SessionUp(peer, _) = it { Some(peer) } else { None }).await;
    assert_eq!(met.as_str(), "c");
}

/// A session as a peer makes it by hand: its certificate is one thing, its Hello another.
async fn hello(world: &World, certificate: &str, hello: Hello, to: &Running) -> Result<Frame, String> {
    let store = Store::new(world.dir.path().join(certificate), "mail".into(), certificate.into());
    let stream = TcpStream::connect(to.links.listening()[&hello.path]).await.unwrap();
    let secured = super::tls::connect(&store, &to.name, stream).await.map_err(|error| error.to_string())?;
    let mut stream = secured.stream;
    write(&mut stream, &Frame::Hello(hello)).await.unwrap();
    read(&mut stream, HELLO_BYTES_MAX).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn who_says_another_name_than_its_certificate_is_turned_away() {
    let world = World::new(&["a", "b", "c"], &["lan"]);
    make::node(world.dir.path(), &world.dir.path().join("d"), "d", Validity::days(1)).unwrap();
    let mut c = world.start("c").await;
    let as_it_should = |from: &str| Hello {
        protocol: PROTOCOL,
        cluster: "mail".into(),
        from: from.into(),
        to: "c".into(),
        path: "lan".into(),
    };
    let words = [
        ("a", as_it_should("b"), "it says that it is b, and its certificate is that of a"),
        ("d", as_it_should("d"), "the config of c has no such node"),
        ("c", as_it_should("c"), "it says that it is c, as this node is"),
        ("a", Hello { to: "b".into(), ..as_it_should("a") }, "it looks for b, and this is c"),
        ("a", Hello { cluster: "web".into(), ..as_it_should("a") }, "it belongs to the cluster web"),
        ("a", Hello { protocol: 99, ..as_it_should("a") }, "it speaks version 99"),
    ];
    for (count, (certificate, said, words)) in words.into_iter().enumerate() {
        let answer = hello(&world, certificate, said, &c).await;
        assert!(matches!(&answer, Ok(Frame::Bye(why)) if why.contains(words)), "{words}: {answer:?}");
        assert_eq!(c.dropped(Reason::Foreign), count as u64 + 1);
    }
    c.has_heard_nothing();
    assert!(matches!(hello(&world, "a", as_it_should("a"), &c).await, Ok(Frame::Hello(_))));
}

/// Bytes that look like nothing, the same in every run (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }
}

fn keys(me: &str, peer: &str, session: u8, side: Side) -> Arc<Keys> {
    let keys = Keys::new(Me { cluster: "mail".into(), name: me.into(), peers: [peer.into()].into() });
    let made = SessionKeys::new(&[session; SECRET_BYTES], side);
    let id = made.id();
    keys.expect(&peer.into(), made);
    keys.settle(&peer.into(), id);
    Arc::new(keys)
}

#[test]
fn a_million_bad_datagrams_change_nothing() {
    const EACH: u64 = 200_000;
    let from = SocketAddr::from(([192, 0, 2, 1], 7400));
    let (sender, mut happenings) = mpsc::channel(8);
    let dropped = Dropped::default();
    let (a, b) = (keys("a", "b", 1, Side::Connected), keys("b", "a", 1, Side::Accepted));
    // Somebody who has a session with another node, and one whose keys only have the right name.
    let stranger = keys("a", "b", 2, Side::Connected);
    let inbox = Inbox::new("lan".into(), b.clone(), dropped.clone(), sender);
    let beat = |keys: &Keys| keys.seal(&heartbeat("mail", "a", "b", "lan", 1)).unwrap();

    let replayed = beat(&a);
    inbox.take(&beat(&a), from);
    assert!(matches!(happenings.try_recv(), Ok(Happening::Heartbeat(_))));
    let good = beat(&a);
    let mut noise = Noise(7);
    for _ in 0..EACH {
        // Noise; cut off; one bit turned over; another's; heard before.
        let mut bytes = [0; 120];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&noise.next().to_le_bytes()));
        inbox.take(&bytes[..noise.below(bytes.len())], from);
        inbox.take(&good[..noise.below(good.len())], from);
        let mut turned = good.clone();
        turned[noise.below(good.len())] ^= 1 << noise.below(8);
        inbox.take(&turned, from);
        let mut foreign = beat(&stranger);
        if noise.below(2) == 0 {
            foreign[16..24].copy_from_slice(&good[16..24]);
        }
        inbox.take(&foreign, from);
        inbox.take(&replayed, from);
    }
    assert!(happenings.try_recv().is_err(), "nothing came through");
    let counts = Reason::ALL.map(|reason| dropped.count(reason));
    assert_eq!(counts.iter().sum::<u64>(), 5 * EACH, "{counts:?}");
    assert_eq!(dropped.count(Reason::Replayed), EACH);
    assert!(dropped.count(Reason::Malformed) >= EACH && dropped.count(Reason::Unauthenticated) >= 2 * EACH);
    // What is longer than a datagram is not looked into.
    inbox.take(&[0; 1201], from);
    assert_eq!(dropped.count(Reason::TooLong), 1);
    // And what is good still counts.
    inbox.take(&good, from);
    assert!(matches!(happenings.try_recv(), Ok(Happening::Heartbeat(_))));
}

#[tokio::test]
async fn bad_frames_end_with_a_word_and_nothing_else() {
    let hello = Hello { protocol: PROTOCOL, cluster: "c".into(), from: "a".into(), to: "b".into(), path: "p".into() };
    let mut good = Vec::new();
    write(&mut good, &Frame::Hello(hello)).await.unwrap();
    let mut noise = Noise(7);
    let mut bad = 0;
    for _ in 0..100_000 {
        let mut bytes = good.clone();
        for _ in 0..=noise.below(3) {
            let at = noise.below(bytes.len());
            bytes[at] ^= 1 << noise.below(8);
        }
        bytes.truncate(noise.below(bytes.len() + 40).max(1));
        bad += u32::from(read::<Frame>(&mut bytes.as_slice(), HELLO_BYTES_MAX).await.is_err());
    }
    assert!(bad > 50_000, "{bad}");
}
