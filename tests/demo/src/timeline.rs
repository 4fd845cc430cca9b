//! What is printed: a timeline that reads well on a terminal and in a log.
//!
//! What happens comes from several places and some ms late; lines are held back for a moment and printed in the order
//! in which things happened. Colours only where a terminal shows them (anstream decides).

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use nix::sys::signal::Signal;

use crate::stop;

/// How long a line waits for one that happened before it, in ms: events arrive within a few.
const HOLD_MS: u64 = 150;
/// How often it is looked whether lines have waited long enough, in ms.
const LOOK_MS: u64 = 50;
/// Where lines are broken, in columns.
const WIDTH: usize = 100;
/// What stands before a line's text: the time and who.
const MARGIN: usize = 20;

/// Whom a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// What the demo does to the nodes.
    Demo,
    /// What an operator does.
    Operator,
    /// What the client sees.
    Client,
    /// What a node does.
    Node(&'static str),
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Demo => "",
            Self::Operator => "operator",
            Self::Client => "client",
            Self::Node(name) => name,
        }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// As any.
    Plain,
    /// All is well.
    Good,
    /// Something is not.
    Bad,
    /// What is done on purpose.
    Strong,
}

impl Look {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Strong => Style::new().bold(),
        }
    }
}

/// The timeline. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Timeline(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start_ms: u64,
    ends: AtomicBool,
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    at_ms: u64,
    text: String,
}

/// Prints what has been held back long enough, until it is dropped.
#[derive(Debug)]
pub(crate) struct Printer {
    timeline: Timeline,
    thread: Option<JoinHandle<()>>,
}

impl Timeline {
    /// One that begins now.
    pub(crate) fn start() -> (Self, Printer) {
        let timeline =
            Self(Arc::new(Shared { start_ms: now_ms(), ends: AtomicBool::new(false), held: Mutex::default() }));
        let for_thread = timeline.clone();
        let thread = thread::spawn(move || {
            while !for_thread.0.ends.load(Ordering::Relaxed) {
                for_thread.print_until(now_ms().saturating_sub(HOLD_MS));
                thread::sleep(Duration::from_millis(LOOK_MS));
            }
        });
        (timeline.clone(), Printer { timeline, thread: Some(thread) })
    }

    /// Something happens now.
    pub(crate) fn line(&self, who: Who, look: Look, text: &str) {
        self.line_at(now_ms(), who, look, text);
    }

    /// Something happened at this moment, in ms since 1970.
    pub(crate) fn line_at(&self, at_ms: u64, who: Who, look: Look, text: &str) {
        let seconds = at_ms.saturating_sub(self.0.start_ms) as f64 / 1_000.0;
        let style = look.style();
        let mut lines = wrapped(text, WIDTH - MARGIN).into_iter();
        let first = lines.next().unwrap_or_default();
        let mut out = format!("{seconds:>8.3}  {:<8}  {style}{first}{style:#}\n", who.name());
        for line in lines {
            out.push_str(&format!("{:MARGIN$}{style}{line}{style:#}\n", ""));
        }
        self.lock().push(Held { at_ms, text: out });
    }

    /// A heading, after everything that happened before it.
    pub(crate) fn heading(&self, text: &str) {
        let bold = Style::new().bold();
        self.text(&format!("\n{bold}{text}{bold:#}\n"));
    }

    /// Text as it is, after everything that happened before it.
    pub(crate) fn text(&self, text: &str) {
        // An event of a moment ago may still be on its way.
        thread::sleep(Duration::from_millis(HOLD_MS));
        self.print_until(u64::MAX);
        print(text);
    }

    fn print_until(&self, until_ms: u64) {
        let mut held = self.lock();
        held.sort_by_key(|line| line.at_ms);
        let ripe = held.partition_point(|line| line.at_ms <= until_ms);
        // Printed under the lock, so that two who print do not change the order.
        print(&held.drain(..ripe).map(|line| line.text).collect::<String>());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.timeline.0.ends.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the thread that prints panicked");
        }
        self.timeline.print_until(u64::MAX);
    }
}

fn print(text: &str) {
    if text.is_empty() {
        return;
    }
    let mut out = anstream::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        // Whoever read it is gone: there is nobody to show anything to.
        stop::ask(Signal::SIGPIPE as i32);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut current = String::new();
        for word in line.split(' ') {
            if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_broken_between_words_and_nothing_is_lost() {
        let text = "one two three four\nfive averyveryverylongword six";
        let lines = wrapped(text, 10);
        assert_eq!(lines, ["one two", "three four", "five", "averyveryverylongword", "six"]);
        assert_eq!(wrapped("", 10), [] as [&str; 0]);
    }

    #[test]
    fn lines_are_printed_in_the_order_in_which_things_happened() {
        let timeline =
            Timeline(Arc::new(Shared { start_ms: 1_000, ends: AtomicBool::new(false), held: Mutex::default() }));
        timeline.line_at(1_500, Who::Node("ex01"), Look::Plain, "late");
        timeline.line_at(1_250, Who::Client, Look::Plain, "early");
        let mut held = timeline.lock();
        held.sort_by_key(|line| line.at_ms);
        let texts: Vec<&str> = held.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["   0.250  client    early\n", "   0.500  ex01      late\n"]);
    }
}
