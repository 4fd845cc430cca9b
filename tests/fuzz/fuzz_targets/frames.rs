//! What comes in a session.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mainstay_node::fuzz::frames(bytes);
});
