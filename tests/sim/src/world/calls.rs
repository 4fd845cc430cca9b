//! What becomes of what a node puts out: records are written, and the rest waits for its record; calls of kits end some
//! time.

use mainstay_core::names::NodeName;
use mainstay_core::node::{Call, CallId, FaultKind, Input, Node, Outcome, Output, RecordNumber};
use mainstay_core::state::State;
use mainstay_core::status::Event;
use mainstay_core::time::Millis;

use super::machine::Running;
use super::{Happening, KitCall, Line, World};
use crate::kits::fault;

/// From cancelling a call to everything of it being gone.
const CANCEL: Millis = Millis(20);
/// What measuring a node takes.
const SURVEY: Millis = Millis(30);

impl World {
    pub(super) fn carry_out(&mut self, name: &NodeName) {
        loop {
            let machine = self.machine(name);
            let Some(output) = machine.node.as_mut().and_then(Node::poll_output) else { return };
            let (after, output) = match output {
                Output::Persist(number, record) => {
                    machine.unsynced.push_back((number, record));
                    let (life, stuck, takes) = (machine.life, machine.disk_stuck, machine.disk_takes);
                    if !stuck {
                        self.at(takes, Happening::Synced { node: name.clone(), life, number });
                    }
                    continue;
                }
                Output::Heartbeat(heartbeat) => {
                    self.send_heartbeat(name, heartbeat);
                    continue;
                }
                Output::CancelKit(call) => {
                    self.cancel(name, call);
                    continue;
                }
                Output::Knock(node, path) => {
                    self.knock(name, node, path);
                    continue;
                }
                Output::Guard(deadline) => {
                    self.guard(name, deadline);
                    continue;
                }
                Output::Survey(id, ..) => {
                    let life = machine.life;
                    if let Some(survey) = machine.survey.clone() {
                        let input = Box::new(Input::Surveyed(id, survey));
                        self.at(SURVEY, Happening::Input { node: name.clone(), life, input });
                    }
                    continue;
                }
                Output::Examined(id, report) => {
                    self.coverage.count(if report.is_ok() { "health: told" } else { "health: refused" });
                    self.health_reports.insert(id, report);
                    continue;
                }
                Output::Send(after, ..)
                | Output::Arbiter(after, ..)
                | Output::Fence(after, ..)
                | Output::CallKit(after, _)
                | Output::Report(after, _)
                | Output::Volume(after, ..)
                | Output::Reply(after, ..) => (after, output),
            };
            // Each by its own number: a wrong one would not show behind others that wait.
            if after <= machine.durable {
                self.release(name, output);
            } else {
                machine.held_back.push_back((after, output));
            }
        }
    }

    pub(super) fn synced(&mut self, name: &NodeName, life: u64, number: RecordNumber) {
        let Some(machine) = self.machines.get_mut(name).filter(|it| it.life == life && !it.disk_stuck) else { return };
        while let Some((at, record)) = machine.unsynced.pop_front() {
            if at > number {
                machine.unsynced.push_front((at, record));
                break;
            }
            self.checks.written(name, &record);
            machine.journal.push(record);
            machine.durable = at;
        }
        for (after, output) in core::mem::take(&mut self.machine(name).held_back) {
            if after > self.machine(name).durable {
                self.machine(name).held_back.push_back((after, output));
            } else {
                self.release(name, output);
            }
        }
    }

    fn release(&mut self, name: &NodeName, output: Output) {
        if let Some(machine) = self.machines.get_mut(name) {
            self.checks.leaves(name, machine.durable_state(), &self.hierarchies, &output);
        }
        match output {
            Output::Send(_, to, message) => self.send_message(name, &to, message),
            Output::CallKit(_, call) => self.call(name, call),
            Output::Report(_, event) => self.report(name, &event),
            Output::Reply(_, id, reply) => {
                self.replies.insert(id, reply);
            }
            Output::Arbiter(_, id, request) => self.ask_arbiter(name, id, request),
            Output::Fence(_, id, node) => self.fence(name, id, node),
            Output::Volume(_, _, told) => self.told_to_volumes.push_back((name.clone(), told)),
            Output::Persist(..)
            | Output::Heartbeat(_)
            | Output::CancelKit(_)
            | Output::Knock(..)
            | Output::Survey(..)
            | Output::Examined(..)
            | Output::Guard(_) => {
                unreachable!("carried out at once")
            }
        }
    }

    fn report(&mut self, name: &NodeName, event: &Event) {
        self.coverage.event(event);
        self.checks.reported(self.now, name, event, &self.machines);
        if !self.quiet {
            self.timeline.push(Line { at: self.now, node: name.clone(), text: event.to_string() });
        }
    }

    fn call(&mut self, name: &NodeName, call: Call) {
        let Some(hierarchy) = self.hierarchies.values().nth(call.hierarchy.at()) else { return };
        let tag = hierarchy.tag(call.resource).clone();
        let machine = &self.machines[name];
        let alone = !machine.calls.values().any(|running| running.tag == tag) && !machine.leftovers.contains_key(&tag);
        let (now, machines) = (self.now, &self.machines);
        // What heartbeats show of it: last ones within one dead time of each other, and as much again for what they miss.
        let dead = self.spec.paths.values().map(|path| path.dead_time().0).max().unwrap_or_default();
        let at_once = Millis(2 * dead + 2_000);
        let apart = |a: &NodeName, b: &NodeName, since| {
            let (a, b) = (self.index[a], self.index[b]);
            self.network.was_apart(a, b, since, at_once) || self.network.was_apart(b, a, since, at_once)
        };
        self.checks.call(now, name, hierarchy, &call, machines, alone, &apart);
        let hierarchy = hierarchy.name.clone();
        let life = machine.life;
        if self.outside.contains(&tag) {
            let Call { id, operation, budget, .. } = call;
            self.machine(name).calls.insert(id, Running { hierarchy, tag, becomes: None });
            self.asked_of_kits.push_back(KitCall { node: name.clone(), life, id, operation, budget });
            let outcome = fault(FaultKind::Timeout, "no answer within the budget");
            return self.at(budget, Happening::Outcome { node: name.clone(), life, call: id, outcome });
        }
        let reaction = machine.apps[&tag].react(&call.operation);
        self.machine(name).calls.insert(call.id, Running { hierarchy, tag, becomes: reaction.becomes });
        let (after, outcome) = match reaction.takes.filter(|takes| *takes < call.budget) {
            Some(takes) => (takes, reaction.outcome),
            None => (call.budget, fault(FaultKind::Timeout, "no answer within the budget")),
        };
        self.at(after, Happening::Outcome { node: name.clone(), life, call: call.id, outcome });
    }

    fn cancel(&mut self, name: &NodeName, call: CallId) {
        let machine = self.machine(name);
        let life = machine.life;
        let outcome = fault(FaultKind::Cancelled, "it was cancelled");
        let waits = |(_, output): &(_, Output)| matches!(output, Output::CallKit(_, it) if it.id == call);
        if let Some(at) = machine.held_back.iter().position(waits) {
            machine.held_back.remove(at);
            let input = Box::new(Input::Outcome(call, outcome));
            return self.at(CANCEL, Happening::Input { node: name.clone(), life, input });
        }
        self.at(CANCEL, Happening::Outcome { node: name.clone(), life, call, outcome });
    }

    pub(super) fn call_ended(&mut self, name: &NodeName, call: CallId, outcome: Outcome) {
        let machine = self.machine(name);
        let Some(Running { hierarchy, tag, becomes }) = machine.calls.remove(&call) else { return };
        if let Some(app) = machine.apps.get_mut(&tag) {
            app.become_(becomes);
        }
        let runs = machine.apps.get(&tag).is_some_and(|app| app.running);
        if matches!(outcome, Outcome::Done { .. }) && !runs {
            self.checks.removed(name, &hierarchy, &tag);
        }
        self.input(name, Input::Outcome(call, outcome));
    }

    /// Replaying the journal gives the state, whenever everything is durable.
    pub(super) fn check_replay(&mut self) {
        for (name, machine) in &mut self.machines {
            if !machine.unsynced.is_empty() || machine.node.is_none() {
                continue;
            }
            let replayed = State::replay(&machine.journal);
            let kept = *machine.durable_state() == replayed;
            if !kept || machine.node.as_ref().is_some_and(|node| *node.state() != replayed) {
                self.checks.broken.push(format!("replay: {name}: replaying the journal gives another state"));
            }
        }
    }
}
