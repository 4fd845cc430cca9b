//! The client of all sides: fio's NBD engine, and what its JSON says.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::installed;
use crate::trouble::Trouble;

/// How it is had.
pub const INSTALL: &str = "fio: apt-get install fio";

/// What is written, and how.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// As `--rw`.
    pub how: &'static str,
    /// Bytes of a request.
    pub block: u64,
    /// Requests at a time.
    pub depth: u32,
    /// For how long, or how much.
    pub until: Until,
}

/// When a job is over.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many seconds.
    Seconds(u64),
    /// After so many bytes, each block at most once.
    Bytes(u64),
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Requests a second.
    pub per_s: f64,
    /// MiB a second.
    pub mib_per_s: f64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Fio {
    program: PathBuf,
    output: PathBuf,
}

impl Fio {
    /// None when it is not installed. What it says goes to this folder.
    #[must_use]
    pub fn find(folder: &Path) -> Option<Self> {
        Some(Self { program: installed("fio")?, output: folder.join("fio.json") })
    }

    /// Writes to a volume of so many bytes.
    ///
    /// # Errors
    /// When it fails, or says nothing that is understood.
    pub fn write(&self, uri: &str, size: u64, job: Job) -> Result<Written, Trouble> {
        // It never hangs: fio itself has no limit where a request is not answered.
        let mut command = Command::new("timeout");
        command.arg("300").arg(&self.program).args(["--name=w", "--ioengine=nbd", "--randrepeat=0"]);
        command.args(["--output-format=json", &format!("--output={}", self.output.display())]);
        command.arg(format!("--uri={uri}")).arg(format!("--size={size}"));
        command.arg(format!("--rw={}", job.how)).arg(format!("--bs={}", job.block));
        command.arg(format!("--iodepth={}", job.depth));
        match job.until {
            Until::Seconds(seconds) => command.args(["--time_based", &format!("--runtime={seconds}")]),
            Until::Bytes(bytes) => command.arg(format!("--io_size={bytes}")),
        };
        let done = command.output().map_err(Trouble::system("run fio"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Trouble::Program { program: "fio".into(), ending: done.status.to_string(), said });
        }
        let text = std::fs::read(&self.output).map_err(Trouble::file("read", &self.output))?;
        read(&text).ok_or_else(|| Trouble::Unreadable { what: "what fio wrote", path: self.output.clone() })
    }
}

fn read(text: &[u8]) -> Option<Written> {
    let said: Value = serde_json::from_slice(text).ok()?;
    let job = said.get("jobs")?.get(0)?;
    if job.get("error")?.as_i64()? != 0 {
        return None;
    }
    let number = |key: &str| job.get("write")?.get(key)?.as_f64();
    Some(Written { per_s: number("iops")?, mib_per_s: number("bw_bytes")? / f64::from(1 << 20) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_json_is_understood_and_an_error_is_none() {
        let text = r#"{"jobs": [{"error": ERROR, "write": {"iops": 250.5, "bw_bytes": 2097152}}]}"#;
        let written = read(text.replace("ERROR", "0").as_bytes()).unwrap();
        assert_eq!((written.per_s, written.mib_per_s), (250.5, 2.0));
        assert!(read(text.replace("ERROR", "5").as_bytes()).is_none());
        assert!(read(b"fio: no such engine").is_none());
    }
}
