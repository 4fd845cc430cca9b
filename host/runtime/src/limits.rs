//! Every limit of the runtime, each with its unit and its reason.
//!
//! Decides nothing by itself: the numbers are read where they are enforced. What the contract fixes (64 KiB
//! of random bytes at once, 64 KiB in a store, the shape of its keys) is not settable and is in [`contract`].

use std::path::PathBuf;

/// What a [`crate::Runtime`] is made from.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where compiled kits are kept. Made, with mode 0700, if it is not there; refused if others own it or
    /// may write it, because what lies in it is run as machine code.
    pub cache_dir: PathBuf,
    /// The limits; [`Limits::default`] is meant for production.
    pub limits: Limits,
}

/// Limits of the runtime. The defaults suit a node with up to 10,000 resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A kit's file. A kit in Python carries its interpreter and has about 18 MB, one in JavaScript 12 MB;
    /// what is larger is compiled for minutes, and is refused by its size without being read.
    pub kit_file_bytes_max: u64,
    /// Components in components. Kits linked from several languages have two or three levels. What the compiler takes
    /// of memory and time grows with the square of the depth: 10,000 levels, a file of 140 kB, cost 3 GB and 11 s.
    pub component_depth_max: usize,
    /// Functions of a kit. One that brings an interpreter has 10,000 to 30,000; each costs the compiler about 6 KB, be
    /// it empty.
    pub functions_max: u64,
    /// Local variables of all functions of a kit together. They are written as a number, so that a file of 50 kB can have
    /// a hundred million; each costs the compiler about 100 bytes.
    pub locals_max: u64,
    /// A kit's manifest. The SDK makes at most 32 KiB of it.
    pub manifest_bytes_max: usize,
    /// Subschemas in a kit's params schema, counted with every `$ref` followed: what checking params may cost.
    pub schema_nodes_max: usize,
    /// How deep the schema, with every `$ref` followed, may nest: it is walked recursively.
    pub schema_depth_max: usize,
    /// Compiled kits kept. Some old versions beside those in use; beyond, the longest unused goes.
    pub cache_entries_max: usize,
    /// Compiled kits kept, in bytes together. A compiled Python kit has about 60 MB.
    pub cache_bytes_max: u64,

    /// Calls running at once, hanging ones included. More wait for a slot, at the cost of their own budget.
    /// Each hanging call holds a stack, a linear memory and a table of the pool: mostly address space.
    pub calls_max: usize,
    /// Calls of one kit at once, so that a kit all of whose calls hang leaves slots to the others.
    pub calls_per_kit_max: usize,
    /// Of those, restore, remove and recover: a kit whose operations all hang can still be checked.
    pub operations_per_kit_max: usize,
    /// Calls at once of kits that do not fit the pool: each may take [`Self::big_memory_bytes_max`].
    pub big_calls_max: usize,
    /// Calls that have computed for more than a moment and may go on computing at the same time. The others
    /// of that sort wait their turn, so that threads stay free for calls that are short.
    pub computing_calls_max: usize,

    /// Processor time of one call. A kit asks and waits; a kit in Python needs about 0.3 s to start.
    pub cpu_ms_max: u64,
    /// Linear memory of one call, all memories together. A Rust kit needs 1 to 2 MB.
    pub memory_bytes_max: usize,
    /// The same for a kit that does not fit the pool, such as one that brings an interpreter.
    pub big_memory_bytes_max: usize,
    /// Table elements of one call, all tables together: about one per function whose address is taken.
    pub table_elements_max: usize,
    /// The same for a kit that does not fit the pool.
    pub big_table_elements_max: usize,
    /// Core instances of one kit. A component made from one module has 3 to 6.
    pub instances_max: usize,
    /// Linear memories of one kit. Two languages linked together have two.
    pub memories_max: usize,
    /// Tables of one kit. A component made from one module has two.
    pub tables_max: usize,
    /// Host resources (sockets, streams, pollables) that one call may hold.
    pub handles_max: usize,
    /// Sockets that one call may hold open.
    pub sockets_max: usize,
    /// What a kit may hand to the host in one host call: the largest is a command's standard input.
    pub hostcall_bytes_max: usize,
    /// The part of a call's stack that WebAssembly may use; a recursion without end stops here.
    pub wasm_stack_bytes_max: usize,
    /// Params given to a kit, as JSON. They come from a config that a person writes.
    pub params_bytes_max: usize,

    /// A message or summary of a kit's answer: longer ones are cut.
    pub text_bytes_max: usize,
    /// One value among the details of an answer: a page of a program's output.
    pub detail_bytes_max: usize,
    /// Details of one answer.
    pub details_max: usize,
    /// A log line of a kit, its fields included.
    pub log_line_bytes_max: usize,
    /// Log lines of one resource, in a row.
    pub log_lines_burst_max: u32,
    /// Log lines of one resource, per second, after that.
    pub log_lines_per_s_max: u32,

    /// Output kept of a command, per stream.
    pub command_output_bytes_max: u32,
    /// Arguments and environment of a command, together; the kernel takes about 2 MB.
    pub command_args_bytes_max: usize,
    /// Standard input of a command.
    pub command_stdin_bytes_max: usize,
    /// One read from a socket.
    pub net_read_bytes_max: u32,
    /// One write to a socket.
    pub net_write_bytes_max: usize,
    /// Name look-ups at once. The system's resolver blocks a thread, for many seconds when its servers are away.
    pub lookups_max: usize,
    /// File operations of kits at once (store, secrets): each blocks a thread while a disk does.
    pub file_operations_max: usize,
    /// A secret's file.
    pub secret_bytes_max: u64,
    /// How long a command that is being ended may take to be gone, before its call returns without it, in ms.
    /// The supervisor kills the tree until none is left; only a process that the kernel itself holds takes longer.
    pub command_end_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            kit_file_bytes_max: 64 << 20,
            component_depth_max: 32,
            functions_max: 200_000,
            locals_max: 4_000_000,
            manifest_bytes_max: 64 << 10,
            schema_nodes_max: 10_000,
            schema_depth_max: 64,
            cache_entries_max: 64,
            cache_bytes_max: 2 << 30,
            calls_max: 2048,
            calls_per_kit_max: 1536,
            operations_per_kit_max: 1280,
            big_calls_max: 64,
            computing_calls_max: std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            cpu_ms_max: 5_000,
            memory_bytes_max: 64 << 20,
            big_memory_bytes_max: 256 << 20,
            table_elements_max: 20_000,
            big_table_elements_max: 100_000,
            instances_max: 16,
            memories_max: 4,
            tables_max: 8,
            handles_max: 256,
            sockets_max: 16,
            hostcall_bytes_max: 4 << 20,
            wasm_stack_bytes_max: 512 << 10,
            params_bytes_max: 256 << 10,
            text_bytes_max: 2 << 10,
            detail_bytes_max: 4 << 10,
            details_max: 64,
            log_line_bytes_max: 4 << 10,
            log_lines_burst_max: 200,
            log_lines_per_s_max: 20,
            command_output_bytes_max: 256 << 10,
            command_args_bytes_max: 512 << 10,
            command_stdin_bytes_max: 1 << 20,
            net_read_bytes_max: 256 << 10,
            net_write_bytes_max: 1 << 20,
            lookups_max: 64,
            file_operations_max: 64,
            secret_bytes_max: 64 << 10,
            command_end_ms_max: 30_000,
        }
    }
}

/// What the contract fixes (`wit/`), and what follows from how the engine works.
pub mod contract {
    /// The version of the contract that this host serves.
    pub const VERSION: semver::Version = semver::Version::new(0, 1, 0);
    /// Random bytes in one request (`wit/random.wit`); more is a trap.
    pub const RANDOM_BYTES_MAX: u32 = 64 << 10;
    /// A store's keys and values together (`wit/store.wit`).
    pub const STORE_BYTES_MAX: usize = 64 << 10;
    /// A store's key (`wit/store.wit`).
    pub const STORE_KEY_BYTES_MAX: usize = 64;
    /// What a host function leaves of the call's budget, in ms, so that the kit can still answer
    /// (`wit/command.wit`: "less a second to answer"). When less than two are left: half of it.
    pub const ANSWER_MS: u64 = 1_000;
    /// The largest UDP payload there is.
    pub const DATAGRAM_BYTES_MAX: u32 = 65_507;
    /// How often a running kit looks whether its time is up, in ms: also how long a computing kit may hold a
    /// thread before others get it.
    pub const TICK_MS: u64 = 10;
    /// Processor time after which a call counts as computing, in ms: two ticks, so that an ordinary call never does.
    pub const COMPUTING_AFTER_MS: u64 = 20;
}
