//! How one parameter of a task is given, taken out of a graph, and passed on.

use proc_macro2::{Ident, TokenStream as Tokens};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, Pat, PatType, PathArguments, Type};

/// One parameter.
pub struct Parameter {
    name: Option<Ident>,
    way: Way,
}

/// What a function does with an argument.
enum Way {
    /// `&Context`: nobody gives it.
    Context,
    /// `T`: it takes it.
    Owned(Type),
    /// `Vec<E>`: it takes it.
    OwnedVector(Type),
    /// `&T`, `&str`: it reads it.
    Borrowed(Tokens),
    /// `&[E]`, `&Vec<E>`: it reads it.
    BorrowedVector(Type),
    /// `Arc<T>`: it shares it.
    Shared(Type),
    /// `Arc<Vec<E>>`: it shares it.
    SharedVector(Type),
    /// `Vec<Arc<E>>`: it shares the elements.
    Elements(Type),
    /// `&[Arc<E>]`: it reads the elements.
    BorrowedElements(Type),
    /// `Delayed<T>`: it hands it on.
    Handle(Type),
    /// `Delayed<Vec<E>>`: it hands it on.
    VectorHandle(Type),
    /// `Vec<Delayed<E>>`: it hands the elements on.
    Handles(Type),
    /// `Given<T>`: it reads it and hands it on.
    Given(Type),
    /// `Given<Vec<E>>`: it reads it and hands it on.
    GivenVector(Type),
}

impl Parameter {
    /// Reads a parameter as it was written.
    pub fn read(argument: &FnArg) -> Result<Self, Error> {
        let FnArg::Typed(PatType { pat, ty, .. }) = argument else {
            return Err(Error::new(argument.span(), "a task is a function, not a method"));
        };
        let name = match &**pat {
            Pat::Ident(pattern) => Some(pattern.ident.clone()),
            _ => None,
        };
        Ok(Parameter { name, way: Way::of(ty)? })
    }

    /// True if the caller does not give it.
    pub fn is_context(&self) -> bool {
        matches!(self.way, Way::Context)
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<Ident> {
        self.name.clone()
    }

    /// The type whose values it takes.
    pub fn target(&self) -> Tokens {
        match &self.way {
            Way::Context => quote! {},
            Way::Owned(value) | Way::Shared(value) | Way::Handle(value) | Way::Given(value) => {
                quote! { #value }
            }
            Way::Borrowed(value) => value.clone(),
            Way::OwnedVector(element)
            | Way::BorrowedVector(element)
            | Way::SharedVector(element)
            | Way::Elements(element)
            | Way::BorrowedElements(element)
            | Way::VectorHandle(element)
            | Way::GivenVector(element)
            | Way::Handles(element) => quote! { ::std::vec::Vec<#element> },
        }
    }

    /// How it is taken out of the inputs, where it is the n-th that the caller gave.
    pub fn take(&self, place: usize) -> Option<Tokens> {
        Some(match &self.way {
            Way::Context => return None,
            Way::Owned(value) => quote! { inputs.owned::<#value>(#place)? },
            Way::OwnedVector(element) => quote! { inputs.owned_vector::<#element>(#place)? },
            Way::Borrowed(value) => quote! { inputs.shared::<#value>(#place)? },
            Way::Shared(value) => quote! { inputs.shared::<#value>(#place)? },
            Way::BorrowedVector(element) | Way::SharedVector(element) => {
                quote! { inputs.shared_vector::<#element>(#place)? }
            }
            Way::Elements(element) | Way::BorrowedElements(element) => {
                quote! { inputs.shared_elements::<#element>(#place)? }
            }
            Way::Handle(value) => quote! { inputs.handle::<#value>(#place)? },
            Way::VectorHandle(element) => quote! { inputs.vector_handle::<#element>(#place)? },
            Way::Handles(element) => quote! { inputs.handles::<#element>(#place)? },
            Way::Given(value) => quote! { inputs.given::<#value>(#place)? },
            Way::GivenVector(element) => quote! { inputs.given_vector::<#element>(#place)? },
        })
    }

    /// How it is passed on once it is in this variable.
    pub fn pass(&self, variable: &Ident) -> Tokens {
        match &self.way {
            Way::Context => quote! { context },
            Way::Owned(_)
            | Way::OwnedVector(_)
            | Way::Shared(_)
            | Way::SharedVector(_)
            | Way::Elements(_)
            | Way::Handle(_)
            | Way::VectorHandle(_)
            | Way::Handles(_)
            | Way::Given(_)
            | Way::GivenVector(_) => {
                quote! { #variable }
            }
            Way::Borrowed(_) | Way::BorrowedVector(_) => quote! { &*#variable },
            Way::BorrowedElements(_) => quote! { &#variable },
        }
    }
}

impl Way {
    fn of(written: &Type) -> Result<Self, Error> {
        let written = bare(written);
        if let Type::Reference(reference) = written {
            if let Some(word) = &reference.mutability {
                let why = "a task cannot change its arguments: others may read them at the same time";
                return Err(Error::new(word.span, why));
            }
            return Ok(Self::of_reference(bare(&reference.elem)));
        }
        if let Type::ImplTrait(open) = written {
            return Err(Error::new(open.span(), "a task cannot be generic: ranks find it by its name alone"));
        }
        if let Some(inner) = argument_of(written, "Arc") {
            return Ok(match argument_of(inner, "Vec") {
                Some(element) => Way::SharedVector(element.clone()),
                None => Way::Shared(inner.clone()),
            });
        }
        if let Some(inner) = argument_of(written, "Delayed") {
            return Ok(match argument_of(inner, "Vec") {
                Some(element) => Way::VectorHandle(element.clone()),
                None => Way::Handle(inner.clone()),
            });
        }
        if let Some(inner) = argument_of(written, "Given") {
            return Ok(match argument_of(inner, "Vec") {
                Some(element) => Way::GivenVector(element.clone()),
                None => Way::Given(inner.clone()),
            });
        }
        Ok(match argument_of(written, "Vec") {
            Some(element) => match (argument_of(element, "Arc"), argument_of(element, "Delayed")) {
                (Some(element), _) => Way::Elements(element.clone()),
                (None, Some(element)) => Way::Handles(element.clone()),
                (None, None) => Way::OwnedVector(element.clone()),
            },
            None => Way::Owned(written.clone()),
        })
    }

    fn of_reference(inner: &Type) -> Self {
        if let Type::Slice(slice) = inner {
            return match argument_of(&slice.elem, "Arc") {
                Some(element) => Way::BorrowedElements(element.clone()),
                None => Way::BorrowedVector((*slice.elem).clone()),
            };
        }
        if let Some(element) = argument_of(inner, "Vec") {
            return match argument_of(element, "Arc") {
                Some(element) => Way::BorrowedElements(element.clone()),
                None => Way::BorrowedVector(element.clone()),
            };
        }
        match inner {
            Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Context") => {
                Way::Context
            }
            Type::Path(path) if path.path.is_ident("str") => Way::Borrowed(quote! { ::std::string::String }),
            other => Way::Borrowed(quote! { #other }),
        }
    }
}

/// A type without the brackets around it that macros leave.
fn bare(mut written: &Type) -> &Type {
    loop {
        match written {
            Type::Group(group) => written = &group.elem,
            Type::Paren(paren) => written = &paren.elem,
            other => return other,
        }
    }
}

/// The `T` of `name<T>`, however its path begins.
fn argument_of<'a>(written: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = bare(written) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}
