//! Applications that outlive their command: sees to it that each has a supervisor that keeps its output short, and
//! that its folder goes when it is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;

use super::Inner;
use super::collect;
use super::spawn;
use crate::folder::Folder;
use crate::orphans::Orphans;

/// How often to look whether a supervisor that is not our child still lives, in ms. An application prints little in
/// that time, or has filled the disk before anybody could look.
const LOOK_MS: u64 = 60_000;
/// Wait before another supervisor takes over, in ms: whatever killed the first may be about to kill more.
const TAKE_OVER_MS: u64 = 1_000;

/// Returns when nothing is left of the command, whose outcome was taken. `child`: its supervisor, if it is ours.
pub(super) async fn care(inner: Arc<Inner>, folder: Folder, mut child: Option<Child>) {
    loop {
        match child.take() {
            Some(mut child) => {
                if let Err(error) = child.wait().await {
                    tracing::warn!(command = folder.id(), "its supervisor could not be waited for: {error}");
                }
            }
            None => {
                while collect::is_supervised(&folder).unwrap_or(false) {
                    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                }
            }
        }
        let looked_at = folder.clone();
        let gone = tokio::task::spawn_blocking(move || removed_if_gone(&looked_at)).await;
        if gone.unwrap_or(true) {
            return;
        }
        tracing::warn!(
            command = folder.id(),
            "the supervisor of a running application was killed; the application runs on, and another takes over"
        );
        tokio::time::sleep(Duration::from_millis(TAKE_OVER_MS)).await;
        let (taking, inner) = (folder.clone(), inner.clone());
        match tokio::task::spawn_blocking(move || spawn::supervise(&inner.exe, &taking)).await {
            Ok(Ok(spawned)) => child = Some(spawned.child),
            Ok(Err(error)) => {
                tracing::warn!(command = folder.id(), "{error}");
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
            // The runtime is being shut down.
            Err(_) => return,
        }
    }
}

/// Removes the folder if nothing of the command runs.
fn removed_if_gone(folder: &Folder) -> bool {
    match Orphans::of(folder).and_then(|orphans| orphans.members()) {
        Ok(members) if !members.is_empty() => return false,
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(command = folder.id(), "what runs of it cannot be found out: {error}"),
    }
    collect::remove(folder);
    true
}
