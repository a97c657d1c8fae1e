//! Derive macros for typed Socket.IO events.
//!
//! The macro is used through the crate that re-exports it as `Event`, beside the trait of that name: `socketio_core`,
//! `socketio` or `socketio_client`. There is one per crate because a derive cannot know which of them its user depends
//! on; `#[event(crate = path)]` names any other.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Path, Type, parse_macro_input, parse_quote};

/// Derives `socketio_core::Event`.
#[doc(hidden)]
#[proc_macro_derive(EventOfCore, attributes(event))]
pub fn event_of_core(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(input, parse_quote!(::socketio_core)).unwrap_or_else(Error::into_compile_error).into()
}

/// Derives `socketio::Event`.
#[doc(hidden)]
#[proc_macro_derive(EventOfServer, attributes(event))]
pub fn event_of_server(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(input, parse_quote!(::socketio)).unwrap_or_else(Error::into_compile_error).into()
}

/// Derives `socketio_client::Event`.
#[doc(hidden)]
#[proc_macro_derive(EventOfClient, attributes(event))]
pub fn event_of_client(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(input, parse_quote!(::socketio_client)).unwrap_or_else(Error::into_compile_error).into()
}

/// What `#[event(…)]` says.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    ack: Option<Type>,
    path: Option<Path>,
}

impl Options {
    fn read(input: &DeriveInput) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut attribute = None;
        for found in input.attrs.iter().filter(|attribute| attribute.path().is_ident("event")) {
            attribute = Some(found);
            found.parse_nested_meta(|meta| options.read_one(&meta))?;
        }
        let Some(name) = &options.name else {
            let place = attribute.map_or_else(|| input.ident.span(), |attribute| attribute.span());
            let hint = "an event needs its name on the wire: `#[event(name = \"…\")]`";
            return Err(Error::new(place, hint));
        };
        check_name(name)?;
        Ok(options)
    }

    fn read_one(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        if meta.path.is_ident("name") {
            once(meta, &mut self.name)
        } else if meta.path.is_ident("ack") {
            once(meta, &mut self.ack)
        } else if meta.path.is_ident("crate") {
            once(meta, &mut self.path)
        } else {
            Err(meta.error("unknown key; `#[event(…)]` takes `name = \"…\"`, `ack = Type` and `crate = path`"))
        }
    }
}

/// The doc comment, without the blank in front of each line.
fn doc(input: &DeriveInput) -> String {
    let mut lines = Vec::new();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value
        {
            let text = text.value();
            lines.push(text.strip_prefix(' ').unwrap_or(&text).to_owned());
        }
    }
    lines.join("\n")
}

fn once<T: syn::parse::Parse>(meta: &ParseNestedMeta<'_>, target: &mut Option<T>) -> Result<(), Error> {
    if target.is_some() {
        return Err(meta.error("given twice"));
    }
    *target = Some(meta.value()?.parse()?);
    Ok(())
}

/// Names that a server would refuse to send or would close a connection for.
fn check_name(name: &LitStr) -> Result<(), Error> {
    let value = name.value();
    let wrong = if value.is_empty() {
        "the name of an event must not be empty".to_owned()
    } else if value.len() > MAX_NAME {
        format!("the name of an event may have {MAX_NAME} bytes, this one has {}", value.len())
    } else if RESERVED.contains(&value.as_str()) {
        format!("`{value}` is reserved: the library itself emits it locally")
    } else {
        return Ok(());
    };
    Err(Error::new(name.span(), wrong))
}

/// The longest name that is accepted by default, in bytes.
const MAX_NAME: usize = 256;

/// Names that Node's server and client reserve.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// How a type carries the arguments of its event.
enum Carrier<'a> {
    Nothing(TokenStream),
    Inner(&'a Type),
    Itself,
}

fn derive(input: DeriveInput, default_path: Path) -> Result<TokenStream, Error> {
    let carrier = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Unit => Carrier::Nothing(quote!(Self)),
            Fields::Named(fields) if fields.named.is_empty() => Carrier::Nothing(quote!(Self {})),
            Fields::Unnamed(fields) if fields.unnamed.is_empty() => Carrier::Nothing(quote!(Self())),
            Fields::Unnamed(fields) => match fields.unnamed.first() {
                Some(field) if fields.unnamed.len() == 1 => Carrier::Inner(&field.ty),
                _ => Carrier::Itself,
            },
            Fields::Named(_) => Carrier::Itself,
        },
        Data::Enum(_) => Carrier::Itself,
        Data::Union(data) => {
            return Err(Error::new(data.union_token.span, "an event is a struct or an enum, not a union"));
        }
    };
    let Options { name, ack, path } = Options::read(&input)?;
    let path = path.unwrap_or(default_path);
    let ack = ack.map_or_else(|| quote!(()), |ack| quote!(#ack));
    let (args, borrow, build) = match carrier {
        Carrier::Nothing(value) => (quote!(()), quote!(&()), quote!({ let () = args; #value })),
        Carrier::Inner(inner) => (quote!(#inner), quote!(&self.0), quote!(Self(args))),
        Carrier::Itself => (quote!(Self), quote!(self), quote!(args)),
    };
    let doc = doc(&input);
    let ident = &input.ident;
    let (parameters, arguments, bounds) = input.generics.split_for_impl();
    let mut received = input.generics.clone();
    received.params.push(parse_quote!(__Cx: #path::__private::HandlerContext));
    received.make_where_clause().predicates.push(parse_quote!(#args: #path::__private::Received<__Cx>));
    let (received_parameters, _, received_bounds) = received.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #parameters #path::__private::Event for #ident #arguments #bounds {
            const NAME: &'static str = #name;
            const DOC: &'static str = #doc;
            type Args = #args;
            type Ack = #ack;

            fn args(&self) -> &Self::Args {
                #borrow
            }

            fn from_args(args: Self::Args) -> Self {
                #build
            }
        }

        #[automatically_derived]
        impl #received_parameters #path::__private::FromEvent<__Cx> for #ident #arguments #received_bounds {
            const EVENT: ::core::option::Option<&'static str> = ::core::option::Option::Some(#name);

            fn from_event(
                _: &mut __Cx,
                args: &#path::__private::Args<'_>,
            ) -> ::core::result::Result<Self, #path::__private::Rejection> {
                <#args as #path::__private::Received<__Cx>>::read(args)
                    .map(<Self as #path::__private::Event>::from_args)
            }
        }
    })
}
