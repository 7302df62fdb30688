//! The scheduler's decisions.
