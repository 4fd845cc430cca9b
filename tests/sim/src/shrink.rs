//! Makes a scenario that fails smaller, as long as it fails in the same way: faults are taken out, many at once and then
//! one by one; what lasts and when it begins is halved; nodes, paths and resources that do not matter go.

use std::time::{Duration, Instant};

use mainstay_core::time::Millis;

use crate::run::run;
use crate::scenario::{HIERARCHIES, NODES, PATHS, Scenario};

/// The smallest that was found within the time.
#[must_use]
pub fn shrink(scenario: &Scenario, rule: &str, limit: Duration) -> Scenario {
    let began = Instant::now();
    let mut best = scenario.clone();
    let fails = |candidate: &Scenario| began.elapsed() < limit && run(candidate, true).rule() == Some(rule);
    loop {
        let mut smaller = false;
        let mut size = best.faults.len();
        while size > 0 {
            let mut from = 0;
            while from < best.faults.len() {
                let mut candidate = best.clone();
                candidate.faults.drain(from..(from + size).min(best.faults.len()));
                if fails(&candidate) {
                    (best, smaller) = (candidate, true);
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
        for candidate in simpler(&best) {
            if fails(&candidate) {
                (best, smaller) = (candidate, true);
                break;
            }
        }
        if !smaller || began.elapsed() >= limit {
            return best;
        }
    }
}

/// A little simpler each.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut out = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        change(&mut candidate);
        if candidate != *scenario {
            out.push(candidate);
        }
    };
    let named = |word: &str| scenario.faults.iter().any(|fault| fault.what.split(' ').any(|known| known == word));
    for (number, (name, letter)) in HIERARCHIES.into_iter().enumerate().take(scenario.hierarchies.len()) {
        let resources = scenario.hierarchies[number].tree.len();
        if resources > 1 && !named(&format!("{letter}{}", resources - 1)) {
            with(&|it| it.hierarchies[number].tree.truncate(resources - 1));
        }
        with(&|it| it.hierarchies[number].switches_back = false);
        let any_named = named(name) || (0..resources).any(|at| named(&format!("{letter}{at}")));
        if number > 0 && number == scenario.hierarchies.len() - 1 && !any_named {
            with(&|it| it.hierarchies.truncate(number));
        }
    }
    let last = scenario.nodes - 1;
    if scenario.nodes > 2 && !named(NODES[last]) && scenario.hierarchies.iter().all(|it| it.first < last) {
        with(&|it| it.nodes -= 1);
    }
    if scenario.paths > 2 && !named(PATHS[scenario.paths - 1]) {
        with(&|it| it.paths -= 1);
    }
    with(&|it| it.lan = crate::scenario::Lan::Good);
    with(&|it| it.granted_longer = Millis(0));
    with(&|it| it.remove_violations = false);
    for number in 0..scenario.faults.len() {
        with(&|it| it.faults[number].lasts = Millis(it.faults[number].lasts.0 / 2000 * 1000));
        with(&|it| it.faults[number].lasts = Millis(it.faults[number].lasts.0.next_multiple_of(1000)));
        with(&|it| it.faults[number].at = Millis(it.faults[number].at.0 / 1000 * 1000));
    }
    out
}
