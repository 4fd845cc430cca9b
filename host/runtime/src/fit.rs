//! Whether a kit's operations and abilities have the contract's types.
//!
//! Decides it from the component's types alone; nothing is run. Linking compares the types of imports, and of exports
//! only the names: without this a kit with other types would be loaded, and each of its calls would fail.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Result, format_err};

use crate::bindings::exports::mainstay::kit::recovery::{Context, Done, Error, Failure, RecoveryResult, Report};
use crate::bindings::ready::exports::mainstay::kit::readiness::Finding;
use crate::interfaces::{DEEP_CHECK, READINESS, RECOVERY, exports};

/// The first operation that differs, and in what.
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<()> {
    let types = component.component_type();
    let exported = |interface: &str| {
        let named = |name: &str| exports(name, interface);
        types.exports(engine).find_map(|(name, export)| match export.ty {
            ComponentItem::ComponentInstance(instance) if named(name) => Some(instance),
            ComponentItem::ComponentInstance(_)
            | ComponentItem::ComponentFunc(_)
            | ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::Type(_)
            | ComponentItem::Resource(_) => None,
        })
    };
    let recovery =
        exported(RECOVERY).ok_or_else(|| format_err!("`{RECOVERY}` is exported as something that is no interface"))?;
    let within = types.instance_type();
    type Ask = (Context,);
    let operation = |name: &str| operation(engine, &recovery, RECOVERY, name);
    operation("restore")?.typecheck::<Ask, (std::result::Result<Done, Error>,)>(&within).context("`restore`")?;
    operation("remove")?.typecheck::<Ask, (std::result::Result<Done, Error>,)>(&within).context("`remove`")?;
    operation("quick-check")?
        .typecheck::<Ask, (std::result::Result<Report, Error>,)>(&within)
        .context("`quick-check`")?;
    operation("recover")?
        .typecheck::<(Context, Failure), (std::result::Result<RecoveryResult, Error>,)>(&within)
        .context("`recover`")?;
    if let Some(readiness) = exported(READINESS) {
        self::operation(engine, &readiness, READINESS, "assess")?
            .typecheck::<Ask, (std::result::Result<Vec<Finding>, Error>,)>(&within)
            .context("`assess`")?;
    }
    if let Some(deep) = exported(DEEP_CHECK) {
        self::operation(engine, &deep, DEEP_CHECK, "deep-check")?
            .typecheck::<Ask, (std::result::Result<Report, Error>,)>(&within)
            .context("`deep-check`")?;
    }
    Ok(())
}

fn operation(engine: &Engine, instance: &ComponentInstance, interface: &str, name: &str) -> Result<ComponentFunc> {
    match instance.get_export(engine, name).map(|export| export.ty) {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        Some(_) | None => Err(format_err!("`{name}` is not among the functions of `{interface}`")),
    }
}
