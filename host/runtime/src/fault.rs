//! From how a call ended to what is said of it: which sort of fault, in words, with what to do.

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::call::Call;
use crate::kit::Kit;
use crate::limiter::Refused;
use crate::meter::CpuSpent;
use crate::outcome::{Evidence, Fault, FaultKind, Operation};

/// A call that broke by itself.
pub(crate) struct Broke {
    pub(crate) error: wasmtime::Error,
    /// Memory that it had wanted and not got.
    pub(crate) refused: Option<Refused>,
}

/// A call that the host stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Late,
    Cancelled,
}

/// `kit dns 1.0.0: quick-check of mail`.
pub(crate) fn what(kit: &Kit, call: &Call) -> String {
    format!("kit {}: {} of {}", kit.title, call.operation.name(), call.tag)
}

/// A call that broke by itself.
pub(crate) fn broke(kit: &Kit, call: &Call, broke: Broke, evidence: Evidence) -> Fault {
    let Broke { error, refused } = broke;
    let (kind, message) = sort(&error, refused, &evidence);
    let backtrace = error.downcast_ref::<WasmBacktrace>().map_or_else(Vec::new, frames);
    Fault { kind, message: format!("{} {message}", what(kit, call)), evidence: Evidence { backtrace, ..evidence } }
}

fn sort(error: &wasmtime::Error, refused: Option<Refused>, evidence: &Evidence) -> (FaultKind, String) {
    const BUG: &str = "a bug of the kit: tell its author, with the backtrace";
    if let Some(CpuSpent { budget_ms }) = find(error) {
        let message = format!(
            "computed for {} ms, {budget_ms} ms are allowed, and was stopped; {BUG}, unless it has that much to do",
            evidence.cpu_ms.max(*budget_ms)
        );
        return (FaultKind::CpuTimeout, message);
    }
    if let Some(I32Exit(code)) = find(error) {
        return (FaultKind::Trap, format!("ended its program with exit code {code} instead of answering; {BUG}"));
    }
    if find::<PoolConcurrencyLimitError>(error).is_some() {
        return (FaultKind::Unavailable, format!("could not be started: {}", cause(error)));
    }
    let trap: Option<&Trap> = find(error);
    if let Some(refused) = refused
        && trap != Some(&Trap::StackOverflow)
    {
        let message = format!(
            "ran out of memory: it wanted {refused}, and stopped ({}); tell the kit's author, or raise the limit",
            cause(error)
        );
        return (FaultKind::OutOfMemory, message);
    }
    let told = match trap {
        Some(Trap::UnreachableCodeReached) => "it panicked or aborted (unreachable code was reached)".to_owned(),
        Some(Trap::StackOverflow) => "its stack is exhausted: a recursion without end?".to_owned(),
        // The stack of a language that keeps its own in memory, as Rust does, runs out this way.
        Some(Trap::MemoryOutOfBounds) => {
            "it reached outside of its memory: a recursion without end, or a wild pointer?".to_owned()
        }
        // Whatever else it is, the engine's words say it.
        Some(_) | None => cause(error),
    };
    (FaultKind::Trap, format!("broke off: {told}; {BUG}"))
}

/// A call over which the host itself broke down. What the kit had done by then is not known, as after a trap.
pub(crate) fn panicked(kit: &Kit, call: &Call, words: &str, evidence: Evidence) -> Fault {
    let what = what(kit, call);
    let message =
        format!("{what} broke off: the host itself broke down over it ({words}); a bug of mainstay: please tell");
    Fault { kind: FaultKind::Trap, message, evidence }
}

/// A call that the host stopped.
pub(crate) fn stopped(kit: &Kit, call: &Call, stopped: Stopped, evidence: Evidence) -> Fault {
    let kind = match stopped {
        Stopped::Late => FaultKind::WallTimeout,
        Stopped::Cancelled => FaultKind::Cancelled,
    };
    let doing = match (&evidence.inside, evidence.started) {
        (Some(inside), _) if inside.doing.is_empty() => {
            format!("it was in {} for {} ms", inside.function, inside.for_ms)
        }
        (Some(inside), _) => format!("it was in {} ({}) for {} ms", inside.function, inside.doing, inside.for_ms),
        (None, true) => {
            let place = if kit.uses_wasi() { "in its own code or in WASI" } else { "in its own code" };
            format!("it was {place}, and had computed for {} ms", evidence.cpu_ms)
        }
        (None, false) => "it had not been started: other calls held every slot".to_owned(),
    };
    let command = match &evidence.command {
        Some(command) => format!("; the command it ran was {}", command.ending),
        None => String::new(),
    };
    let message = match (stopped, evidence.started) {
        (Stopped::Cancelled, _) => format!("was taken back after {} ms: {doing}{command}", evidence.wall_ms),
        (Stopped::Late, true) => format!(
            "did not end within its {} ms and was stopped: {doing}{command}; look at what it waits for, or give it more time",
            call.budget.as_millis()
        ),
        (Stopped::Late, false) => format!(
            "did not begin within its {} ms: {doing}; look at why so many {} hang",
            call.budget.as_millis(),
            match call.operation {
                Operation::QuickCheck | Operation::DeepCheck | Operation::Assess => "calls",
                Operation::Restore | Operation::Remove | Operation::Recover(_) => "operations",
            }
        ),
    };
    Fault { kind, message: format!("{} {message}", what(kit, call)), evidence }
}

/// The first error of this type among an error and what it was caused by.
fn find<E: std::error::Error + Send + Sync + 'static>(error: &wasmtime::Error) -> Option<&E> {
    error.downcast_ref::<E>().or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<E>()))
}

/// The last cause, without the backtrace that stands before it.
fn cause(error: &wasmtime::Error) -> String {
    crate::text::one_line(&error.root_cause().to_string(), 500)
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let frames = backtrace.frames().iter().map(|frame| {
        let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned);
        match frame.module_offset() {
            Some(offset) => format!("{name} at 0x{offset:x}"),
            None => name,
        }
    });
    frames.map(|frame| crate::text::one_line(&frame, 200)).collect()
}
