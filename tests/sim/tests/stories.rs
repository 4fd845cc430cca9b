//! Every story under `cases/` is told again and has to go as it is written there.

use std::path::Path;

use mainstay_sim::script::{stories, tell};

#[test]
fn stories_go_as_they_are_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut stories = stories(&folder).expect("the stories can be read");
    // Those are scenarios: see `properties.rs`.
    stories.retain(|path, _| !path.starts_with(folder.join("seeds")));
    assert!(stories.len() > 30, "the stories are found: {}", stories.len());
    let bless = std::env::var_os("MAINSTAY_BLESS").is_some();
    let mut wrong = Vec::new();
    for (path, text) in stories {
        let told = tell(&text);
        assert!(!told.contains("BROKEN:") || bless, "{}:\n{told}", path.display());
        if told == text {
            continue;
        }
        if bless {
            std::fs::write(&path, &told).expect("a story can be written");
        } else {
            wrong.push(format!("{}\n{}", path.display(), difference(&text, &told)));
        }
    }
    assert!(wrong.is_empty(), "stories go otherwise; `just bless` writes how they go now:\n{}", wrong.join("\n"));
}

/// The first lines that differ.
fn difference(written: &str, told: &str) -> String {
    let (mut a, mut b) = (written.lines(), told.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (None, None) => return "no difference but in line ends".into(),
            (written, told) if written != told => {
                return format!("  line {number}\n  - {}\n  + {}", written.unwrap_or("(end)"), told.unwrap_or("(end)"));
            }
            _ => {}
        }
    }
}
