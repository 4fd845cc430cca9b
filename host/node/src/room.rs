//! Whether there is room where the daemon keeps what it has to know.
//!
//! The journal has its room beforehand; what a kit keeps, what programs say and compiled kits have not. A standby without
//! room is not ready: what is brought in service there would fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::happening::Happening;

/// Less than this is no room: a few operations' output and notes, in bytes.
pub(crate) const ROOM_BYTES_MIN: u64 = 4 << 20;
/// Less than this soon is no room: a log that grows, a few compiled kits, in bytes. Told when the node is examined.
pub(crate) const ROOM_BYTES_LOW: u64 = 64 << 20;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells when it is too little, and when it is enough again; until the driver ends.
pub(crate) async fn watch(dir: PathBuf, happenings: mpsc::Sender<Happening>) {
    let mut told = None;
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let dir = dir.clone();
        // A disk that hangs blocks this thread alone.
        let Ok(found) = tokio::task::spawn_blocking(move || too_little(&dir, ROOM_BYTES_MIN)).await else { return };
        if told != found {
            if let Some(what) = &found {
                tracing::warn!("{what}");
            }
            told.clone_from(&found);
            if happenings.send(Happening::Room(found)).await.is_err() {
                return;
            }
        }
    }
}

/// What is wrong with the room there, if anything: less than so many bytes is too little.
pub(crate) fn too_little(dir: &Path, bytes_min: u64) -> Option<String> {
    let at = dir.display();
    let told = match statvfs(dir) {
        Ok(told) => told,
        Err(error) => {
            return Some(format!("whether there is room in the state directory {at} cannot be told: {error}"));
        }
    };
    // What only root may use is nothing to count on, whoever this is.
    let free = told.blocks_available().saturating_mul(told.fragment_size());
    if free < bytes_min {
        let how = if bytes_min > ROOM_BYTES_MIN { "little" } else { "no" };
        return Some(format!(
            "the disk of the state directory {at} has {how} room: less than {} MiB are free",
            bytes_min >> 20
        ));
    }
    // File systems that make files as they are needed say that there are none at all.
    (told.files() > 0 && told.files_available() == 0)
        .then(|| format!("the disk of the state directory {at} has no room: no more files can be made there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_gone_is_told() {
        let what = too_little(Path::new("/nonexistent/state"), ROOM_BYTES_MIN).expect("there is no such folder");
        assert!(what.contains("cannot be told") && what.contains("/nonexistent/state"), "{what}");
    }

    #[test]
    fn a_disk_with_room_is_nothing_to_tell() {
        assert_eq!(too_little(&std::env::temp_dir(), ROOM_BYTES_MIN), None);
        let what = too_little(&std::env::temp_dir(), 1 << 60).expect("no disk is that large");
        assert!(what.contains("has little room: less than 1099511627776 MiB are free"), "{what}");
    }
}
