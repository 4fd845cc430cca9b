//! Case files: a scenario as text that a person can read, change and run again.
//!
//! ```text
//! # why it is kept
//! seed 17
//! nodes 2
//! paths 2
//! lan busy
//! heartbeat 1s
//! misses 5
//! remove-violations false
//! granted-longer 0s
//! hierarchy confirm a intelligent 0 1
//! at 31s for 4500ms: apart a b
//! at 40s: ask a switchover h b
//! ```

use std::fmt::Write as _;

use mainstay_core::time::Millis;

use crate::scenario::{Fault, HIERARCHIES, Hierarchy, Lan, Mode, NODES, PATHS, Scenario};

/// Whether a hierarchy goes back by hand or by itself, as a config says it.
const BACK: [&str; 2] = ["intelligent", "automatic"];

impl Scenario {
    /// As a case file.
    #[must_use]
    pub fn to_case(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "seed {}\nnodes {}\npaths {}\nlan {}\nheartbeat {}\nmisses {}\nremove-violations {}\ngranted-longer {}",
            self.seed,
            self.nodes,
            self.paths,
            self.lan.as_str(),
            self.heartbeat,
            self.misses,
            self.remove_violations,
            self.granted_longer
        );
        for Hierarchy { mode, first, switches_back, tree } in &self.hierarchies {
            let back = BACK[usize::from(*switches_back)];
            let _ = write!(out, "hierarchy {} {} {back}", mode.as_str(), NODES[*first]);
            tree.iter().for_each(|bits| out += &format!(" {bits}"));
            out.push('\n');
        }
        for fault in &self.faults {
            let lasts = if fault.lasts.0 == 0 { String::new() } else { format!(" for {}", fault.lasts) };
            let _ = writeln!(out, "at {}{lasts}: {}", fault.at, fault.what);
        }
        out
    }

    /// Reads a case file.
    ///
    /// # Errors
    /// The line that is none of a case file.
    pub fn from_case(text: &str) -> Result<Self, String> {
        let mut case = Self {
            seed: 0,
            nodes: 2,
            paths: 1,
            lan: Lan::Good,
            heartbeat: Millis(1000),
            misses: 5,
            remove_violations: false,
            granted_longer: Millis(0),
            hierarchies: Vec::new(),
            faults: Vec::new(),
        };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            case.line(line).ok_or_else(|| format!("`{line}` is no line of a case"))?;
        }
        let fits = (1..=NODES.len()).contains(&case.nodes) && (1..=PATHS.len()).contains(&case.paths);
        let fits = fits && (1..=HIERARCHIES.len()).contains(&case.hierarchies.len());
        if fits { Ok(case) } else { Err("there are so many nodes, paths or hierarchies as there are not".into()) }
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "seed" => self.seed = rest.parse().ok()?,
            "nodes" => self.nodes = rest.parse().ok()?,
            "paths" => self.paths = rest.parse().ok()?,
            "lan" => self.lan = Lan::ALL.into_iter().find(|lan| lan.as_str() == rest)?,
            "heartbeat" => self.heartbeat = Millis::parse(rest)?,
            "misses" => self.misses = rest.parse().ok()?,
            "remove-violations" => self.remove_violations = rest.parse().ok()?,
            "granted-longer" => self.granted_longer = Millis::parse(rest)?,
            "hierarchy" => {
                let mut words = rest.split(' ');
                let (mode, first, back) = (words.next()?, words.next()?, words.next()?);
                self.hierarchies.push(Hierarchy {
                    mode: Mode::ALL.into_iter().find(|known| known.as_str() == mode)?,
                    first: NODES.iter().position(|node| *node == first)?,
                    switches_back: BACK.iter().position(|known| *known == back)? == 1,
                    tree: words.map(str::parse).collect::<Result<_, _>>().ok()?,
                });
            }
            "at" => {
                let (when, what) = rest.split_once(": ")?;
                let (at, lasts) = when.split_once(" for ").unwrap_or((when, "0ms"));
                let (at, lasts) = (Millis::parse(at)?, Millis::parse(lasts)?);
                self.faults.push(Fault { at, lasts, what: what.to_owned() });
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for seed in 0..200 {
            let scenario = Scenario::from_seed(seed);
            assert_eq!(Scenario::from_case(&scenario.to_case()).as_ref(), Ok(&scenario));
        }
        assert!(Scenario::from_case("nodes many").is_err());
        assert!(Scenario::from_case("nodes 9").is_err());
    }
}
