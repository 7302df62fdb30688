//! Values as bytes: bincode 2 in its standard configuration.
//!
//! Bincode writes. The reading half is ours, because bincode's serde reader allocates what a
//! length prefix claims and recurses as deep as the bytes say; this one compares each length with
//! the bytes that are left and counts the depth. The format is bincode's own.

use std::fmt;

use bincode::enc::write::Writer;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};

/// How deep values may nest. Graph files end at 128 lists in each other; each costs up to three.
const DEPTH_MAX: u32 = 512;

/// Appends `value` to `bytes`.
pub fn encode<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_writer(value, Appender(bytes), bincode::config::standard())
        .expect("our types know the lengths of their sequences, and memory takes every byte");
}

/// Reads one value that takes up all of `bytes`.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, EncodingError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.decode()?;
    match decoder.rest.len() {
        0 => Ok(value),
        left => Err(EncodingError::Trailing(left)),
    }
}

/// Reads `count` values that stand one after the other and take up all of `bytes`.
pub fn decode_records<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    count: u32,
) -> Result<Vec<T>, EncodingError> {
    let mut decoder = Decoder::new(bytes);
    let mut records = Vec::new();
    while !decoder.is_at_end() {
        records.push(decoder.decode()?);
    }
    match records.len() == count as usize {
        true => Ok(records),
        false => Err(EncodingError::Other(format!("{} records stand where {count} should", records.len()))),
    }
}

/// Why bytes are not the value that they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodingError {
    /// The value goes on behind the last byte.
    Ended,
    /// A list or text claims to be longer than the bytes that are left.
    TooLong {
        /// What it claims.
        length: u64,
        /// What is left.
        left: usize,
    },
    /// Lists and maps nest too deeply.
    TooDeep,
    /// A byte stands where only certain ones may.
    Tag(u64),
    /// A text is not UTF-8.
    NotText,
    /// Bytes are left over.
    Trailing(usize),
    /// The bytes are well formed but not what is wanted.
    Other(String),
}

impl fmt::Display for EncodingError {
    /// Completes "the header cannot be read: ...".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodingError::Ended => write!(out, "it ends too early"),
            EncodingError::TooLong { length, left } => {
                write!(out, "a length of {length} stands where {left} bytes are left")
            }
            EncodingError::TooDeep => write!(out, "it nests too deeply"),
            EncodingError::Tag(tag) => write!(out, "it contains an impossible {tag}"),
            EncodingError::NotText => write!(out, "a text in it is not UTF-8"),
            EncodingError::Trailing(left) => write!(out, "{left} bytes are left over"),
            EncodingError::Other(why) => write!(out, "{why}"),
        }
    }
}

impl std::error::Error for EncodingError {}

impl serde::de::Error for EncodingError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        EncodingError::Other(why.to_string())
    }
}

/// Lets bincode write to the end of a vector.
struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads values that stand one after the other.
#[derive(Clone, Debug)]
pub struct Decoder<'de> {
    rest: &'de [u8],
    depth: u32,
}

impl<'de> Decoder<'de> {
    /// Starts at the first of `bytes`.
    pub const fn new(bytes: &'de [u8]) -> Self {
        Decoder { rest: bytes, depth: 0 }
    }

    /// True once every byte was read.
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the next value.
    pub fn decode<T: Deserialize<'de>>(&mut self) -> Result<T, EncodingError> {
        T::deserialize(self)
    }

    fn take(&mut self, length: usize) -> Result<&'de [u8], EncodingError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(EncodingError::Ended)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EncodingError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(EncodingError::Ended)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, EncodingError> {
        Ok(self.array::<1>()?[0])
    }

    /// Bincode's variable-length integer: up to 250 in one byte, else a mark and 2, 4 or 8 bytes.
    fn integer(&mut self) -> Result<u64, EncodingError> {
        match self.byte()? {
            small @ 0..=250 => Ok(u64::from(small)),
            251 => Ok(u64::from(u16::from_le_bytes(self.array()?))),
            252 => Ok(u64::from(u32::from_le_bytes(self.array()?))),
            253 => Ok(u64::from_le_bytes(self.array()?)),
            mark => Err(EncodingError::Tag(u64::from(mark))),
        }
    }

    /// Signed integers alternate: 0, -1, 1, -2, ...
    fn signed(&mut self) -> Result<i64, EncodingError> {
        let folded = self.integer()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// A number of elements. Each takes at least one byte, so more than are left is a lie.
    fn length(&mut self) -> Result<usize, EncodingError> {
        let length = self.integer()?;
        let left = self.rest.len();
        let fits = usize::try_from(length).ok().filter(|&length| length <= left);
        fits.ok_or(EncodingError::TooLong { length, left })
    }

    fn text(&mut self) -> Result<&'de str, EncodingError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| EncodingError::NotText)
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, EncodingError>,
    ) -> Result<T, EncodingError> {
        if self.depth == DEPTH_MAX {
            return Err(EncodingError::TooDeep);
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

/// Integers that must fit the type that asks for them.
macro_rules! integers {
    ($($method:ident $visit:ident $read:ident $type:ty;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
            let wide = self.$read()?;
            let narrow = <$type>::try_from(wide).map_err(|_| EncodingError::Tag(wide as u64))?;
            visitor.$visit(narrow)
        }
    )* };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = EncodingError;

    integers! {
        deserialize_u16 visit_u16 integer u16;
        deserialize_u32 visit_u32 integer u32;
        deserialize_u64 visit_u64 integer u64;
        deserialize_i16 visit_i16 signed i16;
        deserialize_i32 visit_i32 signed i32;
        deserialize_i64 visit_i64 signed i64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, EncodingError> {
        Err(EncodingError::Other("the format does not tell types".into()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            tag => Err(EncodingError::Tag(u64::from(tag))),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_u8(self.byte()?)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_i8(self.byte()?.cast_signed())
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_f32(f32::from_le_bytes(self.array()?))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_f64(f64::from_le_bytes(self.array()?))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        let length = self.length()?;
        visitor.visit_borrowed_bytes(self.take(length)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => self.nested(|decoder| visitor.visit_some(decoder)),
            tag => Err(EncodingError::Tag(u64::from(tag))),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, EncodingError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, EncodingError> {
        self.nested(|decoder| visitor.visit_newtype_struct(decoder))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        let left = self.length()?;
        self.nested(|decoder| visitor.visit_seq(Elements { decoder, left }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, EncodingError> {
        self.nested(|decoder| visitor.visit_seq(Elements { decoder, left }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, EncodingError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodingError> {
        let left = self.length()?;
        self.nested(|decoder| visitor.visit_map(Elements { decoder, left }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EncodingError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EncodingError> {
        self.nested(|decoder| visitor.visit_enum(decoder))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    // What none of our types contains or asks for.
    serde::forward_to_deserialize_any! { i128 u128 char identifier ignored_any }
}

/// The elements of a list, or the pairs of a map.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = EncodingError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, EncodingError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = EncodingError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, EncodingError> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, EncodingError> {
        seed.deserialize(&mut *self.decoder)
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = EncodingError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), EncodingError> {
        let wide = self.integer()?;
        let number = u32::try_from(wide).map_err(|_| EncodingError::Tag(wide))?;
        let variant: U32Deserializer<EncodingError> = number.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = EncodingError;

    fn unit_variant(self) -> Result<(), EncodingError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, EncodingError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, EncodingError> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EncodingError> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::value::Value;
    use proptest::prelude::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(value, &mut bytes);
        bytes
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e9..1e9).prop_map(Value::Float),
            ".*".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::vec((".*", inner), 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_bincode_writes_comes_back(value in values(), signed: (i16, i32, i64, i8), wide: (u16, u32, u64, f32)) {
            let all = (value, signed, wide);
            let bytes = encoded(&all);
            prop_assert_eq!(&decode::<(Value, (i16, i32, i64, i8), (u16, u32, u64, f32))>(&bytes).unwrap(), &all);
            let (theirs, _): (Value, usize) =
                bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
            prop_assert_eq!(theirs, all.0);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = decode::<Value>(&bytes);
            let _ = decode::<crate::core::event::Event>(&bytes);
            let _ = decode::<crate::core::task::Operation>(&bytes);
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused_before_memory_is_asked_for() {
        let mut bytes = vec![4, 253]; // Value::Text
        bytes.extend(u64::MAX.to_le_bytes());
        let error = EncodingError::TooLong { length: u64::MAX, left: 0 };
        assert_eq!(decode::<Value>(&bytes), Err(error));
    }

    #[test]
    fn lists_in_lists_end_at_a_depth() {
        let bytes = [6, 1].repeat(1_000_000); // Value::List of one
        assert_eq!(decode::<Value>(&bytes), Err(EncodingError::TooDeep));
        let deepest = (0..128).fold(Value::Null, |inner, _| Value::Map(vec![("k".into(), inner)]));
        assert_eq!(decode::<Value>(&encoded(&deepest)), Ok(deepest));
    }
}
