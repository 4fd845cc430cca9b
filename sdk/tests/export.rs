//! What `export_kit!` takes, and what it makes of it.

use mainstay_sdk::Described;
use mainstay_sdk::prelude::*;

mod kits {
    use super::*;

    macro_rules! kits {
        ($($name:ident),*) => { $(
            pub(crate) struct $name;

            impl Kit for $name {
                type Params = NoParams;

                fn restore(_: &Context<NoParams>) -> Result<Done, Error> {
                    Ok(Done::unchanged(""))
                }

                fn remove(_: &Context<NoParams>) -> Result<Done, Error> {
                    Ok(Done::unchanged(""))
                }

                fn quick_check(_: &Context<NoParams>) -> Result<Report, Error> {
                    Ok(Report::healthy(""))
                }

                fn recover(_: &Context<NoParams>, _: &Failure) -> Result<RecoveryResult, Error> {
                    Ok(RecoveryResult::give_up(""))
                }
            }
        )* };
    }
    kits!(Bare, LogFirst, LogLast, LogMaybe, OtherOrder, Silent, SilentFirst);
}
use kits::Bare;

mainstay_sdk::export_kit!(Bare);
mainstay_sdk::export_kit!(kits::LogFirst, needs: [log: "to tell", command: "to run"]);
mainstay_sdk::export_kit!(crate::kits::LogLast, needs: [command: "to run", log: "to tell",]);
mainstay_sdk::export_kit!(kits::LogMaybe, needs: [command: "to run"], optional: [log: "to tell"],);
mainstay_sdk::export_kit!(kits::OtherOrder, optional: [secret: "to sign"], needs: [net: "to ask"], name: "other");
mainstay_sdk::export_kit!(kits::Silent, name: "silent", needs: [], panics: silent);
mainstay_sdk::export_kit!(kits::SilentFirst, panics: silent, needs: [log: "to tell"]);

#[track_caller]
fn check<K: Described>(name: &str, needs: &[&str], optional: &[&str], panics_logged: bool) {
    let names = |needs: &[(&'static str, &str)]| needs.iter().map(|(interface, _)| *interface).collect::<Vec<_>>();
    assert_eq!(K::NAME, name);
    assert_eq!(names(K::NEEDS), needs);
    assert_eq!(names(K::OPTIONAL_NEEDS), optional);
    assert_eq!(K::PANICS_LOGGED, panics_logged);
}

#[test]
fn what_is_said_may_come_in_any_order_and_log_is_added_unless_it_is_named() {
    check::<Bare>("mainstay-sdk", &["log"], &[], true);
    check::<kits::LogFirst>("mainstay-sdk", &["log", "command"], &[], true);
    check::<kits::LogLast>("mainstay-sdk", &["command", "log"], &[], true);
    check::<kits::LogMaybe>("mainstay-sdk", &["command"], &["log"], true);
    check::<kits::OtherOrder>("other", &["net", "log"], &["secret"], true);
    check::<kits::Silent>("silent", &[], &[], false);
    check::<kits::SilentFirst>("mainstay-sdk", &["log"], &[], false);
}
