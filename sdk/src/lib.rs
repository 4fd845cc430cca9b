//! Everything a recovery kit is written with.
//!
//! A kit knows one kind of resource. It implements [`Kit`], says what it needs with [`export_kit!`], and
//! reaches the world only through the capabilities here: [`command`], [`net`], [`store`], [`secret`],
//! [`volume`], [`mount`], [`service`], [`clock`], [`random`] and [`log`]. Built for `wasm32-unknown-unknown` it is a
//! component that imports just the capabilities it calls. Natively it exports nothing, and the capabilities reach a
//! [`testing::FakeHost`], so that its logic runs under plain `cargo test`.
//!
//! ```
//! use mainstay_sdk::prelude::*;
//! use serde::Deserialize;
//!
//! /// A flag in the store.
//! #[derive(Deserialize, Params)]
//! #[serde(deny_unknown_fields, rename_all = "kebab-case")]
//! struct FlagParams {
//!     /// What the flag says.
//!     flag_text: String,
//! }
//!
//! struct Flag;
//!
//! impl Kit for Flag {
//!     type Params = FlagParams;
//!
//!     fn restore(ctx: &Context<FlagParams>) -> Result<Done, Error> {
//!         store::put("flag", ctx.params.flag_text.as_bytes())?;
//!         Ok(Done::changed("the flag is up"))
//!     }
//!
//!     fn remove(_: &Context<FlagParams>) -> Result<Done, Error> {
//!         store::delete("flag")?;
//!         Ok(Done::changed("the flag is down"))
//!     }
//!
//!     fn quick_check(_: &Context<FlagParams>) -> Result<Report, Error> {
//!         Ok(match store::get("flag")? {
//!             Some(_) => Report::healthy("the flag is up"),
//!             None => Report::stopped("the flag is down"),
//!         })
//!     }
//!
//!     fn recover(ctx: &Context<FlagParams>, _: &Failure) -> Result<RecoveryResult, Error> {
//!         Self::restore(ctx)?;
//!         Ok(RecoveryResult::recovered("the flag is up again"))
//!     }
//! }
//!
//! mainstay_sdk::export_kit!(Flag, name: "flag", needs: [store: "the flag is kept there"]);
//!
//! let host = mainstay_sdk::testing::FakeHost::install();
//! let ctx = host.context(serde_json::json!({ "flag-text": "hello" }));
//! assert!(Flag::restore(&ctx).unwrap().changed);
//! assert_eq!(host.stored("flag").unwrap(), b"hello");
//! host.assert_declared::<Flag>();
//! ```

pub mod clock;
pub mod command;
mod json;
pub mod log;
mod manifest;
pub mod mount;
pub mod net;
pub mod params;
pub mod random;
mod seam;
pub mod secret;
pub mod service;
pub mod store;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod types;
pub mod volume;

#[cfg(target_arch = "wasm32")]
mod export;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated from wit/"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "kit",
        pub_export_macro: true,
        default_bindings_module: "mainstay_sdk::bindings",
    });

    /// Of the ability `readiness`, which a kit need not have.
    pub mod ready {
        wit_bindgen::generate!({
            path: "../wit",
            world: "ready-kit",
            pub_export_macro: true,
            export_macro_name: "export_readiness",
            default_bindings_module: "mainstay_sdk::bindings::ready",
            with: { "mainstay:kit/types@0.1.0": crate::bindings::mainstay::kit::types },
        });
    }

    /// Of the ability `deep-check`, which a kit need not have.
    pub mod deep {
        wit_bindgen::generate!({
            path: "../wit",
            world: "deep-kit",
            pub_export_macro: true,
            export_macro_name: "export_deep_check",
            default_bindings_module: "mainstay_sdk::bindings::deep",
            with: { "mainstay:kit/types@0.1.0": crate::bindings::mainstay::kit::types },
        });
    }
}

pub use json::{JSON_BYTES_MAX, Json};
pub use mainstay_sdk_macros::Params;
pub use manifest::{CONTRACT, Described, SECTION};
pub use params::{NoParams, Params, Span};
pub use types::{
    Context, Details, Done, Effect, Error, ErrorKind, Failure, Fault, FaultKind, Finding, Health, RecoveryResult,
    Report, Retry, Verdict, Weight,
};

use serde::de::DeserializeOwned;

/// What a kit's author imports.
pub mod prelude {
    pub use crate::{
        Context, DeepCheck, Done, Effect, Error, ErrorKind, Failure, Fault, FaultKind, Finding, Health, Kit, NoParams,
        Params, Readiness, RecoveryResult, Report, Retry, Span, Verdict, Weight, clock, command, log, mount, net,
        random, secret, service, store, volume,
    };
}

/// A kind of resource. The contract's rules hold (`wit/recovery.wit`); in short:
///
/// Each call has a fresh instance; only [`store`] outlives it. The host makes at most one call for a
/// resource at a time. All four are idempotent, and a call may end anywhere: the next finds out what is
/// there and goes on.
pub trait Kit {
    /// What an operator writes for a resource of this kind.
    type Params: Params + DeserializeOwned;

    /// Brings it in service. In service already: ok, unchanged.
    ///
    /// # Errors
    /// When it is not in service; the error says what was left behind.
    fn restore(ctx: &Context<Self::Params>) -> Result<Done, Error>;

    /// Takes it out of service: nothing here serves, writes or holds it when this returns ok. Touches nothing
    /// that another node owns by now.
    ///
    /// # Errors
    /// Whenever it may still be in service here.
    fn remove(ctx: &Context<Self::Params>) -> Result<Done, Error>;

    /// Looks, and changes nothing.
    ///
    /// # Errors
    /// When it cannot tell; never taken as failed.
    fn quick_check(ctx: &Context<Self::Params>) -> Result<Report, Error>;

    /// Repairs it on this node. What has healed by itself is recovered.
    ///
    /// # Errors
    /// When the repair went wrong; giving up is no error but a verdict.
    fn recover(ctx: &Context<Self::Params>, why: &Failure) -> Result<RecoveryResult, Error>;
}

/// The ability to say whether a node is ready (`wit/readiness.wit`). A kit that has it names it in [`export_kit!`]:
/// `abilities: [readiness]`.
pub trait Readiness: Kit {
    /// Whether [`Kit::restore`] would succeed on this node, now: everything that was found, best of all nothing. Asked on
    /// standbys, after each check. Changes nothing, and does not ask whether the resource runs.
    ///
    /// # Errors
    /// When it cannot tell; never taken as not ready.
    fn assess(ctx: &Context<Self::Params>) -> Result<Vec<Finding>, Error>;
}

/// The ability to check thoroughly (`wit/deep-check.wit`). A kit that has it names it in [`export_kit!`]:
/// `abilities: [deep_check]`.
pub trait DeepCheck: Kit {
    /// Whether it serves, found out by having it serve: all that [`Kit::quick_check`] looks at, and a transaction from end to
    /// end. Asked once in a while where it is in service, and for a second look when quick-check found something wrong.
    /// Leaves nothing behind.
    ///
    /// # Errors
    /// When it cannot tell; never taken as failed.
    fn deep_check(ctx: &Context<Self::Params>) -> Result<Report, Error>;
}

/// A time in whole ms for the host: rounded up, so that a short wait is not turned into none.
fn ms(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Makes a kit of the crate: exports it as a component, and stores its manifest.
///
/// ```text
/// mainstay_sdk::export_kit!(MyKit);
/// mainstay_sdk::export_kit!(MyKit, needs: [net: "asks the name server", secret: "signs what it asks"]);
/// mainstay_sdk::export_kit!(my::Kit, needs: [net: "asks the name server"], optional: [secret: "signs, if it has a key"]);
/// mainstay_sdk::export_kit!(MyKit, name: "other-name", needs: [], panics: silent);
/// ```
///
/// * First the type, or the path to it. The rest in any order, each once at the most.
/// * Version, description and licence come from the kit's `Cargo.toml`, the name too (without
///   `mainstay-kit-` in front) unless given.
/// * `needs` names every interface the kit calls, with the reason an operator reads. A component that imports
///   one it does not name is refused by the host. What only some resources use goes under `optional`: an operator need
///   not grant it to the others, whose calls to it are denied. `log` is added by itself unless it is named, because a
///   panic is logged before it traps; `panics: silent` leaves out both.
/// * `abilities: [readiness, deep_check]` says that the kit implements [`Readiness`] and [`DeepCheck`] too, or one of them.
/// * Used once in a crate. Natively nothing is exported.
///
/// A need the contract does not know does not compile:
/// ```compile_fail
/// # use mainstay_sdk::prelude::*;
/// # struct K;
/// # impl Kit for K {
/// #     type Params = NoParams;
/// #     fn restore(_: &Context<NoParams>) -> Result<Done, Error> { Ok(Done::changed("")) }
/// #     fn remove(_: &Context<NoParams>) -> Result<Done, Error> { Ok(Done::changed("")) }
/// #     fn quick_check(_: &Context<NoParams>) -> Result<Report, Error> { Ok(Report::healthy("")) }
/// #     fn recover(_: &Context<NoParams>, _: &Failure) -> Result<RecoveryResult, Error> { Ok(RecoveryResult::give_up("")) }
/// # }
/// mainstay_sdk::export_kit!(K, needs: [telepathy: "to know beforehand"]);
/// ```
#[macro_export]
macro_rules! export_kit {
    ($kit:path $(, $($said:tt)*)?) => {
        $crate::__export_kit!(@read [$kit] [] [] [] [] [] $($($said)*)?);
    };
    ($($other:tt)*) => { $crate::__export_kit!(@read $($other)*); };
}

/// What [`export_kit!`] comes to. `@read` takes what is said, part by part, into a place for each: name, needs,
/// optional needs, abilities, panics.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_kit {
    (@read [$kit:path] [] [$($needs:tt)*] [$($optional:tt)*] [$($able:tt)*] [$($panics:tt)*]
        name: $name:literal $(, $($rest:tt)*)?) => {
        $crate::__export_kit!(
            @read [$kit] [$name] [$($needs)*] [$($optional)*] [$($able)*] [$($panics)*] $($($rest)*)?
        );
    };
    (@read [$kit:path] [$($name:literal)?] [] [$($optional:tt)*] [$($able:tt)*] [$($panics:tt)*]
        needs: [$($interface:ident: $reason:expr),* $(,)?] $(, $($rest:tt)*)?) => {
        $crate::__export_kit!(
            @read [$kit] [$($name)?] [said $(($interface, $reason))*] [$($optional)*] [$($able)*] [$($panics)*]
            $($($rest)*)?
        );
    };
    (@read [$kit:path] [$($name:literal)?] [$($needs:tt)*] [] [$($able:tt)*] [$($panics:tt)*]
        optional: [$($interface:ident: $reason:expr),* $(,)?] $(, $($rest:tt)*)?) => {
        $crate::__export_kit!(
            @read [$kit] [$($name)?] [$($needs)*] [said $(($interface, $reason))*] [$($able)*] [$($panics)*]
            $($($rest)*)?
        );
    };
    (@read [$kit:path] [$($name:literal)?] [$($needs:tt)*] [$($optional:tt)*] [] [$($panics:tt)*]
        abilities: [$($able:ident),+ $(,)?] $(, $($rest:tt)*)?) => {
        $crate::__export_kit!(
            @read [$kit] [$($name)?] [$($needs)*] [$($optional)*] [$($able)+] [$($panics)*] $($($rest)*)?
        );
    };
    (@read [$kit:path] [$($name:literal)?] [$($needs:tt)*] [$($optional:tt)*] [$($able:tt)*] []
        panics: silent $(, $($rest:tt)*)?) => {
        $crate::__export_kit!(
            @read [$kit] [$($name)?] [$($needs)*] [$($optional)*] [$($able)*] [silent] $($($rest)*)?
        );
    };
    (@read [$kit:path] [$($name:literal)?] [$(said $(($interface:ident, $reason:expr))*)?]
        [$(said $(($maybe:ident, $why:expr))*)?] [$($able:ident)*] []) => {
        $crate::__export_kit!(
            @export [$kit] [$($name)?] [$($(($interface, $reason))*)?] [$($(($maybe, $why))*)?] true
        );
        $($crate::__export_kit!(@able [$kit] $able);)*
    };
    (@read [$kit:path] [$($name:literal)?] [$(said $(($interface:ident, $reason:expr))*)?]
        [$(said $(($maybe:ident, $why:expr))*)?] [$($able:ident)*] [silent]) => {
        $crate::__export_kit!(
            @export [$kit] [$($name)?] [$($(($interface, $reason))*)?] [$($(($maybe, $why))*)?] false
        );
        $($crate::__export_kit!(@able [$kit] $able);)*
    };
    (@read $($other:tt)*) => {
        ::core::compile_error!(
            "export_kit! takes the kit's type and then, each once at the most: `name: \"...\"`, `needs: [interface: \"why\", ...]`, \
             `optional: [interface: \"why\", ...]`, `abilities: [readiness, deep_check]`, `panics: silent`"
        );
    };
    (@able [$kit:path] readiness) => {
        const _: () = {
            const fn able<K: $crate::Readiness>() {}
            able::<$kit>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::__private::Exported<$kit>;
            $crate::bindings::ready::export_readiness!(Exported with_types_in $crate::bindings::ready);
        };
    };
    (@able [$kit:path] deep_check) => {
        const _: () = {
            const fn able<K: $crate::DeepCheck>() {}
            able::<$kit>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::__private::Exported<$kit>;
            $crate::bindings::deep::export_deep_check!(Exported with_types_in $crate::bindings::deep);
        };
    };
    (@able [$kit:path] $other:ident) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($other), "` is no ability of a kit: there are `readiness` and `deep_check`"
        ));
    };
    (@export [$kit:path] [$($name:literal)?] [$(($interface:ident, $reason:expr))*] [$(($maybe:ident, $why:expr))*]
        $panics:literal) => {
        impl $crate::Described for $kit {
            const NAME: &'static str = $crate::__private::kit_name(::core::concat!($($name)?), ::core::env!("CARGO_PKG_NAME"));
            const NEEDS: &'static [(&'static str, &'static str)] = {
                const SAID: &[(&str, &str)] = &[$((::core::stringify!($interface), $reason)),*];
                const AND_LOG: &[(&str, &str)] =
                    &[$((::core::stringify!($interface), $reason),)* $crate::__private::LOG_NEED];
                let log_said = $crate::__private::names(SAID, "log")
                    || $crate::__private::names(<Self as $crate::Described>::OPTIONAL_NEEDS, "log");
                if $panics && !log_said { AND_LOG } else { SAID }
            };
            const OPTIONAL_NEEDS: &'static [(&'static str, &'static str)] = &[$((::core::stringify!($maybe), $why)),*];
            const PANICS_LOGGED: bool = $panics;
            const MANIFEST: $crate::Json = $crate::__private::manifest(&$crate::__private::Parts {
                name: <Self as $crate::Described>::NAME,
                version: ::core::env!("CARGO_PKG_VERSION"),
                description: ::core::env!("CARGO_PKG_DESCRIPTION"),
                licence: ::core::env!("CARGO_PKG_LICENSE"),
                needs: <Self as $crate::Described>::NEEDS,
                optional: <Self as $crate::Described>::OPTIONAL_NEEDS,
                params: &<<Self as $crate::Kit>::Params as $crate::Params>::SCHEMA
                    .described(<<Self as $crate::Kit>::Params as $crate::Params>::DESCRIPTION),
            });
        }

        const _: () = {
            const MANIFEST: $crate::Json = <$kit as $crate::Described>::MANIFEST;
            // Only the exact text is stored, and only in a component.
            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = "mainstay:kit-manifest")]
            static SECTION: [u8; MANIFEST.len()] = MANIFEST.exact();
            #[cfg(not(target_arch = "wasm32"))]
            ::core::assert!(MANIFEST.len() > 0);
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::__private::Exported<$kit>;
            $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
    };
}

#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::export::Exported;
    pub use crate::manifest::{LOG_NEED, Parts, kit_name, manifest, names};
}
