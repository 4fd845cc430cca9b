//! A fake host for kit tests: with it a kit's logic runs under plain `cargo test`.
//!
//! A test installs a [`FakeHost`] on its thread, says what the world is like (programs, peers, secrets,
//! stored values), calls the kit's operations, and looks at what they answered and at what they did to
//! the host. Nothing here is random or waits: time moves only when the kit sleeps, when a program or a
//! peer takes time, or when the test says so.
//!
//! ```
//! use mainstay_sdk::testing::{FakeHost, exited};
//! use mainstay_sdk::command::Request;
//!
//! let host = FakeHost::install();
//! host.program("/usr/bin/app", |request| exited(if request.args == ["stop"] { 0 } else { 2 }));
//! assert_eq!(Request::new("/usr/bin/app").arg("stop").run().unwrap().exit_code(), Some(0));
//! assert_eq!(host.commands().len(), 1);
//! ```
//!
//! Calling a capability without a fake host is a panic that says so.

mod disks;
mod host;
mod peers;
mod refusals;
mod services;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::command::{Completed, Ending, Request};
use crate::log::Level;
use crate::mount::Source;
use crate::net::Tls;
use crate::service::State;
use crate::{Context, Described, Fault, Params};

pub(crate) use disks::Disks;
pub use disks::{Disk, FakeMounted, FakePlace, FakeVolume};
pub(crate) use host::Host;
pub use peers::Answer;
pub use services::FakeService;
pub(crate) use services::{Clock, Services, Took};

thread_local! {
    static INSTALLED: RefCell<Option<Rc<Host>>> = const { RefCell::new(None) };
}

/// The host this thread has installed.
pub(crate) fn installed(interface: &'static str) -> Rc<Host> {
    INSTALLED.with_borrow(|host| match host {
        Some(host) => Rc::clone(host),
        None => panic!(
            "the capability `{interface}` was called outside a component and without a fake host: \
             start the test with `let host = mainstay_sdk::testing::FakeHost::install();`"
        ),
    })
}

/// A call the kit made to the host, in the order made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the contract's functions and their parameters")]
pub enum Call {
    CommandRun(Request),
    TcpConnect { host: String, port: u16, timeout_ms: u32 },
    TcpStartTls { tls: Tls, timeout_ms: u32 },
    TcpWrite { data: Vec<u8>, timeout_ms: u32 },
    TcpRead { max: u32, timeout_ms: u32 },
    TcpFinish,
    UdpConnect { host: String, port: u16 },
    UdpSend { data: Vec<u8> },
    UdpReceive { max: u32, timeout_ms: u32 },
    StoreGet { key: String },
    StorePut { key: String, value: Vec<u8> },
    StoreDelete { key: String },
    StoreKeys,
    SecretGet { name: String },
    VolumeStatus { name: String },
    VolumePromote { name: String },
    VolumeDemote { name: String },
    VolumeAttach { name: String },
    VolumeDetach { name: String },
    MountLook { point: String },
    MountProbe { source: Source },
    MountMakeFileSystem { source: Source, file_system: String },
    MountCheck { source: Source, file_system: String },
    MountMount { source: Source, point: String, file_system: String, options: Vec<String> },
    MountUnmount { source: Source, point: String },
    MountUsers { source: Source, point: String },
    MountEndUsers { source: Source, point: String, grace_ms: u32 },
    MountWriteMarker { source: Source, point: String, timeout_ms: u32 },
    MountMissingPrograms { file_system: String },
    ServiceQuery { name: String },
    ServiceStart { name: String, timeout_ms: Option<u32> },
    ServiceStop { name: String, timeout_ms: Option<u32> },
    ServiceWait { name: String, state: State, timeout_ms: Option<u32> },
    ServiceEndProcesses { name: String, timeout_ms: Option<u32> },
    ClockUnixMs,
    ClockMonotonicMs,
    ClockRemainingMs,
    ClockSleep { ms: u32 },
    RandomBytes { count: u32 },
    LogEmit(Line),
}

/// Which function of the contract a call went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the contract's functions")]
pub enum Operation {
    CommandRun,
    TcpConnect,
    TcpStartTls,
    TcpWrite,
    TcpRead,
    TcpFinish,
    UdpConnect,
    UdpSend,
    UdpReceive,
    StoreGet,
    StorePut,
    StoreDelete,
    StoreKeys,
    SecretGet,
    VolumeStatus,
    VolumePromote,
    VolumeDemote,
    VolumeAttach,
    VolumeDetach,
    MountLook,
    MountProbe,
    MountMakeFileSystem,
    MountCheck,
    MountMount,
    MountUnmount,
    MountUsers,
    MountEndUsers,
    MountWriteMarker,
    MountMissingPrograms,
    ServiceQuery,
    ServiceStart,
    ServiceStop,
    ServiceWait,
    ServiceEndProcesses,
    ClockUnixMs,
    ClockMonotonicMs,
    ClockRemainingMs,
    ClockSleep,
    RandomBytes,
    LogEmit,
}

impl Operation {
    /// The contract's interface it belongs to.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::CommandRun => "command",
            Self::TcpConnect
            | Self::TcpStartTls
            | Self::TcpWrite
            | Self::TcpRead
            | Self::TcpFinish
            | Self::UdpConnect
            | Self::UdpSend
            | Self::UdpReceive => "net",
            Self::StoreGet | Self::StorePut | Self::StoreDelete | Self::StoreKeys => "store",
            Self::SecretGet => "secret",
            Self::VolumeStatus | Self::VolumePromote | Self::VolumeDemote | Self::VolumeAttach | Self::VolumeDetach => {
                "volume"
            }
            Self::MountLook
            | Self::MountProbe
            | Self::MountMakeFileSystem
            | Self::MountCheck
            | Self::MountMount
            | Self::MountUnmount
            | Self::MountUsers
            | Self::MountEndUsers
            | Self::MountWriteMarker
            | Self::MountMissingPrograms => "mount",
            Self::ServiceQuery
            | Self::ServiceStart
            | Self::ServiceStop
            | Self::ServiceWait
            | Self::ServiceEndProcesses => "service",
            Self::ClockUnixMs | Self::ClockMonotonicMs | Self::ClockRemainingMs | Self::ClockSleep => "clock",
            Self::RandomBytes => "random",
            Self::LogEmit => "log",
        }
    }
}

impl Call {
    /// The function it went to.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::CommandRun(_) => Operation::CommandRun,
            Self::TcpConnect { .. } => Operation::TcpConnect,
            Self::TcpStartTls { .. } => Operation::TcpStartTls,
            Self::TcpWrite { .. } => Operation::TcpWrite,
            Self::TcpRead { .. } => Operation::TcpRead,
            Self::TcpFinish => Operation::TcpFinish,
            Self::UdpConnect { .. } => Operation::UdpConnect,
            Self::UdpSend { .. } => Operation::UdpSend,
            Self::UdpReceive { .. } => Operation::UdpReceive,
            Self::StoreGet { .. } => Operation::StoreGet,
            Self::StorePut { .. } => Operation::StorePut,
            Self::StoreDelete { .. } => Operation::StoreDelete,
            Self::StoreKeys => Operation::StoreKeys,
            Self::SecretGet { .. } => Operation::SecretGet,
            Self::VolumeStatus { .. } => Operation::VolumeStatus,
            Self::VolumePromote { .. } => Operation::VolumePromote,
            Self::VolumeDemote { .. } => Operation::VolumeDemote,
            Self::VolumeAttach { .. } => Operation::VolumeAttach,
            Self::VolumeDetach { .. } => Operation::VolumeDetach,
            Self::MountLook { .. } => Operation::MountLook,
            Self::MountProbe { .. } => Operation::MountProbe,
            Self::MountMakeFileSystem { .. } => Operation::MountMakeFileSystem,
            Self::MountCheck { .. } => Operation::MountCheck,
            Self::MountMount { .. } => Operation::MountMount,
            Self::MountUnmount { .. } => Operation::MountUnmount,
            Self::MountUsers { .. } => Operation::MountUsers,
            Self::MountEndUsers { .. } => Operation::MountEndUsers,
            Self::MountWriteMarker { .. } => Operation::MountWriteMarker,
            Self::MountMissingPrograms { .. } => Operation::MountMissingPrograms,
            Self::ServiceQuery { .. } => Operation::ServiceQuery,
            Self::ServiceStart { .. } => Operation::ServiceStart,
            Self::ServiceStop { .. } => Operation::ServiceStop,
            Self::ServiceWait { .. } => Operation::ServiceWait,
            Self::ServiceEndProcesses { .. } => Operation::ServiceEndProcesses,
            Self::ClockUnixMs => Operation::ClockUnixMs,
            Self::ClockMonotonicMs => Operation::ClockMonotonicMs,
            Self::ClockRemainingMs => Operation::ClockRemainingMs,
            Self::ClockSleep { .. } => Operation::ClockSleep,
            Self::RandomBytes { .. } => Operation::RandomBytes,
            Self::LogEmit(_) => Operation::LogEmit,
        }
    }
}

/// A line the kit logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Its fields.
    pub fields: crate::Details,
}

/// A program that exited with `code` and said nothing.
#[must_use]
pub fn exited(code: i32) -> Completed {
    ended(Ending::Exited(code))
}

/// A program that exited with `code` after complaining.
#[must_use]
pub fn exited_saying(code: i32, stderr: impl Into<Vec<u8>>) -> Completed {
    Completed { stderr: stderr.into(), ..exited(code) }
}

/// A program that ended in `ending` and said nothing.
#[must_use]
pub fn ended(ending: Ending) -> Completed {
    Completed { ending, stdout: Vec::new(), stderr: Vec::new(), truncated: false, duration_ms: 1 }
}

/// A fake host, installed on the thread that made it until it is dropped.
pub struct FakeHost {
    host: Rc<Host>,
}

impl FakeHost {
    /// Installs a host that grants nothing yet: no programs, peers or secrets, an empty store, a budget of a
    /// minute, and the wall clock at 2023-11-14 22:13:20 UTC.
    ///
    /// # Panics
    /// When this thread has one already.
    #[must_use]
    pub fn install() -> Self {
        let host = Rc::new(Host::new());
        INSTALLED.with_borrow_mut(|installed| {
            assert!(installed.is_none(), "this thread has a fake host already: one test, one host");
            *installed = Some(Rc::clone(&host));
        });
        Self { host }
    }

    /// What a kit is told, with these params read as a component would read them.
    ///
    /// Tag `app`, node `node1`, first attempt, epoch 1; the fields are public, change what matters.
    ///
    /// # Panics
    /// When the params do not fit.
    #[must_use]
    pub fn context<P: Params + DeserializeOwned>(&self, params: serde_json::Value) -> Context<P> {
        let params = match P::read(&params.to_string()) {
            Ok(params) => params,
            Err(error) => panic!("the test's params do not fit: {error}"),
        };
        Context {
            tag: "app".into(),
            node: "node1".into(),
            params,
            operation_id: "operation-1".into(),
            attempt: 1,
            epoch: 1,
            budget_ms: self.host.remaining_ms_quietly(),
            hints: Vec::new(),
        }
    }

    /// A granted program: `behave` is asked what it does. Later definitions of the same path win.
    pub fn program<R: Into<ProgramAnswer>>(&self, path: &str, mut behave: impl FnMut(&Request) -> R + 'static) {
        self.host.define_program(path, Box::new(move |request| behave(request).into().0));
    }

    /// A granted program that is expected to be called with exactly these arguments, and then ends like this.
    /// Called with others it is a panic.
    pub fn program_with_args(&self, path: &str, args: &[&str], completed: Completed) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.program(path, move |request| {
            assert_eq!(request.args, args, "{} was called with other arguments", request.program);
            completed.clone()
        });
    }

    /// A granted TCP peer. `answer` gets what was written and not taken yet, on each write: it removes what it
    /// understood and says what comes back.
    pub fn tcp<R: Into<Answer>>(&self, host: &str, port: u16, answer: impl FnMut(&mut Vec<u8>) -> R + 'static) {
        self.tcp_greeting(host, port, (), answer);
    }

    /// A granted TCP peer that speaks first, as a mail server does: `greeting` can be read as soon as there is a
    /// connection, and again on each. `answer` is as with [`FakeHost::tcp`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use mainstay_sdk::net::Tcp;
    /// use mainstay_sdk::testing::{Answer, FakeHost};
    ///
    /// let host = FakeHost::install();
    /// host.tcp_greeting("mail.example.org", 25, b"220 ready\r\n".to_vec(), |written: &mut Vec<u8>| {
    ///     (written.split_off(0) == b"QUIT\r\n").then(|| b"221 bye\r\n".to_vec())
    /// });
    /// host.tcp_greeting("busy.example.org", 25, Answer::bytes("421 busy\r\n").then_close(), |_: &mut Vec<u8>| ());
    /// let tcp = Tcp::connect("mail.example.org", 25, Duration::from_secs(5)).unwrap();
    /// assert_eq!(tcp.read(100, Duration::from_secs(5)).unwrap(), b"220 ready\r\n");
    /// ```
    pub fn tcp_greeting<R: Into<Answer>>(
        &self,
        host: &str,
        port: u16,
        greeting: impl Into<Answer>,
        mut answer: impl FnMut(&mut Vec<u8>) -> R + 'static,
    ) {
        self.host.define_tcp(host, port, greeting.into(), Box::new(move |data| answer(data).into()));
    }

    /// A granted UDP peer: what it answers to each datagram.
    pub fn udp<R: Into<Answer>>(&self, host: &str, port: u16, mut answer: impl FnMut(&[u8]) -> R + 'static) {
        self.host.define_udp(host, port, Box::new(move |data| answer(data).into()));
    }

    /// At most so many bytes come from one read of a TCP connection, however many there are. A kit that does
    /// not work with 1 has a bug.
    pub fn tcp_read_max(&self, bytes: usize) {
        self.host.set_tcp_read_max(bytes);
    }

    /// Each read of a TCP connection that gives bytes takes so long. With [`FakeHost::tcp_read_max`] it makes a peer that
    /// sends its bytes slowly, one by one.
    pub fn tcp_read_takes(&self, time: Duration) {
        self.host.set_tcp_read_ms(u64::from(crate::ms(time)));
    }

    /// A granted secret.
    pub fn secret(&self, name: &str, value: impl Into<Vec<u8>>) {
        self.host.define_secret(name, value.into());
    }

    /// A granted volume, or another state of one.
    pub fn volume(&self, name: &str, volume: FakeVolume) {
        self.host.disks(|disks| disks.volumes.insert(name.to_owned(), volume));
    }

    /// A volume as it is now.
    ///
    /// # Panics
    /// When the test has defined none of that name.
    #[must_use]
    pub fn volume_now(&self, name: &str) -> FakeVolume {
        self.host
            .disks(|disks| disks.volumes.get(name).cloned())
            .unwrap_or_else(|| panic!("the test defines no volume {name}"))
    }

    /// A block device; mount points name it in their grant.
    pub fn device(&self, path: &str, disk: Disk) {
        self.host.disks(|disks| disks.devices.insert(path.to_owned(), disk));
    }

    /// A granted mount point, or another state of one.
    pub fn place(&self, point: &str, place: FakePlace) {
        self.host.disks(|disks| disks.places.insert(point.to_owned(), place));
    }

    /// A mount point as it is now.
    ///
    /// # Panics
    /// When the test has defined none of that name.
    #[must_use]
    pub fn place_now(&self, point: &str) -> FakePlace {
        self.host
            .disks(|disks| disks.places.get(point).cloned())
            .unwrap_or_else(|| panic!("the test defines no mount point {point}"))
    }

    /// A program that is not there on this node.
    pub fn missing_program(&self, name: &str) {
        self.host.disks(|disks| disks.missing_programs.insert(name.to_owned()));
    }

    /// A granted service, or another state of one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mainstay_sdk::service;
    /// use mainstay_sdk::testing::{FakeHost, FakeService};
    ///
    /// let host = FakeHost::install();
    /// host.service("store", FakeService { start_takes: Duration::from_secs(3), ..FakeService::stopped() });
    /// assert!(service::start("store", None).unwrap());
    /// host.kill_service("store");
    /// assert_eq!(service::query("store").unwrap().state, service::State::Failed);
    /// ```
    pub fn service(&self, name: &str, service: FakeService) {
        self.host.define_service(name, service);
    }

    /// A service as it is now.
    ///
    /// # Panics
    /// When the test has defined none of that name.
    #[must_use]
    pub fn service_now(&self, name: &str) -> FakeService {
        self.host.service_now(name).unwrap_or_else(|| panic!("the test defines no service {name}"))
    }

    /// The process of a service is gone.
    ///
    /// # Panics
    /// When the test has defined none of that name.
    pub fn kill_service(&self, name: &str) {
        assert!(self.host.kill_service(name), "the test defines no service {name}");
    }

    /// Puts a value into the store, as an earlier call may have.
    pub fn store(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.host.define_stored(key, value.into());
    }

    /// What the store holds for `key`.
    #[must_use]
    pub fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.host.stored(key)
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.host.advance_ms(u64::from(crate::ms(time)));
    }

    /// Steps the wall clock; the monotonic one goes on as before.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.host.set_unix_ms(unix_ms);
    }

    /// What is left of the call from now on.
    pub fn set_budget(&self, time: Duration) {
        self.host.set_budget_ms(u64::from(crate::ms(time)));
    }

    /// Starts another sequence of random bytes.
    pub fn seed(&self, seed: u64) {
        self.host.seed(seed);
    }

    /// The next call of `operation` fails like this; several queue up. Operations that cannot fail
    /// ([`Operation::LogEmit`], clock, random) are refused. The kinds and codes that a host says are listed in
    /// `docs/reference/kit-faults.md`.
    ///
    /// # Panics
    /// For an operation that cannot fail.
    pub fn fail(&self, operation: Operation, fault: Fault) {
        assert!(
            !matches!(operation.interface(), "log" | "clock" | "random"),
            "{operation:?} has no fault in the contract"
        );
        self.host.inject(operation, fault);
    }

    /// Every call made so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.host.calls()
    }

    /// The programs run so far.
    #[must_use]
    pub fn commands(&self) -> Vec<Request> {
        self.calls()
            .into_iter()
            .filter_map(|call| if let Call::CommandRun(request) = call { Some(request) } else { None })
            .collect()
    }

    /// The lines logged so far.
    #[must_use]
    pub fn logged(&self) -> Vec<Line> {
        self.calls()
            .into_iter()
            .filter_map(|call| if let Call::LogEmit(line) = call { Some(line) } else { None })
            .collect()
    }

    /// Forgets the calls made so far.
    pub fn forget_calls(&self) {
        self.host.forget_calls();
    }

    /// Checks that the kit declares every interface it has called so far. A host refuses to load a kit that
    /// does not.
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_declared<K: Described>(&self) {
        for call in self.calls() {
            let interface = call.operation().interface();
            assert!(
                K::NEEDS.iter().chain(K::OPTIONAL_NEEDS).any(|(name, _)| *name == interface),
                "the kit calls `{interface}` ({:?}) and does not declare it: add `{interface}: \"why\"` to its needs",
                call.operation()
            );
        }
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        INSTALLED.with_borrow_mut(|installed| *installed = None);
    }
}

/// What a fake program does: it ends somehow, or cannot be run.
pub struct ProgramAnswer(Result<Completed, Fault>);

impl From<Completed> for ProgramAnswer {
    fn from(completed: Completed) -> Self {
        Self(Ok(completed))
    }
}

impl From<Fault> for ProgramAnswer {
    fn from(fault: Fault) -> Self {
        Self(Err(fault))
    }
}

impl From<Result<Completed, Fault>> for ProgramAnswer {
    fn from(result: Result<Completed, Fault>) -> Self {
        Self(result)
    }
}
