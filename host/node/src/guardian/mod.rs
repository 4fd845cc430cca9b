//! The guardian: a small process that outlives the daemon and fences this node when nobody tells it not to (O13).
//!
//! The daemon says until when all is well, on the clock that goes on while the machine is suspended
//! (CLOCK_BOOTTIME, clock_gettime(2)), or that there is nothing to guard. When the time comes, the guardian fences,
//! whatever has become of the daemon: that is its purpose. It decides nothing else, and knows of no permit.
//!
//! ```text
//!          until T             T is past
//!   idle <---------> armed ---------------> fencing ---> idle, if the command has done its work
//!          disarm                              ^   |
//!                                              +---+  otherwise it is tried again, every second
//! ```
//!
//! One for each state directory, by the lock on `guardian.lock`. A daemon that starts finds the one of the daemon before it
//! at `guardian.sock`, and goes on with it; it ends by itself when it is idle and no daemon is there. What the two say to
//! each other is in [`Say`] and [`Said`], one JSON object a line, an answer to each. Later versions understand it too: a
//! daemon may meet the guardian of an older one.

mod client;
mod command;
mod plan;
mod process;
mod watchdog;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_core::spec::SelfFence;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use client::{Guardian, GuardianExe};
pub use process::guard;

/// The longest line of the protocol, in bytes: a command with the longest arguments that the kernel takes.
const LINE_BYTES_MAX: usize = 2 << 20;

/// What a daemon says to the guardian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
enum Say {
    /// The first words of a daemon, and how this node is fenced. What was ordered before stays.
    Hello {
        by: By,
        /// How long fencing may take.
        takes_ms: u64,
        node: String,
        cluster: String,
    },
    /// All is well until then, in ns since the machine was started. Takes the place of what was said before.
    Until { boot_ns: u64 },
    /// There is nothing to guard.
    Disarm,
    /// Are you there?
    Ping,
    /// End, if there is nothing to guard: a guardian of another version takes over.
    Quit,
}

/// [`SelfFence`] as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    Reboot,
    Watchdog(PathBuf),
    Command(Vec<String>),
}

impl From<&SelfFence> for By {
    fn from(by: &SelfFence) -> Self {
        match by {
            SelfFence::Reboot => Self::Reboot,
            SelfFence::Watchdog(device) => Self::Watchdog(device.into()),
            SelfFence::Command(command) => Self::Command(command.clone()),
        }
    }
}

/// What the guardian answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// Why it cannot do that; none: it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cannot: Option<String>,
    /// Whether it will fence, or does.
    armed: bool,
    /// Its version.
    software: String,
}

fn socket(state: &Path) -> PathBuf {
    state.join("guardian.sock")
}

/// The time since the machine was started, as in [`crate::clock`].
fn since_boot() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

fn nanos(time: Duration) -> u64 {
    // 64 bits of ns are 584 years.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
