//! What a world comes to rest as, some time after all trouble has ceased: nothing is being done, and of each hierarchy
//! either one node has all that is wanted, or an alarm or an operator's own doing says why not.

use std::collections::BTreeMap;

use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::node::Node;
use mainstay_core::status::Status;

use super::Promise;
use crate::world::World;

/// What is wrong with it; nothing, if it is at rest.
///
/// # Errors
/// What has not settled, or runs twice, or is out of service without a reason.
pub fn at_rest(world: &World) -> Result<(), String> {
    let mut statuses = BTreeMap::new();
    for (name, machine) in &world.machines {
        let Some(status) = machine.node.as_ref().map(Node::status) else {
            return Err(format!("rest: {name} has no daemon"));
        };
        statuses.insert(name.clone(), status);
    }
    world.spec().hierarchies.keys().try_for_each(|hierarchy| hierarchy_at_rest(world, &statuses, hierarchy))
}

/// Whether everything of every hierarchy is in service somewhere, and no alarm says otherwise.
#[must_use]
pub fn all_is_well(world: &World) -> bool {
    let quiet = |node: &Node| node.status().alarms.is_empty();
    world.machines.values().all(|machine| machine.node.as_ref().is_some_and(quiet))
        && world.spec().hierarchies.keys().all(|hierarchy| serving(world, hierarchy).len() == 1)
}

fn serving(world: &World, hierarchy: &HierarchyName) -> Vec<NodeName> {
    let tags: Vec<_> = world.spec().hierarchies[hierarchy].resources.keys().collect();
    let serves = |name: &&NodeName| {
        let apps = &world.machines[*name].apps;
        tags.iter().all(|tag| apps[*tag].running && !apps[*tag].broken && !apps[*tag].by_hand)
    };
    world.machines.keys().filter(serves).cloned().collect()
}

fn hierarchy_at_rest(
    world: &World,
    statuses: &BTreeMap<NodeName, Status>,
    hierarchy: &HierarchyName,
) -> Result<(), String> {
    let mut explained = false;
    for (name, status) in statuses {
        let Some(known) = status.hierarchies.iter().find(|known| known.name == *hierarchy) else { continue };
        for on in &known.nodes {
            if let Some(activity) = on.activity.as_ref().filter(|activity| activity.contains("steps done")) {
                return Err(format!("rest: {name} says that {} is still {activity}", on.node));
            }
        }
        let about = |alarm: &mainstay_core::status::Alarm| {
            alarm.hierarchy.is_none() || alarm.hierarchy.as_ref() == Some(hierarchy)
        };
        explained |= status.alarms.iter().any(about);
        explained |= known.ownership.contains("offered to nobody");
        let here = |row: &mainstay_core::status::ResourceRow| {
            row.on.get(name).is_some_and(|view| view.reason.contains("by the operator"))
        };
        explained |= known.resources.iter().any(here);
    }
    let serving = serving(world, hierarchy);
    // After a hasty word, or a takeover over comm paths alone, a remove that fails leaves two; an alarm says so.
    let may_be_two = world.checks.lied.contains(hierarchy) || world.checks.promise(hierarchy) == Promise::Paths;
    if serving.len() > 1 && !(explained && may_be_two) {
        return Err(format!("rest (O16): at rest, {serving:?} have {hierarchy} in service"));
    }
    if serving.is_empty() && !explained {
        return Err(format!("rest: at rest, nobody has {hierarchy} in service, and nothing says why"));
    }
    Ok(())
}
