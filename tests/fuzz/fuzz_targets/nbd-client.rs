//! What an NBD client says.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mainstay_volume::fuzz::client(bytes);
});
