//! Values as JSON text and back, keeping the order of maps.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use crate::core::value::Value;

/// `value` as JSON on one line. Fails for bytes that are not text, which JSON cannot hold.
pub fn to_json(value: &Value) -> Result<Vec<u8>, String> {
    serde_json::to_vec(&Written(value)).map_err(|error| error.to_string())
}

/// The value that JSON text stands for.
pub fn from_json(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Read>(text).map(|read| read.0).map_err(|error| error.to_string())
}

struct Written<'a>(&'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => out.serialize_unit(),
            Value::Bool(truth) => out.serialize_bool(*truth),
            Value::Int(number) => out.serialize_i64(*number),
            Value::Float(number) => out.serialize_f64(*number),
            Value::Text(text) => out.serialize_str(text),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => out.serialize_str(text),
                Err(_) => Err(S::Error::custom("JSON cannot hold bytes that are not UTF-8")),
            },
            Value::List(values) => out.collect_seq(values.iter().map(Written)),
            Value::Map(entries) => {
                let mut map = out.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    map.serialize_entry(name, &Written(value))?;
                }
                map.end()
            }
        }
    }
}

struct Read(Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(Reader).map(Read)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Read(value)) = source.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, Read(value))) = source.next_entry()? {
            entries.push((name, value));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_in_order() {
        let text = r#"{"b":[1,2.5,null,true],"a":"x\n"}"#;
        assert_eq!(to_json(&from_json(text).unwrap()).unwrap(), text.as_bytes());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(to_json(&Value::Bytes(vec![0xff])).is_err());
    }
}
