//! The node itself: its disk, its certificates, its kits, what its resources may reach on it, what fences.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use mainstay_core::health::{Finding, what_and_what_to_do};
use mainstay_core::names::VolumeName;
use mainstay_core::node::Weight;
use mainstay_core::spec::SelfFence;
use mainstay_supervisor::check_program;

use super::{Ground, Scope};
use crate::certificates::store::WARN;
use crate::certificates::{date, expires_at};
use crate::kits::Fit;
use crate::room::{ROOM_BYTES_LOW, ROOM_BYTES_MIN, too_little};

impl Ground {
    pub(super) fn disk(&self) -> Vec<Finding> {
        let (weight, code, what) = match too_little(&self.state, ROOM_BYTES_MIN) {
            Some(what) => (Weight::Blocking, "no-room", what),
            None => match too_little(&self.state, ROOM_BYTES_LOW) {
                Some(what) => (Weight::Warning, "little-room", what),
                None => return Vec::new(),
            },
        };
        let advice = "Make room there: without it nothing is brought in service on this node";
        vec![self.finding(weight, code, what, advice)]
    }

    pub(super) fn certificates(&self) -> Vec<Finding> {
        let Some(store) = &self.certificates else { return Vec::new() };
        let (weight, found) = match store.load() {
            Ok(loaded) => (Weight::Warning, loaded.warnings(SystemTime::now())),
            Err(error) => (Weight::Blocking, vec![error.to_string()]),
        };
        let finding = |text: &String| {
            let (what, advice) = what_and_what_to_do(text);
            self.finding(weight, "certificate", what, advice)
        };
        found.iter().map(finding).chain(self.arbiter_certificate()).collect()
    }

    /// That by which the arbiter knows this node. What it shows itself is seen when it is connected to.
    fn arbiter_certificate(&self) -> Option<Finding> {
        let arbiter = self.spec.arbiter.as_ref().filter(|_| self.is_arbitrated())?;
        let file = Path::new(arbiter.certificates.as_ref()?).join("client.pem");
        let (weight, what) = match expires_at(&file) {
            Err(why) => (Weight::Blocking, why),
            Ok(at) => match at.duration_since(SystemTime::now()) {
                Err(_) => (Weight::Blocking, format!("{} has expired on {}", file.display(), date(at))),
                Ok(left) if left <= WARN => (Weight::Warning, format!("{} expires on {}", file.display(), date(at))),
                Ok(_) => return None,
            },
        };
        let advice = "Put a new one in its place, with its key: without it the arbiter knows nothing of this node";
        Some(self.finding(weight, "certificate", what, advice))
    }

    /// The kit directory, and what in it is no kit.
    pub(super) fn kit_files(&self, held_back: &[String]) -> Vec<Finding> {
        let status = self.host.of_kits();
        let mut found = Vec::new();
        for refused in status.refused {
            let serving = refused.serving.map_or(String::new(), |kit| format!(" ({kit} goes on serving)"));
            let summary = format!("a file in the kit directory is not loaded: {}{serving}", refused.error);
            let advice =
                format!("Replace {} or take it away; mainstay kit inspect says all that is wrong", refused.file);
            found.push(self.finding(Weight::Warning, "kit-refused", summary, advice));
        }
        for trouble in status.troubles {
            found.push(self.finding(Weight::Warning, "kit-directory", trouble, "Mend the kit directory"));
        }
        for what in held_back {
            let advice = "Mend params and grants in the config, or put the old file back";
            found.push(self.finding(Weight::Warning, "kit-held-back", what.as_str(), advice));
        }
        found
    }

    /// Kits, params and grants of this node's resources: whether programs, users and secrets are there.
    pub(super) async fn resources(self: Arc<Self>, scope: &Scope, fits: Vec<Fit>) -> Option<Vec<Finding>> {
        let looked_at: Vec<_> = self.hierarchies(scope).map(|(number, name, _)| (number, name.clone())).collect();
        self.on_thread(move |it| {
            let mut found = Vec::new();
            for fit in &fits {
                let Some((_, name)) = looked_at.iter().find(|(number, _)| *number == fit.hierarchy.0) else { continue };
                for (weight, what, advice) in fit.problems() {
                    found.push(it.finding(weight, "unusable", what, advice).of(name, &fit.tag));
                }
            }
            found
        })
        .await
    }

    /// The programs that fence peers, and this node.
    pub(super) fn fences(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let peers = self.spec.nodes.iter().filter(|(name, _)| **name != self.me);
        for (peer, fence) in peers.filter_map(|(name, node)| Some((name, node.fence.as_ref()?))) {
            if let Some(why) = fence.command.first().and_then(|program| check_program(Path::new(program)).err()) {
                let summary = format!("{peer} cannot be fenced from here: {why}");
                let advice = format!(
                    "Mend it, or command in [node.{peer}.fence]: a silent {peer} is not taken over from by itself"
                );
                found.push(self.finding(Weight::Warning, "fence", summary, advice));
            }
        }
        let fence = self.spec.self_fence.as_ref().filter(|_| self.is_arbitrated());
        let why = match fence.map(|fence| &fence.by) {
            Some(SelfFence::Command(command)) => command
                .first()
                .and_then(|program| check_program(Path::new(program)).err())
                .map(|error| error.to_string()),
            Some(SelfFence::Watchdog(device)) if !Path::new(device).exists() => Some(format!("there is no {device}")),
            Some(SelfFence::Watchdog(_) | SelfFence::Reboot) | None => None,
        };
        if let Some(why) = why {
            let summary = format!("this node could not be fenced in time: {why}");
            let advice = "Mend it, or by in [self-fence]: nothing is brought in service here without";
            found.push(self.finding(Weight::Blocking, "self-fence", summary, advice));
        }
        found
    }

    /// Volumes that this node cannot have.
    pub(super) fn mirrors(&self, scope: &Scope) -> Vec<Finding> {
        let mut found = Vec::new();
        for (_, name, spec) in self.hierarchies(scope) {
            if let Some(why) = no_mirror(std::env::consts::OS, spec.volumes.keys()) {
                let advice = "Have the site's own replication carry the data, moved by a resource of the genapp kit";
                found.push(self.finding(Weight::Blocking, "no-mirror", why, advice).in_hierarchy(name));
            }
        }
        found
    }
}

/// A mirrored volume needs a kernel's block devices as Linux has them.
fn no_mirror<'a>(system: &str, volumes: impl Iterator<Item = &'a VolumeName>) -> Option<String> {
    let volumes: Vec<&str> = volumes.map(VolumeName::as_str).collect();
    let cannot = system == "windows" && !volumes.is_empty();
    cannot.then(|| format!("there are no mirrored volumes on Windows, and it has {}", volumes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_node_has_no_mirrored_volume() {
        let volumes: [VolumeName; 1] = ["store".into()];
        assert_eq!(no_mirror("linux", volumes.iter()), None);
        assert_eq!(no_mirror("windows", [].iter()), None);
        assert!(no_mirror("windows", volumes.iter()).is_some_and(|why| why.contains("store")));
    }
}
