//! `mount`: file systems at granted mount points, of granted volumes and devices.
//!
//! What is mounted is read from the kernel; mounting, unmounting, checking and making is done by the system's own programs
//! under their supervisor. What could hang in the kernel is done by them, or by a thread of which a resource has one at
//! most: a file system that does not come back costs its resource this capability and nobody anything else. Nothing is
//! unmounted, checked or ended that does not lie on what was granted.

mod device;
mod end;
mod marker;
mod options;
mod programs;
mod table;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::bindings::mainstay::kit::mount::{Checked, Content, Host, Mounted, Outcome, Place, Room, Source, User};
use crate::capability::{CallState, Fault, FaultKind, blocked, fault, ms};
use crate::grants::MountSource;
use device::Found;
use end::Ending;
use table::{Device, Entry, Table};

/// How long a file system may take to say how much room it has, before that is left out of the answer.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// What a file system is at, and what of it is known.
struct Seen {
    table: Table,
    /// The mount point as the kernel knows it.
    point: String,
    /// Whether there is a folder.
    folder: bool,
}

impl Seen {
    fn top(&self) -> Option<&Entry> {
        self.table.at(&self.point).last().copied()
    }
}

/// A device that is granted, and where it is now.
struct Granted {
    path: String,
    device: Device,
}

impl From<Source> for MountSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Volume(name) => Self::Volume(name),
            Source::Device(path) => Self::Device(path),
        }
    }
}

impl From<MountSource> for Source {
    fn from(source: MountSource) -> Self {
        match source {
            MountSource::Volume(name) => Self::Volume(name),
            MountSource::Device(path) => Self::Device(path),
        }
    }
}

impl From<users::User> for User {
    fn from(user: users::User) -> Self {
        let users::User { pid, command, user, by } = user;
        Self { pid, command, user, by }
    }
}

impl CallState {
    /// Runs what reads /proc and /sys, which answer.
    async fn read<T: Send + 'static>(
        &mut self,
        what: &str,
        operation: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let done = self.host.file_operation(self.limit(None), operation).await.map_err(|error| blocked(what, error))?;
        done.map_err(|error| fault(FaultKind::Failed, "mount-table", format!("{what}: {error}")))
    }

    /// Runs what touches a device or a file system and may never come back. It goes on after a timeout.
    async fn touch<T: Send + 'static>(
        &mut self,
        what: &str,
        limit: Duration,
        operation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let Ok(permit) = Arc::clone(&self.services.touching).try_acquire_owned() else {
            let message =
                format!("{what}: an earlier access has not come back from the kernel yet, so no other is tried");
            return Err(fault(FaultKind::Unavailable, "stuck", message));
        };
        let task = tokio::task::spawn_blocking(move || {
            // Until the thread is free, not until somebody gives up.
            let _permit = permit;
            operation()
        });
        match timeout(limit, task).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(fault(FaultKind::Failed, "host", format!("{what}: it broke down inside the host"))),
            Err(_) => {
                let message = format!("{what}: the kernel did not come back within {} ms", ms(limit));
                Err(fault(FaultKind::Timeout, "timeout", message))
            }
        }
    }

    /// What is mounted, and where `point` is.
    async fn see(&mut self, point: &str) -> Result<Seen, Fault> {
        let asked = point.to_owned();
        self.read("looking at what is mounted", move || {
            let table = Table::read()?;
            let point = match table::canonical(&asked) {
                Ok(point) => point,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(Seen { table, point: asked, folder: false });
                }
                Err(error) => return Err(error),
            };
            // What is mounted there is not touched.
            let folder = !table.at(&point).is_empty() || is_folder(Path::new(&point))?;
            Ok(Seen { table, point, folder })
        })
        .await
    }

    /// Where what is granted is now; none: a volume that is not attached, a device that is not there.
    async fn find(&mut self, source: &MountSource) -> Result<Option<Granted>, Fault> {
        let path = match source {
            MountSource::Device(path) => path.clone(),
            MountSource::Volume(name) => {
                match self.in_time("find", name, |volumes, name| volumes.device_of(name)).await? {
                    Some(path) => path.to_string_lossy().into_owned(),
                    None => return Ok(None),
                }
            }
        };
        let asked = path.clone();
        let what = format!("looking at the device {path}");
        let found = self.read(&what, move || device::numbers(&asked)).await?;
        Ok(found.map(|device| Granted { path, device }))
    }

    /// The same, when there has to be one.
    async fn need(&mut self, source: &MountSource) -> Result<Granted, Fault> {
        self.find(source).await?.ok_or_else(|| {
            let message = match source {
                MountSource::Volume(name) => {
                    format!("the volume {name} is no block device on this node: attach it first")
                }
                MountSource::Device(path) => format!("there is no device {path} on this node"),
            };
            fault(FaultKind::Unavailable, "not-attached", message)
        })
    }

    /// A device that is not mounted anywhere.
    async fn need_unmounted(&mut self, source: &MountSource) -> Result<Granted, Fault> {
        let granted = self.need(source).await?;
        let table = self.read("looking at what is mounted", Table::read).await?;
        match table.of(granted.device).next() {
            None => Ok(granted),
            Some(entry) => {
                let message = format!("{source} ({}) is mounted at {}", granted.path, entry.point);
                Err(fault(FaultKind::Unavailable, "mounted", message))
            }
        }
    }

    async fn look_at(&mut self, point: &str) -> Result<Place, Fault> {
        let sources = self.services.grants.mount_point(&self.asker, "look", point)?;
        let seen = self.see(point).await?;
        let Some(entry) = seen.top() else { return Ok(Place { folder: seen.folder, mounted: None }) };
        let mut source = None;
        let mut unknown = None;
        for granted in sources {
            match self.find(&granted).await {
                Ok(Some(found)) if entry.is_of(found.device) => {
                    source = Some(granted);
                    break;
                }
                Ok(Some(_) | None) => {}
                Err(fault) => unknown = Some(fault),
            }
        }
        if let (None, Some(fault)) = (&source, unknown) {
            // It may well be what could not be asked for.
            return Err(fault);
        }
        let on = entry.device;
        let noted = self.read("looking for noted errors", move || Ok(device::errors(on))).await?;
        let trouble = if entry.stopped_by_kernel() || (entry.is_super_read_only() && noted.is_some()) {
            let noted = noted.unwrap_or_else(|| "it has noted no errors".to_owned());
            Some(format!("the kernel writes nothing more to this file system; {noted}"))
        } else {
            noted
        };
        let (room, broken) = match self.ask_file_system(&seen.point).await {
            Some(Ok(room)) => (Some(room), None),
            Some(Err(error)) => (None, Some(format!("the file system does not work any more: {error}"))),
            None => (None, None),
        };
        Ok(Place {
            folder: true,
            mounted: Some(Mounted {
                source: source.map(Source::from),
                device: entry.source.clone(),
                file_system: entry.file_system.clone(),
                options: entry.all_options(),
                read_only: entry.is_read_only() || broken.is_some(),
                trouble: broken.or(trouble),
                room,
                layers: u32::try_from(seen.table.at(&seen.point).len()).unwrap_or(u32::MAX),
                details: Vec::new(),
            }),
        })
    }

    /// What the file system itself says: its room, or the error that it answers with; none: nothing in time.
    async fn ask_file_system(&mut self, point: &str) -> Option<Result<Room, String>> {
        let path = PathBuf::from(point);
        let limit = self.limit(None).min(ROOM_WAIT);
        let ask = move || {
            // An xfs that has shut itself down says so here and nowhere else.
            std::fs::metadata(&path)?;
            Ok::<_, std::io::Error>(rustix::fs::statvfs(&path)?)
        };
        let said = self.touch("asking for its room", limit, ask).await.ok()?;
        Some(said.map_err(|error| error.to_string()).map(|said| Room {
            size_bytes: said.f_blocks.saturating_mul(said.f_frsize),
            free_bytes: said.f_bavail.saturating_mul(said.f_frsize),
            inodes: said.f_files,
            free_inodes: said.f_favail,
        }))
    }

    async fn probe_device(&mut self, granted: &Granted) -> Result<Option<Found>, Fault> {
        let ended = self.run_program("blkid", &["-p", "-o", "export", "--", &granted.path]).await?;
        match ended.code {
            0 => Ok(device::found(&ended.stdout)),
            // Nothing was found, and nothing went wrong.
            2 if ended.stderr.is_empty() => Ok(None),
            8 => Err(ended.fault(
                FaultKind::Failed,
                "ambiguous",
                &format!("{} holds traces of several things", granted.path),
            )),
            _ => Err(ended.fault(FaultKind::Failed, "probe", &format!("looking at what {} holds", granted.path))),
        }
    }

    async fn make(&mut self, source: &MountSource, file_system: &str) -> Result<(), Fault> {
        self.services.grants.mount_source(&self.asker, "make file system", source, None)?;
        let file_system = known(file_system)?;
        let granted = self.need_unmounted(source).await?;
        let not_empty = |what: String| {
            let message = format!(
                "{} is not empty, so no file system is made on it: {what}; if nobody needs that, wipe it by hand",
                granted.path
            );
            fault(FaultKind::Failed, "not-empty", message)
        };
        if let Some(found) = self.probe_device(&granted).await? {
            return Err(not_empty(format!("it holds {}", found.kind)));
        }
        let path = PathBuf::from(&granted.path);
        let limit = self.limit(None);
        let first = self.touch("looking whether it is empty", limit, move || device::first_content(&path)).await?;
        let first = first
            .map_err(|error| fault(FaultKind::Failed, "device", format!("{} cannot be read: {error}", granted.path)))?;
        if let Some(at) = first {
            return Err(not_empty(format!("there is something at byte {at}")));
        }
        let ended = self.run_program(&programs::make(file_system), &["-q", "--", &granted.path]).await?;
        match ended.code {
            0 => Ok(()),
            _ => Err(ended.fault(
                FaultKind::Failed,
                "make-file-system",
                &format!("making {file_system} on {}", granted.path),
            )),
        }
    }

    async fn check_device(&mut self, source: &MountSource, file_system: &str) -> Result<Checked, Fault> {
        self.services.grants.mount_source(&self.asker, "check", source, None)?;
        let file_system = known(file_system)?;
        let granted = self.need_unmounted(source).await?;
        if file_system == "xfs" {
            let said = "xfs replays its log when it is mounted; nothing was looked at".to_owned();
            return Ok(Checked { outcome: Outcome::AtMount, said });
        }
        // -p: repairs what can be repaired without asking anybody, and says by its exit code what that came to.
        let ended = self.run_program(&programs::check(file_system), &["-p", "--", &granted.path]).await?;
        let said = ended.said();
        let outcome = match ended.code {
            0 if said.contains("recovering journal") => Outcome::Repaired,
            0 => Outcome::Clean,
            1..=3 => Outcome::Repaired,
            4..=7 => Outcome::Damaged,
            _ => return Err(ended.fault(FaultKind::Failed, "check", &format!("checking {}", granted.path))),
        };
        Ok(Checked { outcome, said })
    }

    async fn mount_at(
        &mut self,
        source: &MountSource,
        point: &str,
        file_system: &str,
        options: &[String],
    ) -> Result<bool, Fault> {
        self.services.grants.mount_source(&self.asker, "mount", source, Some(point))?;
        let file_system = known(file_system)?;
        let options = options::joined(file_system, options)
            .map_err(|message| fault(FaultKind::Invalid, "mount-option", message))?;
        let granted = self.need(source).await?;
        let seen = self.see(point).await?;
        if let Some(top) = seen.top() {
            if top.is_of(granted.device) {
                return Ok(false);
            }
            let message = format!("{} ({}) is mounted at {point} already", top.source, top.file_system);
            return Err(fault(FaultKind::Failed, "foreign-mount", message));
        }
        if let Some(elsewhere) = seen.table.of(granted.device).next() {
            let message = format!("{source} ({}) is mounted at {} already", granted.path, elsewhere.point);
            return Err(fault(FaultKind::Unavailable, "mounted", message));
        }
        if !seen.folder {
            let message = format!("there is no folder {point} on this node; make it: mkdir -p {point}");
            return Err(fault(FaultKind::NotFound, "no-mount-point", message));
        }
        // -i: no helper of a file system; -c: the paths are as they are.
        let args = ["-i", "-c", "-t", file_system, "-o", &options, "--", &granted.path, &seen.point];
        let ended = self.run_program("mount", &args).await?;
        let after = self.see(point).await?;
        match after.top() {
            Some(top) if top.is_of(granted.device) => Ok(true),
            Some(_) | None => {
                let doing = format!("mounting {} at {point}", granted.path);
                if ended.said().contains("Structure needs cleaning") {
                    return Err(ended.fault(FaultKind::Failed, "damaged", &doing));
                }
                Err(ended.fault(FaultKind::Failed, "mount", &doing))
            }
        }
    }

    /// What is mounted at `point` and lies on `source`, with the device; none: nothing of it.
    async fn ours(&mut self, source: &MountSource, point: &str) -> Result<Option<(Seen, Device)>, Fault> {
        let seen = self.see(point).await?;
        if seen.top().is_none() {
            // Whatever the volume says: nothing is mounted.
            return Ok(None);
        }
        let Some(Granted { device, .. }) = self.find(source).await? else { return Ok(None) };
        let here = seen.table.at(&seen.point).iter().any(|entry| entry.is_of(device));
        Ok(here.then_some((seen, device)))
    }

    async fn unmount_from(&mut self, source: &MountSource, point: &str) -> Result<bool, Fault> {
        self.services.grants.mount_source(&self.asker, "unmount", source, Some(point))?;
        let mut unmounted = false;
        // Mounted twice over itself, it is unmounted twice.
        while let Some((seen, device)) = self.ours(source, point).await? {
            let Some(top) = seen.top().filter(|top| top.is_of(device)) else {
                let over = seen.top().map_or_else(String::new, |top| format!("{} ({})", top.source, top.file_system));
                let message = format!("{over} is mounted over {source} at {point}; unmount that first");
                return Err(fault(FaultKind::Unavailable, "covered", message));
            };
            let before = seen.table.at(&seen.point).len();
            let ended = self.run_program("umount", &["-i", "-c", "--", &seen.point]).await?;
            let after = self.see(point).await?;
            if after.table.at(&after.point).len() >= before {
                return Err(self.still_mounted(point, &ended, top, device, &after.table).await);
            }
            unmounted = true;
        }
        Ok(unmounted)
    }

    /// Why it is mounted still.
    async fn still_mounted(
        &mut self,
        point: &str,
        ended: &programs::Ended,
        top: &Entry,
        device: Device,
        table: &Table,
    ) -> Fault {
        let (entry, table) = (top.clone(), table.clone());
        let holders = self
            .read("looking for who uses it", move || Ok((users::all(device)?, users::other_holders(&table, &entry))))
            .await;
        let listed = match holders {
            Ok((users, others)) => users::listed(&users, &others),
            Err(error) => format!("who uses it could not be found out ({})", error.message),
        };
        let busy = ended.said().contains("busy");
        if !busy && listed.is_empty() {
            return ended.fault(FaultKind::Failed, "unmount", &format!("unmounting {point}"));
        }
        let listed =
            if listed.is_empty() { "the kernel itself, or somebody who is gone by now".to_owned() } else { listed };
        fault(FaultKind::Unavailable, "busy", format!("{point} is used by {listed}"))
    }

    async fn users_of(&mut self, doing: &str, source: &MountSource, point: &str) -> Result<Vec<users::User>, Fault> {
        self.services.grants.mount_source(&self.asker, doing, source, Some(point))?;
        let Some((_, device)) = self.ours(source, point).await? else { return Ok(Vec::new()) };
        self.read("looking for who uses it", move || users::all(device)).await
    }

    async fn end_users_of(
        &mut self,
        source: &MountSource,
        point: &str,
        grace: Duration,
    ) -> Result<Vec<users::User>, Fault> {
        self.services.grants.mount_source(&self.asker, "end users", source, Some(point))?;
        let Some((_, device)) = self.ours(source, point).await? else { return Ok(Vec::new()) };
        let mut ended: Vec<users::User> = Vec::new();
        for _ in 0..end::ROUNDS_MAX {
            let handles = self
                .read("looking for who uses it", move || {
                    let users = users::all(device)?;
                    let may_be_ended = users.iter().filter(|user| user.may_be_ended());
                    may_be_ended.map(|user| Ending::of(user, device)).collect::<std::io::Result<Vec<_>>>()
                })
                .await?;
            let handles: Vec<Ending> = handles.into_iter().flatten().collect();
            if handles.is_empty() {
                break;
            }
            for user in handles.iter().map(|handle| &handle.user) {
                let (pid, command, tag) = (user.pid, &user.command, &self.asker.tag);
                tracing::warn!(%tag, pid, %command, point, "ending a process that uses a file system");
                if !ended.contains(user) {
                    ended.push(user.clone());
                }
            }
            let handles = self.signal_and_wait(handles, device, Signal::TERM, grace).await?;
            self.signal_and_wait(handles, device, Signal::KILL, end::KILLED).await?;
        }
        let left = self.read("looking for who uses it", move || users::all(device)).await?;
        if left.is_empty() {
            return Ok(ended);
        }
        let message =
            format!("{point} is used still, after all that could be ended was: {}", users::listed(&left, &[]));
        Err(fault(FaultKind::Unavailable, "busy", message))
    }

    /// Those that have not let go after `wait`.
    async fn signal_and_wait(
        &mut self,
        mut handles: Vec<Ending>,
        device: Device,
        signal: Signal,
        wait: Duration,
    ) -> Result<Vec<Ending>, Fault> {
        for handle in &handles {
            handle.signal(signal).map_err(|error| {
                let message = format!("{} cannot be ended: {error}", handle.user);
                fault(FaultKind::Denied, "not-ended", message)
            })?;
        }
        let until = Instant::now() + wait.min(self.limit(None));
        loop {
            handles = self
                .read("looking whether they are gone", move || {
                    handles.retain(|handle| !handle.has_let_go(device));
                    Ok(handles)
                })
                .await?;
            if handles.is_empty() || Instant::now() >= until {
                return Ok(handles);
            }
            sleep(end::LOOK_EVERY).await;
        }
    }

    async fn mark(&mut self, source: &MountSource, point: &str, asked_ms: u32) -> Result<u32, Fault> {
        self.services.grants.mount_source(&self.asker, "write marker", source, Some(point))?;
        let on_top =
            self.ours(source, point).await?.filter(|(seen, device)| seen.top().is_some_and(|top| top.is_of(*device)));
        let Some((seen, device)) = on_top else {
            let message = format!("{source} is not mounted at {point}");
            return Err(fault(FaultKind::NotFound, "not-mounted", message));
        };
        let began = Instant::now();
        let limit = self.limit(Some(asked_ms));
        let path = PathBuf::from(seen.point);
        let written = self.touch("writing the marker", limit, move || marker::write_and_read(&path, device)).await?;
        written.map_err(|error| fault(FaultKind::Failed, "marker", format!("{point}: {error}")))?;
        Ok(u32::try_from(ms(began.elapsed())).unwrap_or(u32::MAX))
    }
}

/// Where the file system of a block device is mounted, if it is, as this process sees it.
///
/// # Errors
/// When that cannot be found out, or it is no block device.
pub fn mounted_at(device: &Path) -> std::io::Result<Option<String>> {
    let Some(device) = device::numbers(&device.to_string_lossy())? else { return Ok(None) };
    let table = Table::read()?;
    Ok(table.of(device).next().map(|entry| entry.point.clone()))
}

/// Whether something is mounted there, as this process sees it. Does not touch what is.
///
/// # Errors
/// When that cannot be found out.
pub fn is_mount_point(folder: &Path) -> std::io::Result<bool> {
    Ok(!Table::read()?.at(&folder.to_string_lossy()).is_empty())
}

fn is_folder(path: &Path) -> std::io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn known(file_system: &str) -> Result<&'static str, Fault> {
    options::file_system(file_system).map_err(|message| fault(FaultKind::Invalid, "file-system", message))
}

fn content(found: Found) -> Content {
    let Found { kind, file_system, label, uuid } = found;
    Content { kind, file_system, label, uuid }
}

impl Host for CallState {
    async fn look(&mut self, point: String) -> wasmtime::Result<Result<Place, Fault>> {
        let _entered = self.enter("mount.look", point.as_str());
        Ok(self.look_at(&point).await)
    }

    async fn probe(&mut self, source: Source) -> wasmtime::Result<Result<Option<Content>, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.probe", source.to_string());
        if let Err(refused) = self.services.grants.mount_source(&self.asker, "probe", &source, None) {
            return Ok(Err(refused.into()));
        }
        let granted = match self.need(&source).await {
            Ok(granted) => granted,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(self.probe_device(&granted).await.map(|found| found.map(content)))
    }

    async fn make_file_system(&mut self, source: Source, file_system: String) -> wasmtime::Result<Result<(), Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.make-file-system", source.to_string());
        Ok(self.make(&source, &file_system).await)
    }

    async fn check(&mut self, source: Source, file_system: String) -> wasmtime::Result<Result<Checked, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.check", source.to_string());
        Ok(self.check_device(&source, &file_system).await)
    }

    async fn mount(
        &mut self,
        source: Source,
        point: String,
        file_system: String,
        options: Vec<String>,
    ) -> wasmtime::Result<Result<bool, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.mount", format!("{source} at {point}"));
        Ok(self.mount_at(&source, &point, &file_system, &options).await)
    }

    async fn unmount(&mut self, source: Source, point: String) -> wasmtime::Result<Result<bool, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.unmount", format!("{source} at {point}"));
        Ok(self.unmount_from(&source, &point).await)
    }

    async fn users(&mut self, source: Source, point: String) -> wasmtime::Result<Result<Vec<User>, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.users", point.as_str());
        let users = self.users_of("list users", &source, &point).await;
        Ok(users.map(|users| users.into_iter().map(User::from).collect()))
    }

    async fn end_users(
        &mut self,
        source: Source,
        point: String,
        grace_ms: u32,
    ) -> wasmtime::Result<Result<Vec<User>, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.end-users", point.as_str());
        let ended = self.end_users_of(&source, &point, Duration::from_millis(grace_ms.into())).await;
        Ok(ended.map(|users| users.into_iter().map(User::from).collect()))
    }

    async fn write_marker(
        &mut self,
        source: Source,
        point: String,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<u32, Fault>> {
        let source = MountSource::from(source);
        let _entered = self.enter("mount.write-marker", point.as_str());
        Ok(self.mark(&source, &point, timeout_ms).await)
    }

    async fn missing_programs(&mut self, file_system: String) -> wasmtime::Result<Result<Vec<String>, Fault>> {
        let _entered = self.enter("mount.missing-programs", file_system.as_str());
        if let Err(refused) = self.services.grants.any_mount(&self.asker, "look for programs") {
            return Ok(Err(refused.into()));
        }
        let file_system = match known(&file_system) {
            Ok(file_system) => file_system,
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(self
            .read("looking for programs", move || {
                let needed = programs::needed(file_system);
                Ok(needed.into_iter().filter(|name| programs::find(name).is_none()).collect())
            })
            .await)
    }
}
