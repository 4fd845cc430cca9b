//! The seam in a component: the contract's imports, their types turned into the SDK's.

use crate::bindings::mainstay::kit as wit;
use crate::command::{Completed, Ending, Request};
use crate::log::Level;
use crate::mount::{Checked, Content, Mounted, Outcome, Place, Room, Source, User};
use crate::net::Tls;
use crate::service;
use crate::volume::{Attachment, CopyState, MirrorState, Role, Standing};
use crate::{Details, Fault, FaultKind};

pub(crate) fn fault(fault: wit::types::Fault) -> Fault {
    let kind = match fault.kind {
        wit::types::FaultKind::Denied => FaultKind::Denied,
        wit::types::FaultKind::Invalid => FaultKind::Invalid,
        wit::types::FaultKind::NotFound => FaultKind::NotFound,
        wit::types::FaultKind::Unavailable => FaultKind::Unavailable,
        wit::types::FaultKind::Timeout => FaultKind::Timeout,
        wit::types::FaultKind::Closed => FaultKind::Closed,
        wit::types::FaultKind::Limit => FaultKind::Limit,
        wit::types::FaultKind::Failed => FaultKind::Failed,
    };
    Fault { kind, code: fault.code, message: fault.message }
}

pub(crate) fn log_emit(level: Level, message: &str, fields: &Details) {
    let level = match level {
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    };
    wit::log::emit(level, message, fields);
}

pub(crate) fn unix_ms() -> u64 {
    wit::clock::unix_ms()
}

pub(crate) fn monotonic_ms() -> u64 {
    wit::clock::monotonic_ms()
}

pub(crate) fn remaining_ms() -> u32 {
    wit::clock::remaining_ms()
}

pub(crate) fn sleep_ms(ms: u32) {
    wit::clock::sleep(ms);
}

pub(crate) fn random_bytes(count: u32) -> Vec<u8> {
    wit::random::bytes(count)
}

pub(crate) fn command_run(request: &Request) -> Result<Completed, Fault> {
    let request = wit::command::Request {
        program: request.program.clone(),
        args: request.args.clone(),
        env: request.env.clone(),
        cwd: request.cwd.clone(),
        user: request.user.clone(),
        stdin: request.stdin.clone(),
        timeout_ms: request.timeout_ms,
        output_bytes_max: request.output_bytes_max,
        keep_children: request.keep_children,
    };
    let completed = wit::command::run(&request).map_err(fault)?;
    let ending = match completed.ending {
        wit::command::Ending::Exited(code) => Ending::Exited(code),
        wit::command::Ending::Signalled(signal) => Ending::Signalled(signal),
        wit::command::Ending::TimedOut => Ending::TimedOut,
    };
    Ok(Completed {
        ending,
        stdout: completed.stdout,
        stderr: completed.stderr,
        truncated: completed.truncated,
        duration_ms: completed.duration_ms,
    })
}

pub(crate) fn store_get(key: &str) -> Result<Option<Vec<u8>>, Fault> {
    wit::store::get(key).map_err(fault)
}

pub(crate) fn store_put(key: &str, value: &[u8]) -> Result<(), Fault> {
    wit::store::put(key, value).map_err(fault)
}

pub(crate) fn store_delete(key: &str) -> Result<(), Fault> {
    wit::store::delete(key).map_err(fault)
}

pub(crate) fn store_keys() -> Result<Vec<String>, Fault> {
    wit::store::keys().map_err(fault)
}

pub(crate) fn secret_get(name: &str) -> Result<Vec<u8>, Fault> {
    wit::secret::get(name).map_err(fault)
}

#[derive(Debug)]
pub(crate) struct Tcp(wit::net::Tcp);

impl Tcp {
    pub(crate) fn connect(host: &str, port: u16, timeout_ms: u32) -> Result<Self, Fault> {
        wit::net::connect_tcp(host, port, timeout_ms).map(Self).map_err(fault)
    }

    pub(crate) fn start_tls(&self, tls: &Tls, timeout_ms: u32) -> Result<(), Fault> {
        let tls = wit::net::Tls {
            server_name: tls.server_name.clone(),
            trust: tls.trust.clone(),
            identity: tls.identity.clone(),
        };
        self.0.start_tls(&tls, timeout_ms).map_err(fault)
    }

    pub(crate) fn write(&self, data: &[u8], timeout_ms: u32) -> Result<(), Fault> {
        self.0.write(data, timeout_ms).map_err(fault)
    }

    pub(crate) fn read(&self, max: u32, timeout_ms: u32) -> Result<Vec<u8>, Fault> {
        self.0.read(max, timeout_ms).map_err(fault)
    }

    pub(crate) fn finish(&self) -> Result<(), Fault> {
        self.0.finish().map_err(fault)
    }
}

#[derive(Debug)]
pub(crate) struct Udp(wit::net::Udp);

impl Udp {
    pub(crate) fn connect(host: &str, port: u16) -> Result<Self, Fault> {
        wit::net::connect_udp(host, port).map(Self).map_err(fault)
    }

    pub(crate) fn send(&self, data: &[u8]) -> Result<(), Fault> {
        self.0.send(data).map_err(fault)
    }

    pub(crate) fn receive(&self, max: u32, timeout_ms: u32) -> Result<Vec<u8>, Fault> {
        self.0.receive(max, timeout_ms).map_err(fault)
    }
}

fn standing(standing: wit::volume::Standing) -> Standing {
    use wit::volume::{CopyState as WitCopy, MirrorState as WitMirror, Role as WitRole};
    Standing {
        role: match standing.role {
            WitRole::Source => Role::Source,
            WitRole::Target => Role::Target,
        },
        copy: match standing.copy {
            WitCopy::UpToDate => CopyState::UpToDate,
            WitCopy::LastKnownGood => CopyState::LastKnownGood,
            WitCopy::Outdated => CopyState::Outdated,
            WitCopy::Inconsistent => CopyState::Inconsistent,
            WitCopy::Failed => CopyState::Failed,
        },
        mirror: match standing.mirror {
            WitMirror::Connected => MirrorState::Connected,
            WitMirror::Resync => MirrorState::Resync,
            WitMirror::Idle => MirrorState::Idle,
            WitMirror::Greeting => MirrorState::Greeting,
            WitMirror::Broken => MirrorState::Broken,
            WitMirror::Paused => MirrorState::Paused,
            WitMirror::SplitBrain => MirrorState::SplitBrain,
            WitMirror::Refused => MirrorState::Refused,
            WitMirror::None => MirrorState::None,
        },
        alone: standing.alone,
        attachment: standing
            .attachment
            .map(|attachment| Attachment { device: attachment.device, works: attachment.works }),
        size_bytes: standing.size_bytes,
        dirty_bytes: standing.dirty_bytes,
        resync_percent: standing.resync_percent,
        summary: standing.summary,
        details: standing.details,
    }
}

pub(crate) fn volume_status(name: &str) -> Result<Standing, Fault> {
    wit::volume::status(name).map(standing).map_err(fault)
}

pub(crate) fn volume_promote(name: &str) -> Result<(), Fault> {
    wit::volume::promote(name).map_err(fault)
}

pub(crate) fn volume_demote(name: &str) -> Result<(), Fault> {
    wit::volume::demote(name).map_err(fault)
}

pub(crate) fn volume_attach(name: &str) -> Result<String, Fault> {
    wit::volume::attach(name).map_err(fault)
}

pub(crate) fn volume_detach(name: &str) -> Result<(), Fault> {
    wit::volume::detach(name).map_err(fault)
}

fn to_wit(source: &Source) -> wit::mount::Source {
    match source {
        Source::Volume(name) => wit::mount::Source::Volume(name.clone()),
        Source::Device(path) => wit::mount::Source::Device(path.clone()),
    }
}

fn mounted(mounted: wit::mount::Mounted) -> Mounted {
    Mounted {
        source: mounted.source.map(|source| match source {
            wit::mount::Source::Volume(name) => Source::Volume(name),
            wit::mount::Source::Device(path) => Source::Device(path),
        }),
        device: mounted.device,
        file_system: mounted.file_system,
        options: mounted.options,
        read_only: mounted.read_only,
        trouble: mounted.trouble,
        room: mounted.room.map(|room| Room {
            size_bytes: room.size_bytes,
            free_bytes: room.free_bytes,
            inodes: room.inodes,
            free_inodes: room.free_inodes,
        }),
        layers: mounted.layers,
        details: mounted.details,
    }
}

fn users(users: Vec<wit::mount::User>) -> Vec<User> {
    let user = |wit::mount::User { pid, command, user, by }| User { pid, command, user, by };
    users.into_iter().map(user).collect()
}

pub(crate) fn mount_look(point: &str) -> Result<Place, Fault> {
    let place = wit::mount::look(point).map_err(fault)?;
    Ok(Place { folder: place.folder, mounted: place.mounted.map(mounted) })
}

pub(crate) fn mount_probe(source: &Source) -> Result<Option<Content>, Fault> {
    let found = wit::mount::probe(&to_wit(source)).map_err(fault)?;
    let content = |wit::mount::Content { kind, file_system, label, uuid }| Content { kind, file_system, label, uuid };
    Ok(found.map(content))
}

pub(crate) fn mount_make_file_system(source: &Source, file_system: &str) -> Result<(), Fault> {
    wit::mount::make_file_system(&to_wit(source), file_system).map_err(fault)
}

pub(crate) fn mount_check(source: &Source, file_system: &str) -> Result<Checked, Fault> {
    let checked = wit::mount::check(&to_wit(source), file_system).map_err(fault)?;
    let outcome = match checked.outcome {
        wit::mount::Outcome::Clean => Outcome::Clean,
        wit::mount::Outcome::Repaired => Outcome::Repaired,
        wit::mount::Outcome::Damaged => Outcome::Damaged,
        wit::mount::Outcome::AtMount => Outcome::AtMount,
    };
    Ok(Checked { outcome, said: checked.said })
}

pub(crate) fn mount_mount(source: &Source, point: &str, file_system: &str, options: &[String]) -> Result<bool, Fault> {
    wit::mount::mount(&to_wit(source), point, file_system, options).map_err(fault)
}

pub(crate) fn mount_unmount(source: &Source, point: &str) -> Result<bool, Fault> {
    wit::mount::unmount(&to_wit(source), point).map_err(fault)
}

pub(crate) fn mount_users(source: &Source, point: &str) -> Result<Vec<User>, Fault> {
    wit::mount::users(&to_wit(source), point).map(users).map_err(fault)
}

pub(crate) fn mount_end_users(source: &Source, point: &str, grace_ms: u32) -> Result<Vec<User>, Fault> {
    wit::mount::end_users(&to_wit(source), point, grace_ms).map(users).map_err(fault)
}

pub(crate) fn mount_write_marker(source: &Source, point: &str, timeout_ms: u32) -> Result<u32, Fault> {
    wit::mount::write_marker(&to_wit(source), point, timeout_ms).map_err(fault)
}

pub(crate) fn mount_missing_programs(file_system: &str) -> Result<Vec<String>, Fault> {
    wit::mount::missing_programs(file_system).map_err(fault)
}

fn service_standing(standing: wit::service::Standing) -> service::Standing {
    use wit::service::{StartType as WitStart, State as WitState};
    service::Standing {
        state: match standing.state {
            WitState::Stopped => service::State::Stopped,
            WitState::StartPending => service::State::StartPending,
            WitState::Running => service::State::Running,
            WitState::StopPending => service::State::StopPending,
            WitState::Paused => service::State::Paused,
            WitState::Failed => service::State::Failed,
        },
        pid: standing.pid,
        start_type: match standing.start_type {
            WitStart::Automatic => service::StartType::Automatic,
            WitStart::Manual => service::StartType::Manual,
            WitStart::Disabled => service::StartType::Disabled,
            WitStart::Other => service::StartType::Other,
        },
        summary: standing.summary,
        details: standing.details,
    }
}

pub(crate) fn service_query(name: &str) -> Result<service::Standing, Fault> {
    wit::service::query(name).map(service_standing).map_err(fault)
}

pub(crate) fn service_start(name: &str, timeout_ms: Option<u32>) -> Result<bool, Fault> {
    wit::service::start(name, timeout_ms).map_err(fault)
}

pub(crate) fn service_stop(name: &str, timeout_ms: Option<u32>) -> Result<bool, Fault> {
    wit::service::stop(name, timeout_ms).map_err(fault)
}

pub(crate) fn service_wait(
    name: &str,
    state: service::State,
    timeout_ms: Option<u32>,
) -> Result<service::Standing, Fault> {
    let state = match state {
        service::State::Stopped => wit::service::State::Stopped,
        service::State::StartPending => wit::service::State::StartPending,
        service::State::Running => wit::service::State::Running,
        service::State::StopPending => wit::service::State::StopPending,
        service::State::Paused => wit::service::State::Paused,
        service::State::Failed => wit::service::State::Failed,
    };
    wit::service::wait(name, state, timeout_ms).map(service_standing).map_err(fault)
}

pub(crate) fn service_end_processes(name: &str, timeout_ms: Option<u32>) -> Result<bool, Fault> {
    wit::service::end_processes(name, timeout_ms).map_err(fault)
}
