//! The attribute `#[dagmar::task]`: a function becomes one that writes its call down.
//!
//! The function itself moves inside, next to a caller that takes its arguments out of a graph, and to an
//! entry in the program's list of tasks. What everything means is told in the crate `dagmar`.

mod parameter;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Error, GenericArgument, ItemFn, PathArguments, ReturnType, Type, parse_macro_input};

use parameter::Parameter;

/// Makes a function a task: calling it writes the call down and gives a `dagmar::Delayed`.
///
/// Each parameter takes a value, or the `Delayed` of another task that gives one. A parameter of type
/// `&T`, `&[T]`, `&str` or `Arc<T>` is not copied for the call; one of type `Vec<T>` or `&[T]`, or
/// `Vec<Arc<T>>` and `&[Arc<T>]` (without copies), also takes the outputs of several tasks. A parameter
/// of type `Delayed<T>` or `Vec<Delayed<T>>` takes the same, unseen, to be handed on to calls that the
/// function returns; one of type `Given<T>` does so and can be read as well. A parameter of type `&Context` is not given by the caller: it tells the function about its attempt. A function
/// that returns a `Result` gives the value inside; its error fails the task. A function that returns a
/// `Delayed` submits that call, and gives its output once it is there.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let expanded = match attribute.is_empty() {
        true => expand(function),
        false => {
            Err(Error::new(Tokens::from(attribute).span(), "`task` takes no arguments: say it at the call"))
        }
    };
    expanded.unwrap_or_else(|error| error.into_compile_error()).into()
}

fn expand(function: ItemFn) -> Result<Tokens, Error> {
    check(&function)?;
    let ItemFn { attrs, vis, sig, block } = function;
    let parameters = sig.inputs.iter().map(Parameter::read).collect::<Result<Vec<_>, _>>()?;
    let given: Vec<(usize, &Parameter)> =
        parameters.iter().filter(|one| !one.is_context()).enumerate().collect();
    let (documentation, attributes): (Vec<_>, Vec<_>) =
        attrs.into_iter().partition(|attribute| attribute.path().is_ident("doc"));

    let (name, inputs, output) = (&sig.ident, &sig.inputs, &sig.output);
    let (generics, conditions) = (&sig.generics, &sig.generics.where_clause);
    let text = name.to_string();
    let Gives { value: gives, is_result, is_delayed } = Gives::of(output);
    // A function that submits calls means tasks by their names, also by its own.
    let body = if is_delayed { format_ident!("__{}_itself", name) } else { name.clone() };
    let names: Vec<_> = (0..given.len()).map(|place| format_ident!("argument_{place}")).collect();
    let names: Vec<_> =
        given.iter().zip(names).map(|((_, one), other)| one.name().unwrap_or(other)).collect();
    let types: Vec<_> = given.iter().map(|(_, one)| one.target()).collect();
    let mut place = 0_usize;
    let (mut takes, mut passes) = (Vec::new(), Vec::new());
    for (number, parameter) in parameters.iter().enumerate() {
        let variable = format_ident!("taken_{number}");
        if let Some(take) = parameter.take(place) {
            takes.push(quote! { let #variable = #take; });
            place += 1;
        }
        passes.push(parameter.pass(&variable));
    }
    let returned = match is_result {
        true => quote! { returned.map_err(|error| ::std::string::ToString::to_string(&error))? },
        false => quote! { returned },
    };
    let kind = if is_delayed { format_ident!("delayed") } else { format_ident!("value") };
    Ok(quote! {
        #(#documentation)*
        #vis fn #name(
            #(#names: impl ::dagmar::expansion::IntoArgument<#types>),*
        ) -> ::dagmar::Delayed<#gives> {
            #[allow(clippy::unused_unit, clippy::let_unit_value, clippy::needless_question_mark)]
            fn __call(
                context: &::dagmar::expansion::Context<'_>,
                inputs: &::dagmar::expansion::Inputs<'_>,
            ) -> ::std::result::Result<::dagmar::expansion::Returned, ::std::string::String> {
                #(#attributes)*
                fn #body #generics (#inputs) #output #conditions #block
                let _ = (context, inputs);
                #(#takes)*
                let returned = #body(#(#passes),*);
                ::std::result::Result::Ok(::dagmar::expansion::Returned::#kind::<#gives>(#returned))
            }
            static __TASK: ::dagmar::expansion::Task = ::dagmar::expansion::Task::new(
                #text,
                ::core::concat!(::core::module_path!(), "::", #text, ":", ::core::line!(), ":", ::core::column!()),
                __call,
            );
            ::dagmar::expansion::inventory::submit! { ::dagmar::expansion::Entry(&__TASK) }
            ::dagmar::Delayed::call(&__TASK, ::std::vec![
                #(::dagmar::expansion::IntoArgument::<#types>::into_argument(#names)),*
            ])
        }
    })
}

/// Refuses what could not be called on another rank.
fn check(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    let refuse = |span, why: &str| Err(Error::new(span, why));
    if let Some(word) = &signature.asyncness {
        return refuse(word.span, "a task cannot be async: it occupies its slot until it returns");
    }
    if let Some(word) = &signature.unsafety {
        return refuse(word.span, "a task cannot be unsafe: whoever runs it knows nothing of its conditions");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi.span(), "a task is a plain Rust function");
    }
    if let Some(dots) = &signature.variadic {
        return refuse(dots.span(), "a task takes a fixed number of arguments");
    }
    let mut parameters = signature.generics.params.iter();
    let open = parameters.find(|one| !matches!(one, syn::GenericParam::Lifetime(_)));
    match open {
        Some(open) => refuse(open.span(), "a task cannot be generic: ranks find it by its name alone"),
        None => Ok(()),
    }
}

/// What a task gives.
struct Gives {
    /// The type of the value.
    value: Tokens,
    /// True if it comes in a `Result`.
    is_result: bool,
    /// True if it comes from a call that the task returns.
    is_delayed: bool,
}

impl Gives {
    fn of(output: &ReturnType) -> Self {
        let ReturnType::Type(_, returned) = output else {
            return Gives { value: quote! { () }, is_result: false, is_delayed: false };
        };
        let inside = first_argument(returned, "Result");
        let (is_result, inside) = (inside.is_some(), inside.unwrap_or(returned));
        let value = first_argument(inside, "Delayed");
        let (is_delayed, value) = (value.is_some(), value.unwrap_or(inside));
        Gives { value: quote! { #value }, is_result, is_delayed }
    }
}

/// The `T` of `name<T, ...>`, however its path begins.
fn first_argument<'a>(written: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = written else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(value)) => Some(value),
        _ => None,
    }
}
