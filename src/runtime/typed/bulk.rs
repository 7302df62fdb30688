//! Numbers in one piece, copied as they lie in memory instead of one by one.
//!
//! A `Vec` of numbers that is a task's whole output goes this way by itself. As a field of a struct
//! it does so where the field says `#[serde(with = "dagmar::bulk")]`.

use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;

use bytemuck::Pod;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Calls a macro with every type whose `Vec` is copied whole.
macro_rules! with_numbers {
    ($call:ident) => {
        $call!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize, f32, f64)
    };
}

/// A vector of numbers as its bytes; `None` for every other type.
pub(super) fn bytes_of<T: Any>(value: &T) -> Option<&[u8]> {
    let value: &dyn Any = value;
    macro_rules! look {
        ($($number:ty),*) => {$(
            if let Some(numbers) = value.downcast_ref::<Vec<$number>>() {
                return Some(bytemuck::cast_slice(numbers));
            }
        )*};
    }
    with_numbers!(look);
    None
}

/// The vector of numbers that has these bytes; `None` for every other type.
pub(super) fn from_bytes<T: Any>(bytes: &[u8]) -> Option<Result<T, String>> {
    macro_rules! look {
        ($($number:ty),*) => {$(
            if TypeId::of::<T>() == TypeId::of::<Vec<$number>>() {
                return Some(numbers::<$number>(bytes).map(same_type));
            }
        )*};
    }
    with_numbers!(look);
    None
}

fn numbers<N: Pod>(bytes: &[u8]) -> Result<Vec<N>, String> {
    match bytes.len().is_multiple_of(size_of::<N>()) {
        true => Ok(bytemuck::pod_collect_to_vec(bytes)),
        false => {
            Err(format!("{} bytes are no whole number of `{}`", bytes.len(), std::any::type_name::<N>()))
        }
    }
}

fn same_type<S: Any, T: Any>(value: S) -> T {
    let mut value = Some(value);
    let any: &mut dyn Any = &mut value;
    let value = any.downcast_mut::<Option<T>>().expect("the types were compared");
    value.take().expect("it was put there")
}

/// Writes numbers as one run of bytes.
pub fn serialize<N: Pod, S: Serializer>(numbers: &[N], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytemuck::cast_slice(numbers))
}

/// Reads numbers from one run of bytes.
pub fn deserialize<'de, N: Pod, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<N>, D::Error> {
    deserializer.deserialize_bytes(Run(PhantomData))
}

struct Run<N>(PhantomData<N>);

impl<N: Pod> Visitor<'_> for Run<N> {
    type Value = Vec<N>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the bytes of numbers")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<N>, E> {
        numbers(bytes).map_err(E::custom)
    }
}
