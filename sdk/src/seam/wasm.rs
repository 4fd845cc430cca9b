//! The seam in a component: the contract's imports, their types turned into the SDK's.

use crate::bindings::mainstay::kit as wit;
use crate::command::{Completed, Ending, Request};
use crate::log::Level;
use crate::net::Tls;
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
