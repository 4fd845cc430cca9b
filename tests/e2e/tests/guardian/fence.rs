//! Fence commands for peers: real programs under real supervisors.

use std::time::{Duration, Instant};

use mainstay_core::names::NodeName;
use mainstay_core::node::FenceId;
use mainstay_core::spec::Spec;
use mainstay_node::fence::Fences;
use mainstay_node::happening::Happening;
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::{TempDir, WAIT_LIMIT, binary, wait_until};
use tokio::sync::mpsc;

struct Stage {
    folder: TempDir,
    fences: Fences,
    happenings: mpsc::Receiver<Happening>,
}

impl Stage {
    fn new(script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = TempDir::new();
        let path = folder.write("fence", script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("it was just written");
        let text = format!(
            "cluster = \"lab\"\nkits = \"kits\"\n[node.a]\n[node.b]\n[node.b.fence]\ncommand = [\"{}\", \"b.example.org\"]\ntimeout = \"2s\"\n",
            path.display()
        );
        let (spec, _) = Spec::read_with_errors("config", &text);
        let commands = Commands::open(&folder.join("commands"), SupervisorExe::binary(binary("mainstay")))
            .expect("a folder for commands");
        let (sender, happenings) = mpsc::channel(100);
        Self { fences: Fences::new(&spec.expect("the text is a config"), commands, sender), folder, happenings }
    }

    fn start(&self, id: u64, node: &str) {
        self.fences.start(FenceId(id), NodeName::new(node));
    }

    async fn ended(&mut self) -> (u64, Result<String, String>) {
        match tokio::time::timeout(WAIT_LIMIT, self.happenings.recv()).await {
            Ok(Some(Happening::FenceEnded(id, ended))) => (id.0, ended),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn success_is_told_with_what_it_said_and_failure_too() {
    let mut good = Stage::new("#!/bin/sh\necho \"$1: $MAINSTAY_NODE of $MAINSTAY_CLUSTER is off\"\n");
    good.start(1, "b");
    assert_eq!(good.ended().await, (1, Ok("b.example.org: b of lab is off".to_owned())));
    good.start(2, "a");
    let (id, ended) = good.ended().await;
    assert!(id == 2 && ended.unwrap_err().contains("[node.a.fence]"));

    let mut bad = Stage::new("#!/bin/sh\necho trying\necho 'no answer from the board' >&2\nexit 3\n");
    bad.start(1, "b");
    let why = bad.ended().await.1.unwrap_err();
    assert!(why.contains("exit code 3") && why.ends_with("no answer from the board"), "{why}");
}

#[tokio::test]
async fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
    let mut stage = Stage::new("#!/bin/sh\necho waiting\nsetsid sleep 1000 \"${0%/*}\" 2>/dev/null &\nsleep 1001\n");
    let began = Instant::now();
    stage.start(1, "b");
    let why = stage.ended().await.1.unwrap_err();
    assert!(why.contains("after 2s") && why.contains("waiting"), "{why}");
    assert!(began.elapsed() >= Duration::from_secs(2));
    wait_until(WAIT_LIMIT, "nothing of it to be left", || stage.folder.running().is_empty());
}

#[tokio::test]
async fn one_node_is_fenced_once_at_a_time() {
    let mut stage = Stage::new("#!/bin/sh\nmkdir \"${0%/*}/now\" || exit 1\nsleep 0.3\nrmdir \"${0%/*}/now\"\n");
    for id in 1..=3 {
        stage.start(id, "b");
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (id, ended) = stage.ended().await;
        assert!(ended.is_ok(), "{ended:?}");
        ids.push(id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}
