//! What a process keeps from run to run: outputs that a program asked for or lets stay for its next
//! run, and the way to its spawner.
//!
//! One for each process, shared by its workers. Rank 0 gives the numbers and says when one may go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use super::output::Output;
use super::python::Interpreters;
use super::spawner::SpawnerLink;

/// Outputs by number.
#[derive(Debug, Default)]
pub struct Keep {
    outputs: Mutex<HashMap<u64, Arc<Output>>>,
    spawner: OnceLock<Weak<SpawnerLink>>,
    interpreters: Interpreters,
}

impl Keep {
    /// Keeps an output. A later try at the same task replaces what an earlier one left.
    pub fn insert(&self, number: u64, output: Arc<Output>) {
        self.lock().insert(number, output);
    }

    /// The output of this number, if it is here.
    pub fn get(&self, number: u64) -> Option<Arc<Output>> {
        self.lock().get(&number).cloned()
    }

    /// Lets an output go, if it is here.
    pub fn remove(&self, number: u64) -> Option<Arc<Output>> {
        self.lock().remove(&number)
    }

    /// Tells by whom functions may have processes started; the first one that is named stays.
    pub fn set_spawner(&self, spawner: &Arc<SpawnerLink>) {
        let _ = self.spawner.set(Arc::downgrade(spawner));
    }

    /// Who starts processes for functions, while it is there.
    pub fn spawner(&self) -> Option<Arc<SpawnerLink>> {
        self.spawner.get()?.upgrade()
    }

    /// Where Python functions run.
    pub fn interpreters(&self) -> &Interpreters {
        &self.interpreters
    }

    /// How many outputs are kept.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Output>>> {
        self.outputs.lock().expect("no thread panics holding this lock")
    }
}
