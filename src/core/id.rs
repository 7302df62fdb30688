//! Numbers that name things. All are `u32`: ten million tasks fit, and tables stay small.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The number as an index into a table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl From<usize> for $name {
            /// # Panics
            /// When `index` does not fit into 32 bits; tables are bounded before ids are made.
            fn from(index: usize) -> Self {
                Self(u32::try_from(index).expect("tables hold fewer than 2^32 entries"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

number! {
    /// A task's place in its graph.
    TaskId
}
number! {
    /// A process's number in the MPI world. Rank 0 schedules, every other rank works.
    Rank
}
number! {
    /// One try at a task, counted from 1. It is carried by every message about the task, so that
    /// what an abandoned try still says can be told from what the current one says.
    Attempt
}
number! {
    /// Which life of a rank a message comes from, counted from 1. A worker that was given up and
    /// comes back is another incarnation; what its earlier life sends is ignored.
    Incarnation
}
number! {
    /// The place of an operation in its graph's table of distinct operations.
    OperationId
}
number! {
    /// The place of a set of options in its graph's table of distinct options.
    OptionsId
}

impl Rank {
    /// The rank that schedules.
    pub const SCHEDULER: Rank = Rank(0);
}

impl Attempt {
    /// The first try at a task.
    pub const FIRST: Attempt = Attempt(1);

    /// The try after this one.
    pub const fn next(self) -> Attempt {
        Attempt(self.0 + 1)
    }

    /// The try before this one.
    pub const fn previous(self) -> Attempt {
        Attempt(self.0 - 1)
    }
}
