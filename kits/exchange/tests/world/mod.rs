//! What the tests share: params, services of a known version, and an Exchange organisation behind a PowerShell that answers the
//! kit's script.

#![allow(dead_code, reason = "each test uses its part")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mainstay_kit_exchange::{Exchange, ExchangeParams, Known, Need, Version};
use mainstay_sdk::command::{Completed, Request};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Answer, Call, FakeHost, FakeService, exited};
use serde_json::{Value, json};

pub(crate) const SCRIPT: &str = include_str!("../../src/cmdlets.ps1");
pub(crate) const POWERSHELL: &str = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";
/// The node that a fake host's contexts are for.
pub(crate) const NODE: &str = "node1";
pub(crate) const OTHER_NODE: &str = "node2";

/// Params for this version, with more or other ones in their place.
pub(crate) fn context(host: &FakeHost, version: &str, more: Value) -> Context<ExchangeParams> {
    let mut params = json!({ "version": version });
    for (key, value) in more.as_object().expect("a table") {
        params[key] = value.clone();
    }
    host.context(params)
}

/// All services of a known version, each as `make` wants it; the system's own run.
pub(crate) fn install(host: &FakeHost, version: Version, make: impl Fn(&Known) -> FakeService) {
    for known in version.services().expect("a known version") {
        let service = if known.need == Need::System { FakeService::running() } else { make(&known) };
        host.service(known.name, service);
    }
}

pub(crate) fn failure(report: Option<Report>) -> Failure {
    Failure { found_by: "quick-check".into(), report, bad_checks: 1, details: Vec::new() }
}

pub(crate) fn detail<'a>(details: &'a [(String, String)], key: &str) -> Option<&'a str> {
    details.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// A peer that greets with this, and takes every goodbye.
pub(crate) fn greets(host: &FakeHost, port: u16, greeting: &str) {
    host.tcp_greeting("127.0.0.1", port, Answer::bytes(greeting), |said: &mut Vec<u8>| said.clear());
}

/// The services that were started, or stopped, in order.
pub(crate) fn started(host: &FakeHost) -> Vec<String> {
    let started = |call| if let Call::ServiceStart { name, .. } = call { Some(name) } else { None };
    host.calls().into_iter().filter_map(started).collect()
}

pub(crate) fn stopped(host: &FakeHost) -> Vec<String> {
    let stopped = |call| if let Call::ServiceStop { name, .. } = call { Some(name) } else { None };
    host.calls().into_iter().filter_map(stopped).collect()
}

pub(crate) fn check(ctx: &Context<ExchangeParams>) -> (Health, String) {
    let report = Exchange::quick_check(ctx).expect("a report");
    (report.health, report.code)
}

/// A database of the organisation.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pub(crate) server: String,
    pub(crate) mounted: Option<bool>,
    pub(crate) replication: String,
    pub(crate) prefix: String,
    pub(crate) edb: String,
    /// Whether its file is there, on this node.
    pub(crate) file: bool,
    /// It says that it was mounted, and it is not.
    pub(crate) lies: bool,
}

impl Db {
    pub(crate) fn of(server: &str) -> Self {
        Self {
            server: server.into(),
            mounted: Some(false),
            replication: "None".into(),
            prefix: "E01".into(),
            edb: r"E:\mail\mail.edb".into(),
            file: true,
            lies: false,
        }
    }
}

/// An Exchange organisation, as its cmdlets see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Org {
    pub(crate) dag: String,
    pub(crate) databases: BTreeMap<String, Db>,
    /// Mailboxes, each with its database.
    pub(crate) mailboxes: BTreeMap<String, String>,
    /// Those that cannot be changed.
    pub(crate) refusing: BTreeSet<String>,
    /// So many mailboxes are changed, then the power is gone.
    pub(crate) dies_after: Option<usize>,
    pub(crate) no_cmdlets: bool,
    /// What every cmdlet says.
    pub(crate) broken: Option<String>,
}

pub(crate) type Shared = Rc<RefCell<Org>>;

impl Org {
    /// Two servers, EX01 on this node and EX02 on the other, each with a database for the same files, and mailboxes of the other's.
    pub(crate) fn two(mailboxes: usize) -> Shared {
        let databases = [("Mail EX01", Db::of("EX01")), ("Mail EX02", Db::of("EX02"))];
        Rc::new(RefCell::new(Self {
            databases: databases.into_iter().map(|(name, db)| (name.to_owned(), db)).collect(),
            mailboxes: (0..mailboxes).map(|index| (format!("user{index}"), "Mail EX02".to_owned())).collect(),
            ..Self::default()
        }))
    }

    pub(crate) fn params() -> Value {
        json!({
            "servers": { NODE: "EX01", OTHER_NODE: "EX02" },
            "databases": { "mail": { NODE: "Mail EX01", OTHER_NODE: "Mail EX02" } },
        })
    }

    /// How many mailboxes are in this database.
    pub(crate) fn count(&self, database: &str) -> usize {
        self.mailboxes.values().filter(|at| *at == database).count()
    }

    fn database(&self, name: &str) -> Result<Value, String> {
        let db = self.databases.get(name).ok_or_else(|| format!("The database '{name}' wasn't found."))?;
        Ok(json!({
            "name": name, "server": db.server, "mounted": db.mounted, "replication": db.replication,
            "log-prefix": db.prefix, "edb": db.edb,
        }))
    }

    /// What `cmdlets.ps1` does.
    fn run(&mut self, asked: &Value, answer: &mut Value) -> Result<(), (String, String)> {
        let cmdlet = |message: String| ("cmdlet".to_owned(), message);
        if self.no_cmdlets {
            return Err(("no-cmdlets".into(), "the Exchange cmdlets are not installed on this node".into()));
        }
        if let Some(message) = &self.broken {
            return Err(cmdlet(message.clone()));
        }
        let server = asked["server"].as_str().expect("as the script has it").to_owned();
        answer["server"] = json!({ "name": server, "version": "Version 15.2 (Build 1118.7)", "dag": self.dag });
        let action = asked["action"].as_str().expect("as the script has it");
        let mounts = ["mount", "restore"].contains(&action);
        if mounts && !self.dag.is_empty() {
            let message = format!("{server} is a member of the database availability group {}", self.dag);
            return Err(("dag-member".into(), message));
        }
        let pairs = asked["databases"].as_array().expect("as the script has it");
        let here = |pair: &Value| pair["here"].as_str().expect("as the script has it").to_owned();
        let others = |pair: &Value| -> Vec<String> {
            pair["others"]
                .as_array()
                .expect("as the script has it")
                .iter()
                .map(|other| other.as_str().expect("as the script has it").to_owned())
                .collect()
        };
        for pair in pairs {
            let name = here(pair);
            self.database(&name).map_err(cmdlet)?;
            let db = self.databases.get_mut(&name).expect("as the script has it");
            if mounts && db.mounted != Some(true) {
                if !db.file {
                    return Err(("no-edb-file".into(), format!("the file of {name} is not there: {}", db.edb)));
                }
                db.mounted = Some(!db.lies);
                answer["mounted"] = json!(answer["mounted"].as_u64().expect("as the script has it") + 1);
            }
            if action == "dismount" && db.mounted != Some(false) {
                db.mounted = Some(db.lies);
                answer["dismounted"] = json!(answer["dismounted"].as_u64().expect("as the script has it") + 1);
            }
        }
        if action == "restore" {
            for pair in pairs {
                for other in others(pair) {
                    self.repoint(&other, &here(pair), answer);
                    let left = answer["left"].as_u64().expect("as the script has it") + self.count(&other) as u64;
                    answer["left"] = json!(left);
                }
            }
        }
        let all = pairs.iter().map(here).chain(pairs.iter().flat_map(others));
        let all: Result<Vec<Value>, _> = all.map(|name| self.database(&name)).collect();
        answer["databases"] = Value::Array(all.map_err(cmdlet)?);
        answer["ok"] = json!(true);
        answer["code"] = json!("");
        Ok(())
    }

    fn repoint(&mut self, from: &str, to: &str, answer: &mut Value) {
        for (name, at) in self.mailboxes.iter_mut().filter(|(_, at)| *at == from) {
            if self.refusing.contains(name) {
                answer["refused"]
                    .as_array_mut()
                    .expect("as the script has it")
                    .push(json!(format!("{name}: Access is denied.")));
                continue;
            }
            match &mut self.dies_after {
                Some(0) => return,
                Some(left) => *left -= 1,
                None => {}
            }
            to.clone_into(at);
            answer["repointed"] = json!(answer["repointed"].as_u64().expect("as the script has it") + 1);
        }
    }
}

/// A PowerShell that answers for this organisation.
pub(crate) fn powershell(host: &FakeHost, org: &Shared) {
    let org = Rc::clone(org);
    host.program(POWERSHELL, move |request| {
        let asked = question(request);
        let mut org = org.borrow_mut();
        let mut answer = json!({
            "id": asked["id"], "ok": false, "code": "cmdlet", "message": "", "server": null, "databases": [],
            "mounted": 0, "dismounted": 0, "repointed": 0, "left": 0, "refused": [],
        });
        if let Err((code, message)) = org.run(&asked, &mut answer) {
            answer["code"] = json!(code);
            answer["message"] = json!(message);
        }
        if org.dies_after == Some(0) {
            return Completed { ending: mainstay_sdk::command::Ending::TimedOut, ..exited(0) };
        }
        said(&answer)
    });
}

/// A program that ended well after printing this answer.
pub(crate) fn said(answer: &Value) -> Completed {
    let line = format!("mainstay-answer {}\r\n", STANDARD.encode(answer.to_string()));
    Completed { stdout: line.into_bytes(), duration_ms: 4_000, ..exited(0) }
}

/// What was asked: the script has to be the one there is, and the question is data.
pub(crate) fn question(request: &Request) -> Value {
    let args: Vec<&str> = request.args.iter().map(String::as_str).collect();
    assert_eq!(args[..3], ["-NoLogo", "-NoProfile", "-NonInteractive"]);
    let at = args.iter().position(|arg| *arg == "-EncodedCommand").expect("a script");
    assert_eq!(args.len(), at + 2, "nothing comes after the script");
    let bytes = STANDARD.decode(args[at + 1]).expect("base64");
    let units: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    assert_eq!(String::from_utf16(&units).expect("UTF-16"), SCRIPT);
    assert!(request.stdin.is_ascii());
    serde_json::from_slice(&request.stdin).expect("JSON")
}

/// What was asked so far: the actions.
pub(crate) fn actions(host: &FakeHost) -> Vec<String> {
    host.commands()
        .iter()
        .map(|request| question(request)["action"].as_str().expect("as the script has it").to_owned())
        .collect()
}
