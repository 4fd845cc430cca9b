//! Asks systemd, over the system bus: what a unit is, and that it be started, stopped, killed.
//!
//! One connection is shared by all calls, and made anew when it is gone. A request that is given up takes its connection with
//! it: what of it is written already nobody knows. It decides nothing: `unit.rs` says what the answers come to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};
use zbus::connection::Builder;
use zbus::{Connection, DBusError as _, DynamicType, Message, OwnedObjectPath, OwnedVariant, Type, Variant};

use super::drive::{Asked, Manager};
use super::look::{Coming, Look, Trouble};
use super::unit::{Unit, object_path, unit_name};
use crate::bindings::mainstay::kit::service::State;
use crate::capability::ms;
use crate::text::one_line;

/// How long a connection may take to be made: a bus that works answers within milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long one answer may take. systemd answers nothing while it reads all its units again, which takes seconds where there
/// are thousands; 25 s is what D-Bus itself allows.
const ANSWER_MAX: Duration = Duration::from_secs(25);
/// A process that is gone is looked for once more after this time, before it is said that systemd has not noticed.
const NOTICE: Duration = Duration::from_millis(50);
/// How often a unit is looked at again because a job of it ended meanwhile.
const LOOKS_MAX: u32 = 5;

const BUS: &str = "org.freedesktop.DBus";
const BUS_OBJECT: &str = "/org/freedesktop/DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// A job of ours takes the place of one that is queued and wants something else, as it does for systemctl: whoever restores
/// wants it up.
const MODE: &str = "replace";
const SIGKILL: i32 = 9;

/// systemd, as this host reaches it.
pub(crate) struct Systemd {
    /// None: the system bus of the node, or that of `DBUS_SYSTEM_BUS_ADDRESS`.
    address: Mutex<Option<String>>,
    bus: Mutex<Option<Arc<Bus>>>,
    /// Held while a connection is made.
    connecting: tokio::sync::Mutex<()>,
}

struct Bus {
    connection: Connection,
    /// Whether the numbers of processes mean the same there as here.
    same_processes: bool,
}

/// Something asked of an object on the bus.
struct Request<'a, B> {
    /// What for: `start postfix`.
    doing: String,
    destination: &'a str,
    object: &'a str,
    interface: &'a str,
    method: &'a str,
    body: &'a B,
}

/// What came of it, if not an answer.
enum Refusal {
    Trouble(Trouble),
    /// The name of the error, and words.
    Error(String, String),
}

/// A connection that is being used. Dropped before that is over, nobody uses it again.
struct InUse<'a> {
    systemd: &'a Systemd,
    bus: Arc<Bus>,
    over: bool,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.systemd.discard(&self.bus);
        }
    }
}

impl Systemd {
    pub(crate) fn new() -> Self {
        Self { address: Mutex::default(), bus: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// From now on another bus.
    pub(crate) fn use_bus(&self, address: String) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        *self.bus() = None;
    }

    fn bus(&self) -> MutexGuard<'_, Option<Arc<Bus>>> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn discard(&self, broken: &Arc<Bus>) {
        let mut bus = self.bus();
        if bus.as_ref().is_some_and(|bus| Arc::ptr_eq(bus, broken)) {
            *bus = None;
        }
    }

    /// The connection, and whether it was made just now.
    async fn connected(&self, until: Instant) -> Result<(Arc<Bus>, bool), Trouble> {
        let until = until.min(Instant::now() + CONNECT_MAX);
        let late = |_| Trouble::NoManager("the system bus does not answer; is dbus running?".to_owned());
        let _turn = timeout_at(until, self.connecting.lock()).await.map_err(late)?;
        if let Some(bus) = self.bus().as_ref() {
            return Ok((Arc::clone(bus), false));
        }
        let bus = Arc::new(timeout_at(until, self.connect()).await.map_err(late)?.map_err(|error| {
            let error = one_line(&error.to_string(), super::WORDS_BYTES_MAX);
            Trouble::NoManager(format!("the system bus cannot be reached, and with it systemd: {error}"))
        })?);
        *self.bus() = Some(Arc::clone(&bus));
        Ok((bus, true))
    }

    async fn connect(&self) -> zbus::Result<Bus> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let builder = match &address {
            Some(address) => Builder::address(address.as_str()),
            None => Builder::system(),
        };
        let connection = builder.build().await?;
        // A bus in a container, or outside of the one that this host is in, sees other numbers.
        let seen_as = match connection.unique_name() {
            Some(name) => {
                let method = "GetConnectionUnixProcessID";
                let answer = connection.call_method(Some(BUS), BUS_OBJECT, Some(BUS), method, &(name.as_str(),)).await;
                answer.and_then(|answer| answer.body().deserialize::<u32>()).ok()
            }
            None => None,
        };
        Ok(Bus { connection, same_processes: seen_as == Some(std::process::id()) })
    }

    /// Asks on the bus, over a further connection if the one that there was turns out to be dead.
    async fn request<B>(&self, request: &Request<'_, B>, until: Instant) -> Result<(Message, Arc<Bus>), Refusal>
    where
        B: Serialize + DynamicType + Sync,
    {
        let mut tried = false;
        loop {
            let (bus, new) = self.connected(until).await.map_err(Refusal::Trouble)?;
            let limit = until.min(Instant::now() + ANSWER_MAX);
            let waited = limit.saturating_duration_since(Instant::now());
            let mut in_use = InUse { systemd: self, bus, over: false };
            let Request { doing, destination, object, interface, method, body } = request;
            let call = in_use.bus.connection.call_method(Some(*destination), *object, Some(*interface), *method, *body);
            let Ok(answer) = timeout_at(limit, call).await else {
                let message = format!("{doing}: systemd did not answer on the system bus within {} ms", ms(waited));
                return Err(Refusal::Trouble(Trouble::Late(message)));
            };
            return match answer {
                Ok(answer) => {
                    in_use.over = true;
                    Ok((answer, Arc::clone(&in_use.bus)))
                }
                Err(zbus::Error::MethodError(name, words, _)) => {
                    in_use.over = true;
                    Err(Refusal::Error(name.to_string(), said(words.as_deref())))
                }
                // Those of D-Bus itself.
                Err(zbus::Error::FDO(error)) => {
                    in_use.over = true;
                    Err(Refusal::Error(error.name().to_string(), said(error.description())))
                }
                // The bus was restarted since it was last used.
                Err(_) if !new && !tried => {
                    tried = true;
                    continue;
                }
                Err(error) => {
                    let error = one_line(&error.to_string(), super::WORDS_BYTES_MAX);
                    Err(Refusal::Trouble(Trouble::Lost(format!(
                        "{doing}: the connection to the system bus broke: {error}"
                    ))))
                }
            };
        }
    }

    /// Asks the manager of units for something that changes it, or names it.
    async fn manage<B, T>(&self, doing: &str, name: &str, method: &str, body: &B, until: Instant) -> Result<T, Refusal>
    where
        B: Serialize + DynamicType + Sync,
        T: DeserializeOwned + Type,
    {
        let doing = format!("{doing} {name}");
        let request = Request { doing, destination: SYSTEMD, object: MANAGER_OBJECT, interface: MANAGER, method, body };
        let (answer, _) = self.request(&request, until).await?;
        let body = answer.body();
        body.deserialize().map_err(|error| Refusal::Trouble(unreadable(name, &error)))
    }

    /// Asks for a job.
    async fn job(&self, doing: &str, name: &str, method: &str, until: Instant) -> Result<(), Trouble> {
        let unit = unit_name(name)?;
        let job: Result<OwnedObjectPath, _> = self.manage(doing, name, method, &(unit.as_str(), MODE), until).await;
        job.map(drop).map_err(|refusal| refusal.trouble(doing, name))
    }

    /// Everything that systemd says of a unit, at one moment.
    async fn properties(
        &self,
        name: &str,
        until: Instant,
    ) -> Result<(BTreeMap<String, OwnedVariant>, Arc<Bus>), Refusal> {
        let unit = unit_name(name).map_err(Refusal::Trouble)?;
        let request = Request {
            doing: format!("look at {name}"),
            destination: SYSTEMD,
            object: &object_path(&unit),
            interface: PROPERTIES,
            method: "GetAll",
            // Of all its interfaces together.
            body: &("",),
        };
        let (answer, bus) = self.request(&request, until).await?;
        let body = answer.body();
        let properties = body.deserialize().map_err(|error| Refusal::Trouble(unreadable(name, &error)))?;
        Ok((properties, bus))
    }

    /// What a job does; none: it is over.
    async fn job_type(&self, name: &str, job: &str, until: Instant) -> Result<Option<String>, Refusal> {
        let request = Request {
            doing: format!("look at the job of {name}"),
            destination: SYSTEMD,
            object: job,
            interface: PROPERTIES,
            method: "Get",
            body: &(JOB, "JobType"),
        };
        match self.request(&request, until).await {
            Ok((answer, _)) => {
                let body = answer.body();
                let value: OwnedVariant =
                    body.deserialize().map_err(|error| Refusal::Trouble(unreadable(name, &error)))?;
                Ok(String::try_from(value).ok())
            }
            Err(Refusal::Error(error, _)) if error.starts_with("org.freedesktop.DBus.Error.Unknown") => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    async fn unit(&self, name: &str, until: Instant) -> Result<Unit, Refusal> {
        let mut noticed = true;
        for _ in 0..LOOKS_MAX {
            let (properties, bus) = self.properties(name, until).await?;
            let mut unit = read(&properties);
            if let Some(job) = job(&properties) {
                let Some(job) = self.job_type(name, job, until).await? else { continue };
                unit.job = job;
            }
            if bus.same_processes && unit.main_pid != 0 && is_gone(unit.main_pid) {
                if noticed {
                    noticed = false;
                    sleep(NOTICE).await;
                    continue;
                }
                unit.main_process_gone = true;
            }
            return Ok(unit);
        }
        let message = format!("look at {name}: jobs of it come and go faster than they can be looked at");
        Err(Refusal::Trouble(Trouble::Refused(message)))
    }
}

impl Manager for Systemd {
    /// A unit of Type=simple is active before its program is executed.
    const SETTLES: Duration = Duration::from_millis(200);

    async fn look(&self, name: &str, until: Instant) -> Result<Look, Trouble> {
        match self.unit(name, until).await {
            Ok(unit) => unit.look(name),
            // Looking changes nothing, so nothing is lost.
            Err(Refusal::Trouble(Trouble::Lost(said))) => Err(Trouble::NoManager(said)),
            Err(refusal) => Err(refusal.trouble("look at", name)),
        }
    }

    async fn start(&self, name: &str, look: &Look, until: Instant) -> Result<Asked, Trouble> {
        let method = match (look.state, look.coming) {
            // A start would wait until systemd starts it by itself, and what systemd calls active it does not start.
            (_, Coming::Again | Coming::Unaware) => "RestartUnit",
            (State::Failed, Coming::Nothing | Coming::Start | Coming::Stop) => {
                // What was started too often in a short time is refused otherwise.
                self.forget(name, until).await?;
                "StartUnit"
            }
            (
                State::Stopped | State::StartPending | State::Running | State::StopPending | State::Paused,
                Coming::Nothing | Coming::Start | Coming::Stop,
            ) => "StartUnit",
        };
        self.job("start", name, method, until).await?;
        Ok(Asked::Taken)
    }

    async fn stop(&self, name: &str, _: &Look, until: Instant) -> Result<Asked, Trouble> {
        self.job("stop", name, "StopUnit", until).await?;
        Ok(Asked::Taken)
    }

    async fn kill(&self, name: &str, look: &Look, until: Instant) -> Result<bool, Trouble> {
        if look.stopping(false) == super::look::Step::Ask {
            // Else it would be started again, where its unit says so.
            self.job("stop", name, "StopUnit", until).await?;
        }
        let unit = unit_name(name)?;
        let doing = "end the processes of";
        let processes = self.manage(doing, name, "GetUnitProcesses", &(unit.as_str(),), until).await;
        let processes: Vec<(String, u32, String)> = match processes {
            Ok(processes) => processes,
            Err(Refusal::Error(error, _)) if is_no_such_unit(&error) => return Ok(false),
            Err(refusal) => return Err(refusal.trouble(doing, name)),
        };
        if processes.is_empty() {
            return Ok(false);
        }
        let killed = self.manage(doing, name, "KillUnit", &(unit.as_str(), "all", SIGKILL), until).await;
        match killed {
            Ok(()) => Ok(true),
            // They ended meanwhile.
            Err(Refusal::Error(error, _)) if is_no_such_unit(&error) || error.ends_with(".NoSuchProcess") => Ok(true),
            Err(refusal) => Err(refusal.trouble(doing, name)),
        }
    }

    async fn forget(&self, name: &str, until: Instant) -> Result<(), Trouble> {
        let unit = unit_name(name)?;
        let doing = "reset";
        match self.manage(doing, name, "ResetFailedUnit", &(unit.as_str(),), until).await {
            Ok(()) => Ok(()),
            // systemd has forgotten all of it.
            Err(Refusal::Error(error, _)) if is_no_such_unit(&error) => Ok(()),
            Err(refusal) => Err(refusal.trouble(doing, name)),
        }
    }
}

impl Refusal {
    /// What it comes to, for somebody who wanted to do that with this service.
    fn trouble(self, doing: &str, name: &str) -> Trouble {
        let (error, words) = match self {
            Self::Trouble(trouble) => return trouble,
            Self::Error(error, words) => (error, words),
        };
        let prefixes = |prefixes: &[&str]| prefixes.iter().any(|prefix| error.starts_with(prefix));
        if is_no_such_unit(&error) {
            Trouble::NoSuchService(name.to_owned())
        } else if error == "org.freedesktop.systemd1.UnitMasked" {
            Trouble::Disabled(format!(
                "{name} is masked, so that nobody can start it; to allow it: systemctl unmask {name}"
            ))
        } else if prefixes(&[
            "org.freedesktop.DBus.Error.AccessDenied",
            "org.freedesktop.DBus.Error.AuthFailed",
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            "org.freedesktop.PolicyKit1.",
        ]) {
            Trouble::Denied(format!("this node's daemon may not {doing} {name}: {words} ({error})"))
        } else if prefixes(&[
            "org.freedesktop.DBus.Error.ServiceUnknown",
            "org.freedesktop.DBus.Error.NameHasNoOwner",
            "org.freedesktop.DBus.Error.Spawn.",
        ]) {
            Trouble::NoManager(format!("there is no systemd on the system bus: {words} ({error})"))
        } else if prefixes(&[
            "org.freedesktop.DBus.Error.NoReply",
            "org.freedesktop.DBus.Error.Timeout",
            "org.freedesktop.DBus.Error.TimedOut",
            "org.freedesktop.DBus.Error.Disconnected",
        ]) {
            Trouble::Lost(format!("{doing} {name}: systemd gave no answer: {words} ({error})"))
        } else {
            Trouble::Refused(format!("systemd does not {doing} {name}: {words} ({error})"))
        }
    }
}

fn is_no_such_unit(error: &str) -> bool {
    error == "org.freedesktop.systemd1.NoSuchUnit"
}

fn said(words: Option<&str>) -> String {
    one_line(words.unwrap_or("without a word"), super::WORDS_BYTES_MAX)
}

fn unreadable(name: &str, error: &zbus::Error) -> Trouble {
    Trouble::Refused(format!("what systemd says of {name} cannot be read: {error}"))
}

/// The object of the job of a unit, if it has one.
fn job(properties: &BTreeMap<String, OwnedVariant>) -> Option<&str> {
    let Variant::Structure(job) = &**properties.get("Job")? else { return None };
    let [Variant::U32(id), Variant::ObjectPath(path)] = job.fields() else { return None };
    (*id != 0).then(|| path.as_str())
}

fn read(properties: &BTreeMap<String, OwnedVariant>) -> Unit {
    let text = |key: &str| match properties.get(key).map(|value| &**value) {
        Some(Variant::Str(text)) => text.to_string(),
        Some(_) | None => String::new(),
    };
    let number = |key: &str| match properties.get(key).map(|value| &**value) {
        Some(Variant::U32(number)) => *number,
        Some(_) | None => 0,
    };
    let signed = |key: &str| match properties.get(key).map(|value| &**value) {
        Some(Variant::I32(number)) => i64::from(*number),
        Some(_) | None => 0,
    };
    let flag = |key: &str| matches!(properties.get(key).map(|value| &**value), Some(Variant::Bool(true)));
    let looked_at = |key: &str| matches!(properties.get(key).map(|value| &**value), Some(Variant::U64(at)) if *at > 0);
    let load_error = match properties.get("LoadError").map(|value| &**value) {
        Some(Variant::Structure(error)) => match error.fields() {
            [_, Variant::Str(words)] => words.to_string(),
            _ => String::new(),
        },
        Some(_) | None => String::new(),
    };
    let unmet = looked_at("ConditionTimestamp") && !flag("ConditionResult");
    Unit {
        description: text("Description"),
        load_state: text("LoadState"),
        load_error,
        active_state: text("ActiveState"),
        sub_state: text("SubState"),
        unit_file_state: text("UnitFileState"),
        job: String::new(),
        condition_failed: unmet || (looked_at("AssertTimestamp") && !flag("AssertResult")),
        kind: text("Type"),
        remain_after_exit: flag("RemainAfterExit"),
        main_pid: number("MainPID"),
        main_process_gone: false,
        control_pid: number("ControlPID"),
        result: text("Result"),
        exec_main_code: signed("ExecMainCode"),
        exec_main_status: signed("ExecMainStatus"),
        status_text: text("StatusText"),
        restarts: number("NRestarts").into(),
    }
}

/// Whether there is no such process, or one that is dead and not buried.
fn is_gone(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match test_kill_process(pid) {
        Err(Errno::SRCH) => return true,
        // Another user's.
        Ok(()) | Err(_) => {}
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // What cannot be read is taken to live.
    let state = stat.ok().and_then(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()));
    matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_there_until_it_is_buried_or_dead() {
        assert!(!is_gone(std::process::id()));
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let began = std::time::Instant::now();
        while !is_gone(child.id()) {
            assert!(began.elapsed() < Duration::from_secs(30), "it has ended, and nobody has looked");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait().unwrap();
        assert!(is_gone(child.id()) && !is_gone(0));
    }

    #[test]
    fn what_the_bus_says_is_sorted() {
        let sort = |error: &str| {
            let refusal = Refusal::Error(error.to_owned(), "words".to_owned());
            crate::capability::Fault::from(refusal.trouble("start", "is")).code
        };
        for (error, code) in [
            ("org.freedesktop.systemd1.NoSuchUnit", "no-such-service"),
            ("org.freedesktop.systemd1.UnitMasked", "service-disabled"),
            ("org.freedesktop.DBus.Error.AccessDenied", "service-denied"),
            ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "service-denied"),
            ("org.freedesktop.PolicyKit1.Error.Failed", "service-denied"),
            ("org.freedesktop.DBus.Error.ServiceUnknown", "service-manager"),
            ("org.freedesktop.DBus.Error.Spawn.ChildExited", "service-manager"),
            ("org.freedesktop.DBus.Error.NoReply", "service-lost"),
            ("org.freedesktop.systemd1.TransactionIsDestructive", "service"),
            ("org.freedesktop.systemd1.OnlyByDependency", "service"),
        ] {
            assert_eq!(sort(error), code, "{error}");
        }
    }
}
