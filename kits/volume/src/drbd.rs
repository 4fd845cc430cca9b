//! DRBD by its own tool, `drbdadm`, which the operator grants: what it says is read as DRBD 8.4 and 9 write it.
//!
//! Only `primary` and `secondary` change anything, and neither is ever forced: a copy that DRBD does not take for good stays
//! what it is. A resource that may have two primaries is refused, because two nodes could then write to one file system.

use std::time::Duration;

use mainstay_sdk::command::{Ending, Request};
use mainstay_sdk::prelude::*;
use mainstay_sdk::volume::CopyState;

use crate::engine::{Attached, Trouble, View};

/// How long a question may take: drbdadm asks the kernel of this node.
const ASK: Duration = Duration::from_secs(10);
/// How much of a failed drbdadm is told, in bytes.
const SAID_BYTES_MAX: usize = 300;

/// A resource of DRBD.
pub(crate) struct Drbd {
    /// The path of drbdadm.
    pub(crate) program: String,
    /// The resource's name.
    pub(crate) resource: String,
}

/// What drbdadm says of a resource that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// This node's role, and the other's if it is told.
    role: (String, Option<String>),
    /// Of the connection.
    connection: String,
    /// The worst of this node's disk states, and of the other's.
    disk: (String, Option<String>),
}

impl Drbd {
    pub(crate) fn view(&self) -> Result<View, Error> {
        Ok(self.state()?.view(&self.resource))
    }

    pub(crate) fn promote(&self) -> Result<(), Error> {
        self.refuse_two_primaries()?;
        let state = self.state()?;
        if state.role.0 == "Primary" {
            return Ok(());
        }
        if state.role.1.as_deref() == Some("Primary") {
            let message = format!("the DRBD resource {} is primary on the other node still", self.resource);
            return Err(Error::unavailable("peer-primary", message).no_effect());
        }
        let worth = state.worth();
        if !matches!(worth, CopyState::UpToDate | CopyState::LastKnownGood) {
            let message = format!(
                "the copy of the DRBD resource {} here is {}: it is not promoted, because that would have to be forced",
                self.resource, state.disk.0
            );
            return Err(Error::failed("not-promotable", message).no_effect());
        }
        self.run("primary", None)?;
        Ok(())
    }

    pub(crate) fn demote(&self) -> Result<(), Error> {
        match self.state() {
            Ok(state) if state.role.0 != "Primary" => Ok(()),
            // A resource that is down has no role.
            Err(error) if error.code == "drbd-down" => Ok(()),
            Ok(_) => self.run("secondary", None).map(drop),
            Err(error) => Err(error),
        }
    }

    fn state(&self) -> Result<State, Error> {
        let role = self.run("role", Some(ASK))?;
        let connection = self.run("cstate", Some(ASK))?;
        let disk = self.run("dstate", Some(ASK))?;
        read(&role, &connection, &disk).ok_or_else(|| {
            let down = [&role, &connection, &disk].iter().any(|said| said.trim() == "Unconfigured");
            if down {
                return self.down();
            }
            let message = format!(
                "what drbdadm says of {} is not understood: role {:?}, cstate {:?}, dstate {:?}",
                self.resource, role, connection, disk
            );
            Error::failed("drbd-words", message).no_effect()
        })
    }

    fn down(&self) -> Error {
        let resource = &self.resource;
        let message =
            format!("the DRBD resource {resource} is not up on this node; bring it up: drbdadm up {resource}");
        Error::unavailable("drbd-down", message).elsewhere().no_effect()
    }

    /// Two primaries would be two nodes that write to one file system, each not knowing of the other.
    pub(crate) fn refuse_two_primaries(&self) -> Result<(), Error> {
        if !allows_two_primaries(&self.run("dump", Some(ASK))?) {
            return Ok(());
        }
        let message = format!(
            "the DRBD resource {} has allow-two-primaries: two nodes could write to one file system; take that out of its configuration",
            self.resource
        );
        Err(Error::failed("dual-primary", message).nowhere().no_effect())
    }

    /// What `drbdadm VERB RESOURCE` writes.
    fn run(&self, verb: &str, time: Option<Duration>) -> Result<String, Error> {
        let doing = format!("{} {verb} {}", self.program, self.resource);
        let mut request = Request::new(&self.program).args([verb, &self.resource]);
        if let Some(time) = time {
            request = request.timeout(time);
        }
        let completed = request.run().map_err(|fault| Error::from(fault).doing(&doing))?;
        let said = completed.tail(SAID_BYTES_MAX);
        match completed.ending {
            Ending::Exited(0) => Ok(String::from_utf8_lossy(&completed.stdout).into_owned()),
            Ending::Exited(code) => Err(self.refused(verb, code, &said)),
            Ending::Signalled(signal) => {
                Err(Error::failed("drbdadm", format!("{doing}: ended by signal {signal}: {said}")))
            }
            Ending::TimedOut => Err(Error::timeout("timeout", format!("{doing}: did not end in time and was ended"))),
        }
    }

    fn refused(&self, verb: &str, code: i32, said: &str) -> Error {
        // Of a resource that is down, 8.4 and 9, and of a module that is not loaded.
        const DOWN: [&str; 5] = [
            "Unconfigured",
            "Device minor not allocated",
            "Could not connect to 'drbd'",
            "Unknown resource",
            "No such resource",
        ];
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if has(&DOWN) {
            return self.down();
        }
        let message = format!("{} {verb} {}: exit code {code}: {said}", self.program, self.resource);
        if verb == "secondary" && has(&["held open", "in use"]) {
            return Error::unavailable("busy", message);
        }
        if verb == "primary" && has(&["Multiple primaries", "Peer may not become primary"]) {
            return Error::unavailable("peer-primary", message).no_effect();
        }
        Error::failed("drbdadm", message)
    }
}

impl State {
    fn worth(&self) -> CopyState {
        worth(&self.disk.0)
    }

    fn view(&self, resource: &str) -> View {
        let State { role, connection, disk } = self;
        let peer = disk.1.as_deref();
        let summary = format!("{}, {connection}, disks {}/{}", role.0, disk.0, peer.unwrap_or("not told"));
        let of = |what: &str| format!("the DRBD resource {resource} {what}: {summary}");
        let trouble = |code, what: &str| Some(Trouble { code, summary: of(what) });
        let trouble = match connection.as_str() {
            "Connected" | "Established" | "VerifyS" | "VerifyT" => match peer {
                Some("UpToDate") | None => None,
                Some(_) => trouble("mirror-broken", "is connected, and the other disk is not up to date"),
            },
            "SyncSource" | "SyncTarget" | "WFBitMapS" | "WFBitMapT" | "WFSyncUUID" | "StartingSyncS"
            | "StartingSyncT" | "Ahead" | "Behind" => trouble("mirror-resync", "is being copied"),
            "PausedSyncS" | "PausedSyncT" => trouble("mirror-paused", "is not mirrored: its resync is paused"),
            "StandAlone" => trouble(
                "mirror-refused",
                "stands alone: it does not look for the other node (after a split brain, or `drbdadm disconnect`)",
            ),
            _ => trouble("mirror-broken", "is not mirrored: there is no contact with the other node"),
        };
        View {
            is_source: role.0 == "Primary",
            copy: self.worth(),
            // There is a device as long as the resource is up; without a disk it reads from the other node.
            attached: if role.0 == "Primary" { Attached::Works } else { Attached::No },
            trouble,
            summary,
            mirror: connection.clone(),
        }
    }
}

/// What a disk state means for a promotion.
fn worth(disk: &str) -> CopyState {
    match disk {
        "UpToDate" => CopyState::UpToDate,
        // Whole; whether the other one has gone on is not known.
        "Consistent" => CopyState::LastKnownGood,
        "Outdated" => CopyState::Outdated,
        "Failed" | "Diskless" | "Detaching" => CopyState::Failed,
        // Inconsistent; Attaching and Negotiating, which pass; and whatever comes with a later version.
        _ => CopyState::Inconsistent,
    }
}

/// How bad a state of several volumes is.
fn rank(copy: CopyState) -> u8 {
    match copy {
        CopyState::UpToDate => 0,
        CopyState::LastKnownGood => 1,
        CopyState::Outdated => 2,
        CopyState::Inconsistent => 3,
        CopyState::Failed => 4,
    }
}

/// None: that is not what a resource says that is up.
pub(crate) fn read(role: &str, connection: &str, disk: &str) -> Option<State> {
    let role = pair(lines(role).next()?)?;
    if !matches!(role.0.as_str(), "Primary" | "Secondary") {
        return None;
    }
    // DRBD 9 has a line for each connection: the one that is worst off counts. 8.4 has one.
    let connections: Vec<&str> = lines(connection).collect();
    let connected = |word: &&&str| matches!(**word, "Connected" | "Established");
    let connection = connections.iter().find(|word| !connected(word)).or(connections.first())?;
    if !is_word(connection) {
        return None;
    }
    let disks: Vec<_> = lines(disk).map(pair).collect::<Option<_>>()?;
    let own = disks.iter().map(|(own, _)| own).max_by_key(|own| rank(worth(own)))?;
    let peer = disks.iter().filter_map(|(_, peer)| peer.as_ref()).max_by_key(|peer| rank(worth(peer)));
    // Unconfigured stands for the whole resource.
    if own == "Unconfigured" || *connection == "Unconfigured" {
        return None;
    }
    Some(State { role, connection: (*connection).to_owned(), disk: (own.clone(), peer.cloned()) })
}

/// The lines that hold something; warnings, which begin with a `#` or hold more than one word, do not count.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains(char::is_whitespace) && !line.starts_with('#'))
}

/// `Secondary/Primary`, or `Secondary`.
fn pair(line: &str) -> Option<(String, Option<String>)> {
    let mut parts = line.split('/');
    let own = parts.next().filter(|word| is_word(word))?;
    let others: Vec<&str> = parts.collect();
    if !others.iter().all(|word| is_word(word)) {
        return None;
    }
    // Of several others the one that matters: a primary, else the worst disk.
    let other =
        others.iter().find(|word| **word == "Primary").or_else(|| others.iter().max_by_key(|word| rank(worth(word))));
    Some((own.to_owned(), other.map(|word| (*word).to_owned())))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a configuration, as `drbdadm dump` writes it, lets two nodes be primary at once.
pub(crate) fn allows_two_primaries(dump: &str) -> bool {
    dump.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().trim_end_matches(';'))
        .filter_map(|line| line.strip_prefix("allow-two-primaries"))
        // Without a value it is the older way to say yes.
        .any(|value| value.trim() != "no")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(role: &str, connection: &str, disk: &str) -> View {
        read(role, connection, disk).unwrap_or_else(|| panic!("{role} {connection} {disk}")).view("mail")
    }

    #[test]
    fn what_drbd_8_4_says_is_understood() {
        for (role, connection, disk, source, copy, trouble) in [
            ("Primary/Secondary\n", "Connected\n", "UpToDate/UpToDate\n", true, CopyState::UpToDate, None),
            ("Secondary/Primary\n", "Connected\n", "UpToDate/UpToDate\n", false, CopyState::UpToDate, None),
            (
                "Primary/Unknown\n",
                "WFConnection\n",
                "UpToDate/DUnknown\n",
                true,
                CopyState::UpToDate,
                Some("mirror-broken"),
            ),
            (
                "Primary/Unknown\n",
                "WFConnection\n",
                "UpToDate/Outdated\n",
                true,
                CopyState::UpToDate,
                Some("mirror-broken"),
            ),
            (
                "Primary/Unknown\n",
                "StandAlone\n",
                "UpToDate/DUnknown\n",
                true,
                CopyState::UpToDate,
                Some("mirror-refused"),
            ),
            (
                "Primary/Secondary\n",
                "SyncSource\n",
                "UpToDate/Inconsistent\n",
                true,
                CopyState::UpToDate,
                Some("mirror-resync"),
            ),
            (
                "Secondary/Primary\n",
                "SyncTarget\n",
                "Inconsistent/UpToDate\n",
                false,
                CopyState::Inconsistent,
                Some("mirror-resync"),
            ),
            (
                "Secondary/Primary\n",
                "PausedSyncT\n",
                "Inconsistent/UpToDate\n",
                false,
                CopyState::Inconsistent,
                Some("mirror-paused"),
            ),
            (
                "Secondary/Unknown\n",
                "WFConnection\n",
                "Outdated/DUnknown\n",
                false,
                CopyState::Outdated,
                Some("mirror-broken"),
            ),
            (
                "Secondary/Unknown\n",
                "WFConnection\n",
                "Consistent/DUnknown\n",
                false,
                CopyState::LastKnownGood,
                Some("mirror-broken"),
            ),
            ("Primary/Secondary\n", "Connected\n", "Diskless/UpToDate\n", true, CopyState::Failed, None),
            (
                "Primary/Secondary\n",
                "Connected\n",
                "UpToDate/Diskless\n",
                true,
                CopyState::UpToDate,
                Some("mirror-broken"),
            ),
            (
                "Secondary/Secondary\n",
                "Connected\n",
                "Inconsistent/Inconsistent\n",
                false,
                CopyState::Inconsistent,
                Some("mirror-broken"),
            ),
            ("Primary/Secondary\n", "VerifyS\n", "UpToDate/UpToDate\n", true, CopyState::UpToDate, None),
        ] {
            let view = view(role, connection, disk);
            let code = view.trouble.as_ref().map(|trouble| trouble.code);
            assert_eq!((view.is_source, view.copy, code), (source, copy, trouble), "{role}{connection}{disk}");
            assert!(view.summary.contains(connection.trim()), "{}", view.summary);
        }
    }

    #[test]
    fn what_drbd_9_says_is_understood() {
        let alone = view("Primary\n", "Connecting\n", "UpToDate/DUnknown\n");
        assert_eq!((alone.is_source, alone.trouble.map(|it| it.code)), (true, Some("mirror-broken")));
        let three = view("Secondary\n", "Connected\nStandAlone\n", "UpToDate/UpToDate/DUnknown\n");
        assert_eq!((three.is_source, three.trouble.map(|it| it.code)), (false, Some("mirror-refused")));
        let volumes = view("Primary\n", "Connected\n", "UpToDate/UpToDate\nOutdated/UpToDate\n");
        assert_eq!(volumes.copy, CopyState::Outdated, "the worst of several volumes counts");
    }

    #[test]
    fn warnings_around_it_do_no_harm_and_other_words_are_no_state() {
        let noisy = "# a comment\nWARN: your configuration has a warning\nPrimary/Secondary\n";
        assert!(view(noisy, "Connected", "UpToDate/UpToDate").is_source);
        for (role, connection, disk) in [
            ("", "", ""),
            ("Unconfigured\n", "Unconfigured\n", "Unconfigured\n"),
            ("Secondary/Unknown\n", "Unconfigured\n", "UpToDate/DUnknown\n"),
            ("Tertiary/Primary\n", "Connected\n", "UpToDate/UpToDate\n"),
            ("Primary/Secondary\n", "\n", "UpToDate/UpToDate\n"),
            ("Primary/Secondary\n", "Connected\n", "\n"),
            ("Primary/Secondary\n", "Connected\n", "/\n"),
            ("Primary/\u{1b}[0m\n", "Connected\n", "UpToDate/UpToDate\n"),
        ] {
            assert_eq!(read(role, connection, disk), None, "{role:?} {connection:?} {disk:?}");
        }
    }

    #[test]
    fn two_primaries_are_found_in_the_configuration() {
        // As drbdadm 9.22 and 8.4 write it.
        let dump = |line: &str| {
            format!("resource mail {{\n    net {{\n        protocol           C;\n        {line}\n    }}\n}}\n")
        };
        for (line, allowed) in [
            ("allow-two-primaries yes;", true),
            ("allow-two-primaries;", true),
            ("allow-two-primaries  no;", false),
            ("# allow-two-primaries yes;", false),
            ("after-sb-2pri      disconnect;", false),
        ] {
            assert_eq!(allows_two_primaries(&dump(line)), allowed, "{line}");
        }
    }
}
