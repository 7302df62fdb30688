//! The client beside rank 0: what it says goes in, outputs that it fetches come through here.

use std::sync::Arc;

use crate::core::client::FromClient;
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::message::PeerWord;
use crate::core::scheduler::{Input, TaskState};
use crate::record::pack::Piece;
use crate::record::pack_reader::PackReader;
use crate::transport::codec::CodecError;
use crate::worker::output::Output;

use super::super::envelope::Envelope;
use super::super::serving::Serving;
use super::{Hands, SchedulerError};

impl Hands<'_> {
    /// Hands what the client says to the machine. False if it says nothing.
    pub(super) fn hear_client(&mut self) -> bool {
        let mut heard = false;
        while self.machine.is_working()
            && let Some(word) = self.serving.as_mut().and_then(Serving::hear)
        {
            let before = self.machine.next_task();
            self.feed(Input::FromClient(word));
            let after = self.machine.next_task();
            self.serving.iter_mut().for_each(|serving| serving.settle(before, after));
            heard = true;
        }
        heard
    }

    /// An output came that the client fetches, or its owner has none.
    pub(super) fn on_fetched(
        &mut self,
        from: Rank,
        word: PeerWord,
        output: impl FnOnce() -> Result<Output, CodecError>,
    ) -> Result<(), SchedulerError> {
        match word {
            PeerWord::Output(task, _) => {
                let output = output().map_err(|error| SchedulerError::Garbled(from, error))?;
                self.serving.iter_mut().for_each(|serving| serving.deliver(task, &output));
                self.feed(Input::FromClient(FromClient::Fetched(task)));
            }
            PeerWord::Unknown(task, attempt) => {
                self.feed(Input::FromClient(FromClient::NotThere(task, attempt, from)));
            }
            PeerWord::Want(..) | PeerWord::Await(..) | PeerWord::Unwant(..) => {}
        }
        Ok(())
    }

    /// The client fetches an output that is in the run directory alone, as its worker is gone.
    pub(super) fn serve_stored(&mut self, task: TaskId, attempt: Attempt) {
        let read = || {
            let packs = PackReader::of_run(&self.directory).map_err(|error| error.to_string())?;
            let bytes = packs.read(task, Some(attempt), Piece::Value).map_err(|error| error.to_string())?;
            let bytes = bytes.ok_or("the packs do not have it")?;
            Envelope::output_of(&Arc::new(bytes)).map_err(|error| error.to_string())
        };
        let read: Result<Output, String> = read();
        match read {
            Ok(output) => {
                self.serving.iter_mut().for_each(|serving| serving.deliver(task, &output));
                self.feed(Input::FromClient(FromClient::Fetched(task)));
            }
            Err(why) => {
                log::error!("the output of task {task} was durable and cannot be read: {why}");
                self.feed(Input::FromClient(FromClient::NotThere(task, attempt, Rank::SCHEDULER)));
            }
        }
    }

    /// Lets go of what the client pickled and nobody can need any more.
    pub(super) fn forget_blocks(&mut self) -> Result<(), SchedulerError> {
        let Some(serving) = &mut self.serving else { return Ok(()) };
        let machine = &self.machine;
        let has_ended = |task| !matches!(machine.state(task), TaskState::Waiting | TaskState::Running);
        for (worker, blocks) in serving.forget(has_ended) {
            if !self.lost.contains(&worker) {
                let sent = Envelope::Unlearn(blocks).send(worker, self.endpoint);
                sent.or_else(|error| self.on_transport_error(error))?;
            }
        }
        Ok(())
    }
}
