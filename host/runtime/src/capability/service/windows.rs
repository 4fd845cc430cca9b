//! Asks the service control manager of Windows: what a service is, and that it be started, stopped, ended.
//!
//! Its functions block, so each runs on a thread of its own, of which there are only so many. It decides nothing: `scm.rs`
//! says what the answers come to.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use windows_service::Error;
use windows_service::service::{Service, ServiceAccess, ServiceStartType};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{CloseHandle, ERROR_INVALID_PARAMETER, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Services::{
    QueryServiceStatusEx, SC_STATUS_PROCESS_INFO, SERVICE_STATUS_PROCESS, SERVICE_WIN32_OWN_PROCESS,
};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_ACCESS_RIGHTS, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE,
    TerminateProcess, WaitForSingleObject,
};

use super::drive::{Asked, Manager};
use super::look::{Look, Trouble};
use super::scm::{Phase, Row, Start, name_problem, refused};
use crate::bindings::mainstay::kit::service::State;
use crate::text::one_line;

/// Questions at once. Each blocks a thread; all are answered by one process of the system, so that more would be no quicker.
const QUESTIONS_MAX: usize = 16;
/// What is left of a process that was ended from outside, as its exit code.
const ENDED_EXIT_CODE: u32 = 1;

/// The service control manager, as this host reaches it.
pub(crate) struct ControlManager {
    turns: Arc<Semaphore>,
}

/// What came of a question, if not an answer.
enum Refusal {
    /// The number of the error, and words.
    Error(u32, String),
    /// Of no number.
    Trouble(Trouble),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let words = |words: &dyn std::fmt::Display| one_line(&words.to_string(), super::WORDS_BYTES_MAX);
        let Error::Winapi(system) = &error else { return Self::Trouble(Trouble::Refused(words(&error))) };
        match system.raw_os_error().and_then(|code| u32::try_from(code).ok()) {
            Some(code) => Self::Error(code, words(system)),
            None => Self::Trouble(Trouble::Refused(words(system))),
        }
    }
}

impl ControlManager {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// Asks on a thread that may block. It goes on after its time; it cannot be taken back.
    async fn ask<T: Send + 'static>(
        &self,
        doing: &str,
        name: &str,
        until: Instant,
        question: impl FnOnce(&str) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Result<T, Refusal>, Trouble> {
        if let Some(problem) = name_problem(name) {
            return Err(Trouble::Name(name.to_owned(), problem));
        }
        let asked = name.to_owned();
        let work = async {
            let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else { return None };
            let task = tokio::task::spawn_blocking(move || {
                // Until the thread is free, not until somebody gives up.
                let _turn = turn;
                question(&asked)
            });
            task.await.ok()
        };
        match timeout_at(until, work).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Trouble::Lost(format!("{doing} {name}: it broke down inside the host"))),
            Err(_) => Err(Trouble::Late(format!("{doing} {name}: the service control manager did not answer in time"))),
        }
    }

    /// Asks for something that changes it, from this state.
    async fn control(
        &self,
        doing: &str,
        name: &str,
        state: State,
        until: Instant,
        question: impl FnOnce(&str) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Asked, Trouble> {
        match self.ask(doing, name, until, question).await? {
            Ok(()) => Ok(Asked::Taken),
            Err(Refusal::Error(code, words)) => refused(doing, name, state, code, &words),
            Err(Refusal::Trouble(trouble)) => Err(trouble),
        }
    }
}

impl Manager for ControlManager {
    /// That it runs a service says itself.
    const SETTLES: Duration = Duration::ZERO;

    async fn look(&self, name: &str, until: Instant) -> Result<Look, Trouble> {
        let doing = "look at";
        match self.ask(doing, name, until, row).await? {
            Ok(row) => Ok(row.look()),
            Err(Refusal::Trouble(trouble)) => Err(trouble),
            Err(Refusal::Error(code, words)) => match refused(doing, name, State::Stopped, code, &words) {
                Err(trouble) => Err(trouble),
                Ok(Asked::Taken | Asked::NotNow) => {
                    Err(Trouble::Refused(format!("Windows does not tell how {name} is: {words} (error {code})")))
                }
            },
        }
    }

    async fn start(&self, name: &str, look: &Look, until: Instant) -> Result<Asked, Trouble> {
        let paused = look.state == State::Paused;
        self.control("start", name, look.state, until, move |name| {
            if paused {
                open(name, ServiceAccess::PAUSE_CONTINUE)?.resume()?;
            } else {
                open(name, ServiceAccess::START)?.start::<&OsStr>(&[])?;
            }
            Ok(())
        })
        .await
    }

    async fn stop(&self, name: &str, look: &Look, until: Instant) -> Result<Asked, Trouble> {
        self.control("stop", name, look.state, until, |name| {
            open(name, ServiceAccess::STOP)?.stop()?;
            Ok(())
        })
        .await
    }

    async fn kill(&self, name: &str, look: &Look, until: Instant) -> Result<bool, Trouble> {
        if look.pid.is_none() {
            return Ok(false);
        }
        let doing = "end the process of";
        match self.ask(doing, name, until, end).await? {
            Ok(ended) => Ok(ended),
            Err(Refusal::Trouble(trouble)) => Err(trouble),
            Err(Refusal::Error(code, words)) => match refused(doing, name, look.state, code, &words) {
                Err(trouble) => Err(trouble),
                // It is in another state by now: that is looked at.
                Ok(Asked::Taken | Asked::NotNow) => Ok(true),
            },
        }
    }

    async fn forget(&self, _: &str, _: Instant) -> Result<(), Trouble> {
        // The system keeps how a service ended until it is started again, and has no function to change that.
        Ok(())
    }
}

fn open(name: &str, access: ServiceAccess) -> Result<Service, Refusal> {
    let manager = ServiceManager::local_computer(None::<&OsStr>, ServiceManagerAccess::CONNECT)?;
    Ok(manager.open_service(name, access)?)
}

/// How a service is, with the pid in every state in which it has one, which the crate has for services that run.
fn status(service: &Service) -> Result<SERVICE_STATUS_PROCESS, Refusal> {
    let mut status = SERVICE_STATUS_PROCESS::default();
    let mut needed = 0;
    let size = u32::try_from(size_of::<SERVICE_STATUS_PROCESS>()).unwrap_or(u32::MAX);
    // SAFETY: the handle is open; the system writes at most `size` bytes, which is what the structure has.
    let done = unsafe {
        QueryServiceStatusEx(
            service.raw_handle(),
            SC_STATUS_PROCESS_INFO,
            std::ptr::from_mut(&mut status).cast(),
            size,
            &raw mut needed,
        )
    };
    if done == 0 { Err(Error::Winapi(std::io::Error::last_os_error()).into()) } else { Ok(status) }
}

fn row(name: &str) -> Result<Row, Refusal> {
    let service = open(name, ServiceAccess::QUERY_STATUS | ServiceAccess::QUERY_CONFIG)?;
    let status = status(&service)?;
    let config = service.query_config()?;
    let pid = status.dwProcessId;
    let phase = Phase::from_raw(status.dwCurrentState).ok_or_else(|| {
        let message = format!("Windows says that {name} is in state {}, which there is not", status.dwCurrentState);
        Refusal::Trouble(Trouble::Refused(message))
    })?;
    Ok(Row {
        display_name: config.display_name.to_string_lossy().into_owned(),
        phase,
        start: match config.start_type {
            ServiceStartType::BootStart => Start::Boot,
            ServiceStartType::SystemStart => Start::System,
            ServiceStartType::AutoStart => Start::Automatic,
            ServiceStartType::OnDemand => Start::OnDemand,
            ServiceStartType::Disabled => Start::Disabled,
        },
        pid,
        process_gone: pid != 0 && is_gone(pid),
        exit_code: status.dwWin32ExitCode,
        service_exit_code: status.dwServiceSpecificExitCode,
        checkpoint: status.dwCheckPoint,
        wait_hint_ms: status.dwWaitHint.into(),
    })
}

/// Ends the process that the service has now, if nobody else lives in it. False: it has none.
fn end(name: &str) -> Result<bool, Refusal> {
    let status = status(&open(name, ServiceAccess::QUERY_STATUS)?)?;
    let pid = status.dwProcessId;
    if pid == 0 {
        return Ok(false);
    }
    if status.dwServiceType & SERVICE_WIN32_OWN_PROCESS == 0 || pid == std::process::id() {
        return Err(Refusal::Trouble(Trouble::SharedProcess(name.to_owned())));
    }
    let process = match Process::open(pid, PROCESS_TERMINATE | PROCESS_SYNCHRONIZE) {
        Ok(process) => process,
        Err(error) if is_no_process(&error) => return Ok(false),
        Err(error) => return Err(Error::Winapi(error).into()),
    };
    // SAFETY: the handle is open, with the right to end the process.
    if unsafe { TerminateProcess(process.0, ENDED_EXIT_CODE) } == 0 {
        let error = std::io::Error::last_os_error();
        return if process.has_ended() { Ok(true) } else { Err(Error::Winapi(error).into()) };
    }
    Ok(true)
}

/// Whether there is no such process. What cannot be opened is taken to live.
fn is_gone(pid: u32) -> bool {
    match Process::open(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE) {
        Ok(process) => process.has_ended(),
        Err(error) => is_no_process(&error),
    }
}

fn is_no_process(error: &std::io::Error) -> bool {
    error.raw_os_error().and_then(|code| u32::try_from(code).ok()) == Some(ERROR_INVALID_PARAMETER)
}

/// An open handle of a process.
struct Process(HANDLE);

impl Process {
    fn open(pid: u32, rights: PROCESS_ACCESS_RIGHTS) -> std::io::Result<Self> {
        // SAFETY: it takes no pointers; what it gives back is closed once, by `drop`.
        let handle = unsafe { OpenProcess(rights, 0, pid) };
        if handle.is_null() { Err(std::io::Error::last_os_error()) } else { Ok(Self(handle)) }
    }

    /// Somebody may hold on to a process that has ended.
    fn has_ended(&self) -> bool {
        // SAFETY: the handle is open, with the right to wait for the process; no time is waited.
        unsafe { WaitForSingleObject(self.0, 0) == WAIT_OBJECT_0 }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: the handle is open and nobody else has it. That it cannot be closed changes nothing.
        let _ = unsafe { CloseHandle(self.0) };
    }
}
