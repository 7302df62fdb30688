//! What `Runtime::compute` takes: one call, several in a tuple, or many in a vector.

use std::sync::Arc;

use crate::runtime::typed::{self, Output, Portable, TypedError};

use super::delayed::{Delayed, Node};

/// Calls whose outputs can be computed together.
pub trait Computable {
    /// Their outputs, in the same shape.
    type Output;

    /// Adds the calls in order.
    #[doc(hidden)]
    fn collect(&self, wanted: &mut Wanted);

    /// Takes their outputs in the same order.
    #[doc(hidden)]
    fn gather(&self, outputs: &mut Outputs) -> Result<Self::Output, TypedError>;
}

/// The calls that are wanted, in order.
#[derive(Default)]
pub struct Wanted(pub(super) Vec<Arc<Node>>);

/// The outputs of the calls that were wanted, in the same order.
pub struct Outputs(pub(super) std::vec::IntoIter<Arc<Output>>);

impl Outputs {
    /// The next one, without a copy if nobody else has it.
    fn take<T: Portable>(&mut self) -> Result<T, TypedError> {
        let output = self.0.next().expect("there is an output for every call");
        let value = typed::from_output::<T>(&output)?;
        drop(output);
        Arc::try_unwrap(value).or_else(|shared| {
            // Not every type can be cloned, but every one can travel.
            let mut bytes = Vec::new();
            typed::encode_into(&*shared, &mut bytes);
            typed::decode(&bytes).map_err(TypedError::Damaged)
        })
    }
}

impl<T: Portable> Computable for Delayed<T> {
    type Output = T;

    fn collect(&self, wanted: &mut Wanted) {
        wanted.0.push(self.node.clone());
    }

    fn gather(&self, outputs: &mut Outputs) -> Result<T, TypedError> {
        outputs.take()
    }
}

impl<C: Computable + ?Sized> Computable for &C {
    type Output = C::Output;

    fn collect(&self, wanted: &mut Wanted) {
        (**self).collect(wanted);
    }

    fn gather(&self, outputs: &mut Outputs) -> Result<C::Output, TypedError> {
        (**self).gather(outputs)
    }
}

impl<C: Computable> Computable for [C] {
    type Output = Vec<C::Output>;

    fn collect(&self, wanted: &mut Wanted) {
        self.iter().for_each(|one| one.collect(wanted));
    }

    fn gather(&self, outputs: &mut Outputs) -> Result<Vec<C::Output>, TypedError> {
        self.iter().map(|one| one.gather(outputs)).collect()
    }
}

impl<C: Computable> Computable for Vec<C> {
    type Output = Vec<C::Output>;

    fn collect(&self, wanted: &mut Wanted) {
        self.as_slice().collect(wanted);
    }

    fn gather(&self, outputs: &mut Outputs) -> Result<Vec<C::Output>, TypedError> {
        self.as_slice().gather(outputs)
    }
}

impl<C: Computable> Computable for Option<C> {
    type Output = Option<C::Output>;

    fn collect(&self, wanted: &mut Wanted) {
        self.iter().for_each(|one| one.collect(wanted));
    }

    fn gather(&self, outputs: &mut Outputs) -> Result<Option<C::Output>, TypedError> {
        self.as_ref().map(|one| one.gather(outputs)).transpose()
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Computable),*> Computable for ($($name,)*) {
            type Output = ($($name::Output,)*);

            #[allow(non_snake_case)]
            fn collect(&self, wanted: &mut Wanted) {
                let ($($name,)*) = self;
                $($name.collect(wanted);)*
            }

            #[allow(non_snake_case)]
            fn gather(&self, outputs: &mut Outputs) -> Result<Self::Output, TypedError> {
                let ($($name,)*) = self;
                Ok(($($name.gather(outputs)?,)*))
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
