//! What a volume's process is told when it is started, and where its files are.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use mainstay_core::names::{HierarchyName, NodeName, VolumeName};
use mainstay_core::spec::{FailoverMode, MirrorMode, Spec, VolumeSpec};
use mainstay_volume_core::types::{Side, VolumeId};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::certificates::Store;

/// A volume of this node.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: VolumeName,
    pub(super) hierarchy: HierarchyName,
    pub(super) me: NodeName,
    pub(super) peer: NodeName,
    pub(super) side: Side,
    pub(super) id: VolumeId,
    pub(super) dir: PathBuf,
    pub(super) backing: PathBuf,
    pub(super) log: PathBuf,
    /// Nothing is held back for longer.
    pub(super) stall: Duration,
    /// The process's config, as text.
    pub(super) config: String,
}

impl Place {
    pub(super) fn new(
        state: &Path,
        spec: &Spec,
        hierarchy: &HierarchyName,
        name: &VolumeName,
        volume: &VolumeSpec,
        me: &NodeName,
        certificates: Option<&Store>,
    ) -> anyhow::Result<Self> {
        let dir = state.join("volumes").join(name.as_str());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        let wanted = || format!("the config of the volume {name} is not complete");
        let hierarchy_spec = spec.hierarchies.get(hierarchy).with_context(wanted)?;
        let peer = hierarchy_spec.nodes.iter().find(|node| *node != me).with_context(wanted)?.clone();
        // A claim's order is counter, then claimant: the sides are in the order of the names.
        let (side, listens) = if *me < peer { (Side::A, &peer) } else { (Side::B, me) };
        let backing = PathBuf::from(volume.backing.get(me).with_context(wanted)?);
        let log = volume.log.get(me).map_or_else(|| dir.join("log"), PathBuf::from);
        let address: SocketAddr = volume.address.get(listens).with_context(wanted)?.parse().with_context(wanted)?;
        let files = certificates.with_context(wanted)?.dir();
        let id = volume_id(&spec.cluster, name);
        let mode = match volume.mode {
            MirrorMode::Sync => json!("sync"),
            MirrorMode::Async { lag_kib_max, lag_max } => {
                json!({ "async": { "lag-bytes-max": u64::from(lag_kib_max) * 1024, "lag-ms-max": lag_max.0 } })
            }
        };
        let config = json!({
            "name": name, "volume": id.to_string(), "side": side, "backing": backing, "log": log,
            "nbd": dir.join("nbd"), "control": dir.join("control"),
            "link": {
                (if side == Side::A { "connect" } else { "listen" }): address,
                "tls": {
                    "cluster": spec.cluster, "peer": peer, "authority": files.join("ca.pem"),
                    "certificate": files.join("node.pem"), "key": files.join("node.key"),
                },
            },
            "mode": mode,
            "arbiter": hierarchy_spec.failover == FailoverMode::Arbiter,
            "stall-ms": volume.stall_time.0,
            "peer-timeout-ms": (volume.stall_time.0 / 4).min(5000),
            "alone-after-ms": (volume.stall_time.0 / 10).min(2000),
            "resync-bytes-per-s": volume.resync_kib_per_s.map(|kib| u64::from(kib) * 1024),
        });
        Ok(Self {
            name: name.clone(),
            hierarchy: hierarchy.clone(),
            me: me.clone(),
            peer,
            side,
            id,
            backing,
            log,
            stall: Duration::from_millis(volume.stall_time.0),
            config: format!("{config:#}\n"),
            dir,
        })
    }

    pub(super) fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    pub(super) fn nbd(&self) -> PathBuf {
        self.dir.join("nbd")
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Whose side that is.
    pub(super) fn node(&self, side: Side) -> &NodeName {
        if side == self.side { &self.me } else { &self.peer }
    }

    /// Which side that node has, if it has one.
    pub(super) fn side_of(&self, node: &NodeName) -> Option<Side> {
        if *node == self.me { Some(self.side) } else { (*node == self.peer).then(|| self.side.other()) }
    }
}

/// Both nodes come to the same number without having met; a copy that was made anew is told apart by its generation.
fn volume_id(cluster: &str, name: &VolumeName) -> VolumeId {
    let digest = Sha256::digest(format!("mainstay volume\0{cluster}\0{name}"));
    let mut number = [0; 16];
    number.copy_from_slice(&digest[..16]);
    VolumeId(u128::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_the_same_number_on_both_nodes_and_no_other_has_it() {
        let id = |cluster, name| volume_id(cluster, &VolumeName::new(name));
        assert_eq!(id("mail", "store"), id("mail", "store"));
        assert_ne!(id("mail", "store"), id("mail", "queue"));
        assert_ne!(id("mail", "store"), id("lab", "store"));
    }
}
