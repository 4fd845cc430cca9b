//! The processes of a command whose supervisor was killed: found, described, ended.
//!
//! Only ever for a command whose lock is free, so that nobody else cares for them.

use std::io;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::evidence;
use crate::folder::{Folder, PROCESSES, ProcessesRecord, boot_id};
use crate::process::{Identity, Table, age_ms, describe};
use crate::tree::{self, Tree};
use crate::types::{Evidence, Request};

/// Between two looks while they are being ended, in ms: each reads all of `/proc`.
const LOOK_MS: u64 = 20;

/// The processes of one command.
#[derive(Debug)]
pub(crate) struct Orphans {
    folder: Folder,
    program: Identity,
    cgroup: Option<Cgroup>,
}

impl Orphans {
    /// `NotFound`: the program was never executed, or before the machine was started anew, so there can be none.
    pub(crate) fn of(folder: &Folder) -> io::Result<Self> {
        let record: ProcessesRecord = folder.read(PROCESSES)?;
        if record.boot_id != boot_id()? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let cgroup = record.cgroup.map(Cgroup::at);
        Ok(Self { folder: folder.clone(), program: record.program, cgroup })
    }

    /// Does the program itself run?
    pub(crate) fn program_runs(&self) -> bool {
        self.program.runs()
    }

    /// Has it run longer than it may?
    pub(crate) fn is_overdue(&self, request: &Request) -> bool {
        age_ms(self.program.start_ticks) > request.timeout_ms
    }

    pub(crate) fn members(&self) -> io::Result<Vec<Identity>> {
        let table = Table::read()?;
        Ok(self.of_table(&table).into_iter().map(|stat| stat.identity()).collect())
    }

    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Ends them all, and says how they were. Waits until nothing is left.
    pub(crate) fn end(self, request: &Request) -> io::Result<Evidence> {
        let table = Table::read()?;
        let found = self.of_table(&table);
        let evidence = evidence::gather(&self.folder, request, &found);
        let seen = found.into_iter().map(|stat| stat.identity()).collect();
        let mut ending = Ending { orphans: self, seen };
        tree::end(&mut ending);
        if let Some(cgroup) = &ending.orphans.cgroup {
            cgroup.remove();
        }
        Ok(evidence)
    }

    fn of_table<'t>(&self, table: &'t Table) -> Vec<&'t crate::process::Stat> {
        let pids = self.cgroup.as_ref().map(Cgroup::pids).unwrap_or_default();
        table.of_command(&self.folder.id(), Some(self.program), &pids)
    }
}

struct Ending {
    orphans: Orphans,
    /// Everybody ever found: whoever wipes its environment after its parent died is not found again.
    seen: Vec<Identity>,
}

impl Tree for Ending {
    fn members(&mut self) -> Vec<Identity> {
        match self.orphans.members() {
            Ok(members) => {
                self.seen.extend(members);
                self.seen.sort_unstable_by_key(|member| (member.pid, member.start_ticks));
                self.seen.dedup();
                self.seen.retain(|member| member.runs());
            }
            Err(error) => tracing::warn!(command = self.orphans.folder.id(), "/proc cannot be read: {error}"),
        }
        self.seen.clone()
    }

    fn is_gone(&mut self) -> bool {
        self.members().is_empty()
    }

    fn wait(&mut self, until: Instant) {
        let look = Duration::from_millis(LOOK_MS);
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(look));
    }

    fn is_stuck(&mut self) {
        let Ok(table) = Table::read() else {
            return;
        };
        let (processes, _) = describe(&self.orphans.of_table(&table));
        let names: Vec<String> = processes.iter().map(ToString::to_string).collect();
        tracing::warn!(
            command = self.orphans.folder.id(),
            "processes of a command were killed and are still there: {}; its resource has to wait for them",
            names.join(", ")
        );
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.orphans.cgroup.as_ref()
    }
}
