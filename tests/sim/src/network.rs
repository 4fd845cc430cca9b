//! The network: one way for each pair of nodes, direction and comm path, each with its own manners.
//!
//! Decides what comes of one packet: whether it is let through, when it arrives, how often. What sessions make of that is
//! the world's.

use mainstay_core::time::{Millis, Monotonic};

use crate::random::Random;

/// A wait that an overfull queue on the way makes of a delay.
const SPIKE: u64 = 30;
/// The first wait of TCP before it sends again; it doubles (RFC 6298 has 1 s at first, Linux 200 ms).
const RESEND: Millis = Millis(200);
/// With so much loss, in parts of a thousand, heartbeats of a whole dead time are lost now and then.
const LOSSY: u64 = 150;

/// How packets fare on a way that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Of every packet.
    pub delay: Millis,
    /// Up to so much more, which puts packets out of order.
    pub jitter: Millis,
    /// So many of a thousand are lost.
    pub loss: u64,
    /// So many of a thousand arrive twice.
    pub doubled: u64,
    /// So many of a thousand wait thirty times as long.
    pub spikes: u64,
}

impl Quality {
    /// A cable on a desk: what stories are told over.
    pub const PERFECT: Self = Self { delay: Millis(1), jitter: Millis(0), loss: 0, doubled: 0, spikes: 0 };
}

/// From one node to another, on one comm path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// From which node.
    pub from: usize,
    /// To which.
    pub to: usize,
    /// On which comm path, in order of priority.
    pub path: usize,
}

#[derive(Clone, Debug)]
struct Line {
    /// Cut for good, until it is mended.
    cut: bool,
    /// So many faults that go on cut it.
    cuts: u32,
    /// Each fault that goes on makes it worse; the last counts.
    worse: Vec<(u64, Quality)>,
    /// When nothing, or not everything, came through, the last time.
    bad: Vec<Bad>,
}

/// The last whiles in which a way was bad that are remembered: more than a flapping path has between a takeover and what
/// follows from it.
const BAD_MAX: usize = 8;

/// A while in which a way was cut or lossy.
#[derive(Clone, Copy, Debug)]
struct Bad {
    from: Monotonic,
    /// None: it still is.
    until: Option<Monotonic>,
    lossy: bool,
}

/// All ways between the nodes of a cluster.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: usize,
    paths: usize,
    lines: Vec<Line>,
    usual: Quality,
    random: Random,
}

impl Network {
    /// All ways open.
    #[must_use]
    pub fn new(nodes: usize, paths: usize, usual: Quality, seed: u64) -> Self {
        let line = Line { cut: false, cuts: 0, worse: Vec::new(), bad: Vec::new() };
        let lines = vec![line; nodes * nodes * paths.max(1)];
        Self { nodes, paths, lines, usual, random: Random::of(seed, 1) }
    }

    /// How many comm paths there are.
    #[must_use]
    pub fn paths(&self) -> usize {
        self.paths
    }

    fn at(&self, way: Way) -> usize {
        (way.from * self.nodes + way.to) * self.paths + way.path
    }

    /// Whether packets may come through.
    #[must_use]
    pub fn is_open(&self, way: Way) -> bool {
        let line = &self.lines[self.at(way)];
        !line.cut && line.cuts == 0
    }

    /// Whether they may in both directions.
    #[must_use]
    pub fn is_open_both_ways(&self, way: Way) -> bool {
        self.is_open(way) && self.is_open(Way { from: way.to, to: way.from, ..way })
    }

    fn change(&mut self, way: Way, now: Monotonic, what: impl FnOnce(&mut Line)) {
        let at = self.at(way);
        let line = &mut self.lines[at];
        what(line);
        let lossy = line.worse.last().is_some_and(|(_, quality)| quality.loss >= LOSSY);
        let is_bad = line.cut || line.cuts > 0 || lossy;
        match line.bad.last_mut() {
            Some(bad) if bad.until.is_none() => {
                bad.lossy |= lossy;
                bad.until = (!is_bad).then_some(now);
            }
            Some(_) | None if is_bad => {
                if line.bad.len() == BAD_MAX {
                    line.bad.remove(0);
                }
                line.bad.push(Bad { from: now, until: None, lossy });
            }
            Some(_) | None => {}
        }
    }

    /// Cuts a way until it is mended, however often it was cut. Says whether that changes anything.
    pub fn set_cut(&mut self, way: Way, cut: bool, now: Monotonic) -> bool {
        let before = self.lines[self.at(way)].cut;
        self.change(way, now, |line| line.cut = cut);
        before != cut
    }

    /// A fault begins or ends that cuts a way, while others may cut it too.
    pub fn count_cut(&mut self, way: Way, begins: bool, now: Monotonic) {
        self.change(way, now, |line| line.cuts = if begins { line.cuts + 1 } else { line.cuts.saturating_sub(1) });
    }

    /// A fault of this number makes a way worse.
    pub fn worsen(&mut self, way: Way, fault: u64, quality: Quality, now: Monotonic) {
        self.change(way, now, |line| line.worse.push((fault, quality)));
    }

    /// It is over.
    pub fn recover(&mut self, way: Way, fault: u64, now: Monotonic) {
        self.change(way, now, |line| line.worse.retain(|(number, _)| *number != fault));
    }

    fn quality(&self, way: Way) -> Quality {
        self.lines[self.at(way)].worse.last().map_or(self.usual, |(_, quality)| *quality)
    }

    fn delay(&mut self, quality: Quality) -> Millis {
        let jitter = if quality.jitter.0 == 0 { 0 } else { self.random.below(quality.jitter.0 + 1) };
        let factor = if self.random_chance(quality.spikes) { SPIKE } else { 1 };
        Millis((quality.delay.0 + jitter) * factor)
    }

    /// As [`Random::chance`], and no dice are thrown for what never happens.
    fn random_chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.random.chance(permille)
    }

    /// What comes of a datagram: after which delays it arrives; it may not at all, and it may twice.
    pub fn datagram(&mut self, way: Way) -> [Option<Millis>; 2] {
        let quality = self.quality(way);
        if !self.is_open(way) || self.random_chance(quality.loss) {
            return [None, None];
        }
        let first = self.delay(quality);
        let second = if self.random_chance(quality.doubled) { Some(self.delay(quality)) } else { None };
        [Some(first), second]
    }

    /// How long one segment of a session takes, with what is lost sent again.
    pub fn segment(&mut self, way: Way) -> Millis {
        let quality = self.quality(way);
        let mut takes = self.delay(quality);
        let mut wait = RESEND;
        for _ in 0..5 {
            if !self.random_chance(quality.loss) {
                break;
            }
            takes = Millis(takes.0 + wait.0);
            wait = Millis(wait.0 * 2);
        }
        takes
    }

    /// Whether all paths from one node to another were cut or lossy together, at some moment since `since`, and were cut
    /// within `at_once` of each other: then neither can know whether the other is off.
    #[must_use]
    pub fn was_apart(&self, from: usize, to: usize, since: Monotonic, at_once: Millis) -> bool {
        let bad: Vec<&[Bad]> =
            (0..self.paths).map(|path| &self.lines[self.at(Way { from, to, path })].bad[..]).collect();
        !bad.is_empty() && were_together(&bad, &mut Vec::new(), since, at_once)
    }
}

/// Whether of the times in which each path was bad, one of each overlap as [`Network::was_apart`] has it, with those chosen
/// for the paths before.
fn were_together(paths: &[&[Bad]], chosen: &mut Vec<Bad>, since: Monotonic, at_once: Millis) -> bool {
    let Some((path, rest)) = paths.split_first() else {
        let end = |bad: &Bad| bad.until.unwrap_or(Monotonic(u64::MAX));
        let last_begins = chosen.iter().map(|bad| bad.from).max().unwrap_or_default();
        let first_begins = chosen.iter().map(|bad| bad.from).min().unwrap_or_default();
        let first_ends = chosen.iter().map(end).min().unwrap_or_default();
        let together = last_begins <= first_ends && first_ends >= since;
        // With loss the last heartbeat came at any time.
        return together && (chosen.iter().any(|bad| bad.lossy) || last_begins.since(first_begins) <= at_once);
    };
    path.iter().any(|bad| {
        chosen.push(*bad);
        let together = were_together(rest, chosen, since, at_once);
        chosen.pop();
        together
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way { from: 0, to: 1, path: 0 };

    fn network(quality: Quality) -> Network {
        Network::new(2, 2, quality, 3)
    }

    #[test]
    fn a_cut_is_of_one_direction_and_one_path() {
        let mut network = network(Quality::PERFECT);
        assert!(network.set_cut(WAY, true, Monotonic(5)));
        assert!(!network.set_cut(WAY, true, Monotonic(6)), "it is cut already");
        assert_eq!(network.datagram(WAY), [None, None]);
        assert_eq!(network.datagram(Way { path: 1, ..WAY }), [Some(Millis(1)), None]);
        assert_eq!(network.datagram(Way { from: 1, to: 0, path: 0 }), [Some(Millis(1)), None]);
        assert!(!network.is_open_both_ways(Way { from: 1, to: 0, path: 0 }));
        let apart = |network: &Network, since, at_once| network.was_apart(0, 1, Monotonic(since), Millis(at_once));
        assert!(!apart(&network, 0, 5), "the other path is open");
        network.count_cut(Way { path: 1, ..WAY }, true, Monotonic(7));
        assert!(apart(&network, 0, 5) && !network.was_apart(1, 0, Monotonic(0), Millis(5)));
        assert!(!apart(&network, 0, 1), "one was cut 2 ms after the other");
        network.set_cut(WAY, false, Monotonic(50));
        assert!(apart(&network, 50, 5) && !apart(&network, 51, 5), "that was before");
    }

    #[test]
    fn two_faults_on_a_way_are_both_over_before_it_is_open() {
        let mut network = network(Quality::PERFECT);
        network.count_cut(WAY, true, Monotonic(1));
        network.count_cut(WAY, true, Monotonic(2));
        network.count_cut(WAY, false, Monotonic(3));
        assert!(!network.is_open(WAY));
        network.count_cut(WAY, false, Monotonic(4));
        assert!(network.is_open(WAY));
    }

    #[test]
    fn loss_jitter_and_doubling_are_seen() {
        let bad = Quality { delay: Millis(5), jitter: Millis(20), loss: 300, doubled: 100, spikes: 0 };
        let mut network = network(Quality::PERFECT);
        network.worsen(WAY, 1, bad, Monotonic(0));
        let sent: Vec<_> = (0..10_000).map(|_| network.datagram(WAY)).collect();
        let lost = sent.iter().filter(|copies| copies[0].is_none()).count();
        let doubled = sent.iter().filter(|copies| copies[1].is_some()).count();
        assert!((2_700..3_300).contains(&lost) && (600..800).contains(&doubled), "{lost} {doubled}");
        assert!(sent.windows(2).any(|two| matches!((two[0][0], two[1][0]), (Some(a), Some(b)) if a > b)));
        assert!((0..1000).any(|_| network.segment(WAY) > RESEND), "what is lost is sent again, later");
        network.recover(WAY, 1, Monotonic(9));
        assert_eq!(network.datagram(WAY), [Some(Millis(1)), None]);
    }
}
