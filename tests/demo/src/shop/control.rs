//! Starts, stops and checks a shop, as the programs that come with any daemon do.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use mainstay_test_support::poll_until;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Shop, ShopError};
use crate::http::{self, HttpError};

/// How long a shop may take until it answers, in s: it takes some ms, and the machine may be busy.
const START_S_MAX: u64 = 20;
/// How long it may take to end by itself, and then by force, in s.
const STOP_S_MAX: u64 = 5;
/// How long one answer may take, in s.
const ANSWER_S_MAX: u64 = 5;

/// Does it answer with its page?
pub(super) fn check(shop: &Shop) -> Result<(), ShopError> {
    let address = shop.address()?;
    ask(shop)?.map_err(|source| ShopError::NotServing { address, source })
}

fn ask(shop: &Shop) -> Result<Result<(), HttpError>, ShopError> {
    let address = shop.address()?;
    Ok(http::get(address, "shop", Duration::from_secs(ANSWER_S_MAX)).map(|_| ()))
}

/// Leaves the shop in the background. One that serves already is left alone.
pub(super) fn start(shop: &Shop) -> Result<(), ShopError> {
    let address = shop.address()?;
    let Err(mut last) = ask(shop)? else { return Ok(()) };
    let path = shop.log();
    let log_error = |source| ShopError::File { doing: "open its log", path: path.clone(), source };
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(log_error)?;
    let before = log.metadata().map_err(log_error)?.len();
    let second = log.try_clone().map_err(log_error)?;
    let mut process = Command::new(std::env::current_exe().map_err(ShopError::Spawn)?)
        .args(["shop", "serve", "--home"])
        .arg(&shop.home)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .process_group(0)
        .spawn()
        .map_err(ShopError::Spawn)?;
    let mut ended = false;
    let mut asked = Ok(());
    let serves = poll_until(Duration::from_secs(START_S_MAX), || {
        // An error means that it was waited for already, which nobody else does.
        ended = process.try_wait().is_ok_and(|status| status.is_some());
        match ask(shop) {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                last = error;
                ended
            }
            Err(error) => {
                asked = Err(error);
                true
            }
        }
    });
    asked?;
    if ended {
        return Err(ShopError::Ended(said_since(&path, before).map_err(log_error)?));
    }
    if serves {
        return Ok(());
    }
    // It may have ended this very moment.
    let _ = process.kill();
    let _ = process.wait();
    Err(ShopError::Mute { address, seconds: START_S_MAX, last })
}

/// What it said on its way: the end of its log.
fn said_since(path: &std::path::Path, start: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut said = String::new();
    file.take(http::MESSAGE_BYTES_MAX).read_to_string(&mut said)?;
    Ok(said.trim_end().to_owned())
}

/// Ends it, first with SIGTERM, then with SIGKILL, and takes its number away: some day it is another process's.
pub(super) fn stop(shop: &Shop) -> Result<(), ShopError> {
    end(shop)?;
    let path = shop.pid_file();
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ShopError::File { doing: "remove", path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn end(shop: &Shop) -> Result<(), ShopError> {
    let Some(pid) = shop.process() else { return Ok(()) };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(errno) => {
                let path = shop.pid_file();
                return Err(ShopError::File { doing: "end the process named in", path, source: errno.into() });
            }
        }
        if poll_until(Duration::from_secs(STOP_S_MAX), || shop.process() != Some(pid)) {
            return Ok(());
        }
    }
    Err(ShopError::Undying { pid, seconds: STOP_S_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_test_support::TempDir;

    fn shop(folder: &TempDir) -> Shop {
        let shop = Shop::at(folder.path());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        shop.furnish(listener.local_addr().unwrap(), "hello").unwrap();
        shop
    }

    #[test]
    fn what_does_not_run_is_stopped_already_and_does_not_serve() {
        let folder = TempDir::new();
        let shop = shop(&folder);
        stop(&shop).unwrap();
        let error = check(&shop).unwrap_err().to_string();
        assert!(error.contains("does not serve: no connection: connection refused"), "{error}");
    }

    #[test]
    fn a_process_that_only_has_the_number_is_not_taken_for_the_shop() {
        let folder = TempDir::new();
        let shop = shop(&folder);
        std::fs::write(shop.pid_file(), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(shop.process(), None);
        stop(&shop).unwrap();
        assert!(!shop.pid_file().exists(), "nobody is to take it for the shop's");
    }

    #[test]
    fn without_an_address_it_says_which_file_is_wrong() {
        let folder = TempDir::new();
        let shop = shop(&folder);
        folder.write("address", "nowhere\n");
        let error = check(&shop).unwrap_err().to_string();
        assert!(error.contains("/address holds no address: \"nowhere\\n\""), "{error}");
    }
}
