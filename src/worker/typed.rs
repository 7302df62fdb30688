//! A value of any Rust type, as the output of a task.
//!
//! Inside a rank it is the value itself, shared by reference. It is encoded when it leaves the rank,
//! and what arrives from another one stays bytes until somebody first asks for the value. How values
//! become bytes is not known here: whoever makes or takes one brings the way along.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// A value that any slot of the rank may read.
pub type Shared = dyn Any + Send + Sync;

/// How values of one type become bytes. It is only handed values of the type that it was made for.
#[derive(Clone, Copy)]
pub struct Encoder {
    /// Appends a value's bytes.
    pub append: fn(&Shared, &mut Vec<u8>),
    /// The bytes where they lie, if the value is made of nothing else.
    pub lend: fn(&Shared) -> Option<&[u8]>,
    /// A sealed memory file of just those bytes, if they lie in one.
    pub file: fn(&Shared) -> Option<BorrowedFd<'_>>,
}

/// A value with its type's name, live or still as bytes.
pub struct Typed {
    type_name: Cow<'static, str>,
    size_bytes: u64,
    live: OnceLock<Live>,
    /// As they arrived, until the value is first asked for.
    bytes: Mutex<Option<Arrived>>,
}

#[derive(Clone)]
struct Live {
    value: Arc<Shared>,
    encoder: Encoder,
}

/// A value's bytes as they arrived: the tail of a message. To clone them copies none.
#[derive(Clone)]
pub struct Arrived {
    message: Arc<Vec<u8>>,
    start: usize,
}

impl Deref for Arrived {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.message[self.start..]
    }
}

/// Why an output is not the value that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypedError {
    /// It has this type, and that one was asked for.
    WrongType {
        /// The type that it has.
        found: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// Its bytes cannot be read as such a value: why.
    Damaged(String),
}

impl fmt::Display for TypedError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypedError::WrongType { found, wanted } => write!(out, "it is a `{found}`, not a `{wanted}`"),
            TypedError::Damaged(why) => write!(out, "its bytes cannot be read: {why}"),
        }
    }
}

impl std::error::Error for TypedError {}

impl Typed {
    /// A value that a task of this rank made.
    pub fn new<T: Any + Send + Sync>(value: Arc<T>, size_bytes: u64, encoder: Encoder) -> Self {
        let live = OnceLock::from(Live { value, encoder });
        let type_name = Cow::Borrowed(std::any::type_name::<T>());
        Typed { type_name, size_bytes, live, bytes: Mutex::new(None) }
    }

    /// A value that came from another rank: the bytes of `message` from `start` on.
    pub fn arrived(type_name: String, message: Arc<Vec<u8>>, start: usize) -> Self {
        let size_bytes = (message.len() - start) as u64;
        let bytes = Mutex::new(Some(Arrived { message, start }));
        Typed { type_name: Cow::Owned(type_name), size_bytes, live: OnceLock::new(), bytes }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// About how many bytes it has.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The value. Bytes are decoded once, by whoever asks first, and then let go.
    pub fn get<T: Any + Send + Sync>(
        &self,
        decode: impl FnOnce(&Arrived) -> Result<T, String>,
        encoder: Encoder,
    ) -> Result<Arc<T>, TypedError> {
        let live = match self.live.get() {
            Some(live) => live,
            None => self.decoded(decode, encoder)?,
        };
        live.value.clone().downcast().map_err(|_| self.wrong_type::<T>())
    }

    fn decoded<T: Any + Send + Sync>(
        &self,
        decode: impl FnOnce(&Arrived) -> Result<T, String>,
        encoder: Encoder,
    ) -> Result<&Live, TypedError> {
        let mut bytes = self.bytes();
        if let Some(arrived) = &*bytes {
            if self.type_name != std::any::type_name::<T>() {
                return Err(self.wrong_type::<T>());
            }
            let value = decode(arrived).map_err(TypedError::Damaged)?;
            let _ = self.live.set(Live { value: Arc::new(value), encoder });
            *bytes = None;
        }
        Ok(self.live.get().expect("what is no longer bytes is live"))
    }

    fn wrong_type<T>(&self) -> TypedError {
        TypedError::WrongType { found: self.type_name.to_string(), wanted: std::any::type_name::<T>() }
    }

    /// Appends its bytes.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        if self.live.get().is_none()
            && let Some(arrived) = &*self.bytes()
        {
            bytes.extend_from_slice(arrived);
            return;
        }
        let live = self.live.get().expect("what is no longer bytes is live");
        (live.encoder.append)(&*live.value, bytes);
    }

    /// Its bytes where they lie, if it is live and made of nothing else.
    pub fn lend(&self) -> Option<&[u8]> {
        let live = self.live.get()?;
        (live.encoder.lend)(&*live.value)
    }

    /// A sealed memory file of just those bytes, if they lie in one.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        let live = self.live.get()?;
        (live.encoder.file)(&*live.value)
    }

    fn bytes(&self) -> MutexGuard<'_, Option<Arrived>> {
        // A decoder that panics leaves the bytes as they were.
        self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Clone for Typed {
    fn clone(&self) -> Self {
        let bytes = self.bytes();
        Typed {
            type_name: self.type_name.clone(),
            size_bytes: self.size_bytes,
            live: self.live.clone(),
            bytes: Mutex::new(bytes.clone()),
        }
    }
}

impl PartialEq for Typed {
    /// Equal type and bytes: nothing else can be asked of any type.
    fn eq(&self, other: &Self) -> bool {
        let bytes = |typed: &Typed| {
            let mut bytes = Vec::new();
            typed.encode_into(&mut bytes);
            bytes
        };
        self.type_name == other.type_name && bytes(self) == bytes(other)
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Typed({}, {} bytes)", self.type_name, self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const ENCODER: Encoder = Encoder { append: encode, lend: |_| None, file: |_| None };

    fn encode(value: &Shared, bytes: &mut Vec<u8>) {
        let number: &u32 = value.downcast_ref().unwrap();
        bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn decode(bytes: &Arrived) -> Result<u32, String> {
        Ok(u32::from_le_bytes((**bytes).try_into().map_err(|_| "not four bytes".to_owned())?))
    }

    fn bytes(typed: &Typed) -> Vec<u8> {
        let mut bytes = Vec::new();
        typed.encode_into(&mut bytes);
        bytes
    }

    #[test]
    fn a_value_is_shared_and_not_copied() {
        let value = Arc::new(7_u32);
        let typed = Typed::new(value.clone(), 4, ENCODER);
        assert!(Arc::ptr_eq(&typed.get(decode, ENCODER).unwrap(), &value));
        assert_eq!(bytes(&typed), [7, 0, 0, 0]);
    }

    #[test]
    fn what_arrived_is_decoded_once() {
        let count = Cell::new(0);
        let counted = |bytes: &Arrived| {
            count.set(count.get() + 1);
            decode(bytes)
        };
        let typed = Typed::arrived("u32".into(), Arc::new(vec![99, 7, 0, 0, 0]), 1);
        assert_eq!((bytes(&typed), count.get()), (vec![7, 0, 0, 0], 0));
        let first = typed.get(counted, ENCODER).unwrap();
        let second = typed.get(counted, ENCODER).unwrap();
        assert!(*first == 7 && Arc::ptr_eq(&first, &second) && count.get() == 1);
        assert_eq!(bytes(&typed), [7, 0, 0, 0]);
    }

    #[test]
    fn another_type_is_refused_live_or_as_bytes() {
        let wrong = |typed: &Typed| typed.get::<u64>(|_| Ok(1), ENCODER).unwrap_err().to_string();
        assert_eq!(wrong(&Typed::new(Arc::new(7_u32), 4, ENCODER)), "it is a `u32`, not a `u64`");
        let arrived = Typed::arrived("u32".into(), Arc::new(vec![7, 0, 0, 0]), 0);
        assert_eq!(wrong(&arrived), "it is a `u32`, not a `u64`");
    }

    #[test]
    fn damaged_bytes_are_an_error_and_stay() {
        let typed = Typed::arrived("u32".into(), Arc::new(vec![7]), 0);
        let refused = typed.get(decode, ENCODER).unwrap_err();
        assert_eq!(refused.to_string(), "its bytes cannot be read: not four bytes");
        assert_eq!(bytes(&typed), [7]);
    }
}
