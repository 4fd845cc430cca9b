//! The volume kit: a mirrored volume with a file system that is mounted where it is in service.
//!
//! In service means: this node's copy is the source, it is a block device, and what it holds is mounted at the mount point.
//! The kit brings that about step by step and takes it back in the other order; each step finds out what is there. Who may
//! write, and on what a promotion rests, it never decides; what it did not mount it never unmounts, and nothing that lies on
//! a volume is ever overwritten.

mod drbd;
mod engine;
mod params;

pub use params::{Backend, FileSystem, VolumeParams};

use std::time::Duration;

use engine::{Attached, View, worth};
use mainstay_sdk::mount::{Mounted, Outcome, Place, User};
use mainstay_sdk::prelude::*;
use mainstay_sdk::volume::CopyState;
use params::Plan;

/// How long a marker may take to be written and read: a disk that takes longer serves nobody.
const MARKER: Duration = Duration::from_secs(10);
/// How many processes a summary names.
const NAMED_COUNT_MAX: usize = 5;

/// The kit.
#[derive(Debug)]
pub struct Volume;

impl Kit for Volume {
    type Params = VolumeParams;

    fn restore(ctx: &Context<VolumeParams>) -> Result<Done, Error> {
        let plan = Plan::new(ctx)?;
        bring_up(&plan).map(|up| up.done(&plan))
    }

    fn remove(ctx: &Context<VolumeParams>) -> Result<Done, Error> {
        let plan = Plan::new(ctx)?;
        let mut done = Vec::new();
        let ended = unmount(&plan, &mut done)?;
        // What cannot be asked is not known; then the steps are taken all the same: each finds out what is there.
        let view = plan.engine.view();
        plan.engine.detach().map_err(|error| after(&done, error).here())?;
        plan.engine.demote().map_err(|error| after(&done, error).here())?;
        match view {
            Ok(view) => {
                done.extend((view.attached != Attached::No).then_some("detached"));
                done.extend(view.is_source.then_some("demoted"));
            }
            Err(error) if engine::is_absent(&error) => {}
            Err(_) => done.push("neither attached nor the source"),
        }
        let said = match done.as_slice() {
            [] => return Ok(Done::unchanged(format!("{} was not in service here", plan.engine))),
            steps => Done::changed(format!("{} is {}", plan.engine, steps.join(", "))),
        };
        Ok(if ended.is_empty() { said } else { said.detail("ended", listed(&ended)) })
    }

    fn quick_check(ctx: &Context<VolumeParams>) -> Result<Report, Error> {
        let plan = Plan::new(ctx)?;
        let place = mount::look(&plan.point)?;
        let view = plan.engine.view()?;
        let report = judge(&plan, &place, &view);
        let report = report.detail("copy", worth(view.copy)).detail("mirror", &view.mirror);
        Ok(match place.mounted {
            Some(Mounted { device, room: Some(room), .. }) => {
                report.detail("device", device).detail("free-bytes", room.free_bytes)
            }
            Some(Mounted { device, room: None, .. }) => report.detail("device", device),
            None => report,
        })
    }

    fn recover(ctx: &Context<VolumeParams>, _: &Failure) -> Result<RecoveryResult, Error> {
        let plan = Plan::new(ctx)?;
        let place = mount::look(&plan.point)?;
        let view = plan.engine.view()?;
        if matches!(judge(&plan, &place, &view).health, Health::Healthy | Health::Degraded) {
            // A look from outside does not see a disk that answers nothing: the marker does.
            match mount::write_marker(&plan.source, &plan.point, MARKER) {
                Ok(took) => {
                    let said = format!("{} is mounted at {} and can be written", plan.engine, plan.point);
                    return Ok(RecoveryResult::recovered(said).detail("marker-ms", took.as_millis()));
                }
                Err(fault) => mainstay_sdk::warn!("{fault}; it is mounted again"),
            }
        }
        match mount_again(&plan) {
            Ok(took) => {
                let said = format!("{} was mounted at {} again", plan.engine, plan.point);
                Ok(RecoveryResult::restart_dependents(said).detail("marker-ms", took.as_millis()))
            }
            // It took too long, or somebody does not answer: that says nothing of the next time.
            Err(error) if error.kind == ErrorKind::Timeout => Err(error),
            Err(error) => {
                let result =
                    RecoveryResult::give_up(format!("{} cannot be mounted here again: {}", plan.engine, error.message));
                Ok(RecoveryResult { details: error.details, ..result })
            }
        }
    }
}

impl DeepCheck for Volume {
    fn deep_check(ctx: &Context<VolumeParams>) -> Result<Report, Error> {
        let report = Self::quick_check(ctx)?;
        if !matches!(report.health, Health::Healthy | Health::Degraded) {
            return Ok(report);
        }
        let plan = Plan::new(ctx)?;
        Ok(match mount::write_marker(&plan.source, &plan.point, MARKER) {
            Ok(took) => report.detail("marker-ms", took.as_millis()),
            Err(fault) if fault.kind == FaultKind::Denied => return Err(fault.into()),
            Err(fault) => {
                let message = format!("what is written at {} cannot be read again: {fault}", plan.point);
                Report::failed("marker", message)
            }
        })
    }
}

impl Readiness for Volume {
    fn assess(ctx: &Context<VolumeParams>) -> Result<Vec<Finding>, Error> {
        let plan = Plan::new(ctx)?;
        let mut found = Vec::new();
        let file_system = plan.file_system.name();
        match mount::missing_programs(file_system) {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => found.push(Finding::blocking(
                "missing-programs",
                format!("this node lacks {}", missing.join(", ")),
                format!("Install the packages they come with: util-linux, and {}", package(plan.file_system)),
            )),
            Err(fault) => found.push(blocking(fault.into())?),
        }
        match mount::look(&plan.point) {
            Ok(place) => found.extend(of_place(&plan, &place)),
            Err(fault) => found.push(blocking(fault.into())?),
        }
        match plan.engine.refuse().and_then(|()| plan.engine.view()) {
            Ok(view) => found.extend(of_view(&plan, view)),
            Err(error) => found.push(blocking(error)?),
        }
        Ok(found)
    }
}

/// What bringing it in service came to.
struct Up {
    /// False: it was in service already.
    changed: bool,
    /// What the check of the file system said, if it found something to do.
    repaired: Option<String>,
    made: bool,
}

impl Up {
    fn done(self, plan: &Plan) -> Done {
        if !self.changed {
            return Done::unchanged(format!("{} is mounted at {} already", plan.engine, plan.point));
        }
        let how = match (self.made, &self.repaired) {
            (true, _) => ", with a file system that was made for it",
            (false, Some(_)) => ", after a check had repaired its file system",
            (false, None) => "",
        };
        let done = Done::changed(format!("{} is mounted at {}{how}", plan.engine, plan.point));
        match self.repaired {
            Some(said) => done.detail("check", said),
            None => done,
        }
    }
}

/// What is mounted, if it is what the params say.
fn ours<'a>(plan: &Plan, place: &'a Place) -> Option<&'a Mounted> {
    place.mounted.as_ref().filter(|mounted| mounted.source.as_ref() == Some(&plan.source))
}

fn bring_up(plan: &Plan) -> Result<Up, Error> {
    plan.engine.refuse()?;
    let place = mount::look(&plan.point).map_err(|fault| Error::from(fault).no_effect())?;
    let view = plan.engine.view().map_err(Error::no_effect)?;
    match (ours(plan, &place), &place.mounted) {
        (Some(mounted), _) if view.is_source && view.attached == Attached::Works && !mounted.read_only => {
            return Ok(Up { changed: false, repaired: None, made: false });
        }
        // What is left of an earlier time: its device is dead, or the kernel writes no more.
        (Some(_), _) => drop(unmount(plan, &mut Vec::new())?),
        (None, Some(other)) => return Err(foreign(plan, other)),
        (None, None) if !place.folder => {
            let message = format!("there is no folder {} on this node; make it: mkdir -p {0}", plan.point);
            return Err(Error::failed("no-mount-point", message).no_effect());
        }
        (None, None) => {}
    }
    plan.engine.promote()?;
    prepare_and_mount(plan).map_err(Error::partial)
}

/// From a source to a mounted file system.
fn prepare_and_mount(plan: &Plan) -> Result<Up, Error> {
    let file_system = plan.file_system.name();
    plan.engine.attach()?;
    let doing = |what: &str| format!("{what} of {}", plan.engine);
    let found = mount::probe(&plan.source).map_err(|fault| Error::from(fault).doing(doing("look at the content")))?;
    let mut made = false;
    match found {
        Some(content) if content.file_system && content.kind == file_system => {}
        Some(content) => {
            let what = if content.file_system { format!("the file system {}", content.kind) } else { content.kind };
            let message = format!(
                "{} holds {what} and not {file_system}: nothing is done with it; correct the param file-system, or wipe the volume by hand",
                plan.engine
            );
            return Err(Error::failed("other-content", message).nowhere());
        }
        None if plan.make_file_system => {
            mount::make_file_system(&plan.source, file_system)
                .map_err(|fault| Error::from(fault).doing(doing("make the file system")).nowhere())?;
            made = true;
        }
        None => {
            let message = format!(
                "there is no file system on {}: put one there where it is the source (mkfs.{file_system}), or set make-file-system = true to have that done while the volume is empty",
                plan.engine
            );
            return Err(Error::failed("no-file-system", message).nowhere());
        }
    }
    let checked = mount::check(&plan.source, file_system)
        .map_err(|fault| Error::from(fault).doing(doing("check the file system")))?;
    let repaired = match checked.outcome {
        Outcome::Clean | Outcome::AtMount => None,
        Outcome::Repaired => Some(checked.said),
        Outcome::Damaged => {
            let message = format!(
                "the file system of {} is damaged, and a person has to repair it (fsck.{file_system}): {}",
                plan.engine, checked.said
            );
            return Err(Error::failed("damaged", message).elsewhere());
        }
    };
    let changed = mount::mount(&plan.source, &plan.point, file_system, &plan.options).map_err(|fault| {
        let nowhere = fault.kind == FaultKind::Invalid;
        let error = Error::from(fault).doing(format_args!("mount {} at {}", plan.engine, plan.point));
        if nowhere { error.nowhere() } else { error }
    })?;
    Ok(Up { changed, repaired, made })
}

fn foreign(plan: &Plan, other: &Mounted) -> Error {
    let Mounted { device, file_system, .. } = other;
    let message = format!(
        "something else is mounted at {}: {device} ({file_system}); it is left alone: unmount it by hand",
        plan.point
    );
    Error::conflict("foreign-mount", message).no_effect()
}

/// Unmounts what is ours, ending who uses it if the params say so; those that were ended.
fn unmount(plan: &Plan, done: &mut Vec<&'static str>) -> Result<Vec<User>, Error> {
    let unmounted = match mount::unmount(&plan.source, &plan.point) {
        Err(fault) if fault.code == "busy" && plan.end_users => {
            let ended = mount::end_users(&plan.source, &plan.point, plan.end_grace)
                .map_err(|fault| Error::from(fault).doing("end who uses it").here())?;
            mainstay_sdk::warn!("ended, because they used {}: {}", plan.point, listed(&ended));
            let again = mount::unmount(&plan.source, &plan.point).map_err(|fault| still_mounted(plan, fault))?;
            if again {
                done.push("unmounted");
            }
            return Ok(ended);
        }
        other => other.map_err(|fault| still_mounted(plan, fault))?,
    };
    if unmounted {
        done.push("unmounted");
    }
    Ok(Vec::new())
}

fn still_mounted(plan: &Plan, fault: Fault) -> Error {
    let busy = fault.code == "busy";
    let mut error = Error::from(fault).doing(format_args!("unmount {}", plan.point)).here();
    if busy {
        let to_do = "end them, or set end-users = true to have that done";
        error.message = format!("{}; {to_do}", error.message);
    }
    error
}

/// A step that failed after others were done.
fn after(done: &[&str], error: Error) -> Error {
    if done.is_empty() { error } else { error.partial() }
}

/// What is seen, as one. `copy` and `mirror` are details of it in any case.
fn judge(plan: &Plan, place: &Place, view: &View) -> Report {
    let Some(mounted) = ours(plan, place) else {
        let other = match &place.mounted {
            Some(other) => format!("; mounted there is {} ({})", other.device, other.file_system),
            None => String::new(),
        };
        let point = &plan.point;
        return if view.is_source || view.attached != Attached::No {
            let half = if view.is_source { "is the source here" } else { "is a block device here" };
            Report::failed("half", format!("{} {half} and is not mounted at {point}{other}", plan.engine))
        } else {
            Report::stopped(format!("{} is not in service here: {}{other}", plan.engine, view.summary))
        };
    };
    if !view.is_source {
        let message =
            format!("{} is mounted at {} and is not the source here: {}", plan.engine, plan.point, view.summary);
        return Report::failed("not-source", message);
    }
    if view.attached != Attached::Works {
        let message = format!("the block device of {} is dead: {}", plan.engine, mounted.device);
        return Report::failed("dead", message);
    }
    if mounted.read_only {
        let why = mounted.trouble.as_deref().unwrap_or("it was mounted so, or somebody made it so");
        return Report::failed("read-only", format!("nothing can be written at {}: {why}", plan.point));
    }
    if mounted.room.is_none() {
        let message = format!("the file system at {} did not say in time how much room it has", plan.point);
        return Report::unknown("no-answer", message).detail("timed-out", "true");
    }
    if view.copy != CopyState::UpToDate {
        let message = format!("the copy of {} here is {}: {}", plan.engine, worth(view.copy), view.summary);
        return Report::degraded(format!("copy-{}", worth(view.copy)), message);
    }
    if let Some(trouble) = &view.trouble {
        return Report::degraded(trouble.code, &trouble.summary);
    }
    if let Some(trouble) = &mounted.trouble {
        let message =
            format!("{} is mounted at {}, and {trouble}: check it when it can be unmounted", plan.engine, plan.point);
        return Report::degraded("errors-noted", message);
    }
    Report::healthy(format!("{} is mounted at {}: {}", plan.engine, plan.point, view.summary))
}

/// Takes away what is left of it, brings it up, and sees that it can be written: how long that took.
fn mount_again(plan: &Plan) -> Result<Duration, Error> {
    unmount(plan, &mut Vec::new())?;
    bring_up(plan)?;
    mount::write_marker(&plan.source, &plan.point, MARKER)
        .map_err(|fault| Error::from(fault).doing("see whether it can be written"))
}

fn of_place(plan: &Plan, place: &Place) -> Option<Finding> {
    let point = &plan.point;
    if let Some(other) = place.mounted.as_ref().filter(|_| ours(plan, place).is_none()) {
        let error = foreign(plan, other);
        return Some(Finding::blocking(error.code, error.message, format!("Unmount it: umount {point}")));
    }
    (!place.folder).then(|| {
        let summary = format!("there is no folder {point} on this node");
        Finding::blocking("no-mount-point", summary, format!("Make it: mkdir -p {point}"))
    })
}

/// What the state of the copy and of the mirror means for a failover to this node.
fn of_view(plan: &Plan, view: View) -> Vec<Finding> {
    let View { copy, trouble, summary, .. } = view;
    let code = format!("copy-{}", worth(copy));
    let said = format!("the copy of {} here is {}: {summary}", plan.engine, worth(copy));
    let mut found = Vec::new();
    found.extend(match copy {
        CopyState::UpToDate => None,
        CopyState::LastKnownGood => {
            let advice = "It was whole when contact was lost; bring the mirror back before it is needed";
            Some(Finding::warning(code, said, advice))
        }
        CopyState::Outdated | CopyState::Inconsistent => {
            let advice = "Let it be brought up to date from the other node; until then only force puts it in service";
            Some(Finding::blocking(code, said, advice))
        }
        CopyState::Failed => {
            Some(Finding::blocking(code, said, "Replace its disk, or mend what keeps it from working"))
        }
    });
    found.extend(trouble.map(|trouble| {
        Finding::warning(
            trouble.code,
            trouble.summary,
            "Look at the mirror: what is not on both copies is lost with one",
        )
    }));
    found
}

/// What would make a restore fail here. What only could not be asked in time is no finding.
fn blocking(error: Error) -> Result<Finding, Error> {
    if error.kind == ErrorKind::Timeout {
        return Err(error);
    }
    let advice = "Restore would fail for the same reason; it is asked again by itself";
    let finding = Finding::blocking(error.code, error.message, advice);
    Ok(Finding { details: error.details, ..finding })
}

fn package(file_system: FileSystem) -> &'static str {
    match file_system {
        FileSystem::Ext4 => "e2fsprogs",
        FileSystem::Xfs => "xfsprogs",
    }
}

fn listed(users: &[User]) -> String {
    let mut listed: Vec<String> =
        users.iter().take(NAMED_COUNT_MAX).map(|user| format!("{} (pid {})", user.command, user.pid)).collect();
    if users.len() > NAMED_COUNT_MAX {
        listed.push(format!("and {} more", users.len() - NAMED_COUNT_MAX));
    }
    listed.join(", ")
}

mainstay_sdk::export_kit!(Volume, abilities: [readiness, deep_check], needs: [
    mount: "checks, mounts and unmounts the file system, and looks at it",
], optional: [
    volume: "promotes, attaches, detaches and demotes the mirrored volume (backend mainstay)",
    command: "runs drbdadm (backend drbd)",
]);
