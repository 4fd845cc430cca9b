//! A watchdog device: restarts the machine unless it is told again and again not to.
//!
//! As in the kernel's `Documentation/watchdog/watchdog-api.rst`: opening the device starts it, a write keeps it quiet, and
//! a `V` before closing stops it, if its driver can be stopped at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

/// So often within its timeout it is kept quiet: one time lost does no harm.
const TIMES: u32 = 4;
/// Its driver can be stopped by a `V` (`linux/watchdog.h`).
const WDIOF_MAGICCLOSE: u32 = 0x0100;

/// `struct watchdog_info` of `linux/watchdog.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

nix::ioctl_read!(get_support, b'W', 0, Info);
nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
nix::ioctl_read!(get_timeout, b'W', 7, i32);

/// A device, open or not.
#[derive(Debug)]
pub(super) struct Watchdog {
    path: PathBuf,
    /// The longest timeout that it may have, in s.
    timeout_max: i32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    device: File,
    timeout: i32,
    /// It can be stopped.
    stops: bool,
}

impl Watchdog {
    /// Looks whether there is one. Does not open it, which would start it.
    pub(super) fn new(path: &Path, takes: Duration) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        let metadata = path.metadata()?;
        if !metadata.file_type().is_char_device() {
            return Err(io::Error::other("it is no device"));
        }
        let timeout_max = i32::try_from(takes.as_secs()).unwrap_or(i32::MAX);
        if timeout_max < 1 {
            return Err(io::Error::other(
                "a watchdog counts in seconds: write takes = \"1s\" or more in [self-fence], as long as the machine may run on without being fed",
            ));
        }
        Ok(Self { path: path.to_owned(), timeout_max, open: None })
    }

    /// Begins, if it has not: with the longest timeout within which the machine has to be off.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let device = OpenOptions::new().write(true).open(&self.path)?;
        let open = match Open::set(device, self.timeout_max) {
            Ok(open) => open,
            Err((mut device, error)) => {
                // Opened is started: it is stopped again, if it can be.
                let _ = device.write_all(b"V");
                return Err(error);
            }
        };
        if open.timeout > self.timeout_max {
            let timeout = open.timeout;
            self.open = Some(open);
            self.stop();
            return Err(io::Error::other(format!(
                "it waits {timeout} s, and [self-fence] says that fencing takes {} s at the most: write takes = \"{timeout}s\"",
                self.timeout_max
            )));
        }
        self.open = Some(open);
        self.keep_quiet()
    }

    /// Keeps it quiet for another timeout.
    pub(super) fn keep_quiet(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) => open.device.write_all(b"1"),
            None => Ok(()),
        }
    }

    /// When it has to be kept quiet again; none: it is not open.
    pub(super) fn interval(&self) -> Option<Duration> {
        let open = self.open.as_ref()?;
        Some(Duration::from_secs(u64::try_from(open.timeout.max(1)).unwrap_or(1)) / TIMES)
    }

    /// Stops it, if it can be stopped; otherwise it is to be kept quiet for ever.
    pub(super) fn stop(&mut self) {
        if let Some(mut open) = self.open.take_if(|open| open.stops)
            && open.device.write_all(b"V").is_err()
        {
            // Closed without it, it would restart the machine.
            self.open = Some(open);
        }
    }
}

impl Open {
    fn set(device: File, timeout_max: i32) -> Result<Self, (File, io::Error)> {
        use std::os::fd::AsRawFd as _;
        let fd = device.as_raw_fd();
        let (mut info, mut timeout) = (Info::default(), timeout_max);
        // SAFETY: the structures are those of linux/watchdog.h, and the descriptor is open.
        let set = unsafe {
            get_support(fd, &raw mut info).and_then(|_| match set_timeout(fd, &raw mut timeout) {
                // It has a timeout of its own.
                Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EINVAL) => get_timeout(fd, &raw mut timeout),
                set => set,
            })
        };
        match set {
            Ok(_) => Ok(Self { device, timeout, stops: info.options & WDIOF_MAGICCLOSE != 0 }),
            Err(errno) => Err((device, io::Error::other(format!("it is no watchdog: {}", errno.desc())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_watchdog_is_refused_with_what_to_do() {
        let second = Duration::from_secs(1);
        assert!(Watchdog::new(Path::new("/dev/no-such-watchdog"), second).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Watchdog::new(file.path(), second).unwrap_err().to_string().contains("no device"));
        let error = Watchdog::new(Path::new("/dev/null"), Duration::from_millis(500)).unwrap_err();
        assert!(error.to_string().contains("takes = \"1s\""), "{error}");
        let mut null = Watchdog::new(Path::new("/dev/null"), second).unwrap();
        assert!(null.start().unwrap_err().to_string().contains("no watchdog"));
        assert_eq!(null.interval(), None);
    }
}
