//! Reading doc comments and serde's attributes.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, Result, Token};

/// What is said on a struct or an enum.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) rename_all: Option<Case>,
    pub(crate) rename_all_fields: Option<Case>,
    pub(crate) deny_unknown_fields: bool,
    pub(crate) default: bool,
    pub(crate) tag: Option<String>,
    pub(crate) untagged: bool,
}

/// What is said on a field or a variant.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) rename: Option<String>,
    pub(crate) rename_all: Option<Case>,
    pub(crate) default: bool,
}

/// How a name is written in JSON: serde's `rename_all`.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    fn parse(text: &LitStr) -> Result<Self> {
        Ok(match text.value().as_str() {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return Err(Error::new(text.span(), "serde has no such case")),
        })
    }

    /// A field's name, which Rust writes in `snake_case`.
    pub(crate) fn field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => name.split('_').map(capitalised).collect(),
            Self::Camel => uncapitalised(&Self::Pascal.field(name)),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }

    /// A variant's name, which Rust writes in `PascalCase`.
    pub(crate) fn variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => uncapitalised(name),
            Self::Snake => snake(name),
            Self::ScreamingSnake => snake(name).to_ascii_uppercase(),
            Self::Kebab => snake(name).replace('_', "-"),
            Self::ScreamingKebab => snake(name).to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (index, c) in name.char_indices() {
        if index > 0 && c.is_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

fn uncapitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + chars.as_str())
}

/// Doc comments as text: lines joined, paragraphs kept apart.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let mut out = String::new();
    for attribute in attributes {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { continue };
        if !pair.path.is_ident("doc") {
            continue;
        }
        for line in text.value().lines().map(str::trim).chain(text.value().is_empty().then_some("")) {
            if line.is_empty() {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
            } else {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push(' ');
                }
                out.push_str(line);
            }
        }
    }
    out.trim_end().to_owned()
}

/// A member's name in JSON, before renaming.
pub(crate) fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

fn each(attributes: &[Attribute], mut read: impl FnMut(&str, &ParseNestedMeta<'_>) -> Result<()>) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
            read(&name, &meta)
        })?;
    }
    Ok(())
}

fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    if meta.input.peek(syn::token::Paren) {
        return Err(meta.error("derive(Params) understands one name for both directions only: write it as `= \"...\"`"));
    }
    meta.value()?.parse()
}

fn skip_value(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    }
    Ok(())
}

fn unsupported(meta: &ParseNestedMeta<'_>, why: &str) -> Error {
    meta.error(format!("derive(Params) does not support this serde attribute: {why}"))
}

const BY_HAND: &str = "give the value a type of its own and implement Params for it by hand";

/// Reads what is said on a struct or an enum.
pub(crate) fn container(attributes: &[Attribute]) -> Result<Container> {
    let mut out = Container::default();
    each(attributes, |name, meta| {
        match name {
            "rename_all" => out.rename_all = Some(Case::parse(&text(meta)?)?),
            "rename_all_fields" => out.rename_all_fields = Some(Case::parse(&text(meta)?)?),
            "deny_unknown_fields" => out.deny_unknown_fields = true,
            "default" => {
                out.default = true;
                skip_value(meta)?;
            }
            "tag" => out.tag = Some(text(meta)?.value()),
            "untagged" => out.untagged = true,
            // What the type is called, where serde is found, and what an error says change no shape; a
            // transparent newtype is read as any newtype is.
            "rename" | "crate" | "bound" | "expecting" | "transparent" => skip_value(meta)?,
            "content" => return Err(unsupported(meta, "adjacently tagged enums are not; use `tag` alone")),
            "from" | "try_from" | "remote" | "variant_identifier" | "field_identifier" => {
                return Err(unsupported(meta, BY_HAND));
            }
            _ => return Err(unsupported(meta, "it is not one it knows")),
        }
        Ok(())
    })?;
    Ok(out)
}

/// Reads what is said on a field or a variant.
pub(crate) fn member(attributes: &[Attribute]) -> Result<Member> {
    let mut out = Member::default();
    each(attributes, |name, meta| {
        match name {
            "rename" => out.rename = Some(text(meta)?.value()),
            "rename_all" => out.rename_all = Some(Case::parse(&text(meta)?)?),
            "default" => {
                out.default = true;
                skip_value(meta)?;
            }
            // These concern writing, or lifetimes.
            "skip_serializing" | "skip_serializing_if" | "serialize_with" | "borrow" | "bound" => skip_value(meta)?,
            "flatten" => return Err(unsupported(meta, "with it unknown keys cannot be refused; name the field")),
            "alias" => return Err(unsupported(meta, "a schema has one name for one thing")),
            "skip" | "skip_deserializing" => {
                return Err(unsupported(meta, "params are only what is read; leave the field out"));
            }
            "with" | "deserialize_with" => return Err(unsupported(meta, BY_HAND)),
            _ => return Err(unsupported(meta, "it is not one it knows")),
        }
        Ok(())
    })?;
    Ok(out)
}
