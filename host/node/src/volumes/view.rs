//! What is shown of a volume of this node.

use std::time::{Duration, UNIX_EPOCH};

use mainstay_core::names::{HierarchyName, NodeName, VolumeName};
use mainstay_volume::view::StatusView;
use serde::{Deserialize, Serialize};

/// Everything that is known of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VolumeView {
    /// Its name.
    pub name: VolumeName,
    /// What moves with it.
    pub hierarchy: HierarchyName,
    /// This node.
    pub node: NodeName,
    /// Who has the other copy.
    pub peer: NodeName,
    /// The device or file with this node's copy.
    pub backing: String,
    /// Whether its process serves.
    pub process: ProcessView,
    /// What the process says; none: it does not.
    pub status: Option<StatusView>,
    /// The block device as which it is attached.
    pub attached: Option<AttachedView>,
    /// How far a resync is, as it was seen for some seconds.
    pub progress: Option<ProgressView>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// How it is with a volume's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ProcessView {
    /// It is being looked for, or started.
    #[default]
    Starting,
    /// There is no copy yet.
    NotCreated,
    /// It serves.
    Serves {
        /// Its number.
        pid: i32,
    },
    /// It does not; it is started again and again.
    Fails {
        /// Why.
        why: String,
    },
}

/// A volume as a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttachedView {
    /// Its path.
    pub device: String,
    /// False: what stood behind it is gone.
    pub works: bool,
    /// What makes a block device of it.
    pub by: AttachedBy,
}

/// What makes a block device of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachedBy {
    /// The kernel's own NBD client.
    KernelNbd,
    /// nbdfuse and a loop device.
    Nbdfuse,
}

impl std::fmt::Display for AttachedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KernelNbd => "the kernel's nbd",
            Self::Nbdfuse => "nbdfuse and a loop device",
        })
    }
}

/// How far a resync is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProgressView {
    /// 0 to 100.
    pub percent: u32,
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Of so many.
    pub of_bytes: u64,
    /// How many a second, of late; none: it has just begun.
    pub bytes_per_s: Option<u64>,
    /// How much longer at this rate, in s.
    pub left_s: Option<u64>,
}

/// A time for people, of ms since 1970.
#[must_use]
pub fn time(unix_ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}
