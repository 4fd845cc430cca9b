//! Ending the processes that use a file system, and no others.
//!
//! A process is signalled by a handle on it, taken before it is looked at once more: a number that has come to mean another
//! process is never signalled.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::table::Device;
use super::users::{self, User};

/// How long a process may take to be gone after SIGKILL. One that takes longer waits in the kernel.
pub(super) const KILLED: Duration = Duration::from_secs(5);
/// How often it is looked whether they are gone.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often those that came meanwhile are ended as well, such as children that were being started.
pub(super) const ROUNDS_MAX: usize = 3;

/// A process that is being ended.
pub(super) struct Ending {
    pub(super) user: User,
    handle: OwnedFd,
}

impl Ending {
    /// A handle on it; none when it is gone, or does not use the file system any more.
    pub(super) fn of(user: &User, device: Device) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(user.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let uses = users::by(user.pid, device).is_some();
        Ok(uses.then(|| Self { user: user.clone(), handle }))
    }

    /// Asks it to end, or ends it.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it uses the file system no more: it is gone, or has let go of it.
    pub(super) fn has_let_go(&self, device: Device) -> bool {
        let mut gone = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        let gone = poll(&mut gone, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        gone || users::by(self.user.pid, device).is_none()
    }
}
