//! A client beside rank 0: what it says goes to the machine, what the machine says to it goes out.
//!
//! A client numbers its tasks itself, in the order in which it submits them; the graph has its own numbers. Where
//! clients come one after the other, each numbers on where the one before ended, and finds what that has named.

mod ledger;
mod line;
mod visitors;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use crate::core::addition::Source;
use crate::core::client::{FromClient, Submission, ToClient};
use crate::core::event::{Cause, Outcome};
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank, TaskId};
use crate::core::message::{Order, ToWorker};
use crate::core::task::Body;
use crate::transport::endpoint::Waker;
use crate::worker::output::Output;
use crate::worker::python::encode_output;

use super::exit;
use super::script::{Script, ScriptEnd};
use ledger::{Ledger, NewCall};
use line::Line;
pub use visitors::{Door, IsOver, Visitors};
use words::{Block, Submitted, Word};

/// A number that no task has.
const NONE: u32 = u32::MAX;
/// What is kept for later clients of what failed, at most.
const FAILURES_BYTES_MAX: usize = 64 << 20;

/// Clients that wait to be served, or will come.
pub struct Waiting {
    visitors: Mutex<Visitors>,
    are_here: bool,
    script: Mutex<Option<Script>>,
    /// How the script ended.
    end: OnceLock<ScriptEnd>,
}

impl Waiting {
    /// These.
    pub fn new(visitors: Visitors) -> Self {
        let are_here = !visitors.leave_work();
        Waiting { visitors: Mutex::new(visitors), are_here, script: Mutex::default(), end: OnceLock::new() }
    }

    /// Those that come from a script. The run is over when it is.
    pub fn of_script(script: Script, visitors: Visitors) -> Self {
        Waiting { script: Mutex::new(Some(script)), ..Self::new(visitors) }
    }

    /// True if they print where rank 0 does, and expect what their functions print there as well.
    pub fn are_here(&self) -> bool {
        self.are_here
    }

    /// How the script ended, once the run is over.
    pub fn script_end(&self) -> Option<&ScriptEnd> {
        self.end.get()
    }

    fn take_visitors(&self) -> Option<Visitors> {
        Some(std::mem::replace(&mut *self.visitors.lock().ok()?, Visitors::None))
    }

    /// What the process ends with if the run ended with `exit_code`. Tasks that failed are the client's own matter,
    /// which was told of each as its exception.
    fn conclude(&self, exit_code: u8) -> u8 {
        let script = self.script.lock().ok().and_then(|mut script| script.take());
        let has_failed = script.is_some_and(|script| {
            let end = self.end.get_or_init(|| script.wait());
            !matches!(end, ScriptEnd::Code(0))
        });
        match exit_code {
            exit::DONE | exit::TASK_FAILED | exit::OUT_OF_MEMORY if has_failed => exit::TASK_FAILED,
            exit::DONE | exit::TASK_FAILED | exit::OUT_OF_MEMORY => exit::DONE,
            other => other,
        }
    }
}

/// A client that is served.
pub struct Serving {
    client: Arc<Waiting>,
    line: Line,
    /// What is to be handed to the machine next.
    due: VecDeque<FromClient>,
    /// The task of each number of the client; `NONE` for those that were refused.
    tasks: Vec<TaskId>,
    /// The client's number of each task; `NONE` for tasks that are not its own.
    numbers: Vec<u32>,
    /// What it pickled, by number.
    blocks: HashMap<u32, Arc<Vec<u8>>>,
    /// Which of it each worker has, in which of its lives.
    known: HashMap<Rank, (Incarnation, BTreeSet<u32>)>,
    /// Which of them may still be called.
    ledger: Ledger,
    /// A submission that was handed to the machine.
    submitted: Option<Handed>,
    /// The first numbers and the counts of submissions that were refused and not told of.
    refused: VecDeque<(u32, u32)>,
    /// Tasks that have finished, of which the client has not been told.
    finished: Vec<u32>,
    /// What was said of tasks that failed, where other clients may come, and its bytes.
    failures: Option<(Vec<Vec<u8>>, usize)>,
}

/// A submission that was handed to the machine.
struct Handed {
    /// The places of its tasks.
    places: Vec<u32>,
    calls: Vec<NewCall>,
    /// What is thrown away if it is refused.
    blocks: Vec<u32>,
}

impl Serving {
    /// Begins to serve a client of a run where so many tasks of one core run at once; `waker` ends the sleep of rank 0
    /// when it says something.
    pub fn begin(client: &Arc<Waiting>, slots: u32, waker: Waker) -> io::Result<Option<Self>> {
        let Some(visitors) = client.take_visitors() else { return Ok(None) };
        let failures = visitors.are_many().then(Default::default);
        Ok(Some(Serving {
            client: client.clone(),
            line: Line::begin(visitors, slots, waker)?,
            due: VecDeque::new(),
            tasks: Vec::new(),
            numbers: Vec::new(),
            blocks: HashMap::new(),
            known: HashMap::new(),
            ledger: Ledger::default(),
            submitted: None,
            refused: VecDeque::new(),
            finished: Vec::new(),
            failures,
        }))
    }

    /// The next thing that the client says. `settle` follows each.
    pub fn hear(&mut self) -> Option<FromClient> {
        loop {
            if let Some(word) = self.due.pop_front() {
                return Some(word);
            }
            let word = match self.line.hear()? {
                Word::Submit(submitted) => self.submission(*submitted),
                Word::Refuse { count, why } => {
                    let first = self.tasks.len() as u32;
                    self.skip(count);
                    self.say(words::refused(first, count, &why));
                    continue;
                }
                Word::Fetch(number) => FromClient::Fetch(self.task(number)),
                Word::Release(numbers) => {
                    numbers.iter().for_each(|&number| self.ledger.release(number));
                    FromClient::Release(numbers.into_iter().map(|number| self.task(number)).collect())
                }
                Word::Named => continue,
                Word::Came(named) => {
                    self.receive(&named);
                    continue;
                }
                Word::Leave => {
                    self.ledger.release_all_but(&[]);
                    FromClient::Leave
                }
                Word::Close => FromClient::Close,
                Word::Vanish => FromClient::Vanish,
            };
            return Some(word);
        }
    }

    /// Another client came, and knows these numbers only. What became of them is told again.
    fn receive(&mut self, named: &[u32]) {
        self.flush();
        self.ledger.release_all_but(named);
        let tasks: Vec<TaskId> = named.iter().map(|&number| self.task(number)).collect();
        for (failure, _) in self.failures.iter() {
            failure.iter().for_each(|frame| self.line.say(frame.clone()));
        }
        let asked = tasks.clone().into_iter().map(FromClient::Ask);
        self.due.push_back(FromClient::Hold(tasks));
        self.due.extend(asked);
    }

    fn submission(&mut self, submitted: Submitted) -> FromClient {
        let Submitted { mut addition, places, held, calls, blocks } = submitted;
        for source in addition.tasks.iter_mut().flat_map(|task| &mut task.work.values) {
            if let Source::Known(task) = source {
                *task = self.task(task.0);
            }
        }
        let numbers = blocks.iter().map(|block| block.number).collect();
        self.blocks.extend(blocks.into_iter().map(|Block { number, bytes }| (number, Arc::new(bytes))));
        self.submitted = Some(Handed { places, calls, blocks: numbers });
        FromClient::Submit(Box::new(Submission { addition, held }))
    }

    /// What was said last was handed to the machine: its next task was `before` and is `after` now.
    pub fn settle(&mut self, before: TaskId, after: TaskId) {
        let Some(Handed { places, calls, blocks }) = self.submitted.take() else { return };
        let (first, count) = (self.tasks.len() as u32, places.len() as u32);
        if before == after && count > 0 {
            self.refused.push_back((first, count));
            self.skip(count);
            blocks.iter().for_each(|block| drop(self.blocks.remove(block)));
            return;
        }
        self.ledger.enter(calls);
        self.numbers.resize(after.index(), NONE);
        for (number, place) in (first..).zip(places) {
            let task = TaskId(before.0 + place);
            self.tasks.push(task);
            self.numbers[task.index()] = number;
        }
    }

    /// As many numbers are of tasks that will never be.
    fn skip(&mut self, count: u32) {
        self.tasks.extend((0..count).map(|_| TaskId(NONE)));
        self.ledger.skip(count);
    }

    /// Lets go of the blocks of which no call will be made any more. Returns which of them each worker has.
    pub fn forget(&mut self, has_ended: impl Fn(TaskId) -> bool) -> BTreeMap<Rank, Vec<u32>> {
        let mut forgotten: BTreeMap<Rank, Vec<u32>> = BTreeMap::new();
        if !self.ledger.is_due() {
            return forgotten;
        }
        let tasks = &self.tasks;
        for block in self.ledger.settle(|number| has_ended(tasks[number as usize])) {
            self.blocks.remove(&block);
            for (&worker, (_, known)) in &mut self.known {
                if known.remove(&block) {
                    forgotten.entry(worker).or_default().push(block);
                }
            }
        }
        forgotten
    }

    fn task(&self, number: u32) -> TaskId {
        self.tasks.get(number as usize).copied().unwrap_or(TaskId(NONE))
    }

    fn number(&self, task: TaskId) -> u32 {
        self.numbers.get(task.index()).copied().unwrap_or(NONE)
    }

    /// Tells the client what the machine says.
    pub fn tell(&mut self, word: &ToClient, graph: &Graph) {
        match word {
            ToClient::Finished(task) => self.finished.push(self.number(*task)),
            ToClient::Failed(task, cause) => {
                let pickled: &[u8] = match cause {
                    Cause::Raised(raised) => &raised.pickled,
                    _ => &[],
                };
                let key = graph.key(*task);
                self.say_failure(words::failed(self.id(*task), (&key, cause), pickled));
            }
            ToClient::Aborted(task, because) => {
                self.say_failure(words::aborted(self.number(*task), self.id(*because)));
            }
            ToClient::Cancelled(task) => self.say_failure(words::cancelled(self.number(*task))),
            ToClient::Stored(..) => unreachable!("rank 0 reads it and delivers it"),
            ToClient::Refused(error) => {
                if let Some((first, count)) = self.refused.pop_front() {
                    self.say(words::refused(first, count, &error.to_string()));
                }
            }
        }
    }

    /// What a failed task is called to the client, which may not know it: a number of its own, or one behind all.
    fn id(&self, task: TaskId) -> u64 {
        match self.number(task) {
            NONE => (1 << 32) + u64::from(task.0),
            number => u64::from(number),
        }
    }

    /// Gives the client an output that it fetches.
    pub fn deliver(&mut self, task: TaskId, output: &Output) {
        let mut value = Vec::new();
        let form = encode_output(output, &mut value);
        self.say(words::value(self.number(task), form, &value));
    }

    /// The blocks that a worker must have for these orders, and has not.
    pub fn blocks_for(
        &mut self,
        worker: Rank,
        message: &ToWorker,
    ) -> impl Iterator<Item = (u32, Arc<Vec<u8>>)> + use<> {
        let known = self.known.entry(worker).or_default();
        if known.0 != message.incarnation {
            *known = (message.incarnation, BTreeSet::new());
        }
        let mut missing = Vec::new();
        for order in &message.orders {
            let Order::Assign(assignment) = order else { continue };
            let row = assignment.special.as_ref().and_then(|special| special.row.as_ref());
            if let Some(Body::Pickled(block)) = row.map(|row| &row.operation.body)
                && known.1.insert(*block)
                && let Some(bytes) = self.blocks.get(block)
            {
                missing.push((*block, bytes.clone()));
            }
        }
        missing.into_iter()
    }

    /// Sends what was gathered.
    pub fn flush(&mut self) {
        if !self.finished.is_empty() {
            let frame = words::finished(&self.finished);
            self.finished.clear();
            self.say(frame);
        }
    }

    fn say(&self, frame: Vec<u8>) {
        self.line.say(frame);
    }

    fn say_failure(&mut self, frame: Vec<u8>) {
        if let Some((failures, bytes)) = &mut self.failures
            && *bytes < FAILURES_BYTES_MAX
        {
            *bytes += frame.len();
            failures.push(frame.clone());
        }
        self.say(frame);
    }

    /// The run is over: the client is told how, and then nothing more. Returns what the process ends with.
    pub fn end(mut self, outcome: Outcome) -> u8 {
        self.flush();
        self.say(words::ended(outcome));
        self.line.end();
        self.client.conclude(exit::code_of(outcome))
    }
}
