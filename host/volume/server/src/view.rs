//! The status of a volume as it is shown: what the core says of it, and what the server knows besides.

use mainstay_volume_core::status::{CopyState, LinkState, Progress, Promotion, Role, Status};
use mainstay_volume_core::types::{Epoch, Generation, REGION_BYTES};
use serde::{Deserialize, Serialize};

/// Everything at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusView {
    /// Its name.
    pub name: String,
    /// `source` or `target`.
    pub role: RoleView,
    /// What the copy is worth (V4).
    pub copy: CopyView,
    /// Since when it is last known good, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_since_ms: Option<u64>,
    /// How it stands with the peer.
    pub link: LinkView,
    /// What it takes to promote it, and what may be lost.
    pub promotion: PromotionView,
    /// Bytes of the volume.
    pub size_bytes: u64,
    /// The newest claim known.
    pub epoch: Epoch,
    /// Of the data.
    pub generation: Generation,
    /// Goes on without the peer (V3).
    pub alone: bool,
    /// Why it serves nothing though it is the source.
    pub waits: Option<String>,
    /// What a resync or a verify that runs could not read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// Regions that the peer's copy may have otherwise.
    pub dirty_regions: u32,
    /// Of those, the ones that are only hot.
    pub hot_regions: u32,
    /// A verify that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyView>,
    /// Requests under way.
    pub requests: usize,
    /// Async mode: bytes sent and not yet applied.
    pub lag_bytes: u64,
    /// Resync data sent since this process began, in bytes.
    pub resync_bytes: u64,
    /// What the server knows besides.
    pub server: ServerView,
}

/// What the server knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerView {
    /// Who carries out disk operations.
    pub disk: String,
    /// Whether the page cache is passed by.
    pub direct: bool,
    /// What requests are multiples of, in bytes.
    pub block_bytes: u32,
    /// NBD connections.
    pub clients: usize,
    /// Memory for data on its way, in bytes.
    pub buffers_bytes: usize,
    /// How the link is secured.
    pub link: String,
    /// What is wrong with the backing, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_failure: Option<String>,
}

/// See [`Role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the core's has it")]
pub enum RoleView {
    Source,
    Target,
}

/// See [`CopyState`], whose words these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the core's has it")]
pub enum CopyView {
    #[serde(rename = "up to date")]
    UpToDate,
    #[serde(rename = "last known good")]
    LastKnownGood,
    #[serde(rename = "outdated")]
    Outdated,
    #[serde(rename = "inconsistent")]
    Inconsistent,
    #[serde(rename = "failed")]
    Failed,
}

/// As it is serialized.
macro_rules! shows_as_serialized {
    ($($name:ident),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}

shows_as_serialized!(RoleView, CopyView);

impl StatusView {
    /// What the peer's copy may have otherwise, but for what is only hot: in bytes.
    #[must_use]
    pub fn differing_bytes(&self) -> u64 {
        u64::from(self.dirty_regions.saturating_sub(self.hot_regions)) * REGION_BYTES
    }
}

/// See [`LinkState`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the core's has it")]
pub enum LinkView {
    Broken,
    Greeting,
    Idle,
    Connected,
    #[serde(rename_all = "kebab-case")]
    Resync {
        done_regions: u32,
        of_regions: u32,
        percent: u32,
    },
    Paused,
    SplitBrain(String),
    Refused(String),
}

/// See [`Promotion`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the core's has it")]
pub enum PromotionView {
    Free,
    #[serde(rename_all = "kebab-case")]
    Confirm {
        since_ms: u64,
    },
    Force(String),
    Never(String),
}

/// A verify that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VerifyView {
    /// Regions compared.
    pub done_regions: u32,
    /// Of so many.
    pub of_regions: u32,
    /// Those that differ.
    pub different_regions: u32,
}

/// Puts it together.
#[must_use]
pub fn status(name: &str, status: &Status, server: ServerView) -> StatusView {
    StatusView {
        name: name.to_owned(),
        role: match status.role {
            Role::Source => RoleView::Source,
            Role::Target => RoleView::Target,
        },
        copy: match status.copy {
            CopyState::UpToDate => CopyView::UpToDate,
            CopyState::LastKnownGood { .. } => CopyView::LastKnownGood,
            CopyState::Outdated => CopyView::Outdated,
            CopyState::Inconsistent => CopyView::Inconsistent,
            CopyState::Failed => CopyView::Failed,
        },
        copy_since_ms: match status.copy {
            CopyState::LastKnownGood { since } => Some(since.0),
            CopyState::UpToDate | CopyState::Outdated | CopyState::Inconsistent | CopyState::Failed => None,
        },
        link: match &status.link {
            LinkState::Broken => LinkView::Broken,
            LinkState::Greeting => LinkView::Greeting,
            LinkState::Idle => LinkView::Idle,
            LinkState::Connected => LinkView::Connected,
            LinkState::Resync(progress) => {
                let Progress { done, of } = *progress;
                LinkView::Resync { done_regions: done, of_regions: of, percent: progress.percent() }
            }
            LinkState::Paused => LinkView::Paused,
            LinkState::SplitBrain(split) => LinkView::SplitBrain(split.to_string()),
            LinkState::Refused(why) => LinkView::Refused(why.clone()),
        },
        promotion: match &status.promotion {
            Promotion::Free => PromotionView::Free,
            Promotion::Confirm { since } => PromotionView::Confirm { since_ms: since.0 },
            Promotion::Force(lost) => PromotionView::Force(lost.clone()),
            Promotion::Never(why) => PromotionView::Never(why.clone()),
        },
        size_bytes: status.size,
        epoch: status.epoch,
        generation: status.generation,
        alone: status.alone,
        waits: status.waits.map(ToOwned::to_owned),
        unread: status.unread.map(|unread| unread.to_string()),
        dirty_regions: status.dirty_regions,
        hot_regions: status.hot_regions,
        verify: status.verify.map(|(Progress { done, of }, different_regions)| VerifyView {
            done_regions: done,
            of_regions: of,
            different_regions,
        }),
        requests: status.requests,
        lag_bytes: status.lag_bytes,
        resync_bytes: status.resync_bytes,
        server,
    }
}
