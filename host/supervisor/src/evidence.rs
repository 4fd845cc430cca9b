//! What is kept of a command before it is ended from outside.

use crate::folder::Folder;
use crate::output::{Stream, newest};
use crate::process::{Stat, describe};
use crate::types::{Evidence, Request};

/// Newest bytes of a stream in evidence: what a person reads, and little enough for one message.
const OUTPUT_BYTES_MAX: u64 = 4 << 10;

/// Command line, newest output, and the tree with where each process waits.
pub(crate) fn gather(folder: &Folder, request: &Request, tree: &[&Stat]) -> Evidence {
    let program = request.program.to_string_lossy().into_owned();
    let (processes, processes_left_out) = describe(tree);
    Evidence {
        command_line: std::iter::once(program).chain(request.args.iter().cloned()).collect(),
        stdout: readable(folder, Stream::Stdout),
        stderr: readable(folder, Stream::Stderr),
        processes,
        processes_left_out,
    }
}

fn readable(folder: &Folder, stream: Stream) -> String {
    match newest(folder, stream, OUTPUT_BYTES_MAX) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(cannot be read: {error})"),
    }
}
