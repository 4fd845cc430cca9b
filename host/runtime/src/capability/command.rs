//! `command`: a granted program, run under its supervisor.
//!
//! The command belongs to the call, not to the host function: it runs in a task of its own, which the call ends
//! and awaits however it comes to its end. If the call itself is dropped, the task ends the command in the
//! background. What a command leaves running on purpose is the supervisor's matter.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mainstay_supervisor::{
    Commands, Ending as SupervisorEnding, LaunchFailure, Outcome, OutcomeError, Owner, ProgramError,
    Request as SupervisorRequest, Stage, StartError, TIMEOUT_MS_MAX, check_program,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bindings::mainstay::kit::command::{Completed, Ending, Host, Request};
use crate::capability::{CallState, Fault, FaultKind, blocked, fault, ms};
use crate::outcome::CommandEvidence;
use crate::text;

/// Output shown of a command that was ended, per stream: a page.
const EVIDENCE_BYTES_MAX: usize = 4 << 10;
/// How long a command line is shown.
const COMMAND_LINE_BYTES_MAX: usize = 500;

/// The command that a call has running.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Option<Task>>);

struct Task {
    command_line: String,
    /// Dropped or used, it ends the command.
    cancel: oneshot::Sender<()>,
    /// What came of it, if nobody took it.
    task: JoinHandle<Option<Result<Outcome, CommandError>>>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Outcome(#[from] OutcomeError),
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command; what comes of it is received from what is returned.
    fn start(
        &self,
        commands: Commands,
        request: SupervisorRequest,
        command_line: String,
    ) -> oneshot::Receiver<Result<Outcome, CommandError>> {
        let (cancel, cancelled) = oneshot::channel();
        let (result, received) = oneshot::channel();
        let task = tokio::spawn(async move {
            let end = run(commands, request, cancelled).await;
            result.send(end).err()
        });
        *self.lock() = Some(Task { command_line, cancel, task });
        received
    }

    /// Forgets a command that has ended.
    fn clear(&self) {
        self.lock().take();
    }

    /// Ends what runs, and waits until it is gone. None when nothing runs.
    pub(crate) async fn end(&self, limit: Duration) -> Option<CommandEvidence> {
        let Task { command_line, cancel, task } = self.lock().take()?;
        // It does not matter if it has ended meanwhile.
        let _ = cancel.send(());
        match tokio::time::timeout(limit, task).await {
            Ok(Ok(Some(Ok(outcome)))) => Some(evidence(command_line, outcome)),
            Ok(Ok(Some(Err(error)))) => Some(without_outcome(command_line, error.to_string())),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                Some(without_outcome(command_line, format!("not known: the host broke down over it ({error})")))
            }
            Err(_) => {
                tracing::error!(%command_line, limit_ms = ms(limit), "a command cannot be ended; does the kernel hold one of its processes?");
                Some(without_outcome(command_line, format!("not ended yet after {} ms", ms(limit))))
            }
        }
    }
}

async fn run(
    commands: Commands,
    request: SupervisorRequest,
    mut cancelled: oneshot::Receiver<()>,
) -> Result<Outcome, CommandError> {
    let mut running = commands.start(request).await?;
    // Both a word and a dropped sender mean that nobody waits any more.
    let ended = tokio::select! {
        outcome = running.outcome() => Some(outcome),
        _ = &mut cancelled => None,
    };
    match ended {
        Some(outcome) => Ok(outcome?),
        None => Ok(running.cancel().await?),
    }
}

fn evidence(command_line: String, outcome: Outcome) -> CommandEvidence {
    let ending = match outcome.ending {
        SupervisorEnding::Exited(code) => format!("exited with {code}"),
        SupervisorEnding::Signalled(signal) => format!("ended by signal {signal}"),
        SupervisorEnding::TimedOut => format!("ended after {} ms, its time being up", outcome.duration_ms),
        SupervisorEnding::Cancelled => format!("ended with its call, after {} ms", outcome.duration_ms),
    };
    let seen = outcome.evidence.unwrap_or_default();
    let mut processes: Vec<String> = seen.processes.iter().map(ToString::to_string).collect();
    if seen.processes_left_out > 0 {
        processes.push(format!("and {} more", seen.processes_left_out));
    }
    CommandEvidence {
        command_line,
        ending,
        stdout: text::tail(&outcome.stdout, EVIDENCE_BYTES_MAX),
        stderr: text::tail(&outcome.stderr, EVIDENCE_BYTES_MAX),
        processes,
    }
}

fn without_outcome(command_line: String, ending: String) -> CommandEvidence {
    CommandEvidence { command_line, ending, stdout: String::new(), stderr: String::new(), processes: Vec::new() }
}

impl CallState {
    /// What is to be run, if it may be.
    async fn prepare(&mut self, request: Request) -> Result<SupervisorRequest, Fault> {
        let host = std::sync::Arc::clone(&self.host);
        let limits = &host.limits;
        let lengths = request.args.iter().map(String::len);
        let lengths = lengths.chain(request.env.iter().map(|(name, value)| name.len() + value.len()));
        let args_bytes: usize = lengths.sum::<usize>() + request.program.len();
        too_large("arguments and environment", args_bytes, limits.command_args_bytes_max)?;
        too_large("standard input", request.stdin.len(), limits.command_stdin_bytes_max)?;
        let grant = self.services.grants.command(&self.asker, &request.program, request.user.as_deref())?;
        let (program, user) = (grant.program.clone(), grant.user.clone());
        self.check(program.clone()).await?;
        let owner = self.owner();
        Ok(SupervisorRequest {
            args: request.args,
            env: request.env,
            cwd: request.cwd.map(PathBuf::from),
            user,
            stdin: request.stdin,
            timeout_ms: ms(self.limit(request.timeout_ms)).clamp(1, TIMEOUT_MS_MAX),
            output_bytes_max: request.output_bytes_max.min(limits.command_output_bytes_max),
            keep_children: request.keep_children,
            // A check changes nothing: after a power cut nobody asks what it said.
            durable: self.operation != "quick-check",
            ..SupervisorRequest::new(owner, program)
        })
    }

    fn owner(&self) -> Owner {
        Owner {
            tag: self.asker.tag.to_string(),
            operation: self.operation.to_owned(),
            operation_id: self.operation_id.to_string(),
        }
    }

    /// Runs a program of the host's own choice for this call, in the time that the call has.
    pub(super) async fn run_own(&mut self, program: PathBuf, args: Vec<String>) -> Result<Outcome, Fault> {
        let line = args.iter().fold(program.display().to_string(), |line, arg| format!("{line} {arg}"));
        let command_line = text::one_line(&line, COMMAND_LINE_BYTES_MAX);
        let request = SupervisorRequest {
            args,
            // What it says is read.
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            timeout_ms: ms(self.limit(None)).clamp(1, TIMEOUT_MS_MAX),
            durable: !self.changes_nothing(),
            ..SupervisorRequest::new(self.owner(), program)
        };
        let received = self.watch.command.start(self.services.commands.clone(), request, command_line).await;
        self.watch.command.clear();
        match received {
            Ok(outcome) => outcome.map_err(|error| command_fault(&error)),
            Err(_) => Err(fault(FaultKind::Failed, "host", "running the command broke down inside the host")),
        }
    }

    /// After a power cut nobody asks what a check said.
    fn changes_nothing(&self) -> bool {
        matches!(self.operation, "quick-check" | "deep-check" | "assess")
    }

    /// May this file be run? Asked again each time: it may have been replaced since the config was checked.
    async fn check(&mut self, program: PathBuf) -> Result<(), Fault> {
        let checked = self.host.file_operation(self.limit(None), move || check_program(&program)).await;
        match checked.map_err(|error| blocked("looking at the program", error))? {
            Ok(_) => Ok(()),
            Err(error) => Err(program_fault(&error)),
        }
    }
}

fn too_large(what: &str, bytes: usize, bytes_max: usize) -> Result<(), Fault> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(fault(FaultKind::Limit, "command-too-large", format!("{what} have {bytes} bytes; {bytes_max} are allowed")))
}

/// What the kit is told of a program that may not be run.
fn program_fault(error: &ProgramError) -> Fault {
    let (kind, code) = match error {
        ProgramError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            (FaultKind::NotFound, "no-such-program")
        }
        ProgramError::NotAbsolute(_) | ProgramError::ParentFolder(_) => (FaultKind::Invalid, "program-path"),
        ProgramError::Writable { .. } => (FaultKind::Denied, "program-writable"),
        ProgramError::Unreadable { .. }
        | ProgramError::TooManyLinks(_)
        | ProgramError::NotAFile(_)
        | ProgramError::NotExecutable(_) => (FaultKind::Unavailable, "program-unusable"),
    };
    fault(kind, code, error.to_string())
}

/// What the kit is told of a command that has no outcome.
fn command_fault(error: &CommandError) -> Fault {
    let (kind, code) = match error {
        CommandError::Start(StartError::Invalid { .. }) => (FaultKind::Invalid, "command"),
        CommandError::Start(StartError::Program(LaunchFailure { stage, .. })) => match stage {
            Stage::User | Stage::Identity => (FaultKind::Unavailable, "user"),
            Stage::Cwd => (FaultKind::NotFound, "working-directory"),
            Stage::Exec => (FaultKind::Unavailable, "program-unusable"),
            Stage::Files | Stage::Fork | Stage::Session | Stage::Streams => (FaultKind::Unavailable, "command-start"),
        },
        CommandError::Start(
            StartError::Folder(_)
            | StartError::Supervisor { .. }
            | StartError::SupervisorGone { .. }
            | StartError::Ending,
        ) => (FaultKind::Unavailable, "command-start"),
        // It ran, and what it did is not known.
        CommandError::Outcome(_) => (FaultKind::Closed, "command-lost"),
    };
    fault(kind, code, error.to_string())
}

impl Host for CallState {
    async fn run(&mut self, request: Request) -> wasmtime::Result<Result<Completed, Fault>> {
        let command_line = command_line(&request);
        let _entered = self.enter("command.run", command_line.as_str());
        let request = match self.prepare(request).await {
            Ok(request) => request,
            Err(fault) => return Ok(Err(fault)),
        };
        let received = self.watch.command.start(self.services.commands.clone(), request, command_line).await;
        self.watch.command.clear();
        Ok(match received {
            Ok(Ok(outcome)) => completed(outcome),
            Ok(Err(error)) => Err(command_fault(&error)),
            Err(_) => Err(fault(FaultKind::Failed, "host", "running the command broke down inside the host")),
        })
    }
}

fn completed(outcome: Outcome) -> Result<Completed, Fault> {
    let ending = match outcome.ending {
        SupervisorEnding::Exited(code) => Ending::Exited(code),
        SupervisorEnding::Signalled(signal) => Ending::Signalled(signal),
        SupervisorEnding::TimedOut => Ending::TimedOut,
        // Somebody other than this call ended it.
        SupervisorEnding::Cancelled => {
            return Err(fault(
                FaultKind::Closed,
                "command-cancelled",
                "the command was ended from outside of this call",
            ));
        }
    };
    Ok(Completed {
        ending,
        stdout: outcome.stdout,
        stderr: outcome.stderr,
        truncated: outcome.truncated,
        duration_ms: u32::try_from(outcome.duration_ms).unwrap_or(u32::MAX),
    })
}

/// Program and arguments, those with white space quoted.
fn command_line(request: &Request) -> String {
    let mut line = request.program.clone();
    for arg in &request.args {
        if line.len() > COMMAND_LINE_BYTES_MAX {
            break;
        }
        line.push(' ');
        if arg.is_empty() || arg.contains(char::is_whitespace) {
            line.push_str(&format!("{arg:?}"));
        } else {
            line.push_str(arg);
        }
    }
    text::one_line(&line, COMMAND_LINE_BYTES_MAX)
}
