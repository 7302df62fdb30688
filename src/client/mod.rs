//! BEAM. The user's side: graph files read, outputs handed back.

pub mod formats;
