//! Ranks that have failed, as an MPI says that tolerates it (ULFM: Open MPI 5 and later, started with
//! `mpirun --with-ft ulfm`). Any other MPI ends the job, and nothing here is ever called.
//!
//! What concerns a rank that failed comes back as an error. Looks for messages tell of it at once in Open MPI 5.0.10 and
//! later, until the failure was acknowledged; in versions before that they never do, so it is asked for now and then.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};

use mpi::ffi::{self, MPI_Comm, MPI_Group};
use nix::libc;

use super::{Result, check, library_version, rank_of};
use crate::clock;
use crate::core::id::Rank;
use crate::core::time::{Micros, Timestamp};

/// Classes of errors, as Open MPI numbers them: this rank has failed, and some rank has failed that might have sent
/// what is looked for. The standard will number them with MPI 5.
const FAILED: [c_int; 2] = [75, 76];

type Acknowledge = unsafe extern "C" fn(MPI_Comm) -> c_int;
type Acknowledged = unsafe extern "C" fn(MPI_Comm, *mut MPI_Group) -> c_int;

/// How often it is asked which ranks have failed.
const ASKED_EVERY: Micros = Micros::from_secs(1);

/// What is known of ranks that have failed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    functions: Option<(Acknowledge, Acknowledged)>,
    known: Vec<Rank>,
    /// So many of them were told.
    told: usize,
    asked: Timestamp,
}

impl Failures {
    /// None yet. The functions are looked up by name, as one program serves all versions of Open MPI.
    pub(super) fn new() -> Self {
        if !library_version().starts_with("Open MPI") {
            return Failures::default();
        }
        let find = |name: &CStr| {
            // SAFETY: the name ends with a zero, and nothing is loaded or unloaded.
            let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            (!address.is_null()).then_some(address)
        };
        let functions = find(c"MPIX_Comm_failure_ack").zip(find(c"MPIX_Comm_failure_get_acked"));
        let functions = functions.map(|(acknowledge, acknowledged)| {
            // SAFETY: these are the types that the MPI declares for these names.
            unsafe {
                (
                    std::mem::transmute::<*mut libc::c_void, Acknowledge>(acknowledge),
                    std::mem::transmute::<*mut libc::c_void, Acknowledged>(acknowledged),
                )
            }
        });
        Failures { functions, ..Failures::default() }
    }

    /// True if a call that gave this code was about a rank that has failed.
    pub(super) fn is_meant(&self, code: c_int) -> bool {
        if code == ffi::MPI_SUCCESS as c_int || self.functions.is_none() {
            return false;
        }
        let mut class = 0;
        // SAFETY: takes any code, and `class` is written.
        unsafe { ffi::MPI_Error_class(code, &mut class) };
        FAILED.contains(&class)
    }

    /// True if it is time to ask.
    pub(super) fn is_due(&self) -> bool {
        self.functions.is_some() && clock::now().since(self.asked) >= ASKED_EVERY
    }

    /// Asks. An MPI that has the functions and does not serve them, as it was not told to tolerate anything, is not
    /// asked again.
    pub(super) fn look(&mut self, all: MPI_Comm) {
        self.asked = clock::now();
        if self.learn(all).is_err() {
            self.functions = None;
        }
    }

    /// Acknowledges what failed in `all` and learns which ranks did.
    pub(super) fn learn(&mut self, all: MPI_Comm) -> Result<()> {
        let Some((acknowledge, acknowledged)) = self.functions else { return Ok(()) };
        // SAFETY: the communicator is ours, and the functions are those of the MPI that runs.
        check("MPIX_Comm_failure_ack", unsafe { acknowledge(all) })?;
        // SAFETY: reads a constant of the library.
        let (mut failed, mut everybody) = unsafe { (ffi::RSMPI_GROUP_NULL, ffi::RSMPI_GROUP_NULL) };
        // SAFETY: as above; `failed` is written, and so is `everybody`.
        check("MPIX_Comm_failure_get_acked", unsafe { acknowledged(all, &mut failed) })?;
        // SAFETY: as above.
        check("MPI_Comm_group", unsafe { ffi::MPI_Comm_group(all, &mut everybody) })?;
        let mut count = 0;
        // SAFETY: both are groups now, and `count` is written.
        check("MPI_Group_size", unsafe { ffi::MPI_Group_size(failed, &mut count) })?;
        let (places, mut ranks): (Vec<c_int>, Vec<c_int>) = ((0..count).collect(), vec![0; count as usize]);
        // SAFETY: both arrays have `count` places.
        let code = unsafe {
            ffi::MPI_Group_translate_ranks(failed, count, places.as_ptr(), everybody, ranks.as_mut_ptr())
        };
        check("MPI_Group_translate_ranks", code)?;
        // SAFETY: nobody uses the groups after this.
        check("MPI_Group_free", unsafe { ffi::MPI_Group_free(&mut failed) })?;
        // SAFETY: as above.
        check("MPI_Group_free", unsafe { ffi::MPI_Group_free(&mut everybody) })?;
        for rank in ranks.into_iter().map(rank_of) {
            if !self.known.contains(&rank) {
                self.known.push(rank);
            }
        }
        Ok(())
    }

    /// The next rank that has failed, each told once.
    pub(super) fn next(&mut self) -> Option<Rank> {
        let next = self.known.get(self.told).copied();
        self.told += usize::from(next.is_some());
        next
    }

    /// The ranks that have failed.
    pub(super) fn known(&self) -> &[Rank] {
        &self.known
    }
}
