//! What a node finds on its disk.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mainstay_node::fuzz::journal(bytes);
});
