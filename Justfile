# Recipes. `just demo` and `just test` need rustup and a C compiler, nothing else; no root, no packages.

set shell := ["sh", "-euc"]
set positional-arguments

export CARGO_TARGET_DIR := absolute_path(env("CARGO_TARGET_DIR", justfile_directory() / "target"))

# What the tests could not run, one line each; printed by `just test` because libtest hides it.
skip_log := CARGO_TARGET_DIR / "skipped.txt"

# List the recipes.
@default:
    just --list --unsorted

# Two real nodes on loopback: in service, local recovery, failover, power cord, failback. `--keep` leaves it running.
demo *args: toolchain
    @if [ ! -x "$CARGO_TARGET_DIR/debug/mainstay" ]; then \
        echo "demo: the first time this builds the mainstay daemon with its WebAssembly engine, the kits and a DNS server"; \
        echo "demo: that takes 7 to 8 minutes on two cores, and about 3 GB in $CARGO_TARGET_DIR; after that, seconds"; \
    else \
        echo "demo: bringing the mainstay daemon, the kits and the demo up to date; a few seconds if little has changed"; \
    fi
    @cargo build -p mainstay-cli -p mainstay-demo
    @"{{ just_executable() }}" kits
    @"$CARGO_TARGET_DIR/debug/mainstay-demo" "$@"

# Everything that can be tested without root. Tests of a real component that is missing are skipped and listed.
test *args: toolchain
    @"{{ just_executable() }}" kits
    @mkdir -p "$CARGO_TARGET_DIR"
    @rm -f "{{ skip_log }}"
    @rc=0; MAINSTAY_SKIP_LOG="{{ skip_log }}" cargo test --workspace "$@" || rc=$?; \
    if [ -s "{{ skip_log }}" ]; then \
        echo; echo "These tests were skipped, and how to have them run:"; sort -u "{{ skip_log }}"; \
    fi; \
    exit $rc

# Every kit into target/kits/NAME.wasm, each by its own cargo invocation, each checked to be a component.
kits *args: toolchain
    @cargo run -q -p mainstay-test-support --bin kits -- "$@"

# Measurements, mainstay and its peers in one run: a table, and target/bench/summary.json.
bench *args: toolchain
    @"{{ just_executable() }}" kits
    @cargo bench -p mainstay-bench -- "$@"

# Real hosts in namespaces: power cords, links, disks, clocks (docs/reference/scenarios.md). Needs root. `--long`: in minutes what else is in seconds.
hosts *args: toolchain
    @"{{ just_executable() }}" kits
    @if [ "${1:-}" = --long ]; then export MAINSTAY_LONG=1; shift; fi; \
    MAINSTAY_REQUIRE_REAL=1 cargo test -p mainstay-test-hosts --test hosts -- "$@"

# The system that the benchmark's Pacemaker and Corosync run in, outside the clone; once. Needs root and a Debian mirror.
bench-peers:
    @bash tests/hosts/src/peers/root.sh "${XDG_CACHE_HOME:-$HOME/.cache}/mainstay/pacemaker-root"

# The simulated cluster: `just sim SEED` tells what happens in it; `just sim --minutes N` runs fresh seeds on all cores and
# prints what occurred; `just sim case FILE` runs a case.
sim *args: toolchain
    @case "${1:-}" in \
        "") set -- seeds --minutes 1 --coverage ;; \
        --*) set -- seeds --coverage "$@" ;; \
        seed|seeds|case|volume) ;; \
        *) set -- seed "$@" ;; \
    esac; \
    cargo run --release --quiet --package mainstay-sim -- "$@"

# A mirrored volume whose processes are killed in ROUNDS rounds (500), half of the times with the loss of what was not
# flushed, and after each the promise of docs/concepts/volume.md is held against what is left. A SEED repeats decisions.
soak-volume rounds="500" seed="": toolchain
    @MAINSTAY_REQUIRE_REAL=1 MAINSTAY_SOAK_ROUNDS="{{ rounds }}" MAINSTAY_SOAK_SEED="{{ seed }}" \
        cargo test --release -p mainstay-volume --test proof kills -- --nocapture

# Needs qemu-system-x86, busybox-static, cpio, kmod, nbd-client, drbd-utils, e2fsprogs, binutils, and a Debian mirror for the
# machines' kernel, which is fetched once.
#
# A volume on kernels that have nbd and DRBD, in two emulated machines: minutes.
volume-vm *args: toolchain
    @"{{ just_executable() }}" kits
    @bash tests/hosts/src/vm/kernel.sh "${XDG_CACHE_HOME:-$HOME/.cache}/mainstay/vm-kernel"
    @MAINSTAY_VM_KERNEL="${XDG_CACHE_HOME:-$HOME/.cache}/mainstay/vm-kernel" MAINSTAY_REQUIRE_REAL=1 \
        cargo test --workspace --test vm -- --test-threads 1 "$@"

# Plants each bug in the core, one after the other, and shows that the simulation finds it.
sim-bugs *args: toolchain
    @cargo run --release --quiet --package mainstay-sim --features planted-bugs --target-dir "$CARGO_TARGET_DIR/sim-bugs" -- bugs "$@"

# Write what the case files and snapshots now say into them. Read the diff before you commit it.
bless *args: toolchain
    @MAINSTAY_BLESS=1 cargo test -p mainstay-sim "$@"
    @MAINSTAY_BLESS=1 cargo test -p mainstay-test-e2e --test operator config::every_mistake
    @MAINSTAY_BLESS=1 cargo test -p mainstay-node --test corpus
    @git --no-pager diff --stat

# Is every source file formatted?
fmt: toolchain
    @cargo fmt --all --check

# Lints, also of what is only compiled for WebAssembly. A warning is an error.
clippy: toolchain
    @cargo clippy --workspace --all-targets -- -D warnings
    @for kit in kits/*/Cargo.toml tests/hostile/kit/Cargo.toml; do \
        name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$kit" | head -n 1); \
        cargo clippy -p "$name" --target wasm32-unknown-unknown -- -D warnings; \
    done

# Licences, sources and bans of all dependencies; advisories too with `just deny advisories`.
deny *checks="bans licenses sources": toolchain
    @command -v cargo-deny > /dev/null || { echo "deny: needs cargo-deny: cargo install --locked cargo-deny" >&2; exit 1; }
    @cargo deny check {{ checks }}

# What .ci/run does before and after the tests.
check: fmt clippy

# Is the toolchain of rust-toolchain.toml there, with its WebAssembly targets? Else install it.
[private]
@toolchain:
    command -v rustup > /dev/null || { echo "mainstay is built by the toolchain that rust-toolchain.toml names, and needs rustup for it: https://rustup.rs" >&2; exit 1; }
    have=$(rustup target list --installed 2> /dev/null; rustup component list --installed 2> /dev/null) || have=; \
    for part in $(sed -n 's/^\(targets\|components\) *= *\[\(.*\)\]/\2/p' rust-toolchain.toml | tr -d '",'); do \
        case "$have" in *"$part"*) ;; *) echo "toolchain: $part is missing; installing what rust-toolchain.toml names"; rustup toolchain install; break ;; esac; \
    done
