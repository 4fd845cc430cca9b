//! What a node says of itself, looked into by the names that `mainstay status --json` documents.

use serde_json::Value;

/// The answer of a daemon to "what do you know?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status(pub Value);

impl Status {
    /// Who owns the hierarchy, as far as this node knows.
    #[must_use]
    pub fn owner(&self, hierarchy: &str) -> Option<&str> {
        self.hierarchy(hierarchy)?["owner"].as_str()
    }

    /// The epoch of the hierarchy's newest claim; 0 when nobody has claimed it.
    #[must_use]
    pub fn epoch(&self, hierarchy: &str) -> u64 {
        self.hierarchy(hierarchy).and_then(|it| it["epoch"].as_u64()).unwrap_or(0)
    }

    /// The hierarchy.
    #[must_use]
    pub fn hierarchy(&self, name: &str) -> Option<&Value> {
        self.0["hierarchies"].as_array()?.iter().find(|it| it["name"] == name)
    }

    /// The resource's state on a node, as in `ISP`; empty when this node has not heard of it.
    #[must_use]
    pub fn state(&self, tag: &str, node: &str) -> &str {
        self.view(tag, node).and_then(|view| view["status"].as_str()).unwrap_or("")
    }

    /// Why it is in that state.
    #[must_use]
    pub fn reason(&self, tag: &str, node: &str) -> &str {
        self.view(tag, node).and_then(|view| view["reason"].as_str()).unwrap_or("")
    }

    fn view(&self, tag: &str, node: &str) -> Option<&Value> {
        let hierarchies = self.0["hierarchies"].as_array()?;
        let rows = hierarchies.iter().flat_map(|it| it["resources"].as_array().into_iter().flatten());
        rows.into_iter().find(|row| row["tag"] == tag)?["on"].get(node)
    }

    /// Whether it is in service on that node, protected or not.
    #[must_use]
    pub fn serves(&self, tag: &str, node: &str) -> bool {
        matches!(self.state(tag, node), "ISP" | "ISU") && !self.reason(tag, node).contains("being taken out")
    }

    /// What the alarms say, oldest first.
    #[must_use]
    pub fn alarms(&self) -> Vec<&str> {
        self.0["alarms"].as_array().into_iter().flatten().filter_map(|alarm| alarm["text"].as_str()).collect()
    }

    /// The first alarm that says this.
    #[must_use]
    pub fn alarm(&self, words: &str) -> Option<&Value> {
        let alarms = self.0["alarms"].as_array()?;
        alarms.iter().find(|alarm| alarm["text"].as_str().is_some_and(|text| text.contains(words)))
    }

    /// How another node is reached, as in `alive`.
    #[must_use]
    pub fn reach(&self, node: &str) -> &str {
        self.node(node).and_then(|it| it["reach"].as_str()).unwrap_or("")
    }

    /// What is known of another node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Value> {
        self.0["nodes"].as_array()?.iter().find(|it| it["name"] == name)
    }

    /// What troubles the host.
    #[must_use]
    pub fn troubles(&self) -> Vec<&str> {
        self.0["host"]["troubles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The kit files that are refused.
    #[must_use]
    pub fn refused(&self) -> Vec<&Value> {
        self.0["host"]["refused"].as_array().into_iter().flatten().collect()
    }

    /// The kits that are loaded, as name and version.
    #[must_use]
    pub fn kits(&self) -> Vec<(&str, &str)> {
        let kits = self.0["host"]["kits"].as_array().into_iter().flatten();
        kits.filter_map(|kit| Some((kit["name"].as_str()?, kit["version"].as_str()?))).collect()
    }
}
