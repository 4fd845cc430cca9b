//! Cargo, called from within a test.
//!
//! A test that runs under `cargo test` holds no build lock, so it may build; but it inherits what the outer
//! cargo and its caller set for the host's build, which must not reach the inner one.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::root;

/// How long one build may take, in minutes: the whole engine from nothing takes 9 on two idle cores.
const BUILD_MINUTES_MAX: u64 = 40;

/// Why cargo did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be started.
    #[error("`{command}` could not be started: {source}; cargo must be in PATH, or named by the variable CARGO")]
    Start {
        /// What was called.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long, and was ended.
    #[error("`{command}` was not done after {minutes} minutes and was ended")]
    TooSlow {
        /// What was called.
        command: String,
        /// The limit.
        minutes: u64,
    },
    /// The build failed.
    #[error("`{command}` failed:\n{stderr}")]
    Failed {
        /// What was called.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// The build succeeded and made no such file.
    #[error("`{command}` made no {wanted}")]
    NoArtifact {
        /// What was called.
        command: String,
        /// What was looked for.
        wanted: String,
    },
}

/// What one target was built into.
#[derive(Debug)]
pub(crate) struct Artifact {
    /// The target's name; dashes and underscores as the manifest has them.
    pub(crate) target: String,
    /// Every file that was made for it.
    pub(crate) files: Vec<PathBuf>,
    /// The program, if it is one.
    pub(crate) executable: Option<PathBuf>,
}

/// A build's command line, to be named in errors.
#[derive(Debug)]
pub(crate) struct Build {
    command: String,
    /// What was made, dependencies included.
    pub(crate) artifacts: Vec<Artifact>,
}

impl Build {
    pub(crate) fn missing(&self, wanted: impl Into<String>) -> BuildError {
        BuildError::NoArtifact { command: self.command.clone(), wanted: wanted.into() }
    }
}

/// `cargo build ARGS` at the workspace's root, where `.cargo/config.toml` is found.
pub(crate) fn build(args: &[&str]) -> Result<Build, BuildError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.arg("build").args(args).arg("--message-format=json-render-diagnostics").current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_build) {
            cargo.env_remove(name);
        }
    }
    let command = format!("cargo build {}", args.join(" "));
    let (success, stdout, stderr) = run(cargo, &command)?;
    if success {
        Ok(Build { artifacts: artifacts(&stdout), command })
    } else {
        Err(BuildError::Failed { command, stderr })
    }
}

/// Whether a variable says something about the outer cargo's build that would be wrong for the inner one.
fn is_of_the_outer_build(name: &str) -> bool {
    const EXACT: &[&str] = &[
        // Flags for the host break a build for WebAssembly, and different flags build everything anew.
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        // What cargo tells the package it runs.
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "MFLAGS",
        "OUT_DIR",
    ];
    const PREFIXES: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_FEATURE_", "CARGO_CFG_"];
    EXACT.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (name.starts_with("CARGO_TARGET_") && (name.ends_with("_RUSTFLAGS") || name.ends_with("_LINKER")))
}

/// Runs it in a process group of its own, so that all of it can be ended.
fn run(mut cargo: Command, command: &str) -> Result<(bool, String, String), BuildError> {
    let start = |source| BuildError::Start { command: command.to_owned(), source };
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let stdout = read_aside(child.stdout.take());
    let stderr = read_aside(child.stderr.take());
    let limit = Duration::from_secs(BUILD_MINUTES_MAX * 60);
    let output = stdout.recv_timeout(limit).and_then(|out| Ok((out, stderr.recv_timeout(limit)?)));
    if output.is_err()
        && let Ok(id) = i32::try_from(child.id())
    {
        // It may have ended this very moment; then there is nothing to end.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    let status = child.wait().map_err(start)?;
    match output {
        Ok((stdout, stderr)) => Ok((status.success(), stdout, stderr)),
        Err(_) => Err(BuildError::TooSlow { command: command.to_owned(), minutes: BUILD_MINUTES_MAX }),
    }
}

/// Both streams have to be read at once, or cargo blocks on the one that is not.
fn read_aside(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream
            && let Err(error) = stream.read_to_end(&mut bytes)
        {
            bytes.extend_from_slice(format!("\n(its output could not be read further: {error})\n").as_bytes());
        }
        // Nobody listens any more when the limit has passed.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// The lines of cargo's JSON that name a file.
fn artifacts(stdout: &str) -> Vec<Artifact> {
    let mut artifacts = Vec::new();
    for line in stdout.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let files = message["filenames"].as_array().into_iter().flatten();
        artifacts.push(Artifact {
            target: message["target"]["name"].as_str().unwrap_or_default().to_owned(),
            files: files.filter_map(|file| file.as_str().map(PathBuf::from)).collect(),
            executable: message["executable"].as_str().map(PathBuf::from),
        });
    }
    artifacts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_outer_build_says_does_not_reach_the_inner_one() {
        for name in ["RUSTFLAGS", "CARGO_PKG_NAME", "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS"] {
            assert!(is_of_the_outer_build(name), "{name}");
        }
        for name in ["CARGO_TARGET_DIR", "CARGO_HOME", "CARGO_NET_OFFLINE", "PATH", "RUSTUP_TOOLCHAIN"] {
            assert!(!is_of_the_outer_build(name), "{name}");
        }
    }

    #[test]
    fn artifacts_are_read_and_other_lines_are_not() {
        let stdout = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"a-kit"},"filenames":["/t/a.wasm","/t/a.rlib"],"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = artifacts(stdout);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].target.as_str(), found[0].files.len()), ("a-kit", 2));
    }

    #[test]
    fn a_failed_build_says_what_was_called_and_what_it_said() {
        let error = build(&["-p", "mainstay-no-such-package"]).unwrap_err().to_string();
        assert!(error.contains("cargo build -p mainstay-no-such-package"), "{error}");
        assert!(error.contains("did not match any packages"), "{error}");
    }
}
