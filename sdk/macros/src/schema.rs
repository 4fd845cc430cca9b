//! From a type's definition to the `const` code that makes its schema.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, FieldsNamed, Result, Type, Variant};

use crate::attributes::{Case, Container, container, doc, member, plain};

/// The implementation of `Params`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "derive(Params) is for types without generics: params are read from JSON",
        ));
    }
    let said = container(&input.attrs)?;
    let mut description = doc(&input.attrs);
    let mut optional = quote!(false);
    let schema = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => {
                if said.tag.is_some() {
                    return Err(Error::new_spanned(&input.ident, "derive(Params) does not support `tag` on a struct"));
                }
                require_closed(&said, &input.ident)?;
                object(fields, said.rename_all, said.default, None)?
            }
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                let inner = &fields.unnamed[0];
                member(&inner.attrs)?;
                let inner = &inner.ty;
                if description.is_empty() {
                    return Ok(implementation(input, &schema_of(inner), &description_of(inner), &optional_of(inner)));
                }
                optional = optional_of(inner);
                schema_of(inner)
            }
            Fields::Unnamed(_) | Fields::Unit => {
                return Err(Error::new_spanned(
                    &input.ident,
                    "derive(Params) is for structs with named fields and for newtypes",
                ));
            }
        },
        Data::Enum(data) => enumeration(input, data, &said, &mut description)?,
        Data::Union(_) => return Err(Error::new_spanned(&input.ident, "derive(Params) is not for unions")),
    };
    Ok(implementation(input, &schema, &quote!(#description), &optional))
}

fn implementation(
    input: &DeriveInput,
    schema: &TokenStream,
    description: &TokenStream,
    optional: &TokenStream,
) -> TokenStream {
    let ident = &input.ident;
    quote! {
        #[automatically_derived]
        impl ::mainstay_sdk::Params for #ident {
            const SCHEMA: ::mainstay_sdk::Json = #schema;
            const DESCRIPTION: &'static str = #description;
            const OPTIONAL: bool = #optional;
        }
    }
}

fn require_closed(said: &Container, at: &syn::Ident) -> Result<()> {
    if said.deny_unknown_fields {
        return Ok(());
    }
    Err(Error::new_spanned(
        at,
        "params need #[serde(deny_unknown_fields)]: a misspelt key must be refused, not ignored",
    ))
}

fn schema_of(ty: &Type) -> TokenStream {
    quote!(<#ty as ::mainstay_sdk::Params>::SCHEMA)
}

fn description_of(ty: &Type) -> TokenStream {
    quote!(<#ty as ::mainstay_sdk::Params>::DESCRIPTION)
}

fn optional_of(ty: &Type) -> TokenStream {
    quote!(<#ty as ::mainstay_sdk::Params>::OPTIONAL)
}

fn described(ty: &Type, text: &str) -> TokenStream {
    let schema = schema_of(ty);
    let text = if text.is_empty() { description_of(ty) } else { quote!(#text) };
    quote!(#schema.described(#text))
}

/// An object: its fields, those that must be there, and no others. `tag` is an internally tagged
/// variant's own name.
fn object(
    fields: &FieldsNamed,
    case: Option<Case>,
    all_default: bool,
    tag: Option<(&str, &str)>,
) -> Result<TokenStream> {
    let mut properties = Vec::new();
    let mut required = Vec::new();
    if let Some((key, name)) = tag {
        properties.push(quote!(.string(#key).push(":{\"const\":").string(#name).push("}")));
        required.push(quote!((#key, true)));
    }
    for field in &fields.named {
        let said = member(&field.attrs)?;
        let Some(ident) = &field.ident else { continue };
        let name = said.rename.unwrap_or_else(|| case.map_or_else(|| plain(ident), |case| case.field(&plain(ident))));
        if tag.is_some_and(|(key, _)| key == name) {
            return Err(Error::new_spanned(ident, "this field has the name of the tag"));
        }
        let schema = described(&field.ty, &doc(&field.attrs));
        let may_miss = optional_of(&field.ty);
        let has_default = said.default || all_default;
        properties.push(quote!(.string(#name).push(":").json(&#schema)));
        required.push(quote!((#name, !#has_default && !#may_miss)));
    }
    let properties = properties
        .iter()
        .enumerate()
        .map(|(index, property)| if index == 0 { property.clone() } else { quote!(.push(",") #property) });
    Ok(quote! {
        ::mainstay_sdk::Json::raw("{\"type\":\"object\",\"properties\":{")
            #(#properties)*
            .push("}")
            .required(&[#(#required),*])
            .push(",\"additionalProperties\":false}")
    })
}

fn enumeration(
    input: &DeriveInput,
    data: &DataEnum,
    said: &Container,
    description: &mut String,
) -> Result<TokenStream> {
    if data.variants.is_empty() {
        return Err(Error::new_spanned(&input.ident, "an enum without variants has no values"));
    }
    if data.variants.iter().any(|variant| matches!(variant.fields, Fields::Named(_))) {
        require_closed(said, &input.ident)?;
    }
    if said.untagged {
        return any_of(data, said);
    }
    if let Some(tag) = &said.tag {
        return tagged(data, said, tag);
    }
    let mut names = Vec::new();
    let mut explained = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(
                variant,
                "derive(Params) supports data in variants with #[serde(tag = \"...\")] or #[serde(untagged)] only",
            ));
        }
        let name = variant_name(variant, said)?;
        let text = doc(&variant.attrs);
        if !text.is_empty() {
            explained.push(format!("{name}: {text}"));
        }
        names.push(name);
    }
    if !explained.is_empty() {
        if !description.is_empty() {
            description.push('\n');
        }
        description.push_str(&explained.join("\n"));
    }
    let names = names
        .iter()
        .enumerate()
        .map(|(index, name)| if index == 0 { quote!(.string(#name)) } else { quote!(.push(",").string(#name)) });
    Ok(quote!(::mainstay_sdk::Json::raw("{\"enum\":[")#(#names)*.push("]}")))
}

fn variant_name(variant: &Variant, said: &Container) -> Result<String> {
    let own = member(&variant.attrs)?;
    if own.default {
        return Err(Error::new_spanned(variant, "serde knows no default for a variant"));
    }
    Ok(own.rename.unwrap_or_else(|| {
        let name = plain(&variant.ident);
        said.rename_all.map_or_else(|| name.clone(), |case| case.variant(&name))
    }))
}

fn field_case(variant: &Variant, said: &Container) -> Result<Option<Case>> {
    Ok(member(&variant.attrs)?.rename_all.or(said.rename_all_fields))
}

fn join(key: &str, schemas: &[TokenStream]) -> TokenStream {
    let start = format!("{{\"{key}\":[");
    let schemas = schemas
        .iter()
        .enumerate()
        .map(|(index, schema)| if index == 0 { quote!(.json(&#schema)) } else { quote!(.push(",").json(&#schema)) });
    quote!(::mainstay_sdk::Json::raw(#start)#(#schemas)*.push("]}"))
}

fn tagged(data: &DataEnum, said: &Container, tag: &str) -> Result<TokenStream> {
    let mut schemas = Vec::new();
    for variant in &data.variants {
        let Fields::Named(fields) = &variant.fields else {
            return Err(Error::new_spanned(
                variant,
                "a variant of a tagged enum has named fields, or none as in `Name {}`: in other kinds serde lets unknown keys pass",
            ));
        };
        let name = variant_name(variant, said)?;
        let schema = object(fields, field_case(variant, said)?, false, Some((tag, &name)))?;
        let text = doc(&variant.attrs);
        schemas.push(quote!(#schema.described(#text)));
    }
    Ok(join("oneOf", &schemas))
}

fn any_of(data: &DataEnum, said: &Container) -> Result<TokenStream> {
    let mut schemas = Vec::new();
    for variant in &data.variants {
        member(&variant.attrs)?;
        let text = doc(&variant.attrs);
        schemas.push(match &variant.fields {
            Fields::Named(fields) => {
                let schema = object(fields, field_case(variant, said)?, false, None)?;
                quote!(#schema.described(#text))
            }
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                member(&fields.unnamed[0].attrs)?;
                described(&fields.unnamed[0].ty, &text)
            }
            Fields::Unnamed(_) | Fields::Unit => {
                return Err(Error::new_spanned(variant, "a variant of an untagged enum has named fields or one value"));
            }
        });
    }
    Ok(join("anyOf", &schemas))
}
