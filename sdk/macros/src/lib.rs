//! `#[derive(Params)]`: the JSON schema of a kit's params, made from the type that reads them.
//!
//! It decides nothing about values: it reads the type's definition, the same serde attributes serde reads,
//! and writes `const` code that puts the schema together. An attribute it does not understand is a compile
//! error, because a schema that says something else than serde would be a trap for operators. So is a struct
//! without `deny_unknown_fields`: a misspelt key must not pass silently.

mod attributes;
mod schema;

use proc_macro::TokenStream;

/// Makes the JSON schema for a type that also derives serde's `Deserialize`.
///
/// Works for structs with named fields, newtypes, enums of unit variants, internally tagged enums
/// (`#[serde(tag = "...")]`) of struct variants, and untagged enums. Doc comments become descriptions.
/// Understood: `rename`, `rename_all`, `rename_all_fields`, `default`, `deny_unknown_fields`, `tag`, `untagged`,
/// `transparent`, and what does not change the shape that is read.
#[proc_macro_derive(Params, attributes(serde))]
pub fn derive_params(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    schema::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
