//! A hierarchy drawn as a tree, for people. What several resources depend on is drawn below the first of them.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::names::Tag;
use mainstay_core::status::ResourceRow;

/// A line of the tree: what stands before the name, and whose it is.
pub(crate) struct Branch<'a> {
    pub(crate) indent: String,
    pub(crate) row: &'a ResourceRow,
    /// It is drawn with all below it further up.
    pub(crate) again: bool,
}

/// The tree's lines, from what nothing depends on downwards.
pub(crate) fn draw(rows: &[ResourceRow]) -> Vec<Branch<'_>> {
    let by_tag: BTreeMap<&Tag, &ResourceRow> = rows.iter().map(|row| (&row.tag, row)).collect();
    let children: BTreeSet<&Tag> = rows.iter().flat_map(|row| &row.depends_on).collect();
    let mut lines = Vec::new();
    let mut drawn = BTreeSet::new();
    // What is still to be drawn: row, the indent of its parent, whether it is the last below it. No recursion: a chain
    // may be thousands long.
    let mut open: Vec<(&ResourceRow, String, Option<bool>)> =
        rows.iter().rev().filter(|row| !children.contains(&row.tag)).map(|row| (row, String::new(), None)).collect();
    while let Some((row, above, last)) = open.pop() {
        let (indent, below) = match last {
            None => (String::new(), String::new()),
            Some(true) => (format!("{above}└─ "), format!("{above}   ")),
            Some(false) => (format!("{above}├─ "), format!("{above}│  ")),
        };
        let again = !drawn.insert(&row.tag);
        lines.push(Branch { indent, row, again: again && !row.depends_on.is_empty() });
        if again {
            continue;
        }
        let children: Vec<&ResourceRow> = row.depends_on.iter().filter_map(|tag| by_tag.get(tag).copied()).collect();
        let count = children.len();
        open.extend(
            children
                .into_iter()
                .enumerate()
                .rev()
                .map(|(number, child)| (child, below.clone(), Some(number + 1 == count))),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tag: &str, depends_on: &[&str]) -> ResourceRow {
        ResourceRow {
            tag: tag.into(),
            kit: "null".into(),
            depends_on: depends_on.iter().map(|tag| (*tag).into()).collect(),
            on: BTreeMap::new(),
        }
    }

    #[test]
    fn a_tree_has_branches_and_shares_are_drawn_once() {
        let rows = [
            row("app", &["name", "store"]),
            row("web", &["store"]),
            row("store", &["disk"]),
            row("name", &[]),
            row("disk", &[]),
        ];
        let lines: Vec<String> = draw(&rows)
            .iter()
            .map(|line| format!("{}{}{}", line.indent, line.row.tag, if line.again { " ..." } else { "" }))
            .collect();
        assert_eq!(lines, ["app", "├─ name", "└─ store", "   └─ disk", "web", "└─ store ..."]);
    }
}
