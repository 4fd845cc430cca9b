//! What people do when all is mended: they resolve a split brain, and bring in service what waits for them. Nobody uses
//! force where another copy does without.

use mainstay_core::names::HierarchyName;
use mainstay_core::node::Request;
use mainstay_core::volume::ToVolume;
use mainstay_volume_core::io::{Basis, OperatorRequest};
use mainstay_volume_core::status::{LinkState, Promotion};
use mainstay_volume_core::types::Side;

use super::world::{HIERARCHY, Joined};

/// An operator who sees nobody serve waits so long before doing anything, in ms.
const PATIENCE: u64 = 20_000;

/// Looks after the volume.
#[derive(Debug, Default)]
pub struct Operator {
    /// Since when nobody serves.
    idle_since: Option<u64>,
    asked: u64,
}

impl Operator {
    /// Looks, and does what is to be done.
    pub fn looks(&mut self, joined: &mut Joined) {
        resolve(joined);
        for m in 0..2 {
            let paused = joined.volume.machines[m].volume.is_some() && joined.volume.machines[m].label_on_disk().paused;
            if paused {
                joined.volume.operate(m, OperatorRequest::Resume);
            }
        }
        if (0..2).any(|m| joined.volume.is_source(m)) {
            self.idle_since = None;
            return;
        }
        let since = *self.idle_since.get_or_insert(joined.now());
        if joined.now() < since + PATIENCE {
            return;
        }
        // The next thing is tried only when the last one has not helped for as long.
        self.idle_since = Some(joined.now());
        self.asked += 1;
        self.brings_in_service(joined);
    }

    fn brings_in_service(&self, joined: &mut Joined) {
        let promotions: Vec<Option<Promotion>> =
            (0..2).map(|m| joined.volume.machines[m].volume.as_ref().map(|volume| volume.status().promotion)).collect();
        let owner = owner(joined);
        let free = |m: usize| promotions[m] == Some(Promotion::Free);
        let by_word = |m: usize| matches!(promotions[m], Some(Promotion::Confirm { .. }));
        let by_force = |m: usize| matches!(promotions[m], Some(Promotion::Force(_)));
        let first = owner.unwrap_or(0);
        let best = [first, 1 - first].into_iter().find(|m| free(*m)).or_else(|| (0..2).find(|m| by_word(*m)));
        match (best, owner) {
            // Most things are tried in order first; but where the arbiter was wiped or restored, only a word helps.
            (Some(m), _) if self.asked > 2 => force(joined, m),
            (Some(m), Some(owner)) if m != owner => switchover(joined, owner, m),
            (Some(m), Some(_)) => in_service(joined, m),
            (Some(m), None) => force(joined, m),
            // Nor does force without a right.
            (None, Some(owner)) if self.asked % 4 == 3 => force(joined, owner),
            // Neither can be promoted as it is: what may be lost is shown, and the operator decides.
            (None, Some(owner)) if by_force(owner) => {
                joined.volume.count("operator: promotes by force");
                joined.volume.operate(owner, OperatorRequest::Promote(Basis::Force));
            }
            (None, owner) => in_service(joined, owner.unwrap_or(0)),
        }
    }
}

/// Whose daemon has told its process that it has the right to write.
pub(super) fn owner(joined: &Joined) -> Option<usize> {
    let claim = |m: usize| match &joined.daemons[m].right {
        Some(ToVolume::Right { claim, .. }) => Some((claim.clone(), m)),
        _ => None,
    };
    (0..2).filter_map(claim).max().map(|(_, m)| m)
}

fn in_service(joined: &mut Joined, m: usize) {
    joined.volume.count("operator: in service");
    ask(joined, m, Request::InService { target: HIERARCHY.into(), force: false });
}

fn force(joined: &mut Joined, m: usize) {
    joined.volume.count("operator: in service by a word");
    ask(joined, m, Request::InService { target: HIERARCHY.into(), force: true });
}

fn switchover(joined: &mut Joined, on: usize, to: usize) {
    joined.volume.count("operator: switchover");
    let to = joined.names[to].clone();
    ask(joined, on, Request::Switchover { hierarchy: HierarchyName::from(HIERARCHY), to });
}

fn ask(joined: &mut Joined, m: usize, request: Request) {
    let name = joined.names[m].clone();
    if joined.cluster.machines[&name].node.is_some() {
        joined.cluster.ask(&name, request);
    }
}

/// V11: the owner's data survives, once the other copy serves nothing.
fn resolve(joined: &mut Joined) {
    let split = |m: usize| matches!(joined.volume.link_state(m), Some(LinkState::SplitBrain(_)));
    if !(split(0) && split(1)) {
        return;
    }
    joined.volume.count("split brain");
    let Some(survivor) = owner(joined) else { return };
    if joined.volume.is_source(1 - survivor) {
        return;
    }
    joined.volume.count("split brain: resolved");
    joined.volume.survives(survivor);
    let side = if survivor == 0 { Side::A } else { Side::B };
    joined.volume.operate(survivor, OperatorRequest::Resolve(side));
}
