//! Whether a kit's operations have the contract's types.
//!
//! Decides it from the component's types alone; nothing is run. Linking compares the types of imports, and of exports
//! only the names: without this a kit with other types would be loaded, and each of its calls would fail.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Result, format_err};

use crate::bindings::exports::mainstay::kit::recovery::{Context, Done, Error, Failure, RecoveryResult, Report};
use crate::interfaces::{PACKAGE, RECOVERY, compatible, split};
use crate::limits::contract;

/// The first operation that differs, and in what.
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<()> {
    let types = component.component_type();
    let recovery = types.exports(engine).find_map(|(name, export)| match export.ty {
        ComponentItem::ComponentInstance(instance) if is_recovery(name) => Some(instance),
        ComponentItem::ComponentInstance(_)
        | ComponentItem::ComponentFunc(_)
        | ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::Type(_)
        | ComponentItem::Resource(_) => None,
    });
    let recovery = recovery.ok_or_else(|| format_err!("`{RECOVERY}` is exported as something that is no interface"))?;
    let types = types.instance_type();
    type Ask = (Context,);
    let operation = |name: &str| operation(engine, &recovery, name);
    operation("restore")?.typecheck::<Ask, (std::result::Result<Done, Error>,)>(&types).context("`restore`")?;
    operation("remove")?.typecheck::<Ask, (std::result::Result<Done, Error>,)>(&types).context("`remove`")?;
    operation("quick-check")?
        .typecheck::<Ask, (std::result::Result<Report, Error>,)>(&types)
        .context("`quick-check`")?;
    operation("recover")?
        .typecheck::<(Context, Failure), (std::result::Result<RecoveryResult, Error>,)>(&types)
        .context("`recover`")
}

fn is_recovery(name: &str) -> bool {
    let (path, version) = split(name);
    path.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) == Some(RECOVERY)
        && version.is_some_and(|version| compatible(&version, &contract::VERSION))
}

fn operation(engine: &Engine, recovery: &ComponentInstance, name: &str) -> Result<ComponentFunc> {
    match recovery.get_export(engine, name).map(|export| export.ty) {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        Some(_) | None => Err(format_err!("`{name}` is not among the functions of `{RECOVERY}`")),
    }
}
