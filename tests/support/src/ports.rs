//! Loopback ports that nobody else uses.
//!
//! Where a server takes port 0 and tells its real port, that is better. For those that do not, a number is
//! reserved here: below the range from which the kernel hands out ports by itself, so that no outgoing
//! connection of any process takes it meanwhile, and locked by a file, so that tests of other processes that
//! ask here do not either. A process that asks nobody may still take it between here and the server's bind.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first number that is handed out: above the well known ones.
const FIRST: u16 = 15_000;
/// How many are tried: up to the kernel's own range, which begins at 32,768 by default.
const COUNT: u16 = 17_000;

/// A number at which nobody listened on 127.0.0.1, neither TCP nor UDP; reserved until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked; the kernel unlocks it when the process ends in whatever way.
    _lock: File,
}

impl Port {
    /// Reserves one.
    ///
    /// # Panics
    /// When there is none, or the folder for the locks cannot be made.
    #[must_use]
    pub fn reserve() -> Self {
        // Each process starts its search elsewhere, so that few meet at the same number.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = lock_folder();
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let start = std::process::id().wrapping_mul(7_919);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = u16::try_from(start.wrapping_add(step) % u32::from(COUNT)).expect("less than COUNT");
            let number = FIRST + offset;
            let path = folder.join(number.to_string());
            let lock = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if lock.try_lock().is_ok() && is_free(number) {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port from {FIRST} to {} is free on 127.0.0.1", FIRST + COUNT - 1);
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with the number.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn lock_folder() -> PathBuf {
    // Per user: another user's files could not be opened.
    std::env::temp_dir().join(format!("mainstay-ports-{}", nix::unistd::getuid()))
}

fn is_free(number: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, number);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_handed_out_twice_and_each_can_be_bound() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        TcpListener::bind(ports[0].address()).unwrap();
        UdpSocket::bind(ports[0].address()).unwrap();
    }

    #[test]
    fn a_taken_number_is_not_free() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(tcp.local_addr().unwrap().port()));
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(udp.local_addr().unwrap().port()));
    }
}
