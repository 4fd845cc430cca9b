//! What `bindgen!` makes of `wit/`: the host's side of the contract. One world with every import; a kit is
//! linked with those that it imports. Nothing outside this crate sees a type from here (`convert.rs`).

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    reason = "generated from wit/, where it is documented"
)]

/// The ability `readiness`, for kits that have it.
pub mod ready {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ready-kit",
        exports: { default: async },
        with: { "mainstay:kit/types": super::mainstay::kit::types },
        require_store_data_send: true,
    });
}

/// The ability `deep-check`, for kits that have it.
pub mod deep {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "deep-kit",
        exports: { default: async },
        with: { "mainstay:kit/types": super::mainstay::kit::types },
        require_store_data_send: true,
    });
}

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "kit",
    imports: {
        // These answer at once; the others may wait and give the thread back meanwhile.
        "mainstay:kit/log": trappable,
        "mainstay:kit/random": trappable,
        "mainstay:kit/clock.unix-ms": trappable,
        "mainstay:kit/clock.monotonic-ms": trappable,
        "mainstay:kit/clock.remaining-ms": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "mainstay:kit/net.tcp": crate::capability::net::Tcp,
        "mainstay:kit/net.udp": crate::capability::net::Udp,
    },
    require_store_data_send: true,
});
