//! What is shown.

use super::session::Stage;
use super::{Gate, Volume};
use crate::status::{LinkState, Progress, Role, Status};

impl Volume {
    /// Everything at once.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            role: self.role,
            copy: self.worth(),
            link: self.link_state(),
            promotion: self.promotion(),
            size: self.label.size,
            epoch: self.label.epoch,
            generation: self.label.generation,
            alone: self.gate == Gate::Alone,
            waits: self.waits(),
            unread: self.sweep.as_ref().and_then(super::Sweep::unread),
            dirty_regions: self.intent.dirty().count(),
            hot_regions: if self.gate == Gate::Mirror { self.intent.hot_count() } else { 0 },
            verify: self.sweep.as_ref().and_then(super::Sweep::verify),
            requests: self.requests.count(),
            lag_bytes: self.requests.lag_bytes(),
            resync_bytes: self.resync_bytes,
        }
    }

    fn link_state(&self) -> LinkState {
        let resync = self.sweep.as_ref().and_then(super::Sweep::resync);
        match &self.session.stage {
            _ if self.label.paused => LinkState::Paused,
            Stage::Down => LinkState::Broken,
            Stage::Greeting | Stage::Beginning(_) | Stage::Turning => LinkState::Greeting,
            Stage::Idle => LinkState::Idle,
            Stage::Mirroring if self.session.whole => LinkState::Connected,
            Stage::Mirroring => LinkState::Resync(resync.unwrap_or(Progress { done: 0, of: 0 })),
            Stage::Following { copied: Some(progress) } => LinkState::Resync(*progress),
            Stage::Following { copied: None } if self.session.whole => LinkState::Connected,
            Stage::Following { copied: None } => LinkState::Greeting,
            Stage::Paused => LinkState::Paused,
            Stage::SplitBrain => match &self.session.peer {
                Some(peer) => LinkState::SplitBrain(self.split(peer)),
                None => LinkState::Broken,
            },
            Stage::Refused(why) => LinkState::Refused(why.clone()),
        }
    }

    fn waits(&self) -> Option<&'static str> {
        match (self.role, self.gate) {
            (Role::Source, Gate::Closed) if self.session.is_hopeful() => Some("the two copies are getting together"),
            (Role::Source, Gate::Closed) => {
                Some("the peer is gone, and this copy goes on without it only once the other one is marked outdated")
            }
            (Role::Source, Gate::Mirror | Gate::Alone) | (Role::Target, _) => None,
        }
    }
}
