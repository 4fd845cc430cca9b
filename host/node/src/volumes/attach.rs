//! A volume as a block device of this node, that lives as long as the volume's process and not as long as the daemon.
//!
//! Where the kernel has nbd, `nbd-client` connects one of its devices to the process's NBD export, and stays for as long as
//! it is connected. Where it has not, or there is no `nbd-client`, or it does not succeed, `nbdfuse` (libnbd) shows the
//! export as a file, and a loop device (`losetup`, util-linux) makes a disk of the file.
//!
//! What is attached is looked up in the kernel each time: whatever a daemon that was killed in the middle has left is found.
//! What was begun is finished, also if nobody waits for it any more.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_runtime::{VolumeAttachment, VolumeTrouble, is_mount_point, mounted_at};
use mainstay_supervisor::Identity;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::kernel_nbd;
use super::place::Place;
use super::view::{AttachedBy, AttachedView};

/// A program that takes longer hangs: it speaks with the kernel, and with a process that answers at once or is gone.
const PROGRAM: Duration = Duration::from_secs(10);
/// A request that the volume's process has not answered so long after its stall time, by which it answers: it hangs, and
/// the kernel answers everything with an error from then on. Longer than a disk takes that comes back.
const HANGS: Duration = Duration::from_secs(60);
/// So many devices are tried: another program may take one at the same time.
const DEVICES_MAX: usize = 3;
/// Between two looks whether something is there by now, or gone.
const LOOK: Duration = Duration::from_millis(10);

/// The way to a volume's block device. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Attachment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    nbd: PathBuf,
    control: PathBuf,
    /// Where nbdfuse is mounted, with the file `disk` in it.
    dir: PathBuf,
    note: PathBuf,
    log: PathBuf,
    stall: Duration,
    one_at_a_time: tokio::sync::Mutex<()>,
    known: Mutex<Option<AttachedView>>,
}

/// What is written down of an attachment: only who stands behind it, everything else the kernel knows.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// nbd-client or nbdfuse.
    client: Identity,
    server: Identity,
    /// Of the kernel's nbd; none: it is nbdfuse.
    device: Option<PathBuf>,
}

impl Attachment {
    pub(super) fn new(place: &Place) -> Self {
        Self(Arc::new(Inner {
            name: place.name.to_string(),
            nbd: place.nbd(),
            control: place.control(),
            dir: place.dir.join("device"),
            note: place.dir.join("device.json"),
            log: place.dir.join("process.log"),
            stall: place.stall,
            one_at_a_time: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }))
    }

    /// As it was found last.
    pub(super) fn known(&self) -> Option<AttachedView> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As it is.
    pub(super) async fn look(&self) -> Option<VolumeAttachment> {
        let inner = Arc::clone(&self.0);
        // It reads what the kernel has in memory.
        tokio::task::spawn_blocking(move || inner.look()).await.unwrap_or_default()
    }

    pub(super) async fn attach(&self) -> Result<PathBuf, VolumeTrouble> {
        let inner = Arc::clone(&self.0);
        finish(async move {
            let _one = inner.one_at_a_time.lock().await;
            match inner.look() {
                Some(VolumeAttachment { device, works: true }) => return Ok(device),
                Some(dead) => inner.detach(&dead.device).await?,
                None => {}
            }
            // A daemon before this one may have come no further.
            inner.clear().await?;
            let attached = inner.attach().await;
            if attached.is_err() {
                // The error that counts is the first one; what is left shows at the next attempt.
                let _ = inner.clear().await;
            }
            inner.look();
            attached
        })
        .await
    }

    pub(super) async fn detach(&self) -> Result<(), VolumeTrouble> {
        let inner = Arc::clone(&self.0);
        finish(async move {
            let _one = inner.one_at_a_time.lock().await;
            if let Some(attached) = inner.look() {
                inner.detach(&attached.device).await?;
            }
            inner.clear().await?;
            inner.look();
            Ok(())
        })
        .await
    }
}

/// Is finished whether it is waited for or not.
async fn finish<T: Send + 'static>(
    what: impl Future<Output = Result<T, VolumeTrouble>> + Send + 'static,
) -> Result<T, VolumeTrouble> {
    tokio::spawn(what).await.unwrap_or_else(|error| Err(VolumeTrouble::Attachment(error.to_string())))
}

impl Inner {
    fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Whether nbdfuse is mounted.
    fn is_shown(&self) -> Result<bool, String> {
        is_mount_point(&self.dir).map_err(|error| error.to_string())
    }

    fn note(&self) -> Option<Note> {
        fs::read(&self.note).ok().and_then(|note| serde_json::from_slice(&note).ok())
    }

    fn write_note(&self, note: &Note) -> Result<(), String> {
        let text = serde_json::to_vec(note).map_err(|error| error.to_string())?;
        fs::write(&self.note, text).map_err(|error| format!("{}: {error}", self.note.display()))
    }

    fn look(&self) -> Option<VolumeAttachment> {
        let note = self.note();
        let found = self.look_at_kernel_nbd(note.as_ref()).map(|found| (found, AttachedBy::KernelNbd)).or_else(|| {
            let device = loop_device_of(&self.disk())?;
            let works = note.is_some_and(|note| note.device.is_none() && note.client.runs() && note.server.runs());
            Some((VolumeAttachment { device, works }, AttachedBy::Nbdfuse))
        });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found.as_ref().map(|(found, by)| AttachedView {
            device: found.device.display().to_string(),
            works: found.works,
            by: *by,
        });
        found.map(|(found, _)| found)
    }

    /// As a device of the kernel's nbd; also one that is not connected any more, as long as something is mounted from it.
    fn look_at_kernel_nbd(&self, note: Option<&Note>) -> Option<VolumeAttachment> {
        let Note { client, server, device: Some(device) } = note? else { return None };
        // As long as something is mounted from it the kernel goes on to name who connected it.
        if kernel_nbd::connected_by(device).is_some_and(|pid| pid != client.pid) {
            return None;
        }
        let runs = client.runs();
        let is_there = runs || !matches!(user_of(device), Ok(None));
        is_there.then(|| VolumeAttachment { device: device.clone(), works: runs && server.runs() })
    }

    async fn attach(&self) -> Result<PathBuf, VolumeTrouble> {
        let server = server_of(&self.control)
            .map_err(|error| VolumeTrouble::Unavailable(format!("the process of volume {}: {error}", self.name)))?;
        for device in kernel_nbd::free_devices().into_iter().take(DEVICES_MAX) {
            match self.attach_by_kernel_nbd(&device, server).await {
                Ok(true) => return Ok(device),
                Ok(false) => {}
                Err(why) => {
                    tracing::warn!("volume {} is not attached as {}: {why}", self.name, device.display());
                    break;
                }
            }
        }
        self.attach_by_nbdfuse(server).await.map_err(VolumeTrouble::Attachment)
    }

    /// Ok(false): another program has that device by now.
    async fn attach_by_kernel_nbd(&self, device: &Path, server: Identity) -> Result<bool, String> {
        let Some(_claim) = kernel_nbd::claim(device).filter(|_| kernel_nbd::is_free(device)) else { return Ok(false) };
        let mut command = std::process::Command::new("nbd-client");
        command.arg("-unix").arg(&self.nbd).arg(device).args(["-name", &self.name]);
        command.args(["-timeout", &(self.stall + HANGS).as_secs().to_string()]);
        // The connection is as long as the program: who connects by netlink leaves one that nobody ends.
        command.args(["-nonetlink", "-nofork"]);
        let client = match self.start(command) {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err("nbd-client is not installed on this node (Debian: nbd-client, Fedora: nbd)".to_owned());
            }
            Err(error) => return Err(format!("nbd-client cannot be started: {error}")),
        };
        self.write_note(&Note { client, server, device: Some(device.to_owned()) })?;
        let until = Instant::now() + PROGRAM;
        let why = loop {
            match kernel_nbd::connected_by(device) {
                Some(pid) if pid == client.pid => return Ok(true),
                Some(_) => break None,
                None if !client.runs() || Instant::now() >= until => break Some(self.log.display()),
                None => sleep(LOOK).await,
            }
        };
        end(client).await?;
        why.map_or(Ok(false), |log| Err(format!("nbd-client does not connect it: see {log}")))
    }

    async fn attach_by_nbdfuse(&self, server: Identity) -> Result<PathBuf, String> {
        fs::create_dir_all(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))?;
        let escaped = |path: &Path| path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        let uri = format!("nbd+unix:///{}?socket={}", self.name, escaped(&self.nbd));
        let mut command = std::process::Command::new("nbdfuse");
        command.arg(self.disk()).arg(uri);
        let client = self.start(command).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                "nbdfuse is not installed on this node (Debian: libnbd-bin, Fedora: nbdfuse)".to_owned()
            } else {
                format!("nbdfuse cannot be started: {error}")
            }
        })?;
        self.write_note(&Note { client, server, device: None })?;
        let until = Instant::now() + PROGRAM;
        while !self.is_shown()? {
            if !client.runs() || Instant::now() >= until {
                let log = self.log.display();
                return Err(format!("nbdfuse does not show volume {} as a file: see {log}", self.name));
            }
            sleep(LOOK).await;
        }
        let disk = self.disk();
        let disk = disk.to_string_lossy();
        let device = program("losetup", &["--find", "--show", "--direct-io=on", &disk]).await?;
        Ok(PathBuf::from(device.trim()))
    }

    /// A program that outlives the daemon.
    fn start(&self, mut command: std::process::Command) -> io::Result<Identity> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Signals to the group of the daemon do not reach it.
        command.process_group(0);
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let process = Identity::of(pid)?;
        std::thread::Builder::new().name("attachment".into()).spawn(move || child.wait())?;
        Ok(process)
    }

    /// Takes the device away, if nothing uses it.
    async fn detach(&self, device: &Path) -> Result<(), VolumeTrouble> {
        if let Some(user) = user_of(device).map_err(|error| VolumeTrouble::Attachment(error.to_string()))? {
            return Err(VolumeTrouble::Busy(format!("{} is in use: {user}", device.display())));
        }
        if let Some(note) = self.note().filter(|note| note.device.as_deref() == Some(device)) {
            return self.disconnect(device, note.client).await;
        }
        let text = device.to_string_lossy();
        program("losetup", &["--detach", &text]).await.map_err(VolumeTrouble::Attachment)?;
        // One that is open is taken away by the kernel when it is closed, and losetup says that all is well.
        let until = Instant::now() + PROGRAM;
        while loop_device_of(&self.disk()).is_some_and(|left| left == device) {
            if Instant::now() >= until {
                return Err(VolumeTrouble::Busy(format!("{} is held open by somebody", device.display())));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn disconnect(&self, device: &Path, client: Identity) -> Result<(), VolumeTrouble> {
        let path = device.to_owned();
        let flush = tokio::task::spawn_blocking(move || kernel_nbd::flush(&path));
        match timeout(PROGRAM, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(VolumeTrouble::Busy(format!("{} is held by somebody", device.display())));
            }
            // Nothing is mounted from it any more; the volume may have ended its service already.
            Ok(Ok(Err(error))) => tracing::warn!("{} could not be flushed: {error}", device.display()),
            Ok(Err(error)) => tracing::warn!("{} could not be flushed: {error}", device.display()),
            Err(_) => tracing::warn!("{} is not flushed within {} s", device.display(), PROGRAM.as_secs()),
        }
        end(client).await.map_err(VolumeTrouble::Attachment)
    }

    /// Takes away what is not an attachment, or not any more.
    async fn clear(&self) -> Result<(), VolumeTrouble> {
        let note = self.note();
        for client in kernel_nbd::clients_of(&self.nbd) {
            end(client).await.map_err(VolumeTrouble::Attachment)?;
        }
        self.unmount().await.map_err(VolumeTrouble::Attachment)?;
        if let Some(note) = note {
            // nbdfuse has something to do after it was unmounted.
            let until = Instant::now() + PROGRAM;
            while note.device.is_none() && note.client.runs() && Instant::now() < until {
                sleep(LOOK).await;
            }
            end(note.client).await.map_err(VolumeTrouble::Attachment)?;
        }
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(VolumeTrouble::Attachment(format!("{}: {error}", self.note.display())))
            }
            _ => Ok(()),
        }
    }

    /// Takes nbdfuse's file away, and with it nbdfuse.
    async fn unmount(&self) -> Result<(), String> {
        let dir = self.dir.to_string_lossy();
        let until = Instant::now() + PROGRAM;
        while self.is_shown()? {
            if let Err(error) = program("umount", &[&dir]).await {
                // What is behind it may be dead; nothing is written through it any more, the loop device is gone.
                program("umount", &["--lazy", &dir]).await.map_err(|_| error)?;
            }
            if Instant::now() >= until {
                return Err(format!("{dir} stays mounted"));
            }
        }
        Ok(())
    }
}

/// Waits until a client that has nothing to do any more is gone, and sees to it.
async fn end(client: Identity) -> Result<(), String> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let sent = client.signal(signal);
        sent.map_err(|error| format!("process {} does not end: {error}", client.pid))?;
        let until = Instant::now() + PROGRAM;
        while client.runs() {
            if Instant::now() >= until {
                break;
            }
            sleep(LOOK).await;
        }
    }
    if client.runs() { Err(format!("process {} does not end", client.pid)) } else { Ok(()) }
}

/// Who serves at this socket now.
fn server_of(control: &Path) -> io::Result<Identity> {
    let stream = std::os::unix::net::UnixStream::connect(control)?;
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)?;
    Identity::of(peer.pid())
}

/// The loop device that shows this file.
fn loop_device_of(file: &Path) -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/block").ok()?;
    devices.filter_map(Result::ok).find_map(|entry| {
        let shown = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        // " (deleted)" follows when what is behind it is gone.
        let shown = shown.trim_end().trim_end_matches(" (deleted)");
        (Path::new(shown) == file).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// What is mounted from a device, or stands on it.
fn user_of(device: &Path) -> io::Result<Option<String>> {
    if let Some(point) = mounted_at(device)? {
        return Ok(Some(format!("mounted at {point}")));
    }
    let holder = || {
        let mut holders = fs::read_dir(Path::new("/sys/block").join(device.file_name()?).join("holders")).ok()?;
        Some(format!("{} stands on it", holders.next()?.ok()?.file_name().to_string_lossy()))
    };
    Ok(holder())
}

/// Runs a program, and gives what it said.
async fn program(name: &str, args: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(name);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PROGRAM, command.output()).await {
        Err(_) => Err(format!("{name} {} has not ended within {} s", args.join(" "), PROGRAM.as_secs())),
        Ok(Err(error)) => Err(format!("{name} cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(format!("{name} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
