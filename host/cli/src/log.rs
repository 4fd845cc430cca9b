//! What the daemon logs, on its way to standard error.
//!
//! A thread writes it, so that whoever reads it may be slow, stopped or gone: the daemon never waits for its own log, and
//! does not die with whoever collects it. What finds no room is counted and dropped, and where it is missing the log says
//! how much it was.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Events that wait to be written, at the most: a failover of a large hierarchy logs a few thousand at once.
const WAITING_MAX: usize = 8192;
/// When the daemon ends, what waits has this long to be written. Whoever has not read it by then does not read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where events go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    events: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Job {
    /// An event, and how many before it found no room.
    Event(Vec<u8>, u64),
    /// Everything before it is written.
    Written(SyncSender<()>),
}

impl Log {
    /// A log that ends up in `out`.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (events, queue) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("log".into()).spawn(move || write(out, &queue))?;
        Ok(Self { events, dropped: Arc::default() })
    }

    /// Waits until what was logged so far is written, a little while.
    pub(crate) fn finish(&self) {
        let (written, done) = sync_channel(1);
        // No room: nobody reads, and nobody is waited for.
        if self.events.try_send(Job::Written(written)).is_ok() {
            match done.recv_timeout(LAST_WORDS) {
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Log {
    /// One event: the subscriber writes each as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        if self.events.try_send(Job::Event(event.to_vec(), lost)).is_err() {
            self.dropped.fetch_add(lost + 1, Ordering::Relaxed);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut out: impl Write, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Event(event, lost) => {
                let told = if lost == 0 {
                    Ok(())
                } else {
                    writeln!(out, "({lost} events are missing here: nobody had read the ones before them)")
                };
                // Nobody reads it any more, and there is nowhere to tell that to. Somebody may read the next one.
                let _ = told.and_then(|()| out.write_all(&event)).and_then(|()| out.flush());
            }
            // Whoever waits for it may have given up.
            Job::Written(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, mpsc};
    use std::time::Instant;

    /// Takes nothing before it is let to, and then remembers.
    #[derive(Clone)]
    struct Slow {
        gate: Arc<Mutex<mpsc::Receiver<()>>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Opened once, and for good: the sender goes.
            let _ = self.gate.lock().unwrap().recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// As one whose reader has gone.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (open, gate) = mpsc::channel();
        let slow = Slow { gate: Arc::new(Mutex::new(gate)), written: Arc::default() };
        let log = Log::to(slow.clone()).unwrap();
        // One more may be in the thread's hands than fit into the queue.
        for number in 0..WAITING_MAX + 101 {
            (&log).write_all(format!("event {number}\n").as_bytes()).unwrap();
        }
        log.finish();
        drop(open);
        // From now on it is read: later events find room soon.
        let written = || String::from_utf8(slow.written.lock().unwrap().clone()).unwrap();
        let began = Instant::now();
        while !written().ends_with("later\n") && began.elapsed() < Duration::from_secs(60) {
            (&log).write_all(b"later\n").unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        let written = written();
        assert!(written.starts_with("event 0\nevent 1\n") && written.ends_with("later\n"), "{written:.200}");
        let told: u64 =
            written.lines().filter_map(|line| line.strip_prefix('(')?.split(' ').next()?.parse::<u64>().ok()).sum();
        assert!((100..200).contains(&told), "{told}");
    }

    #[test]
    fn that_nobody_reads_harms_nobody() {
        let log = Log::to(Broken).unwrap();
        for _ in 0..3 {
            (&log).write_all(b"event\n").unwrap();
        }
        log.finish();
        assert_eq!(log.dropped.load(Ordering::Relaxed), 0, "the thread goes on");
    }
}
