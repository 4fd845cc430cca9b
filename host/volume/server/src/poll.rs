//! Waiting for sockets, the disk and the clock at once (`epoll(7)`).
//!
//! Says who can go on. Whoever is not listened to is not registered for it, so that a client that is held back costs
//! nothing.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What is looked at in one turn; the rest is in the next.
const EVENTS_MAX: usize = 64;
/// The longest wait: [`EpollTimeout`] counts milliseconds in 31 bits, and a turn more does no harm.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What somebody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// That there is something to be read, or somebody to be accepted.
    pub read: bool,
    /// That more can be written.
    pub write: bool,
}

/// Somebody can go on. A socket that has failed or ended can be read and written: doing it tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Who, by what they were registered as.
    pub key: u64,
    /// Whether reading does not wait.
    pub read: bool,
    /// Whether writing does not wait.
    pub write: bool,
    /// Whether nobody is at the other end any more. That is said again and again, to whoever waits for nothing, too.
    pub gone: bool,
}

/// All who wait.
#[derive(Debug)]
pub struct Poll {
    epoll: Epoll,
}

impl Poll {
    /// With nobody.
    ///
    /// # Errors
    /// When the system gives no descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Registers somebody. They are forgotten when their descriptor is closed.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn add(&self, who: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(who, EpollEvent::new(flags(interest), key))?)
    }

    /// Says anew what somebody waits for.
    ///
    /// # Errors
    /// When they are not registered.
    pub fn change(&self, who: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(who, &mut EpollEvent::new(flags(interest), key))?)
    }

    /// Waits for the first who can go on, `at_most` so long.
    ///
    /// # Errors
    /// Never, in an order that has all descriptors open.
    pub fn wait(&self, at_most: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        // Up, or it would be waited not at all, again and again, for a time that has not come.
        let ms = at_most.min(WAIT_MAX).as_nanos().div_ceil(1_000_000);
        let timeout = EpollTimeout::try_from(ms as u64).unwrap_or(EpollTimeout::ZERO);
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        ready.clear();
        ready.extend(events[..count].iter().map(|event| {
            let over = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
            let has = |flag| event.events().intersects(flag | over);
            Ready {
                key: event.data(),
                read: has(EpollFlags::EPOLLIN),
                write: has(EpollFlags::EPOLLOUT),
                gone: event.events().intersects(over),
            }
        }));
        Ok(())
    }
}

fn flags(interest: Interest) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, interest.read);
    flags.set(EpollFlags::EPOLLOUT, interest.write);
    flags
}
