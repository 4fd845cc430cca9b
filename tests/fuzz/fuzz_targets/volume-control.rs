//! A line on the control socket of a volume.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mainstay_volume::fuzz::control(bytes);
});
