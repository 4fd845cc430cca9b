//! Running one of the operator's programs, and saying what came of it.

use mainstay_sdk::command::{Ending, Request};
use mainstay_sdk::prelude::*;

use crate::{GenAppParams, Program};

/// How much of a failed program's output goes into a message, in bytes: the last few lines, which say why,
/// and no more than fits into a status line's neighbourhood.
const MESSAGE_BYTES_MAX: usize = 256;
/// How much of each stream of it goes into the details, in bytes: a page to read.
const DETAIL_BYTES_MAX: usize = 2 * 1024;
/// How much of each stream is kept, in bytes. More than the details hold, because the text is cleaned.
const OUTPUT_BYTES_MAX: u32 = 8 * 1024;

/// What happens to what a program leaves in the background when it exits by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Children {
    /// It is the application.
    Keep,
    /// It is a leftover.
    End,
}

/// A program that was run and did not exit with a code that means success.
pub(crate) struct Bad {
    /// How it ended.
    pub(crate) ending: Ending,
    path: String,
    took_ms: u32,
    output: Output,
}

/// The end of what a program said, as text.
struct Output {
    short: String,
    stdout: String,
    stderr: String,
    truncated: bool,
}

/// Runs `program`: how long it took, in ms, when it ended well. A fault (not granted, not there) is an error.
pub(crate) fn run(
    ctx: &Context<GenAppParams>,
    program: &Program,
    children: Children,
) -> Result<Result<u32, Bad>, Error> {
    let completed = request(ctx, program, children).run().map_err(|fault| {
        // Only a program that never started is known to have done nothing.
        let may_have_run = matches!(fault.kind, FaultKind::Timeout | FaultKind::Closed | FaultKind::Failed);
        let error = Error::from(fault).doing(format_args!("run {}", program.path())).detail("program", program.path());
        if may_have_run { error } else { error.no_effect() }
    })?;
    if completed.exit_code().is_some_and(|code| program.expects(code)) {
        return Ok(Ok(completed.duration_ms));
    }
    let output = Output {
        short: completed.tail(MESSAGE_BYTES_MAX),
        stdout: command::text_tail(&completed.stdout, DETAIL_BYTES_MAX),
        stderr: command::text_tail(&completed.stderr, DETAIL_BYTES_MAX),
        truncated: completed.truncated,
    };
    Ok(Err(Bad { ending: completed.ending, path: program.path().to_owned(), took_ms: completed.duration_ms, output }))
}

fn request(ctx: &Context<GenAppParams>, program: &Program, children: Children) -> Request {
    let id = ctx.params.id.as_deref().unwrap_or(&ctx.tag);
    let fill = |text: &String| fill(text, &[("{tag}", &ctx.tag), ("{id}", id), ("{node}", &ctx.node)]);
    let mut request = Request::new(program.path()).output_bytes_max(OUTPUT_BYTES_MAX);
    request = match program.args() {
        Some(args) => request.args(args.iter().map(fill)),
        None => request.args(["-t", &ctx.tag, "-i", id]),
    };
    for (name, value) in &ctx.params.environment {
        request = request.env(name, value);
    }
    request.cwd.clone_from(&ctx.params.working_directory);
    request.user.clone_from(&ctx.params.user);
    if let Some(time) = program.timeout() {
        request = request.timeout(time);
    }
    request.keep_children = children == Children::Keep;
    request
}

/// Replaces the names in `text` in one pass, so that a tag is never read for names itself.
fn fill(text: &str, names: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        match names.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                out.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

impl Bad {
    /// The error it is. What was left behind, and where a retry helps, is for the operation to say.
    pub(crate) fn error(&self, operation: &str) -> Error {
        let path = &self.path;
        let error = match self.ending {
            Ending::Exited(code) => {
                Error::failed("exit-code", self.said(format!("the {operation} program {path} exited with {code}"))).detail("exit-code", code)
            }
            Ending::Signalled(signal) => {
                Error::failed("signal", self.said(format!("the {operation} program {path} was ended by signal {signal}")))
                    .detail("signal", signal)
            }
            Ending::TimedOut => Error::timeout(
                "timeout",
                self.said(format!(
                    "the {operation} program {path} did not end within {} ms and was ended, with everything it had started",
                    self.took_ms
                )),
            ),
        };
        self.details(error.detail("program", path).detail("took-ms", self.took_ms))
    }

    fn said(&self, what: String) -> String {
        if self.output.short.is_empty() {
            format!("{what} and said nothing")
        } else {
            format!("{what}: {}", self.output.short)
        }
    }

    fn details(&self, mut error: Error) -> Error {
        for (key, text) in [("stdout", &self.output.stdout), ("stderr", &self.output.stderr)] {
            if !text.is_empty() {
                error = error.detail(key, text);
            }
        }
        if self.output.truncated { error.detail("truncated", "true") } else { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_once() {
        let names = [("{tag}", "{id}"), ("{id}", "7")];
        assert_eq!(fill("a {tag} b {id} {other} {", &names), "a {id} b 7 {other} {");
    }
}
