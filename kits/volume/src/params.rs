//! What an operator writes for a volume: which one, where it is mounted, and how.

use mainstay_sdk::mount::Source;
use mainstay_sdk::prelude::*;
use serde::Deserialize;

use crate::drbd::Drbd;
use crate::engine::Engine;

/// How long processes may take to end by themselves when they are asked to, in ms.
const END_GRACE_MS: u64 = 10_000;
/// Where Debian, Red Hat and SUSE have drbdadm.
const DRBDADM: &str = "/usr/sbin/drbdadm";
/// An ext4 that finds itself damaged writes no more, so that the check sees it and the mirror does not get the damage.
const EXT4_ERRORS: &str = "errors=remount-ro";

/// A mirrored volume with a file system that is mounted where it is in service.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VolumeParams {
    /// What mirrors the volume (default: mainstay).
    #[serde(default)]
    pub backend: Backend,
    /// The name of the volume (default: the tag).
    pub volume: Option<String>,
    /// Where the file system is mounted: an absolute path, granted. The folder has to be there on both nodes.
    pub mount_point: String,
    /// What sort of file system it is (default: ext4).
    #[serde(default)]
    pub file_system: FileSystem,
    /// Mount options, each by itself; which ones may be used is listed in wit/README.md (default: none).
    #[serde(default)]
    pub options: Vec<String>,
    /// Make the file system when the volume is empty; one that holds anything is never touched (default: false).
    #[serde(default)]
    pub make_file_system: bool,
    /// End the processes that keep the file system busy when it has to be unmounted (default: false, and say who they are).
    #[serde(default)]
    pub end_users: bool,
    /// How long they may take to end by themselves (default: 10s).
    pub end_grace: Option<Span>,
    /// DRBD: the resource (default: the volume's name).
    pub drbd_resource: Option<String>,
    /// DRBD: the block device, such as /dev/drbd0, as the grant of the mount point names it.
    pub device: Option<String>,
    /// DRBD: the program that controls it, granted (default: /usr/sbin/drbdadm).
    pub drbdadm: Option<String>,
}

/// What mirrors a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// the host itself
    #[default]
    Mainstay,
    /// DRBD, by its own tools
    Drbd,
}

/// A sort of file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// checked and repaired before it is mounted
    #[default]
    Ext4,
    /// repairs itself when it is mounted
    Xfs,
}

impl FileSystem {
    /// As the system names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// Params that make sense.
pub(crate) struct Plan {
    pub(crate) engine: Engine,
    /// What is mounted.
    pub(crate) source: Source,
    pub(crate) point: String,
    pub(crate) file_system: FileSystem,
    pub(crate) options: Vec<String>,
    pub(crate) make_file_system: bool,
    pub(crate) end_users: bool,
    pub(crate) end_grace: std::time::Duration,
}

impl Plan {
    pub(crate) fn new(ctx: &Context<VolumeParams>) -> Result<Self, Error> {
        let params = &ctx.params;
        if !params.mount_point.starts_with('/') {
            let message = format!("mount-point = {:?} is no absolute path", params.mount_point);
            return Err(Error::invalid_params("mount-point", message));
        }
        if params.options.iter().any(|option| option == "ro") {
            let message = "options: \"ro\" makes no sense for a volume that is in service where it can be written";
            return Err(Error::invalid_params("options", message));
        }
        let name = params.volume.clone().unwrap_or_else(|| ctx.tag.clone());
        let (engine, source) = match params.backend {
            Backend::Mainstay => {
                if let Some(key) = params.of_drbd() {
                    let message = format!("{key} is for DRBD only: write backend = \"drbd\", or leave it out");
                    return Err(Error::invalid_params("backend", message));
                }
                (Engine::Mainstay { name: name.clone() }, Source::Volume(name))
            }
            Backend::Drbd => {
                let Some(device) = params.device.clone() else {
                    let message = "backend = \"drbd\" needs the block device: device = \"/dev/drbd0\"";
                    return Err(Error::invalid_params("device", message));
                };
                let drbd = Drbd {
                    program: params.drbdadm.clone().unwrap_or_else(|| DRBDADM.to_owned()),
                    resource: params.drbd_resource.clone().unwrap_or(name),
                };
                // It becomes an argument of a program.
                if drbd.resource.is_empty() || drbd.resource.starts_with('-') {
                    let message = format!("drbd-resource = {:?} is no name of a resource", drbd.resource);
                    return Err(Error::invalid_params("drbd-resource", message));
                }
                (Engine::Drbd(drbd), Source::Device(device))
            }
        };
        let mut options = params.options.clone();
        if params.file_system == FileSystem::Ext4 && !options.iter().any(|option| option.starts_with("errors=")) {
            options.push(EXT4_ERRORS.to_owned());
        }
        Ok(Self {
            engine,
            source,
            point: params.mount_point.clone(),
            file_system: params.file_system,
            options,
            make_file_system: params.make_file_system,
            end_users: params.end_users,
            end_grace: params.end_grace.map_or(std::time::Duration::from_millis(END_GRACE_MS), Span::duration),
        })
    }
}

impl VolumeParams {
    /// The first param that only DRBD has.
    fn of_drbd(&self) -> Option<&'static str> {
        [("drbd-resource", &self.drbd_resource), ("device", &self.device), ("drbdadm", &self.drbdadm)]
            .into_iter()
            .find_map(|(key, value)| value.is_some().then_some(key))
    }
}
