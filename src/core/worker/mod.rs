//! The worker's decisions.
