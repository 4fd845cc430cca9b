//! `volume`: a granted volume of the host, asked through what the daemon has put there ([`crate::Volumes`]).
//!
//! It asks `grants.rs`, gives the daemon the time that the call has, and turns its answer into the contract's words. It
//! decides nothing about volumes.

use std::path::Path;

use tokio::time::timeout;

use crate::bindings::mainstay::kit::volume::{Attachment, CopyState, Host, MirrorState, Role, Standing};
use crate::capability::{CallState, Fault, FaultKind, fault, ms};
use crate::text;
use crate::volumes::{VolumeAnswer, VolumeCopy, VolumeMirror, VolumeRole, VolumeStatus, VolumeTrouble, Volumes};

impl From<VolumeTrouble> for Fault {
    fn from(trouble: VolumeTrouble) -> Self {
        let (kind, code) = match &trouble {
            VolumeTrouble::NoSuchVolume(_) => (FaultKind::NotFound, "no-such-volume"),
            VolumeTrouble::Unavailable(_) => (FaultKind::Unavailable, "volume-unavailable"),
            VolumeTrouble::Lost(_) => (FaultKind::Closed, "volume-lost"),
            VolumeTrouble::NoRight(_) => (FaultKind::Unavailable, "no-right"),
            VolumeTrouble::NotPromotable(_) => (FaultKind::Failed, "not-promotable"),
            VolumeTrouble::Busy(_) => (FaultKind::Unavailable, "busy"),
            VolumeTrouble::Attachment(_) => (FaultKind::Failed, "attachment"),
            VolumeTrouble::Failed(_) => (FaultKind::Failed, "volume"),
        };
        fault(kind, code, trouble.to_string())
    }
}

impl CallState {
    /// Asks for a volume that is granted.
    async fn ask_volume<T: Send>(
        &mut self,
        function: &'static str,
        doing: &'static str,
        name: &str,
        ask: impl for<'a> FnOnce(&'a dyn Volumes, &'a str) -> VolumeAnswer<'a, T>,
    ) -> Result<T, Fault> {
        let _entered = self.enter(function, name);
        self.services.grants.volume(&self.asker, doing, name)?;
        self.in_time(doing, name, ask).await
    }

    /// Asks for a volume, in the time that the call has.
    pub(super) async fn in_time<T: Send>(
        &mut self,
        doing: &'static str,
        name: &str,
        ask: impl for<'a> FnOnce(&'a dyn Volumes, &'a str) -> VolumeAnswer<'a, T>,
    ) -> Result<T, Fault> {
        let limit = self.limit(None);
        let volumes = std::sync::Arc::clone(&self.services.volumes);
        match timeout(limit, ask(&*volumes, name)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                let message = format!("{doing} {name}: the volume did not answer within {} ms", ms(limit));
                Err(fault(FaultKind::Timeout, "timeout", message))
            }
        }
    }
}

impl Host for CallState {
    async fn status(&mut self, name: String) -> wasmtime::Result<Result<Standing, Fault>> {
        Ok(self.ask_volume("volume.status", "status", &name, |volumes, name| volumes.status(name)).await.map(standing))
    }

    async fn promote(&mut self, name: String) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.ask_volume("volume.promote", "promote", &name, |volumes, name| volumes.promote(name)).await)
    }

    async fn demote(&mut self, name: String) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.ask_volume("volume.demote", "demote", &name, |volumes, name| volumes.demote(name)).await)
    }

    async fn attach(&mut self, name: String) -> wasmtime::Result<Result<String, Fault>> {
        let device = self.ask_volume("volume.attach", "attach", &name, |volumes, name| volumes.attach(name)).await;
        Ok(device.map(|device| path(&device)))
    }

    async fn detach(&mut self, name: String) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.ask_volume("volume.detach", "detach", &name, |volumes, name| volumes.detach(name)).await)
    }
}

fn standing(status: VolumeStatus) -> Standing {
    Standing {
        role: match status.role {
            VolumeRole::Source => Role::Source,
            VolumeRole::Target => Role::Target,
        },
        copy: match status.copy {
            VolumeCopy::UpToDate => CopyState::UpToDate,
            VolumeCopy::LastKnownGood => CopyState::LastKnownGood,
            VolumeCopy::Outdated => CopyState::Outdated,
            VolumeCopy::Inconsistent => CopyState::Inconsistent,
            VolumeCopy::Failed => CopyState::Failed,
        },
        mirror: match status.mirror {
            VolumeMirror::Connected => MirrorState::Connected,
            VolumeMirror::Resync => MirrorState::Resync,
            VolumeMirror::Idle => MirrorState::Idle,
            VolumeMirror::Greeting => MirrorState::Greeting,
            VolumeMirror::Broken => MirrorState::Broken,
            VolumeMirror::Paused => MirrorState::Paused,
            VolumeMirror::SplitBrain => MirrorState::SplitBrain,
            VolumeMirror::Refused => MirrorState::Refused,
            VolumeMirror::None => MirrorState::None,
        },
        alone: status.alone,
        attachment: status
            .attachment
            .map(|attachment| Attachment { device: path(&attachment.device), works: attachment.works }),
        size_bytes: status.size_bytes,
        dirty_bytes: status.dirty_bytes,
        resync_percent: status.resync_percent.map(|percent| percent.min(100)),
        summary: status.summary,
        details: status.details,
    }
}

/// Devices have names of letters and digits.
fn path(path: &Path) -> String {
    text::one_line(&path.to_string_lossy(), 500)
}
