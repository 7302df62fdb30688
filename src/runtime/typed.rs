//! Values of Rust types as outputs of tasks: how they become bytes and back.
//!
//! Numbers in one piece (`Vec<f64>` and its like) are copied as they lie in memory; everything else
//! goes through serde and the codec of all messages. Ranks run one binary on machines of one kind, so
//! neither needs a description of the type.

pub mod bulk;

use std::any::Any;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::transport::codec;
pub use crate::worker::function::{Context, Functions};
pub use crate::worker::keep::Keep;
pub use crate::worker::output::Output;
pub use crate::worker::typed::TypedError;
use crate::worker::typed::{Encoder, Shared, Typed};

/// What tasks may take and give: anything that serde can write and read and that threads may share.
pub trait Portable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Portable for T {}

/// A value as an output.
///
/// # Panics
/// When the type cannot be written at all, such as one with a flattened map in it.
pub fn to_output<T: Portable>(value: Arc<T>) -> Output {
    let size_bytes = size_of_value(&*value);
    Output::Typed(Typed::new(value, size_bytes, encoder::<T>()))
}

/// The bytes of a value, without its type.
pub fn bytes_of(output: &Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Output::Typed(typed) = output {
        typed.encode_into(&mut bytes);
    }
    bytes
}

/// The value that these bytes of a type of this name are, which stay bytes until somebody asks for it.
pub fn output_of(type_name: &str, bytes: &[u8]) -> Output {
    Output::Typed(Typed::arrived(type_name.to_owned(), Arc::new(bytes.to_vec()), 0))
}

/// The name of the type of the value in an output.
pub fn type_name_of(output: &Output) -> &str {
    match output {
        Output::Typed(typed) => typed.type_name(),
        _ => "",
    }
}

/// The value in an output.
pub fn from_output<T: Portable>(output: &Output) -> Result<Arc<T>, TypedError> {
    let wrong = |found: &str| {
        Err(TypedError::WrongType { found: found.to_owned(), wanted: std::any::type_name::<T>() })
    };
    match output {
        Output::Typed(typed) => typed.get(|bytes| decode::<T>(bytes), encoder::<T>()),
        Output::Captured(_) => wrong("program's captured output"),
        Output::Value(value) => wrong(value.type_name()),
    }
}

/// Appends a value's bytes.
///
/// # Panics
/// As `to_output` does.
pub fn encode_into<T: Portable>(value: &T, bytes: &mut Vec<u8>) {
    match bulk::bytes_of(value) {
        Some(whole) => bytes.extend_from_slice(whole),
        None => codec::encode_into(value, bytes),
    }
}

/// The value that these bytes hold.
pub fn decode<T: Portable>(bytes: &[u8]) -> Result<T, String> {
    match bulk::from_bytes(bytes) {
        Some(value) => value,
        None => codec::decode(bytes).map_err(|error| error.to_string()),
    }
}

fn encoder<T: Portable>() -> Encoder {
    Encoder {
        append: |value, bytes| encode_into(same_type::<T>(value), bytes),
        lend: |value| bulk::bytes_of(same_type::<T>(value)),
        file: |_| None,
    }
}

fn same_type<T: Portable>(value: &Shared) -> &T {
    value.downcast_ref::<T>().expect("an encoder is handed values of its type")
}

/// About how many bytes a value takes, found without writing it where that is possible.
fn size_of_value<T: Portable>(value: &T) -> u64 {
    // What need not be dropped holds nothing besides itself.
    if !std::mem::needs_drop::<T>() {
        return size_of::<T>() as u64;
    }
    if let Some(bytes) = bulk::bytes_of(value) {
        return bytes.len() as u64;
    }
    let text = (value as &dyn Any).downcast_ref::<String>();
    text.map_or_else(|| codec::encoded_size(value), |text| text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::envelope::{Envelope, Lent};
    use crate::transport::endpoint::Lender;
    use crate::worker::plain;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Block {
        rows: u32,
        names: BTreeMap<String, Option<i8>>,
        #[serde(with = "bulk")]
        cells: Vec<f64>,
    }

    /// Through the bytes of a message, as between two ranks.
    fn travelled<T: Portable>(value: T) -> Arc<T> {
        let body = Arc::new(Envelope::body_of(&to_output(Arc::new(value))));
        from_output(&Envelope::output_of(&body).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn values_arrive_as_they_were_sent(
            cells: Vec<f64>, numbers: Vec<u16>, text: String, pairs: Vec<(i64, String)>,
            names: BTreeMap<String, Option<i8>>,
        ) {
            let bits = |cells: &[f64]| cells.iter().map(|cell| cell.to_bits()).collect::<Vec<_>>();
            let block = Block { rows: 3, names, cells: cells.clone() };
            let arrived = travelled(block.clone());
            prop_assert_eq!(bits(&arrived.cells), bits(&block.cells));
            prop_assert_eq!(&arrived.names, &block.names);
            prop_assert_eq!(bits(&travelled(cells.clone())), bits(&cells));
            prop_assert_eq!(&*travelled(numbers.clone()), &numbers);
            prop_assert_eq!(&*travelled(text.clone()), &text);
            prop_assert_eq!(&*travelled(pairs.clone()), &pairs);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>) {
            let _ = decode::<Block>(&bytes);
            let _ = decode::<Vec<f64>>(&bytes);
            let _ = Envelope::output_in(&bytes);
        }
    }

    #[test]
    fn numbers_in_one_piece_leave_from_where_they_lie() {
        let numbers = Arc::new(vec![0.5, -1.0, 1e300]);
        let output = Arc::new(to_output(numbers.clone()));
        let (form, lent) = Lent::of(&output).expect("they are bytes");
        assert_eq!(lent.bytes().as_ptr(), numbers.as_ptr().cast());
        let arrived = plain::output_of(form, lent.bytes().to_vec()).expect("every run of bytes is");
        assert_eq!(from_output::<Vec<f64>>(&arrived).unwrap(), numbers);
        let refused = from_output::<Vec<u32>>(&arrived).unwrap_err().to_string();
        assert_eq!(refused, "it is a `alloc::vec::Vec<f64>`, not a `alloc::vec::Vec<u32>`");
        assert!(Lent::of(&Arc::new(to_output(Arc::new((1, "a".to_owned()))))).is_none());
    }

    #[test]
    fn sizes_are_those_of_the_bytes() {
        let size = |output: Output| match output {
            Output::Typed(typed) => typed.size_bytes(),
            other => panic!("{other:?}"),
        };
        assert_eq!(size(to_output(Arc::new((1_u8, 2_u64)))), 16);
        assert_eq!(size(to_output(Arc::new(vec![0.5; 100]))), 800);
        assert_eq!(size(to_output(Arc::new("äb".to_owned()))), 3);
        assert_eq!(size(to_output(Arc::new(vec![vec![0_u8; 10]; 10]))), 111);
    }

    #[test]
    fn a_value_of_another_kind_is_refused_in_words() {
        let refused = from_output::<f64>(&Output::Captured(Vec::new())).unwrap_err().to_string();
        assert_eq!(refused, "it is a `program's captured output`, not a `f64`");
        let body = Arc::new(Envelope::body_of(&to_output(Arc::new(7_i64))));
        let refused = from_output::<f64>(&Envelope::output_of(&body).unwrap()).unwrap_err().to_string();
        assert_eq!(refused, "it is a `i64`, not a `f64`");
    }
}
