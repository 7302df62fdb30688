//! The C library's memory allocator, told that this process makes and drops large values all the time.
//!
//! Left alone it gives memory back to the system whenever the end of a heap is free, and the next value of the
//! same size costs a page fault every 4 KiB, in which the system clears the page (decision 0023).
#![allow(unsafe_code)]

/// Values from this size on have memory of their own, which is given back with them. The greatest that
/// glibc allows.
#[cfg(target_env = "gnu")]
const OF_THEIR_OWN_FROM: nix::libc::c_int = 32 << 20;
/// So much may lie free at the end of a heap before any is given back.
#[cfg(target_env = "gnu")]
const KEPT_FREE_MAX: nix::libc::c_int = 256 << 20;
/// Heaps grow by so much at a time, and the last of a thread is kept: the greatest that a thread's heap can be.
#[cfg(target_env = "gnu")]
const GROWS_BY: nix::libc::c_int = 64 << 20;

/// What a user tells the allocator with; then it is left as it is.
#[cfg(target_env = "gnu")]
const USERS_WORDS: [&str; 4] =
    ["GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"];

/// Lets the allocator keep what is dropped for what is made next.
pub fn keep_what_is_dropped() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, mallopt};

        if USERS_WORDS.iter().any(|word| std::env::var_os(word).is_some()) {
            return;
        }
        let settings =
            [(M_MMAP_THRESHOLD, OF_THEIR_OWN_FROM), (M_TRIM_THRESHOLD, KEPT_FREE_MAX), (M_TOP_PAD, GROWS_BY)];
        for (setting, value) in settings {
            // SAFETY: the call takes plain numbers and may be made at any time. Where another allocator stands
            // in, it does nothing.
            unsafe { mallopt(setting, value) };
        }
    }
}
