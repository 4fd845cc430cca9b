//! What comes to a node's UDP port.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    mainstay_node::fuzz::datagram(bytes);
});
