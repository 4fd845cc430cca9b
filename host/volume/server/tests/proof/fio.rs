//! fio as an application, and as the judge of what it was told is durable.
//!
//! Two jobs, each over a connection of its own, write every block of their part of a volume once, in an order that comes
//! from a seed, and flush after each. What is written follows from session and place, so that a block of an earlier
//! session, or of another place, is none of this one. While it writes, fio reads back what it has written, batch after
//! batch.
//!
//! What fio may claim when its server is gone is not what it would save as its state (`verify_state_save`): that has every
//! write that was answered, and a write that no flush has followed may be lost. One request at a time, and a flush after
//! each write: with the answer to its nth flush a job knows that its first n blocks are durable. fio counts a flush when
//! it asks for it, and takes an answer that never came for one (`io_completed` in its `io_u.c` does not look at the error
//! of a flush); so where the server is gone, the last one does not count. The first n blocks are what `verify_only` looks
//! at when it is to write as many bytes.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, require_or_skip};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::pair::attempt;

/// Bytes of a block of each job, and of its part of the volume.
const JOBS: [(u64, u64); 2] = [(4096, 2 << 20), (512, 512 << 10)];
/// Bytes of both parts.
pub(crate) const BYTES: u64 = JOBS[0].1 + JOBS[1].1;
/// What a request may take on the way beside its data, with its flush.
const REQUEST_BYTES: u64 = 512;

/// fio, if it is there; if not, that was made known.
pub(crate) fn program() -> Option<PathBuf> {
    require_or_skip("fio", "apt-get install fio")
}

/// A session that goes on.
pub(crate) struct Session {
    guard: Guard,
    folder: TempDir,
    claim: Claim,
}

/// What fio was told is durable.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    program: PathBuf,
    /// Where its part of the volume begins.
    from: u64,
    seed: u64,
    /// Of each job so many blocks, in the order of the seed.
    blocks: [u64; JOBS.len()],
    /// How many bytes its writes may have taken on the way to the other copy.
    pub(crate) wire_bytes: u64,
}

/// How a session is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is told to end, if it has not done all it had to.
    Told,
    /// Its server was killed.
    Gone,
}

/// What fio says of its jobs, if it came so far; before it, its messages.
fn jobs(output: &str) -> Option<Vec<Value>> {
    let begin = if output.starts_with('{') { 0 } else { output.find("\n{")? };
    let report: Value = serde_json::from_str(&output[begin..output.rfind('}')? + 1]).ok()?;
    report["jobs"].as_array().cloned()
}

fn count(job: &Value, what: &str) -> u64 {
    job[what]["total_ios"].as_u64().unwrap()
}

impl Session {
    /// Begins to write, from this byte of an export on.
    pub(crate) fn start(program: &Path, uri: &str, from: u64, seed: u64) -> Self {
        let claim = Claim { program: program.to_owned(), from, seed, blocks: [0; JOBS.len()], wire_bytes: 0 };
        let folder = TempDir::new();
        let file = folder.join("jobs");
        fs::write(&file, claim.jobs(uri, false)).unwrap();
        let mut command = Command::new(program);
        command.arg(&file).args(["--output-format=json"]).arg(format!("--output={}", folder.join("said").display()));
        command.current_dir(folder.path());
        Self { guard: Guard::start("fio", &mut command).unwrap(), folder, claim }
    }

    /// Whether both jobs have written something; `part` is what can be read of their part of the volume.
    pub(crate) fn has_written(&self, part: &[u8]) -> bool {
        let mut rest = part;
        JOBS.iter().enumerate().all(|(at, (block, size))| {
            let (mine, others) = rest.split_at(*size as usize);
            rest = others;
            mine.chunks(*block as usize).any(|data| data[..8] == self.claim.word(at).to_be_bytes())
        })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.guard.status().is_some()
    }

    /// What it may claim. It has found nothing wrong, and met no error but that its server was gone.
    pub(crate) fn end(mut self, ending: Ending) -> Claim {
        if ending == Ending::Told {
            // False where it has ended.
            self.guard.signal(Signal::SIGINT);
        }
        let status = self.guard.wait(WAIT_LIMIT).expect("fio ends");
        let said = fs::read_to_string(self.folder.join("said")).unwrap_or_default() + &self.guard.output();
        assert!(!said.contains("verify failed") && !said.contains("bad pattern"), "fio read something else: {said}");
        let Some(jobs) = jobs(&said).filter(|jobs| jobs.len() == JOBS.len()) else {
            // Its server was gone before it had connected, or it was told to end before it had begun.
            let told = status.code() == Some(128) || status.signal() == Some(Signal::SIGINT as i32);
            assert!(ending == Ending::Gone || told, "{status}: {said}");
            return self.claim;
        };
        for (at, job) in jobs.iter().enumerate() {
            let (writes, flushes) = (count(job, "write"), count(job, "sync"));
            assert!(flushes <= writes, "a flush follows a write: {said}");
            assert!(ending == Ending::Gone || job["error"] == 0, "{said}");
            self.claim.blocks[at] = flushes.saturating_sub(u64::from(ending == Ending::Gone));
            self.claim.wire_bytes += writes * (JOBS[at].0 + REQUEST_BYTES);
        }
        self.claim
    }
}

impl Claim {
    /// The jobs, as fio reads them.
    fn jobs(&self, uri: &str, verify: bool) -> String {
        let mut text = format!(
            "[global]\nioengine=nbd\nuri={uri}\nthread\niodepth=1\nfsync=1\nverify_fatal=1\nverify_state_save=0\n\
             clocksource=clock_gettime\n\
             randseed={}\n{}\n",
            self.seed,
            if verify { "verify_only" } else { "verify_backlog=16" }
        );
        let mut offset = self.from;
        for (at, (block, size)) in JOBS.into_iter().enumerate() {
            text += &format!("[{at}]\nbs={block}\noffset={offset}\n");
            // The order of blocks follows from the number of a job, too: one that has nothing to look for has its place.
            text += &match (verify, self.blocks[at]) {
                (true, 0) => format!("rw=read\nsize={block}\nio_size={block}\n"),
                (true, blocks) => format!("{}size={size}\nio_size={}\n", self.content(at), blocks * block),
                (false, _) => format!("{}size={size}\n", self.content(at)),
            };
            offset += size;
        }
        text
    }

    /// What tells a job of this session from all others.
    fn word(&self, job: usize) -> u64 {
        self.seed << 8 | (job as u64 + 1)
    }

    /// What a job writes: session, job and place, over and over.
    fn content(&self, job: usize) -> String {
        format!("rw=randwrite\nverify=pattern\nverify_pattern=0x{:016x}%o\n", self.word(job))
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.iter().sum()
    }

    /// Whether everything that is claimed can be read here; if not, what fio says.
    pub(crate) fn check(&self, uri: &str) -> Result<(), String> {
        if self.blocks() == 0 {
            return Ok(());
        }
        let folder = TempDir::new();
        let file = folder.join("jobs");
        fs::write(&file, self.jobs(uri, true)).unwrap();
        let output = attempt(&self.program, &["--output-format=json", &file.display().to_string()]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let jobs = jobs(&said).ok_or_else(|| format!("fio reports nothing: {said}"))?;
        if !output.status.success() {
            let messages: Vec<&str> =
                said.lines().filter(|line| line.contains("fio:") || line.contains("verify")).collect();
            return Err(format!("{self:?}: {}", messages.join("; ")));
        }
        let read: Vec<u64> = jobs.iter().map(|job| count(job, "read")).collect();
        let expected = self.blocks.map(|blocks| blocks.max(1));
        assert_eq!(read, expected, "it has looked at all of them: {said}");
        Ok(())
    }
}

/// A write that is lost, one that is damaged, one that went to another place: fio finds each among what it may claim, and
/// nothing else is held against a copy.
#[test]
fn fio_finds_what_is_lost_damaged_or_misplaced() {
    use crate::pair::client::{Client, Command, read_all};
    use crate::pair::under::{self, Under};

    let Some(program) = program().filter(|_| under::is_possible()) else { return };
    let disk = Under::new("cache", &["cache=writeback"], BYTES);
    let uri = format!("nbd+unix:///?socket={}", disk.socket().display());
    // Past the file, of which the kernel would keep what it has read.
    let whole = || read_all(&disk.socket(), "").unwrap();
    let put = |place: u64, bytes: &[u8]| {
        let mut client = Client::connect(&disk.socket(), "").unwrap();
        assert_eq!(client.once(Command::Write, false, (place, bytes.len() as u32), bytes).unwrap(), 0);
    };
    let session = |seed| {
        let mut session = Session::start(&program, &uri, 0, seed);
        let mut client = Client::connect(&disk.socket(), "").unwrap();
        mainstay_test_support::wait_until(WAIT_LIMIT, "fio has written", || {
            session.has_written(&client.read(BYTES as usize).unwrap()) || session.has_ended()
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        session.end(Ending::Told)
    };
    let older = session(1);
    let before = whole();
    older.check(&uri).unwrap();
    let claim = session(2);
    claim.check(&uri).unwrap();
    let after = whole();
    // What the second session has written, and of each job the first of it.
    let mut part = 0;
    for (job, (block, size)) in JOBS.into_iter().enumerate() {
        let written: Vec<u64> = (part..part + size)
            .step_by(block as usize)
            .filter(|at| after[*at as usize..][..8] == claim.word(job).to_be_bytes())
            .collect();
        assert!(written.len() as u64 >= claim.blocks[job] && claim.blocks[job] > 1, "{claim:?}");
        // The one that no flush may have followed is not claimed: of all that are written but one, each is found.
        let found = |bytes: &dyn Fn(u64) -> Vec<u8>| {
            let two = &written[..2];
            for place in two {
                put(*place, &bytes(*place));
            }
            let said = claim.check(&uri);
            put(0, &after);
            said.expect_err("fio finds it")
        };
        let bytes = |from: &[u8], place: u64| from[place as usize..][..block as usize].to_vec();
        let lost = found(&|place| bytes(&before, place));
        let damaged = found(&|place| {
            let mut bytes = bytes(&after, place);
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        });
        let misplaced = found(&|place| bytes(&after, *written.iter().rev().find(|other| **other != place).unwrap()));
        for said in [lost, damaged, misplaced] {
            assert!(said.contains("verify failed"), "{said}");
        }
        // What was never written by it is nobody's claim.
        let other = (part..part + size).step_by(block as usize).find(|at| !written.contains(at)).unwrap();
        put(other, &vec![0xff; block as usize]);
        claim.check(&uri).unwrap();
        put(0, &after);
        part += size;
    }
}
