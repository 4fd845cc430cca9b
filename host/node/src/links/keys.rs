//! Who has sent a heartbeat: datagrams are sealed with a key that only the two ends of a session know.
//!
//! The keys come from the session's TLS exporter (RFC 8446 §7.5, RFC 5705), one for each direction, so whoever has them
//! has shown its certificate. They outlive the session's connection: that a connection breaks says nothing of a node. A
//! newer session brings newer keys, and the ones before it still open what is on the way.
//!
//! ```text
//! 0   magic "mainstay-beat-2\n"
//! 16  the session's id, 8 bytes, from the exporter too
//! 24  number u64, big endian: grows with every datagram under this key
//! 32  the heartbeat as JSON
//! ..  HMAC-SHA-256 of all before it, 32 bytes (RFC 2104)
//! ```
//!
//! A tag and no encryption: what a heartbeat says is no secret, and a tag does not fall apart when a number is used
//! twice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mainstay_core::message::Heartbeat;
use mainstay_core::names::{NodeName, PathName};
use ring::hmac;

use super::Me;
use super::dropped::Reason;

/// The longest datagram, in bytes: it fits into one packet everywhere.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
/// What the exporter is asked for (RFC 5705 §4 keeps this beginning for labels that nobody registers).
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL mainstay heartbeat 2";
/// How much of it, in bytes: the id and two keys.
pub const SECRET_BYTES: usize = ID_BYTES + 2 * KEY_BYTES;

const MAGIC: &[u8; 16] = b"mainstay-beat-2\n";
const ID_BYTES: usize = 8;
/// As long as the digest (RFC 2104 §3).
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + ID_BYTES + 8;

/// Names a session's keys.
pub type KeyId = [u8; ID_BYTES];

/// Which end of a session a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It has connected.
    Connected,
    /// It was connected to.
    Accepted,
}

/// The keys of one session.
pub struct SessionKeys {
    id: KeyId,
    seals: hmac::Key,
    opens: hmac::Key,
    /// The number of the last datagram sealed.
    sealed: u64,
    /// The number of the last one opened, by comm path: of two paths one may be slower.
    opened: BTreeMap<PathName, u64>,
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SessionKeys {
    /// From what both ends have exported.
    #[must_use]
    pub fn new(secret: &[u8; SECRET_BYTES], side: Side) -> Self {
        let (id, keys) = secret.split_first_chunk::<ID_BYTES>().unwrap_or((&[0; ID_BYTES], &[]));
        let (forth, back) = keys.split_at(KEY_BYTES);
        let key = |bytes| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let (seals, opens) = match side {
            Side::Connected => (forth, back),
            Side::Accepted => (back, forth),
        };
        Self { id: *id, seals: key(seals), opens: key(opens), sealed: 0, opened: BTreeMap::new() }
    }

    /// Names them.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sealed += 1;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + TAG_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.sealed.to_be_bytes());
        bytes.extend_from_slice(payload);
        let tag = hmac::sign(&self.seals, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        bytes
    }
}

/// One datagram, taken apart; nothing of it is believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    id: KeyId,
    number: u64,
    sealed: &'a [u8],
    payload: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes a datagram apart.
    #[must_use]
    pub fn of(datagram: &'a [u8]) -> Option<Self> {
        let (sealed, tag) = datagram.split_last_chunk::<TAG_BYTES>()?;
        let (id, rest) = sealed.strip_prefix(MAGIC)?.split_first_chunk::<ID_BYTES>()?;
        let (number, payload) = rest.split_first_chunk::<8>()?;
        Some(Self { id: *id, number: u64::from_be_bytes(*number), sealed, payload, tag })
    }
}

/// The keys of one peer's sessions: the newest, the ones before, and those of a session that is being made.
#[derive(Debug, Default)]
struct PeerKeys {
    /// They open, and seal as soon as the other end is known to have them.
    coming: Option<SessionKeys>,
    newest: Option<SessionKeys>,
    previous: Option<SessionKeys>,
    /// When it was last heard, by comm path.
    heard: BTreeMap<PathName, Instant>,
}

impl PeerKeys {
    /// The keys of this name, and when the peer was last heard.
    fn by_id(&mut self, id: KeyId) -> Option<(&mut SessionKeys, &mut BTreeMap<PathName, Instant>)> {
        let all = [&mut self.newest, &mut self.previous, &mut self.coming];
        Some((all.into_iter().flatten().find(|keys| keys.id == id)?, &mut self.heard))
    }
}

/// The keys of all peers.
#[derive(Debug)]
pub struct Keys {
    me: Me,
    peers: Mutex<BTreeMap<NodeName, PeerKeys>>,
}

impl Keys {
    /// No session was made yet, so nobody can be heard.
    #[must_use]
    pub fn new(me: Me) -> Self {
        let peers = me.peers.iter().map(|peer| (peer.clone(), PeerKeys::default())).collect();
        Self { me, peers: Mutex::new(peers) }
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<NodeName, PeerKeys>) -> T) -> T {
        // A panic in between could at the worst leave a number that was used and is not used again.
        look(&mut self.peers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The peer may begin to seal with these.
    pub fn expect(&self, peer: &NodeName, keys: SessionKeys) {
        self.with(|peers| {
            if let Some(peer) = peers.get_mut(peer) {
                peer.coming = Some(keys);
            }
        });
    }

    /// The peer has them: they seal from now on.
    pub fn settle(&self, peer: &NodeName, id: KeyId) {
        self.with(|peers| {
            if let Some(peer) = peers.get_mut(peer)
                && let Some(keys) = peer.coming.take_if(|keys| keys.id == id)
            {
                peer.previous = peer.newest.replace(keys);
            }
        });
    }

    /// A heartbeat as a datagram; none without keys, before the first session with that peer.
    #[must_use]
    pub fn seal(&self, heartbeat: &Heartbeat) -> Option<Vec<u8>> {
        // A heartbeat is names and numbers: it can always be written.
        let payload = serde_json::to_vec(heartbeat).unwrap_or_default();
        self.with(|peers| Some(peers.get_mut(&heartbeat.to)?.newest.as_mut()?.seal(&payload)))
    }

    /// The heartbeat that came in a datagram on a comm path, if it is one that counts.
    ///
    /// # Errors
    /// Why it does not. Nothing is changed by it then.
    pub fn open(&self, path: &PathName, datagram: &[u8]) -> Result<Heartbeat, Reason> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Reason::TooLong);
        }
        let parts = Parts::of(datagram).ok_or(Reason::Malformed)?;
        self.with(|peers| {
            let found = peers.iter_mut().find_map(|(name, peer)| Some((name, peer.by_id(parts.id)?)));
            let (name, (keys, heard)) = found.ok_or(Reason::Unauthenticated)?;
            hmac::verify(&keys.opens, parts.sealed, parts.tag).map_err(|_| Reason::Unauthenticated)?;
            let heartbeat = payload(parts.payload).ok_or(Reason::Malformed)?;
            let Heartbeat { cluster, from, to, path: on, .. } = &heartbeat;
            if *cluster != self.me.cluster || from != name || *to != self.me.name || on != path {
                return Err(Reason::Foreign);
            }
            let last = keys.opened.entry(path.clone()).or_default();
            if parts.number <= *last {
                return Err(Reason::Replayed);
            }
            *last = parts.number;
            heard.insert(path.clone(), Instant::now());
            Ok(heartbeat)
        })
    }

    /// When a peer was last heard on a comm path.
    #[must_use]
    pub fn heard(&self, peer: &NodeName, path: &PathName) -> Option<Instant> {
        self.with(|peers| peers.get(peer)?.heard.get(path).copied())
    }
}

/// What is in a datagram that somebody known has sealed.
#[must_use]
pub fn payload(bytes: &[u8]) -> Option<Heartbeat> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(name: &str, peer: &str) -> Me {
        Me { cluster: "c".into(), name: name.into(), peers: [peer.into()].into() }
    }

    fn beat(from: &str, to: &str, path: &str) -> Heartbeat {
        // As JSON, so that a field that core adds is no matter of this test's.
        super::super::tests::heartbeat("c", from, to, path, 7)
    }

    fn secret(number: u8) -> [u8; SECRET_BYTES] {
        std::array::from_fn(|at| number.wrapping_add(u8::try_from(at).unwrap()))
    }

    /// Both ends of a session `number`, a having connected.
    fn session(a: &Keys, b: &Keys, number: u8) {
        let (at_a, at_b) =
            (SessionKeys::new(&secret(number), Side::Connected), SessionKeys::new(&secret(number), Side::Accepted));
        let id = at_a.id();
        a.expect(&"b".into(), at_a);
        b.expect(&"a".into(), at_b);
        a.settle(&"b".into(), id);
        b.settle(&"a".into(), id);
    }

    fn pair() -> (Keys, Keys) {
        (Keys::new(me("a", "b")), Keys::new(me("b", "a")))
    }

    #[test]
    fn without_a_session_nobody_is_heard() {
        let (a, b) = pair();
        assert_eq!(a.seal(&beat("a", "b", "lan")), None);
        session(&a, &b, 1);
        let datagram = a.seal(&beat("a", "b", "lan")).unwrap();
        let (_, stranger) = pair();
        assert_eq!(stranger.open(&"lan".into(), &datagram), Err(Reason::Unauthenticated));
        assert_eq!(b.open(&"lan".into(), &datagram), Ok(beat("a", "b", "lan")));
        assert!(b.heard(&"a".into(), &"lan".into()).is_some());
    }

    #[test]
    fn each_counts_once_and_none_that_is_older() {
        let (a, b) = pair();
        session(&a, &b, 1);
        let datagrams: Vec<_> = (0..3).map(|_| a.seal(&beat("a", "b", "lan")).unwrap()).collect();
        let lan = "lan".into();
        assert!(b.open(&lan, &datagrams[1]).is_ok());
        assert_eq!(b.open(&lan, &datagrams[1]), Err(Reason::Replayed));
        assert_eq!(b.open(&lan, &datagrams[0]), Err(Reason::Replayed));
        assert!(b.open(&lan, &datagrams[2]).is_ok());
        // A slower path has numbers of its own.
        let slow = a.seal(&beat("a", "b", "wan")).unwrap();
        assert!(b.open(&lan, &a.seal(&beat("a", "b", "lan")).unwrap()).is_ok());
        assert!(b.open(&"wan".into(), &slow).is_ok());
    }

    #[test]
    fn what_says_other_than_its_key_or_its_path_is_foreign() {
        let (a, b) = pair();
        session(&a, &b, 1);
        let sealed = |beat: &Heartbeat| {
            let payload = serde_json::to_vec(beat).unwrap();
            a.with(|peers| peers.get_mut("b").unwrap().newest.as_mut().unwrap().seal(&payload))
        };
        for wrong in [beat("x", "b", "lan"), beat("a", "x", "lan"), beat("a", "b", "wan")] {
            assert_eq!(b.open(&"lan".into(), &sealed(&wrong)), Err(Reason::Foreign));
        }
        // What a sealed its peer does not take for its own.
        assert_eq!(a.open(&"lan".into(), &sealed(&beat("b", "a", "lan"))), Err(Reason::Unauthenticated));
    }

    #[test]
    fn the_keys_before_still_open_until_there_are_newer_ones() {
        let (a, b) = pair();
        let lan = PathName::new("lan");
        let mut late = Vec::new();
        for number in 1..=3 {
            session(&a, &b, number);
            late.push(a.seal(&beat("a", "b", "lan")).unwrap());
        }
        assert_eq!(b.open(&lan, &late[0]), Err(Reason::Unauthenticated));
        assert!(b.open(&lan, &late[1]).is_ok());
        assert!(b.open(&lan, &late[2]).is_ok());
    }

    #[test]
    fn while_a_session_is_made_both_keys_count() {
        let (a, b) = pair();
        session(&a, &b, 1);
        let lan = PathName::new("lan");
        let id = SessionKeys::new(&secret(2), Side::Connected).id();
        a.expect(&"b".into(), SessionKeys::new(&secret(2), Side::Connected));
        b.expect(&"a".into(), SessionKeys::new(&secret(2), Side::Accepted));
        // One end knows that the other has them, and the other not yet.
        a.settle(&"b".into(), id);
        assert!(b.open(&lan, &a.seal(&beat("a", "b", "lan")).unwrap()).is_ok());
        assert!(a.open(&lan, &b.seal(&beat("b", "a", "lan")).unwrap()).is_ok());
    }

    #[test]
    fn heartbeats_fit_into_a_packet_whatever_the_names() {
        let name = "x".repeat(mainstay_core::names::NAME_BYTES_MAX);
        let (of, to) = (Me { cluster: name.clone(), ..me(&name, "b") }, Me { cluster: name.clone(), ..me("b", &name) });
        let (a, b) = (Keys::new(of), Keys::new(to));
        let keys = SessionKeys::new(&secret(1), Side::Connected);
        let id = keys.id();
        a.expect(&"b".into(), keys);
        a.settle(&"b".into(), id);
        b.expect(&name.as_str().into(), SessionKeys::new(&secret(1), Side::Accepted));
        let beat = super::super::tests::heartbeat(&name, &name, "b", &name, u64::MAX);
        let datagram = a.seal(&beat).unwrap();
        // The peer's own name may be as long.
        assert!(datagram.len() + name.len() <= DATAGRAM_BYTES_MAX);
        assert_eq!(b.open(&name.as_str().into(), &datagram), Ok(beat));
    }

    #[test]
    fn two_sessions_share_no_key() {
        let (one, two) = (SessionKeys::new(&secret(1), Side::Connected), SessionKeys::new(&secret(2), Side::Connected));
        assert_ne!(one.id(), two.id());
        assert!(!format!("{one:?}").contains("seals"));
    }
}
