//! The seam outside a component: everything reaches the fake host this thread has installed.

use std::rc::Rc;

use crate::command::{Completed, Request};
use crate::log::Level;
use crate::mount::{Checked, Content, Place, Source, User};
use crate::net::Tls;
use crate::service;
use crate::testing::{Call, Clock, Disks, Host, Line, Services, Took, installed};
use crate::volume::Standing;
use crate::{Details, Fault, FaultKind};

pub(crate) fn log_emit(level: Level, message: &str, fields: &Details) {
    let line = Line { level, message: message.to_owned(), fields: fields.clone() };
    installed("log").log(line);
}

pub(crate) fn unix_ms() -> u64 {
    installed("clock").unix_ms()
}

pub(crate) fn monotonic_ms() -> u64 {
    installed("clock").monotonic_ms()
}

pub(crate) fn remaining_ms() -> u32 {
    installed("clock").remaining_ms()
}

pub(crate) fn sleep_ms(ms: u32) {
    installed("clock").sleep_ms(ms);
}

pub(crate) fn random_bytes(count: u32) -> Vec<u8> {
    installed("random").random(count)
}

pub(crate) fn command_run(request: &Request) -> Result<Completed, Fault> {
    installed("command").run(request)
}

pub(crate) fn store_get(key: &str) -> Result<Option<Vec<u8>>, Fault> {
    let host = installed("store");
    host.record(Call::StoreGet { key: key.to_owned() })?;
    host.store_get(key)
}

pub(crate) fn store_put(key: &str, value: &[u8]) -> Result<(), Fault> {
    let host = installed("store");
    host.record(Call::StorePut { key: key.to_owned(), value: value.to_vec() })?;
    host.store_put(key, value)
}

pub(crate) fn store_delete(key: &str) -> Result<(), Fault> {
    let host = installed("store");
    host.record(Call::StoreDelete { key: key.to_owned() })?;
    host.store_delete(key)
}

pub(crate) fn store_keys() -> Result<Vec<String>, Fault> {
    let host = installed("store");
    host.record(Call::StoreKeys)?;
    Ok(host.store_keys())
}

pub(crate) fn secret_get(name: &str) -> Result<Vec<u8>, Fault> {
    let host = installed("secret");
    host.record(Call::SecretGet { name: name.to_owned() })?;
    host.secret(name)
}

pub(crate) struct Tcp {
    host: Rc<Host>,
    id: usize,
}

impl Tcp {
    pub(crate) fn connect(to: &str, port: u16, timeout_ms: u32) -> Result<Self, Fault> {
        let host = installed("net");
        host.record(Call::TcpConnect { host: to.to_owned(), port, timeout_ms })?;
        let id = host.tcp_open(to, port)?;
        Ok(Self { host, id })
    }

    pub(crate) fn start_tls(&self, tls: &Tls, timeout_ms: u32) -> Result<(), Fault> {
        self.attempt(Call::TcpStartTls { tls: tls.clone(), timeout_ms }, |host| host.tcp_start_tls(self.id, tls))
    }

    pub(crate) fn write(&self, data: &[u8], timeout_ms: u32) -> Result<(), Fault> {
        self.attempt(Call::TcpWrite { data: data.to_vec(), timeout_ms }, |host| host.tcp_write(self.id, data))
    }

    pub(crate) fn read(&self, max: u32, timeout_ms: u32) -> Result<Vec<u8>, Fault> {
        let read = self.host.record(Call::TcpRead { max, timeout_ms });
        let read = read.and_then(|()| self.host.tcp_read(self.id, max, timeout_ms));
        // After these nothing is lost, and it may be tried again.
        if read.as_ref().is_err_and(|fault| !matches!(fault.kind, FaultKind::Timeout | FaultKind::Invalid)) {
            self.host.tcp_broke(self.id);
        }
        read
    }

    pub(crate) fn finish(&self) -> Result<(), Fault> {
        self.attempt(Call::TcpFinish, |host| host.tcp_finish(self.id))
    }

    /// After any fault the connection is dead.
    fn attempt(&self, call: Call, operation: impl FnOnce(&Host) -> Result<(), Fault>) -> Result<(), Fault> {
        let done = self.host.record(call).and_then(|()| operation(&self.host));
        done.inspect_err(|_| self.host.tcp_broke(self.id))
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.host.close();
    }
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("id", &self.id).finish()
    }
}

pub(crate) struct Udp {
    host: Rc<Host>,
    id: usize,
}

impl Udp {
    pub(crate) fn connect(to: &str, port: u16) -> Result<Self, Fault> {
        let host = installed("net");
        host.record(Call::UdpConnect { host: to.to_owned(), port })?;
        let id = host.udp_open(to, port)?;
        Ok(Self { host, id })
    }

    pub(crate) fn send(&self, data: &[u8]) -> Result<(), Fault> {
        self.host.record(Call::UdpSend { data: data.to_vec() })?;
        self.host.udp_send(self.id, data)
    }

    pub(crate) fn receive(&self, max: u32, timeout_ms: u32) -> Result<Vec<u8>, Fault> {
        self.host.record(Call::UdpReceive { max, timeout_ms })?;
        self.host.udp_receive(self.id, max, timeout_ms)
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.host.close();
    }
}

impl std::fmt::Debug for Udp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Udp").field("id", &self.id).finish()
    }
}

/// Notes the call, then asks the fake disks.
fn disks<T>(interface: &'static str, call: Call, ask: impl FnOnce(&mut Disks) -> Result<T, Fault>) -> Result<T, Fault> {
    let host = installed(interface);
    host.record(call)?;
    host.disks(ask)
}

pub(crate) fn volume_status(name: &str) -> Result<Standing, Fault> {
    disks("volume", Call::VolumeStatus { name: name.to_owned() }, |disks| disks.status(name))
}

pub(crate) fn volume_promote(name: &str) -> Result<(), Fault> {
    disks("volume", Call::VolumePromote { name: name.to_owned() }, |disks| disks.promote(name))
}

pub(crate) fn volume_demote(name: &str) -> Result<(), Fault> {
    disks("volume", Call::VolumeDemote { name: name.to_owned() }, |disks| disks.demote(name))
}

pub(crate) fn volume_attach(name: &str) -> Result<String, Fault> {
    disks("volume", Call::VolumeAttach { name: name.to_owned() }, |disks| disks.attach(name))
}

pub(crate) fn volume_detach(name: &str) -> Result<(), Fault> {
    disks("volume", Call::VolumeDetach { name: name.to_owned() }, |disks| disks.detach(name))
}

pub(crate) fn mount_look(point: &str) -> Result<Place, Fault> {
    disks("mount", Call::MountLook { point: point.to_owned() }, |disks| disks.look(point))
}

pub(crate) fn mount_probe(source: &Source) -> Result<Option<Content>, Fault> {
    disks("mount", Call::MountProbe { source: source.clone() }, |disks| disks.probe(source))
}

pub(crate) fn mount_make_file_system(source: &Source, file_system: &str) -> Result<(), Fault> {
    let call = Call::MountMakeFileSystem { source: source.clone(), file_system: file_system.to_owned() };
    disks("mount", call, |disks| disks.make_file_system(source, file_system))
}

pub(crate) fn mount_check(source: &Source, file_system: &str) -> Result<Checked, Fault> {
    let call = Call::MountCheck { source: source.clone(), file_system: file_system.to_owned() };
    disks("mount", call, |disks| disks.check(source, file_system))
}

pub(crate) fn mount_mount(source: &Source, point: &str, file_system: &str, options: &[String]) -> Result<bool, Fault> {
    let call = Call::MountMount {
        source: source.clone(),
        point: point.to_owned(),
        file_system: file_system.to_owned(),
        options: options.to_vec(),
    };
    disks("mount", call, |disks| disks.mount(source, point, file_system, options))
}

pub(crate) fn mount_unmount(source: &Source, point: &str) -> Result<bool, Fault> {
    let call = Call::MountUnmount { source: source.clone(), point: point.to_owned() };
    disks("mount", call, |disks| disks.unmount(source, point))
}

pub(crate) fn mount_users(source: &Source, point: &str) -> Result<Vec<User>, Fault> {
    let call = Call::MountUsers { source: source.clone(), point: point.to_owned() };
    disks("mount", call, |disks| disks.users(source, point))
}

pub(crate) fn mount_end_users(source: &Source, point: &str, grace_ms: u32) -> Result<Vec<User>, Fault> {
    let call = Call::MountEndUsers { source: source.clone(), point: point.to_owned(), grace_ms };
    disks("mount", call, |disks| disks.end_users(source, point))
}

pub(crate) fn mount_write_marker(source: &Source, point: &str, timeout_ms: u32) -> Result<u32, Fault> {
    let call = Call::MountWriteMarker { source: source.clone(), point: point.to_owned(), timeout_ms };
    disks("mount", call, |disks| disks.write_marker(source, point))
}

pub(crate) fn mount_missing_programs(file_system: &str) -> Result<Vec<String>, Fault> {
    let call = Call::MountMissingPrograms { file_system: file_system.to_owned() };
    disks("mount", call, |disks| disks.missing_programs(file_system))
}

/// Notes the call, then asks the fake services.
fn services<T>(
    call: Call,
    timeout_ms: Option<u32>,
    ask: impl FnOnce(&mut Services, Clock) -> Took<T>,
) -> Result<T, Fault> {
    let host = installed("service");
    host.record(call)?;
    host.services(timeout_ms, ask)
}

pub(crate) fn service_query(name: &str) -> Result<service::Standing, Fault> {
    services(Call::ServiceQuery { name: name.to_owned() }, None, |services, clock| services.query(name, clock))
}

pub(crate) fn service_start(name: &str, timeout_ms: Option<u32>) -> Result<bool, Fault> {
    let call = Call::ServiceStart { name: name.to_owned(), timeout_ms };
    services(call, timeout_ms, |services, clock| services.start(name, clock))
}

pub(crate) fn service_stop(name: &str, timeout_ms: Option<u32>) -> Result<bool, Fault> {
    let call = Call::ServiceStop { name: name.to_owned(), timeout_ms };
    services(call, timeout_ms, |services, clock| services.stop(name, clock))
}

pub(crate) fn service_wait(
    name: &str,
    state: service::State,
    timeout_ms: Option<u32>,
) -> Result<service::Standing, Fault> {
    let call = Call::ServiceWait { name: name.to_owned(), state, timeout_ms };
    services(call, timeout_ms, |services, clock| services.wait(name, state, clock))
}

pub(crate) fn service_end_processes(name: &str, timeout_ms: Option<u32>) -> Result<bool, Fault> {
    let call = Call::ServiceEndProcesses { name: name.to_owned(), timeout_ms };
    services(call, timeout_ms, |services, clock| services.end_processes(name, clock))
}
