//! What a peer says over the mirror link.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mainstay_volume::fuzz::frames(bytes);
});
