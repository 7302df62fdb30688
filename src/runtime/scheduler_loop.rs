//! Rank 0 at work: what came in goes to the machine, what the machine answers is done.

mod client;
mod failure;

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::core::client::{CLIENT, ToClient};
use crate::core::event::{Event, Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank};
use crate::core::message::{PeerMessage, PeerWord, Report};
use crate::core::scheduler::{Action, Input, Left, Options, Persist, Precedence, Scheduler, TaskState};
use crate::core::task_list::TaskList;
use crate::core::time::{Micros, Timestamp};
use crate::record::commit::{Commit, CommitError, WINDOW};
use crate::record::journal::JournalWriter;
use crate::record::layout::RunDirectory;
use crate::record::lease::Lease;
use crate::record::mailbox::{Mailbox, Order};
use crate::record::outcome::Finished;
use crate::record::resume::OnDamage;
use crate::transport::endpoint::{Body, Endpoint, Parcel, TransportError};

use super::beginning::{self, Beginning};
use super::edited::TakenOver;
use super::envelope::{Envelope, StandardStream};
use super::exit;
use super::fault::Fault;
use super::margin::{self, Margin};
use super::serving::{Serving, Waiting};
use super::signals::Signals;
use super::silence::Silence;

pub use failure::SchedulerError;

/// The longest sleep, so that the mailbox is looked at in time.
const TURN_AT_LEAST_EVERY: Duration = Duration::from_millis(200);
/// How often the mailbox is looked at, and for workers that say nothing.
const LOOK_AROUND_EVERY: Micros = Micros::from_millis(500);
/// Tasks that are named when nothing goes on: to a person, and in the log.
const STUCK_TOLD: usize = 3;
const STUCK_LOGGED: usize = 1000;

/// How often what happened is written at least, while there is no time to wait.
const FLUSH_EVERY: Micros = Micros::from_millis(10);
/// How often it is synced at least.
const COMMIT_EVERY: Micros = Micros::from_secs(1);

/// The most orders that place tasks before they are sent: some 150 us of work.
pub const ORDERS_PER_TURN: u32 = 512;

/// Somebody who watches a run from rank 0: what a person sees comes from here.
pub trait Watcher {
    /// Something happened.
    fn on_event(&mut self, time: Timestamp, event: &Event);

    /// A task printed bytes that go to a standard stream of this program.
    fn on_output(&mut self, stream: StandardStream, bytes: &[u8]);

    /// The next event is about this graph: the one that the run began with, or, if that event is `GraphEdited`, the one
    /// that it goes on with. Not said of runs that were never edited.
    fn on_graph(&mut self, graph: Arc<Graph>);

    /// The run goes on after its processes ended; what happened before was told. `news` says what runs because an output
    /// is lost or the graph was edited, and what is gone, a task a line.
    fn on_resumed(&mut self, left: Left, news: &[String]);

    /// The loop came round; called often.
    fn on_turn(&mut self, now: Timestamp);
}

/// What rank 0 begins with.
pub struct Setup {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The tasks whose outputs are wanted,
    pub asked: TaskList,
    /// and whether these are printed in the end.
    pub prints: bool,
    /// What is written into the run directory.
    pub persist: Persist,
    /// How many tasks may fail before the run is stopped.
    pub max_fails: Option<u32>,
    /// How often a task may kill the rank it runs in.
    pub crash_limit: u32,
    /// True if the directory has what earlier processes of the run left.
    pub resumes: bool,
    /// True if tasks are left away whose files are there.
    pub if_missing: bool,
    /// Whether a journal that is damaged is refused.
    pub on_damage: OnDamage,
    /// The right to schedule it, if this process has it already.
    pub taken: Option<TakenOver>,
    /// Workers that an earlier run of these ranks lost.
    pub lost: Vec<Rank>,
    /// The client that submits tasks to it, if there is one.
    pub client: Option<Arc<Waiting>>,
    /// How many tasks of one core the workers run at once.
    pub slots: u32,
    /// The run's directory.
    pub directory: RunDirectory,
    /// The signals to obey.
    pub signals: Signals,
}

impl Setup {
    /// True if what Python functions print goes to the standard streams of rank 0 as well.
    pub fn is_echoed(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.are_here())
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Workers that were given up, and may stand still somewhere.
    pub lost: Vec<Rank>,
}

/// Runs a graph to its end and returns how it ended. The workers have left their work then, and wait
/// for goodbye.
pub fn run(
    endpoint: &mut dyn Endpoint,
    setup: Setup,
    watcher: &mut dyn Watcher,
) -> Result<Ended, SchedulerError> {
    let mut hands = Hands::new(endpoint, setup, watcher)?;
    loop {
        let received = hands.take_in()?;
        hands.turn()?;
        if let Some(outcome) = hands.outcome {
            hands.finish(outcome)?;
            return Ok(Ended { outcome, lost: hands.lost });
        }
        if !received && !hands.machine.is_unfinished() {
            hands.flush()?;
            hands.endpoint.wait(TURN_AT_LEAST_EVERY);
        }
    }
}

struct Hands<'a> {
    endpoint: &'a mut dyn Endpoint,
    watcher: &'a mut dyn Watcher,
    machine: Scheduler,
    directory: RunDirectory,
    /// Others see that this process is at work, as long as it is there.
    lease: Lease,
    journal: JournalWriter,
    commit: Commit,
    /// When the journal was written last, and when what is in it was last asked to be synced.
    flushed: Timestamp,
    committed: Timestamp,
    /// True if something was recorded that must not wait to be synced.
    is_commit_due: bool,
    mailbox: Mailbox,
    signals: Signals,
    fault: Fault,
    serving: Option<Serving>,
    silence: Silence,
    margin: Margin,
    /// Workers that were given up: nothing is sent to them, which could last for ever.
    lost: Vec<Rank>,
    /// None before the first turn: an order may be older than the run.
    looked_around: Option<Timestamp>,
    began: Timestamp,
    is_stopping: bool,
    actions: Vec<Action>,
    events: Vec<(Timestamp, Event)>,
    outcome: Option<Outcome>,
}

impl<'a> Hands<'a> {
    fn new(
        endpoint: &'a mut dyn Endpoint,
        mut setup: Setup,
        watcher: &'a mut dyn Watcher,
    ) -> Result<Self, SchedulerError> {
        let options = Options {
            workers: endpoint.size() - 1 - setup.lost.len() as u32,
            workers_come_back: false,
            persist: setup.persist,
            precedence: Precedence::default(),
        };
        let unwritten = |error| SchedulerError::Record("journal", error);
        let Beginning { lease, journal, machine, events, must_last } =
            Beginning::of(&mut setup, options, watcher)?;
        let serving = match &setup.client {
            Some(client) => {
                Serving::begin(client, setup.slots, endpoint.waker()).map_err(SchedulerError::Client)?
            }
            None => None,
        };
        let machine = if serving.is_some() { machine.with_client(CLIENT) } else { machine };
        let disk = journal.disk().map_err(unwritten)?;
        let before = journal.event_count();
        let commit = Commit::start(disk, before, WINDOW, Arc::new(|| ())).map_err(unwritten)?;
        let (began, ranks) = (clock::now(), endpoint.size());
        let mut silence = Silence::new(ranks, began);
        setup.lost.iter().for_each(|&rank| silence.forget(rank));
        let mut hands = Hands {
            lease,
            journal,
            commit,
            flushed: began,
            committed: began,
            is_commit_due: true,
            mailbox: Mailbox::new(setup.directory.control()),
            directory: setup.directory,
            signals: setup.signals,
            fault: Fault::of(endpoint.rank()),
            serving,
            silence,
            margin: Margin::new(),
            lost: setup.lost,
            looked_around: None,
            began,
            is_stopping: false,
            actions: Vec::new(),
            events: Vec::new(),
            outcome: None,
            endpoint,
            watcher,
            machine: machine
                .with_pace(ORDERS_PER_TURN)
                .with_end(margin::until())
                .with_max_fails(setup.max_fails)
                .with_crash_limit(setup.crash_limit),
        };
        events.into_iter().for_each(|event| hands.record(event));
        hands.write_events()?;
        hands.flush()?;
        if must_last {
            // Tasks that changed write other files from now on: nobody may go on without the edit then. Nor may anybody
            // decide again which files were there before: some will be half written.
            hands.commit.wait_until(hands.journal.event_count()).map_err(SchedulerError::Commit)?;
        }
        Ok(hands)
    }

    /// Hands everything that came to the machine. False if nothing did.
    fn take_in(&mut self) -> Result<bool, SchedulerError> {
        let mut received = false;
        loop {
            match self.endpoint.receive() {
                Ok(Some((from, parcel))) => {
                    received = true;
                    self.on_parcel(from, parcel)?;
                }
                Ok(None) => break,
                Err(error) => self.on_transport_error(error)?,
            }
        }
        received |= self.hear_client();
        self.obey_signals()?;
        self.look_around()?;
        Ok(received)
    }

    fn on_parcel(&mut self, from: Rank, parcel: Parcel) -> Result<(), SchedulerError> {
        if self.lost.contains(&from) {
            // It was slower than anybody expected, and others have its work.
            return Ok(());
        }
        match Envelope::read(&parcel).map_err(|error| SchedulerError::Garbled(from, error))? {
            Envelope::FromWorker(message) => {
                self.listen(from, &message.reports);
                self.fault.strike();
                self.feed(Input::FromWorker { worker: from, message });
            }
            Envelope::Broken(why) => return Err(SchedulerError::Worker(from, why)),
            Envelope::Peer(message) => {
                self.on_fetched(from, message.word, || {
                    Envelope::output_of(&Arc::new(parcel.body.into_vec()))
                })?;
            }
            Envelope::Plain(message, form) => {
                let output = || Envelope::plain_output_of(form, parcel.body);
                self.on_fetched(from, message.word, output)?;
            }
            Envelope::Forward(stream) => self.watcher.on_output(stream, &parcel.body),
            other => log::warn!("rank {from} sent what only a worker takes: {other:?}"),
        }
        Ok(())
    }

    fn on_transport_error(&mut self, error: TransportError) -> Result<(), SchedulerError> {
        let TransportError::Gone(worker) = error else { return Err(error.into()) };
        self.give_up(&[worker], "is gone");
        Ok(())
    }

    fn listen(&mut self, from: Rank, reports: &[Report]) {
        let now = clock::now();
        self.silence.hear(from, now);
        for report in reports {
            match report {
                Report::Heartbeat(true) => self.silence.move_on(now),
                Report::WritesPerSecond(bytes) => self.margin.hear(from, *bytes),
                Report::Left(_) => self.silence.forget(from),
                _ => {}
            }
        }
    }

    /// Workers are lost. The others go on, and do what these had to do. What they said last is read once for all.
    fn give_up(&mut self, workers: &[Rank], why: &str) {
        if workers.is_empty() {
            return;
        }
        let words = beginning::last_words(&self.directory);
        self.silence.move_on(clock::now());
        for &worker in workers {
            if self.lost.contains(&worker) {
                continue;
            }
            log::error!("rank {worker} {why}");
            self.lost.push(worker);
            self.silence.forget(worker);
            for &killing in words.iter().filter(|it| it.worker == worker) {
                log::error!(
                    "task {} {} killed rank {worker} {}",
                    killing.task,
                    killing.attempt,
                    killing.death
                );
                self.feed(Input::KilledRank(killing));
            }
            self.feed(match self.machine.incarnation(worker) {
                Some(incarnation) => Input::WorkerLost { worker, incarnation },
                None => Input::NeverJoins,
            });
        }
    }

    fn obey_signals(&mut self) -> Result<(), SchedulerError> {
        let Some(reason) = self.signals.reason() else { return Ok(()) };
        if self.signals.is_urgent() {
            self.flush()?;
            return Err(SchedulerError::Urgent(reason));
        }
        self.stop(reason);
        Ok(())
    }

    /// What must be looked at now and then, as nobody says it.
    fn look_around(&mut self) -> Result<(), SchedulerError> {
        let now = clock::now();
        if self.looked_around.is_some_and(|looked| now.since(looked) < LOOK_AROUND_EVERY) {
            return Ok(());
        }
        self.looked_around = Some(now);
        self.forget_blocks()?;
        if self.lease.is_lost() {
            return Err(SchedulerError::Commit(CommitError::Superseded(self.directory.journal())));
        }
        let silent = self.silence.given_up(now);
        self.give_up(&silent, "has said nothing for long, and is given up");
        if !self.is_stopping && self.margin.is_over(now, || self.machine.unsaved_bytes()) {
            log::warn!("what is to be saved takes until the end: the run is stopped");
            self.stop(StopReason::Terminated);
        }
        self.look_into_mailbox();
        match self.silence.standstill(now).filter(|_| self.machine.may_hang()) {
            Some(still) => Err(self.hang(still)),
            None => Ok(()),
        }
    }

    /// Names what stands still, some here and more in the log.
    fn hang(&self, still: Micros) -> SchedulerError {
        let graph = self.machine.graph();
        let reasons = self.machine.why_stuck(STUCK_LOGGED).into_iter();
        let reasons: Vec<String> =
            reasons.map(|(task, why)| format!("`{}`: {why}", graph.key(task))).collect();
        log::error!("nothing has happened for {still}, and nothing runs");
        reasons.iter().for_each(|reason| log::error!("{reason}"));
        SchedulerError::Hang(still, reasons.into_iter().take(STUCK_TOLD).collect())
    }

    fn look_into_mailbox(&mut self) {
        match self.mailbox.collect() {
            Ok(mail) => {
                for refused in mail.refused {
                    log::warn!("`{}` in the mailbox was refused: {}", refused.path.display(), refused.why);
                }
                for order in mail.orders {
                    self.stop(match order {
                        Order::Cancel => StopReason::Cancelled,
                        Order::Drain => StopReason::Terminated,
                    });
                }
            }
            Err(error) => log::warn!("cannot look into the mailbox: {error}"),
        }
    }

    fn stop(&mut self, reason: StopReason) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.feed(Input::Stop(reason));
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(clock::now(), input, &mut self.actions);
    }

    fn turn(&mut self) -> Result<(), SchedulerError> {
        self.feed(Input::Turn);
        // What is done may have its own: a worker that is gone.
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.perform(action)?;
            }
        }
        self.write_events()?;
        self.serving.iter_mut().for_each(Serving::flush);
        self.watcher.on_turn(clock::now());
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), SchedulerError> {
        match action {
            Action::ToWorker { worker, .. } if self.lost.contains(&worker) => {}
            Action::ToWorker { worker, message } => {
                let blocks = self.serving.as_mut().map(|serving| serving.blocks_for(worker, &message));
                for (number, bytes) in blocks.into_iter().flatten() {
                    let sent = Envelope::Block(number).send_with(Body::from(bytes), worker, self.endpoint);
                    sent.or_else(|error| self.on_transport_error(error))?;
                }
                let sent = Envelope::ToWorker(message).send(worker, self.endpoint);
                sent.or_else(|error| self.on_transport_error(error))?;
            }
            Action::ToClient(ToClient::Stored(task, attempt)) => self.serve_stored(task, attempt),
            Action::ToClient(word) => {
                let graph = self.machine.graph();
                self.serving.iter_mut().for_each(|serving| serving.tell(&word, graph));
            }
            Action::Fetch { worker, .. } if self.lost.contains(&worker) => {}
            Action::Fetch { worker, incarnation, task, attempt } => {
                let word = PeerWord::Want(task, attempt);
                let message = PeerMessage { from: Incarnation::default(), to: incarnation, word };
                let sent = Envelope::Peer(message).send(worker, self.endpoint);
                sent.or_else(|error| self.on_transport_error(error))?;
            }
            Action::Record(event) => self.record(event),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
        Ok(())
    }

    fn record(&mut self, event: Event) {
        let now = clock::now();
        self.silence.move_on(now);
        self.watcher.on_event(now, &event);
        self.is_commit_due |= !is_told_again(&event);
        self.events.push((now, event));
    }

    fn write_events(&mut self) -> Result<(), SchedulerError> {
        if !self.events.is_empty() {
            let written = self.journal.append(&self.events);
            written.map_err(|error| SchedulerError::Record("journal", error))?;
            self.events.clear();
        }
        match clock::now().since(self.flushed) >= FLUSH_EVERY {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Hands the journal to the system, and has it synced: soon if that matters, else now and then.
    fn flush(&mut self) -> Result<(), SchedulerError> {
        self.journal.flush().map_err(|error| SchedulerError::Record("journal", error))?;
        self.flushed = clock::now();
        if self.is_commit_due || self.flushed.since(self.committed) >= COMMIT_EVERY {
            self.commit.written(self.journal.event_count());
            (self.is_commit_due, self.committed) = (false, self.flushed);
        }
        self.commit.synced().map(drop).map_err(SchedulerError::Commit)
    }

    /// The journal first, synced, then the marker: whoever sees the marker sees everything.
    fn finish(&mut self, outcome: Outcome) -> Result<(), SchedulerError> {
        self.is_commit_due = true;
        self.flush()?;
        self.commit.wait_until(self.journal.event_count()).map_err(SchedulerError::Commit)?;
        let exit_code = match self.serving.take() {
            Some(serving) => serving.end(outcome),
            None => exit::code_of(outcome),
        };
        let count = |state: TaskState| self.machine.count(state);
        let finished = Finished {
            exit_code,
            outcome,
            finished: count(TaskState::Finished),
            failed: count(TaskState::Failed),
            aborted: count(TaskState::Aborted),
            cancelled: count(TaskState::Cancelled),
            started: self.began,
            ended: clock::now(),
        };
        let written = finished.write(&self.directory.finished());
        written.map_err(|error| SchedulerError::Record("outcome", error))
    }
}

/// True for events that cost nothing but time if they are lost: what they tell happens once more.
const fn is_told_again(event: &Event) -> bool {
    matches!(event, Event::TasksFinished { .. } | Event::TaskStarted { .. })
}

/// Tells every worker that the run is over, but those that were given up.
pub fn say_rest(endpoint: &mut dyn Endpoint, lost: &[Rank]) {
    say_to_all(&Envelope::Rest, endpoint, lost);
}

/// Tells every worker to end with this exit code, but those that were given up.
pub fn say_goodbye(endpoint: &mut dyn Endpoint, exit_code: u8, lost: &[Rank]) {
    say_to_all(&Envelope::Goodbye(exit_code), endpoint, lost);
}

/// Those that are gone do not hear it.
pub(super) fn say_to_all(word: &Envelope, endpoint: &mut dyn Endpoint, lost: &[Rank]) {
    for worker in (1..endpoint.size()).map(Rank).filter(|worker| !lost.contains(worker)) {
        if let Err(error) = word.send(worker, endpoint) {
            log::warn!("rank {worker} did not hear {word:?}: {error}");
        }
    }
}
