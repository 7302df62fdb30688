//! The attribute `#[dagmar::task]`.
