//! When a worker is better left alone: programs have all its cores.

use std::time::Duration;

use crate::transport::endpoint::{Endpoint, Rest};

use super::Hands;

/// What comes while programs have all cores waits so long, or until one of them ends.
const DOZE: Duration = Duration::from_millis(2);

impl<E: Endpoint> Hands<E> {
    /// True if programs have all cores: what comes can wait until one has ended.
    pub fn is_full(&self) -> bool {
        self.light_count == 0 && self.machine.is_full()
    }

    /// A sleep while programs have all cores is a doze, but once only after something came: a program that
    /// ends later than that may be waited for, and an idle worker costs nothing.
    pub(super) fn doze_once(&mut self, rest: Rest) -> Rest {
        match rest {
            Rest::Sleep(pause) if self.is_full() && !std::mem::replace(&mut self.has_dozed, true) => {
                Rest::Doze(pause.min(DOZE))
            }
            rest => rest,
        }
    }
}
