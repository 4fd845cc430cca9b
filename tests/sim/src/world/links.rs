//! What nodes say to each other on the way: heartbeats as datagrams on each comm path, messages over one session to each
//! peer, and whether a kernel answers.

use std::collections::VecDeque;

use mainstay_core::message::{Heartbeat, PeerMessage};
use mainstay_core::names::{NodeName, PathName};
use mainstay_core::node::Input;
use mainstay_core::time::{Millis, Monotonic};

use super::machine::BEATS_WAITING_MAX;
use super::{Happening, LINK, Manners, PAUSED, RECONNECT, World};
use crate::network::Way;

/// What a connection over a path that lets nothing through costs before the next path is tried.
const HELLO: Millis = Millis::from_secs(3);
/// A peer that has not acknowledged what was sent for so long is not reached on this path (TCP_USER_TIMEOUT).
const SILENT: Millis = Millis::from_secs(8);
/// What was not acknowledged is sent again after this, then after twice as long, and so on.
const RESEND: Millis = Millis(200);
const RESEND_MAX: Millis = Millis(3_200);
/// A connection to a kernel that does not answer is given up after this.
const KNOCK: Millis = Millis::from_secs(1);
/// A process that stands still takes no connection; it is tried again.
const AGAIN: Millis = Millis::from_secs(1);

/// What goes over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Datagrams.
    Heartbeats,
    /// What sessions carry.
    Messages,
}

/// A connection between two nodes, over one comm path.
#[derive(Debug)]
pub(super) struct Session {
    ends: [NodeName; 2],
    path: usize,
    /// What goes from each end.
    lanes: [Lane; 2],
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Item>,
    /// When the last that was sent arrives, if all goes well: the next does not overtake it.
    last: Monotonic,
    /// Arrivals that are owed, since nothing is let through.
    owed: usize,
    stalled: Option<(Monotonic, Millis)>,
}

#[derive(Debug)]
enum Item {
    Message(Box<PeerMessage>),
    End,
}

impl World {
    /// The way from one node to another on a comm path.
    pub fn way(&self, from: &NodeName, to: &NodeName, path: usize) -> Way {
        Way { from: self.index[from], to: self.index[to], path }
    }

    /// Cuts all ways from one node to another, without a word to either.
    pub fn cut(&mut self, from: &NodeName, to: &NodeName) {
        for path in 0..self.network.paths() {
            let way = self.way(from, to, path);
            self.network.set_cut(way, true, self.now);
        }
    }

    /// Cuts one comm path between two nodes, both ways and without a word to either, or mends it.
    ///
    /// # Panics
    /// When there is no such path: a test's own mistake.
    pub fn set_path_cut(&mut self, a: &NodeName, b: &NodeName, path: &str, cut: bool) {
        let known = self.paths.iter().position(|known| known.as_str() == path);
        let at = known.unwrap_or_else(|| panic!("there is no comm path {path}"));
        for (from, to) in [(a, b), (b, a)] {
            let way = self.way(from, to, at);
            self.network.set_cut(way, cut, self.now);
        }
        if !cut {
            self.opened(a, b);
        }
    }

    /// Mends them. A session over them has broken meanwhile.
    pub fn heal(&mut self, from: &NodeName, to: &NodeName) {
        let ways: Vec<Way> = (0..self.network.paths()).map(|path| self.way(from, to, path)).collect();
        let mended = ways.into_iter().filter(|way| self.network.set_cut(*way, false, self.now)).count();
        if mended == 0 {
            return;
        }
        for (node, peer) in [(from.clone(), to.clone()), (to.clone(), from.clone())] {
            if let Some(session) = self.machine(&node).sessions.get(&peer).copied() {
                self.at(LINK, Happening::SessionLost { node, peer, session });
            }
        }
        self.reconnect(from);
    }

    /// A way has become open again: who tries to connect comes through some time.
    pub fn opened(&mut self, a: &NodeName, b: &NodeName) {
        let after = self.random.between(Millis(300), Millis(300 + HELLO.0));
        self.at(after, Happening::Connect { a: a.clone(), b: b.clone(), tried: false });
    }

    /// From now on, only heartbeats of this node do not come through, or it makes no sessions.
    pub fn block(&mut self, name: &NodeName, kind: Kind) {
        self.blocked.insert((name.clone(), kind));
        if kind == Kind::Messages {
            for (peer, session) in self.machine(name).sessions.clone() {
                self.at(LINK, Happening::SessionLost { node: name.clone(), peer: peer.clone(), session });
                self.at(LINK, Happening::SessionLost { node: peer, peer: name.clone(), session });
            }
        }
    }

    pub(super) fn reconnect(&mut self, name: &NodeName) {
        let others: Vec<NodeName> = self.machines.keys().filter(|other| *other != name).cloned().collect();
        for other in others {
            self.at(RECONNECT, Happening::Connect { a: name.clone(), b: other, tried: false });
        }
    }

    // Heartbeats.

    pub(super) fn send_heartbeat(&mut self, name: &NodeName, heartbeat: Heartbeat) {
        let Some(path) = self.paths.iter().position(|path| *path == heartbeat.path) else { return };
        if !self.blocked.is_empty() && self.blocked.contains(&(name.clone(), Kind::Heartbeats)) {
            return;
        }
        let way = self.way(name, &heartbeat.to, path);
        let [first, second] = self.network.datagram(way);
        if let Some(after) = second {
            self.coverage.count("network: datagram doubled");
            self.at(after, Happening::Heartbeat { to: heartbeat.to.clone(), heartbeat: heartbeat.clone() });
        }
        if let Some(after) = first {
            self.at(after, Happening::Heartbeat { to: heartbeat.to.clone(), heartbeat });
        }
    }

    pub(super) fn heartbeat_arrives(&mut self, to: NodeName, heartbeat: Heartbeat) {
        let machine = self.machine(&to);
        if !machine.has_kernel() {
            return;
        }
        if !machine.paused {
            self.input(&to, Input::Heartbeat(heartbeat));
        } else if self.manners == Manners::Real && self.machine(&to).frozen.len() < BEATS_WAITING_MAX {
            self.machine(&to).frozen.push_back(Happening::Heartbeat { to: to.clone(), heartbeat });
        }
    }

    // Messages.

    fn lane(&self, session: u64, from: &NodeName) -> Option<(usize, Way)> {
        let known = self.sessions.get(&session)?;
        let lane = known.ends.iter().position(|end| end == from)?;
        Some((lane, self.way(&known.ends[lane], &known.ends[1 - lane], known.path)))
    }

    fn send_item(&mut self, session: u64, from: &NodeName, item: Item) {
        let Some((lane, way)) = self.lane(session, from) else { return };
        let takes = self.network.segment(way);
        let now = self.now;
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let known = &mut known.lanes[lane];
        known.queue.push_back(item);
        known.last = known.last.max(now + takes);
        let after = known.last.since(now);
        self.at(after, Happening::Arrives { session, lane });
    }

    pub(super) fn send_message(&mut self, from: &NodeName, to: &NodeName, mut message: PeerMessage) {
        let Some(session) = self.machine(from).sessions.get(to).copied() else { return };
        if let PeerMessage::State(state) = &mut message {
            state.examines &= !self.machines[from].before_health;
        } else if matches!(message, PeerMessage::Examine { .. }) && self.machines[to].before_health {
            // There the session would end over what cannot be understood.
            self.checks.broken.push(format!("health: {from} asks {to}, which has said that it knows no such question"));
        }
        if self.manners == Manners::Prompt {
            let open = self.lane(session, from).is_some_and(|(_, way)| self.network.is_open(way));
            if !open {
                return;
            }
        }
        self.send_item(session, from, Item::Message(Box::new(message)));
    }

    /// The kernel ends a session of a daemon that is gone, after what was sent.
    pub(super) fn send_end(&mut self, session: u64, from: &NodeName) {
        self.send_item(session, from, Item::End);
    }

    /// What a machine has sent and nobody has got is lost with its power.
    pub(super) fn forget_unsent(&mut self, session: u64, from: &NodeName) {
        let Some((lane, _)) = self.lane(session, from) else { return };
        if let Some(known) = self.sessions.get_mut(&session) {
            known.lanes[lane].queue.clear();
        }
    }

    pub(super) fn arrives(&mut self, session: u64, lane: usize) {
        let Some(known) = self.sessions.get(&session) else { return };
        let (to, path) = (known.ends[1 - lane].clone(), known.path);
        let way = self.way(&known.ends[lane], &to, path);
        let stalled = known.lanes[lane].stalled.is_some();
        let through = self.manners == Manners::Prompt || self.network.is_open(way) && self.machines[&to].has_kernel();
        if through && !stalled {
            self.deliver(session, lane);
            return;
        }
        let now = self.now;
        if let Some(known) = self.sessions.get_mut(&session) {
            known.lanes[lane].owed += 1;
            if !stalled {
                known.lanes[lane].stalled = Some((now, RESEND));
                self.coverage.count("session: stalled");
                self.at(RESEND, Happening::Resend { session, lane });
            }
        }
    }

    pub(super) fn resend(&mut self, session: u64, lane: usize) {
        let now = self.now;
        let Some(known) = self.sessions.get(&session) else { return };
        let (from, to) = (known.ends[lane].clone(), known.ends[1 - lane].clone());
        let way = self.way(&from, &to, known.path);
        let through = self.network.is_open(way) && self.machines[&to].has_kernel();
        let Some(known) = self.sessions.get_mut(&session).map(|known| &mut known.lanes[lane]) else { return };
        let Some((since, wait)) = known.stalled else { return };
        if through {
            known.stalled = None;
            for _ in 0..core::mem::take(&mut known.owed) {
                self.deliver(session, lane);
            }
        } else if now.since(since) >= SILENT {
            self.coverage.count("session: lost, nothing acknowledged");
            self.session_lost(from, to, session);
        } else {
            let wait = Millis(wait.0 * 2).min(RESEND_MAX);
            known.stalled = Some((since, wait));
            self.at(wait, Happening::Resend { session, lane });
        }
    }

    /// What was sent has come to the other machine's kernel.
    fn deliver(&mut self, session: u64, lane: usize) {
        let Some(known) = self.sessions.get(&session) else { return };
        let (from, to) = (known.ends[lane].clone(), known.ends[1 - lane].clone());
        let back = self.way(&to, &from, known.path);
        let machine = self.machine(&to);
        if machine.paused {
            match self.manners {
                Manners::Prompt => self.at(PAUSED, Happening::Arrives { session, lane }),
                Manners::Real => self.machine(&to).frozen.push_back(Happening::Arrives { session, lane }),
            }
            return;
        }
        let taken = machine.sessions.get(&from) == Some(&session);
        let Some(item) = self.sessions.get_mut(&session).and_then(|known| known.lanes[lane].queue.pop_front()) else {
            return;
        };
        match item {
            Item::Message(message) if taken => self.input(&to, Input::Message(from.clone(), *message)),
            Item::End if taken => self.session_lost(to, from.clone(), session),
            // Its kernel knows nothing of this connection, and says so.
            Item::Message(_) if self.manners == Manners::Real && self.network.is_open(back) => {
                let after = self.network.segment(back);
                self.at(after, Happening::SessionLost { node: from.clone(), peer: to, session });
            }
            Item::Message(_) | Item::End => {}
        }
        if self.manners == Manners::Real && !self.network.is_open(back) {
            self.at(SILENT, Happening::Unacknowledged { session, lane });
        }
    }

    /// What was sent has arrived, and the word of it has not.
    pub(super) fn unacknowledged(&mut self, session: u64, lane: usize) {
        let Some(known) = self.sessions.get(&session) else { return };
        let (from, to) = (known.ends[lane].clone(), known.ends[1 - lane].clone());
        let back = self.way(&to, &from, known.path);
        if !self.network.is_open(back) {
            self.coverage.count("session: lost, one way cut");
            self.session_lost(from, to, session);
        }
    }

    /// One end has noticed that a session is over.
    pub(super) fn session_lost(&mut self, node: NodeName, peer: NodeName, session: u64) {
        if self.machine(&node).paused && self.manners == Manners::Prompt {
            self.at(PAUSED, Happening::SessionLost { node, peer, session });
            return;
        }
        if self.machine(&node).sessions.get(&peer) != Some(&session) {
            return;
        }
        self.machine(&node).sessions.remove(&peer);
        self.input(&node, Input::SessionLost(peer.clone()));
        if self.manners == Manners::Real {
            if let Some((_, way)) = self.lane(session, &node)
                && self.network.is_open(way)
            {
                let after = self.network.segment(way);
                self.at(after, Happening::SessionLost { node: peer.clone(), peer: node.clone(), session });
            }
            if self.machine(&peer).sessions.get(&node) != Some(&session) {
                self.sessions.remove(&session);
            }
        }
        self.at(RECONNECT, Happening::Connect { a: node, b: peer, tried: false });
    }

    /// Makes a session between two daemons that can reach each other; tries again while they may come to.
    pub(super) fn connect(&mut self, a: &NodeName, b: &NodeName, tried: bool) {
        // Of two nodes the one whose name comes first connects; stories do not care.
        let (a, b) = if self.manners == Manners::Real && b < a { (b, a) } else { (a, b) };
        let alive = [a, b].iter().all(|name| self.machines[*name].node.is_some());
        let open = (0..self.network.paths()).find(|path| self.network.is_open_both_ways(self.way(a, b, *path)));
        let Some(path) = open.filter(|_| alive && !self.machines[a].sessions.contains_key(b)) else { return };
        let again = |after| (after, Happening::Connect { a: a.clone(), b: b.clone(), tried: false });
        if [a, b].iter().any(|name| self.blocked.contains(&((*name).clone(), Kind::Messages))) {
            let (after, again) = again(if self.manners == Manners::Real { AGAIN } else { RECONNECT });
            self.at(after, again);
            return;
        }
        let still = [a, b].iter().any(|name| self.machines[*name].paused || self.machines[*name].suspended);
        // The other end may not have noticed yet that an old one is gone.
        let unnoticed = self.manners == Manners::Prompt && self.machines[b].sessions.contains_key(a);
        if still || unnoticed {
            let (after, again) = again(if self.manners == Manners::Real { AGAIN } else { RECONNECT });
            self.at(after, again);
            return;
        }
        if self.manners == Manners::Real && path > 0 && !tried {
            // Better paths are tried first, and nothing answers there.
            let after = Millis(HELLO.0 * path as u64);
            self.at(after, Happening::Connect { a: a.clone(), b: b.clone(), tried: true });
            return;
        }
        self.session_count += 1;
        let session = self.session_count;
        let ends = [a.clone(), b.clone()];
        self.sessions.insert(session, Session { ends, path, lanes: [Lane::default(), Lane::default()] });
        if path > 0 {
            self.coverage.count("session: over another path");
        }
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(old) = self.machine(node).sessions.insert(peer.clone(), session) {
                self.coverage.count("session: takes an older one's place");
                self.sessions.remove(&old);
            }
        }
        self.input(a, Input::SessionUp(b.clone()));
        self.input(b, Input::SessionUp(a.clone()));
    }

    /// Whether the kernel of a machine answers on a path: it does while its daemon is dead or stopped.
    pub(super) fn knock(&mut self, name: &NodeName, node: NodeName, path: PathName) {
        let Some(at) = self.paths.iter().position(|known| *known == path) else { return };
        let way = self.way(name, &node, at);
        let answered = self.network.is_open_both_ways(way) && self.machines[&node].has_kernel();
        self.coverage.count(if answered { "knock: answered" } else { "knock: not answered" });
        let back = Way { from: way.to, to: way.from, ..way };
        let after = if answered {
            Millis(self.network.segment(way).0 + self.network.segment(back).0).min(KNOCK)
        } else {
            KNOCK
        };
        let life = self.machines[name].life;
        let input = Input::Knocked { node, path, answered };
        self.at(after, Happening::Input { node: name.clone(), life, input: Box::new(input) });
    }
}
