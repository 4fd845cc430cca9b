//! The story: five things that happen to the shop, and how long clients miss it each time.

use std::time::{Duration, Instant};

use crate::config::{HIERARCHY, SHOP};
use crate::events::{Mark, Move, What};
use crate::node::Node;
use crate::stage::Stage;
use crate::timeline::{Look, Who};
use crate::trouble::Trouble;

const EX01: &str = "ex01";
const EX02: &str = "ex02";

/// What was measured in one step.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Its name, for programs.
    pub(crate) name: &'static str,
    /// What happens in it, for people.
    pub(crate) title: &'static str,
    /// What the client missed; nothing where there was nothing to miss yet.
    pub(crate) outage: Option<Duration>,
    /// mainstay's own share of it.
    pub(crate) own_share: Duration,
}

/// One step.
#[derive(Clone, Copy)]
struct Step {
    name: &'static str,
    title: &'static str,
    play: fn(&mut Stage, Moment) -> Result<Figures, Trouble>,
}

/// The moment at which a step begins: for the client, and in the log.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    mark: Mark,
}

/// What a step gives.
struct Figures {
    outage: Option<Duration>,
    own_share: Duration,
}

const STEPS: [Step; 5] = [
    Step { name: "in-service", title: "In service", play: in_service },
    Step { name: "local-recovery", title: "The shop's process is killed: local recovery", play: local_recovery },
    Step { name: "failover", title: "The disk of ex01 breaks: failover, agreed between the nodes", play: failover },
    Step {
        name: "power-cord",
        title: "The power cord of ex02 is pulled: alarm, confirm, in service",
        play: power_cord,
    },
    Step { name: "failback", title: "ex02 comes back: failback by hand", play: failback },
];

/// How many steps the story has.
pub(crate) const STEPS_COUNT: usize = STEPS.len();

/// Plays it all.
pub(crate) fn play(stage: &mut Stage) -> Result<Vec<Figure>, Trouble> {
    let mut figures = Vec::new();
    for (index, step) in STEPS.into_iter().enumerate() {
        let number = index + 1;
        stage.timeline.heading(&format!("{number}  {}", step.title));
        let moment = Moment { at: Instant::now(), mark: stage.log.mark() };
        let Figures { outage, own_share } =
            (step.play)(stage, moment).map_err(|trouble| trouble.in_step(number, step.title))?;
        figures.push(Figure { name: step.name, title: step.title, outage, own_share });
    }
    Ok(figures)
}

fn in_service(stage: &mut Stage, begin: Moment) -> Result<Figures, Trouble> {
    stage.operator.check_config(&stage.config())?;
    stage.timeline.line(Who::Operator, Look::Strong, "mainstay config check: nothing is wrong with it");
    for node in [EX01, EX02] {
        stage.power_on(node)?;
        stage.timeline.line(Who::Node(node), Look::Strong, "mainstay run: the daemon starts, and loads the kits");
    }
    for node in [EX01, EX02] {
        stage.connect(node)?;
        stage.timeline.line(Who::Node(node), Look::Plain, "the daemon listens");
    }
    stage.start_client();
    until_in_service(stage, EX01, begin)?;
    until_well(stage, EX01)?;
    let own_share = Move::Start(EX01).own_share(&stage.log.since(begin.mark))?;
    Ok(Figures { outage: None, own_share })
}

fn local_recovery(stage: &mut Stage, begin: Moment) -> Result<Figures, Trouble> {
    let killed = stage.node(EX01).kill_shop().ok_or(Trouble::NoShop { node: EX01 })?;
    stage.timeline.line(Who::Demo, Look::Strong, &format!("kill -9 {killed}: the shop's process on {EX01}"));
    stage.wait("local recovery to succeed on ex01", |stage| {
        stage.log.find(
            begin.mark,
            EX01,
            |event| matches!(&event.what, What::OperationEnded { operation, ok: true } if operation == "recover"),
        )
    })?;
    until_served_by(stage, EX01, Instant::now())?;
    until_well(stage, EX01)?;
    let own_share = Move::Repair { node: EX01, tag: SHOP }.own_share(&stage.log.since(begin.mark))?;
    measured(stage, begin, own_share)
}

fn failover(stage: &mut Stage, begin: Moment) -> Result<Figures, Trouble> {
    stage.node(EX01).break_disk()?;
    let text = format!("the data of the shop on {EX01} are gone: starting it anew cannot help");
    stage.timeline.line(Who::Demo, Look::Strong, &text);
    until_in_service(stage, EX02, begin)?;
    stage.node(EX01).mend_disk()?;
    stage.timeline.line(Who::Demo, Look::Strong, &format!("the disk of {EX01} is mended"));
    until_well(stage, EX02)?;
    let own_share = Move::Failover(EX01, EX02).own_share(&stage.log.since(begin.mark))?;
    measured(stage, begin, own_share)
}

fn power_cord(stage: &mut Stage, begin: Moment) -> Result<Figures, Trouble> {
    // First silence: a process that is killed says goodbye, and a machine without power does not.
    stage.nodes().iter().for_each(Node::cut);
    let count = stage.node(EX02).processes();
    let text = format!("nothing goes from or to {EX02} any more, and its {count} processes are killed");
    stage.timeline.line(Who::Demo, Look::Strong, &text);
    stage.node_mut(EX02).power_off();
    stage.wait("an alarm on ex01 that ex02 is silent", |stage| {
        stage.log.find(
            begin.mark,
            EX01,
            |event| matches!(&event.what, What::AlarmRaised { text } if text.contains("is silent")),
        )
    })?;
    let confirmed = stage.log.mark();
    stage.timeline.line(
        Who::Operator,
        Look::Strong,
        &format!("mainstay confirm {HIERARCHY}: {EX02} is off, I have looked"),
    );
    stage.operator.on(stage.node(EX01), &["confirm", HIERARCHY, "--yes", "--timeout", "45s"])?;
    until_in_service(stage, EX01, begin)?;
    until_well_without(stage, EX01)?;
    let own_share = Move::Confirmed(EX01).own_share(&stage.log.since(confirmed))?;
    measured(stage, begin, own_share)
}

fn failback(stage: &mut Stage, begin: Moment) -> Result<Figures, Trouble> {
    stage.power_on(EX02)?;
    stage.timeline.line(Who::Demo, Look::Strong, &format!("{EX02} has power again, and its daemon starts"));
    stage.connect(EX02)?;
    stage.nodes().iter().for_each(Node::mend);
    until_well(stage, EX01)?;
    stage.wait_for_status("ex02 to be ready to take over", |stage| {
        stage.operator.status(stage.node(EX01)).is_ok_and(|status| status.is_ready(EX02))
    })?;
    let asked = stage.log.mark();
    let command = format!("mainstay switchover {HIERARCHY} {EX02}");
    stage.timeline.line(Who::Operator, Look::Strong, &command);
    stage.operator.on(stage.node(EX01), &["switchover", HIERARCHY, EX02, "--timeout", "45s"])?;
    until_in_service(stage, EX02, begin)?;
    until_well(stage, EX02)?;
    let own_share = Move::Switchover(EX01, EX02).own_share(&stage.log.since(asked))?;
    measured(stage, begin, own_share)
}

/// The node says so, and the client sees it.
fn until_in_service(stage: &mut Stage, node: &'static str, begin: Moment) -> Result<(), Trouble> {
    stage.wait(&format!("{node} to bring all of it in service"), |stage| {
        stage.log.find(begin.mark, node, |event| event.what == What::InService)
    })?;
    until_served_by(stage, node, begin.at)
}

fn until_served_by(stage: &mut Stage, node: &'static str, moment: Instant) -> Result<(), Trouble> {
    stage.wait(&format!("the client to be served by {node}"), |stage| {
        (stage.client().served_by(moment) == Some(node)).then_some(())
    })
}

/// Both nodes say that all is well, each resource in service on the owner only.
fn until_well(stage: &mut Stage, owner: &'static str) -> Result<(), Trouble> {
    stage.wait_for_status(&format!("both nodes to say that all is well, in service on {owner}"), |stage| {
        let well = |node| stage.operator.status(node).is_ok_and(|status| status.all_well_on(owner));
        stage.nodes().iter().all(well)
    })
}

/// That one node says so: the other one is off.
fn until_well_without(stage: &mut Stage, owner: &'static str) -> Result<(), Trouble> {
    stage.wait_for_status(&format!("{owner} to say that all is in service there"), |stage| {
        stage.operator.status(stage.node(owner)).is_ok_and(|status| status.serves(owner))
    })
}

/// What the client missed since the step began, with mainstay's own share of it.
fn measured(stage: &mut Stage, begin: Moment, own_share: Duration) -> Result<Figures, Trouble> {
    let outage = stage.wait("the client to be served again", |stage| stage.client().outage(begin.at))?;
    Ok(Figures { outage: Some(outage), own_share })
}
