//! The two threads between rank 0 and its clients: one reads what comes, one writes what goes.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::transport::control::{read_frame, write_frame};
use crate::transport::endpoint::Waker;

use super::visitors::Visitors;
use super::words::{self, Reader, Word};

/// The way to whoever is the client just now.
pub struct Line {
    shared: Arc<Shared>,
    words: Receiver<Word>,
    answers: Option<Sender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    client: Mutex<Option<Arc<UnixStream>>>,
    is_over: AtomicBool,
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Option<Arc<UnixStream>>> {
        self.client.lock().expect("no thread panics while it looks for the client")
    }
}

impl Line {
    /// Begins to listen. Clients are greeted with how many tasks of one core run at once; `waker` ends the sleep of
    /// rank 0 when one says something.
    pub fn begin(visitors: Visitors, slots: u32, waker: Waker) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (words_in, words) = unbounded();
        let (answers, answers_out) = unbounded();
        let listener = Listener { shared: shared.clone(), words: words_in, waker, slots };
        thread::Builder::new().name("client in".to_owned()).spawn(move || listener.listen(visitors))?;
        let to = shared.clone();
        let write = move || write(&to, &answers_out);
        let writer = thread::Builder::new().name("client out".to_owned()).spawn(write)?;
        Ok(Line { shared, words, answers: Some(answers), writer: Some(writer) })
    }

    /// The next word that has come.
    pub fn hear(&self) -> Option<Word> {
        self.words.try_recv().ok()
    }

    /// Says something to the client, if one is there.
    pub fn say(&self, frame: Vec<u8>) {
        if let Some(answers) = &self.answers {
            let _ = answers.send(frame);
        }
    }

    /// Waits until all is said.
    pub fn end(mut self) {
        drop(self.answers.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Whoever still reads or writes is set free.
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(client) = &*self.shared.client() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn write(shared: &Shared, answers: &Receiver<Vec<u8>>) {
    for frame in answers {
        // Whoever is not there has asked nothing; that it is gone, the other thread says.
        let client = shared.client().clone();
        if let Some(client) = client {
            let _ = write_frame(&mut &*client, &[&frame]);
        }
    }
}

struct Listener {
    shared: Arc<Shared>,
    words: Sender<Word>,
    waker: Waker,
    slots: u32,
}

impl Listener {
    fn listen(&self, mut visitors: Visitors) {
        let mut reader = Reader::default();
        let (are_many, leave_work) = (visitors.are_many(), visitors.leave_work());
        while let Some(client) = visitors.next(|| self.shared.is_over.load(Ordering::Relaxed)) {
            // The first word is ours: whatever else is said follows what the client asks.
            let _ = write_frame(&mut &client, &[&words::hello(self.slots, &reader)]);
            let client = Arc::new(client);
            *self.shared.client() = Some(client.clone());
            if are_many {
                self.pass_on(Word::Came(reader.names().map(|(_, number)| number).collect()));
            }
            while let Some(word) = self.read(&mut reader, &visitors, &client) {
                let is_last = matches!(word, Word::Close);
                if is_last && !are_many {
                    // A run that is its client's own ends with it, however it goes.
                    self.pass_on(Word::Vanish);
                    return;
                }
                if !self.pass_on(word) || is_last {
                    return;
                }
            }
            *self.shared.client() = None;
        }
        self.pass_on(match (leave_work, are_many) {
            (true, _) => Word::Leave,
            (false, true) => Word::Close,
            (false, false) => Word::Vanish,
        });
    }

    /// What the client says next. None if it is gone, or cannot be understood.
    fn read(&self, reader: &mut Reader, visitors: &Visitors, client: &UnixStream) -> Option<Word> {
        visitors.wait_for(client);
        let word = match read_frame(&mut &*client) {
            Ok(Some(frame)) => reader.read(&frame),
            Ok(None) => return None,
            Err(error) => Err(error.to_string()),
        };
        word.inspect_err(|why| log::error!("the client says what cannot be understood: {why}")).ok()
    }

    /// False if nobody listens any more.
    fn pass_on(&self, word: Word) -> bool {
        let is_heard = self.words.send(word).is_ok();
        self.waker.wake();
        is_heard
    }
}
