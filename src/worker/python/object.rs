//! A Python object as the output of a task.
//!
//! A large one stays in the child that made it until somebody else wants it. What leaves is bytes that only
//! interpreters read: a pickle and the object's large buffers side by side. Large ones lie in a memory file that was
//! sealed by whoever made it, so it can be lent to every child of the node, and to MPI, from where it lies.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};

use crate::record::mapping::Mapping;
use crate::worker::output::Output;
use crate::worker::packet::{receive, send_parts};
use crate::worker::typed::{Arrived, Encoder, Shared, Typed, TypedError};

/// What nobody can do to a memory file any more.
const SEALS: [SealFlag; 3] = [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW];

/// Objects from here on stay in a file of their own, which costs about as much as a copy of so many bytes; smaller
/// ones are copied.
pub const FILE_BYTES_MIN: usize = 64 << 10;
/// Files that are kept at once at most; further objects are copied. Each takes a mapping of the process, of which the
/// system allows 65530, and a descriptor.
const FILES_MAX: usize = 16 << 10;
/// What files may take of the descriptors that the process may have: a half.
const SHARE_OF_DESCRIPTORS: usize = 2;

static FILES: AtomicUsize = AtomicUsize::new(0);

/// A Python object.
pub struct PythonObject {
    /// About how many bytes it has.
    size_bytes: u64,
    /// Where it is, as long as that is a process.
    live: Option<Live>,
    /// Its bytes, once they have left the process that made it.
    bytes: OnceLock<Bytes>,
    /// The same in a memory file, once a child asked for them.
    file: OnceLock<KeptFile>,
}

/// An object in a child, which keeps it until this is dropped.
struct Live {
    home: Arc<Home>,
    number: u64,
}

/// The way to the objects in a child, beside its calls.
pub struct Home {
    side: Mutex<OwnedFd>,
}

/// A memory file that is counted.
struct KeptFile(OwnedFd);

enum Bytes {
    Own(Vec<u8>),
    Arrived(Arrived),
    Mapped(Mapping),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Arrived(bytes) => bytes,
            Bytes::Mapped(mapping) => mapping.bytes(),
        }
    }
}

impl Home {
    pub fn new(side: OwnedFd) -> Self {
        Home { side: Mutex::new(side) }
    }

    /// Has an object written into a memory file, and waits for that. None if the child is gone.
    fn export(&self, number: u64) -> io::Result<Option<OwnedFd>> {
        let side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = send_parts(side.as_fd(), &[b"E", &number.to_le_bytes()], &[]) {
            return if is_gone(&error) { Ok(None) } else { Err(error) };
        }
        let mut room = [0; 16];
        match receive(side.as_fd(), &mut room) {
            Ok(Some((_, files))) => Ok(files.into_iter().next()),
            Ok(None) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn let_go(&self, number: u64) {
        let side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        // Who is gone holds nothing.
        let _ = send_parts(side.as_fd(), &[b"D", &number.to_le_bytes()], &[]);
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Drop for Live {
    fn drop(&mut self) {
        self.home.let_go(self.number);
    }
}

/// How objects leave the rank.
const ENCODER: Encoder = Encoder { append, lend, file };

fn append(value: &Shared, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(lend(value).unwrap_or_default());
}

fn lend(value: &Shared) -> Option<&[u8]> {
    value.downcast_ref::<PythonObject>().map(PythonObject::bytes)
}

fn file(value: &Shared) -> Option<BorrowedFd<'_>> {
    let object: &PythonObject = value.downcast_ref()?;
    object.file.get().map(|file| file.0.as_fd())
}

impl PythonObject {
    /// An object that came in a packet.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self::of(Bytes::Own(bytes), OnceLock::new())
    }

    /// An object that lies in a memory file. Refused if its maker could still change it.
    pub fn of_file(file: OwnedFd) -> io::Result<Self> {
        let (bytes, file) = take_file(file)?;
        Ok(Self::of(bytes, file.map_or_else(OnceLock::new, OnceLock::from)))
    }

    /// An object that stays in the child that made it.
    pub fn in_child(home: Arc<Home>, number: u64, size_bytes: u64) -> Self {
        let live = Some(Live { home, number });
        PythonObject { size_bytes, live, bytes: OnceLock::new(), file: OnceLock::new() }
    }

    fn of(bytes: Bytes, file: OnceLock<KeptFile>) -> Self {
        let size_bytes = bytes.get().len() as u64;
        PythonObject { size_bytes, live: None, bytes: OnceLock::from(bytes), file }
    }

    /// About how many bytes it has.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its number in a child, if that is where it is.
    pub fn number_in(&self, home: &Arc<Home>) -> Option<u64> {
        let live = self.live.as_ref()?;
        Arc::ptr_eq(&live.home, home).then_some(live.number)
    }

    /// The bytes. Those of an object that is in a child are written by that child, which is waited for. None at all
    /// if it is lost: its child ended before anybody had asked for them.
    pub fn bytes(&self) -> &[u8] {
        if let (None, Some(Live { home, number })) = (self.bytes.get(), &self.live) {
            let written = home.export(*number).and_then(|file| file.map(take_file).transpose());
            if let Err(error) = &written {
                log::error!("a Python object cannot be had from its process: {error}");
            }
            if let Ok(Some((bytes, file))) = written {
                let _ = self.bytes.set(bytes);
                if let Some(file) = file {
                    let _ = self.file.set(file);
                }
            }
        }
        self.bytes.get().map_or(&[], Bytes::get)
    }

    /// The bytes in a memory file, if they are worth one.
    pub fn file(&self) -> io::Result<Option<BorrowedFd<'_>>> {
        let bytes = self.bytes();
        if self.file.get().is_none() && bytes.len() >= FILE_BYTES_MIN && KeptFile::may_be() {
            let _ = self.file.set(KeptFile::new(write(bytes)?));
        }
        Ok(self.file.get().map(|file| file.0.as_fd()))
    }

    /// The object as an output.
    pub fn into_output(self) -> Typed {
        let size_bytes = self.size_bytes;
        Typed::new(Arc::new(self), size_bytes, ENCODER)
    }

    /// True if that is what an output is.
    pub fn is(output: &Typed) -> bool {
        Self::is_named(output.type_name())
    }

    /// True if that is what a type of this name is.
    pub fn is_named(type_name: &str) -> bool {
        type_name == std::any::type_name::<PythonObject>()
    }

    /// The object that an output is.
    pub fn of_output(output: &Typed) -> Result<Arc<PythonObject>, TypedError> {
        output.get(|bytes| Ok(Self::of(Bytes::Arrived(bytes.clone()), OnceLock::new())), ENCODER)
    }
}

/// True if an output is an object whose process has ended, so that it must be made again. One that is in a process
/// leaves it now.
pub fn is_lost(output: &Output) -> bool {
    match output {
        Output::Typed(typed) if PythonObject::is(typed) => {
            PythonObject::of_output(typed).is_ok_and(|object| object.bytes().is_empty())
        }
        _ => false,
    }
}

/// The bytes in a memory file, which is kept if they are worth one.
fn take_file(file: OwnedFd) -> io::Result<(Bytes, Option<KeptFile>)> {
    let mapping = map(&file)?;
    Ok(match mapping.bytes().len() >= FILE_BYTES_MIN && KeptFile::may_be() {
        true => (Bytes::Mapped(mapping), Some(KeptFile::new(file))),
        false => (Bytes::Own(mapping.bytes().to_vec()), None),
    })
}

impl KeptFile {
    fn may_be() -> bool {
        static MOST: OnceLock<usize> = OnceLock::new();
        let most = MOST.get_or_init(|| {
            let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
            FILES_MAX.min(usize::try_from(soft).unwrap_or(FILES_MAX) / SHARE_OF_DESCRIPTORS)
        });
        FILES.load(Ordering::Relaxed) < *most
    }

    fn new(file: OwnedFd) -> Self {
        FILES.fetch_add(1, Ordering::Relaxed);
        KeptFile(file)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A memory file whose bytes nobody can change: otherwise reading them would not be safe.
pub fn map(file: &OwnedFd) -> io::Result<Mapping> {
    let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
    if !SEALS.iter().all(|&seal| seals.contains(seal)) {
        return Err(io::Error::other("its memory file can still be changed"));
    }
    Mapping::of(&File::from(file.try_clone()?))
}

/// A sealed memory file with these bytes.
pub fn write(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("dagmar-value", flags)?);
    file.write_all(bytes)?;
    let seals = SEALS.into_iter().fold(SealFlag::F_SEAL_SEAL, |all, seal| all | seal);
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_the_same_in_a_packet_in_a_file_and_from_afar() {
        for length in [9, FILE_BYTES_MIN + 1] {
            let bytes = vec![7; length];
            let own = PythonObject::of_bytes(bytes.clone());
            assert_eq!(own.file().unwrap().is_some(), length > 9);
            let mapped = PythonObject::of_file(write(&bytes).unwrap()).unwrap();
            assert!(own.bytes() == bytes && mapped.bytes() == bytes);
            let output = mapped.into_output();
            let arrived = Typed::arrived(output.type_name().to_owned(), Arc::new(bytes.clone()), 0);
            assert!(PythonObject::is(&arrived) && arrived == output);
            assert!(PythonObject::of_output(&arrived).unwrap().bytes() == bytes);
        }
    }

    #[test]
    fn a_file_that_can_still_change_is_refused() {
        let file = memfd_create("open", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(PythonObject::of_file(file).is_err());
    }
}
