//! `RUN/lease`: which process schedules a run, so that others who want to can be told, and wait.
//!
//! It is courtesy and diagnosis, and nothing rests on it: that only one schedules is up to the
//! journal's segments (`segment`), of which only one process can create the next. So nothing here
//! needs a lock, or clocks that agree. The order is: look which segment is the last, then at the
//! lease; if the run is free, create the segment behind that one; whoever gets it writes the lease.
//! Who looked before that is too late to create the segment, who looks after it finds the lease,
//! and who looks between finds a lease that is older than the last segment, and waits.
//!
//! The owner renews its lease in a thread of its own: the loop may be busy, and the thread that
//! syncs the journal may stand in one sync for longer than the patience of others, without either
//! being gone. Whether a lease is renewed is judged by watching it, on the watcher's own clock.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::core::time::{Micros, Timestamp};

use super::description::in_utc;
use super::owner::Owner;
use super::publish::{publish, replace};
use super::segment::{NewSegment, last_segment, path_of};

/// How long a lease is watched that nobody renews, before the run is taken over.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often an owner renews its lease within the patience of others.
const BEATS: u32 = 3;

/// The version of the lease that this dagmar writes and reads.
const VERSION: u32 = 1;

/// The right to schedule a run, renewed until it is dropped. Then the run is free.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    token: u32,
    thread: Option<JoinHandle<()>>,
}

/// A run that was taken.
#[derive(Debug)]
pub struct Taken {
    /// The right to schedule it.
    pub lease: Lease,
    /// The right to write its journal: for `JournalWriter::resume_in`.
    pub segment: NewSegment,
    /// Who had it before.
    pub from: Predecessor,
}

/// Who had a run before it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// Nobody.
    Nobody,
    /// One that gave it back.
    Done(Owner),
    /// One that is gone for sure.
    Gone(Owner),
    /// One that gave no sign of life for as long as it was watched, and may be gone. It is not
    /// always known.
    Silent(Option<Owner>, Duration),
}

impl fmt::Display for Predecessor {
    /// Completes "the run is taken over: ".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Predecessor::Nobody => write!(out, "nobody had it before"),
            Predecessor::Done(owner) => write!(out, "{owner}, gave it back"),
            Predecessor::Gone(owner) => write!(out, "{owner}, is gone"),
            Predecessor::Silent(owner, patience) => {
                match owner {
                    Some(owner) => write!(out, "{owner}, ")?,
                    None => write!(out, "whoever had it ")?,
                }
                write!(out, "has given no sign of life for {}", Micros::from(*patience))
            }
        }
    }
}

/// Who has a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub owner: Owner,
    /// Since when, by its own clock.
    pub since: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, since {}", self.owner, in_utc(self.since))
    }
}

/// Why a run cannot be taken.
#[derive(Debug)]
pub enum LeaseError {
    /// Somebody has it and is at work, or is just taking it; who, if they have said so.
    Held(Option<Holder>),
    /// Somebody else who wanted it was faster; who, if they have said so.
    Overtaken(Option<Holder>),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseError::Held(Some(holder)) => write!(out, "it is being scheduled already, by {holder}"),
            LeaseError::Held(None) => write!(out, "another process is just taking it over"),
            LeaseError::Overtaken(Some(holder)) => write!(out, "it was just taken, by {holder}"),
            LeaseError::Overtaken(None) => write!(out, "another process has just taken it"),
            LeaseError::Io(path, error) => write!(out, "cannot use `{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for LeaseError {}

impl LeaseError {
    /// What the user can do.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            LeaseError::Held(_) | LeaseError::Overtaken(_) => Some(
                "`dagmar wait` waits for it, `dagmar cancel` ends it; who is gone is noticed without help",
            ),
            LeaseError::Io(..) => None,
        }
    }
}

impl Lease {
    /// Takes the run whose lease is at `path` and whose journal is at `journal`.
    ///
    /// At once if nobody has it, or if who had it has given it back or is gone for sure. Otherwise
    /// the lease is watched for `patience`: if it is renewed, the run is refused; if not, taken.
    pub fn take(path: &Path, journal: &Path, owner: &Owner, patience: Duration) -> Result<Taken, LeaseError> {
        let io = |error| LeaseError::Io(path.to_owned(), error);
        let (from, last) = Sight::watch(path, journal, owner, patience)?;
        let segment = NewSegment::take(journal, last);
        let Some(segment) = segment.map_err(|error| LeaseError::Io(journal.to_owned(), error))? else {
            return Err(LeaseError::Overtaken(Self::holder(path).map_err(io)?));
        };
        let notice = Notice {
            version: VERSION,
            token: segment.number(),
            beat: 0,
            is_released: false,
            since: clock::now(),
            owner: owner.clone(),
        };
        publish(path, notice.to_text().as_bytes()).map_err(io)?;
        let lease = Self::keep(path, journal, notice, patience / BEATS).map_err(io)?;
        Ok(Taken { lease, segment, from })
    }

    /// What `take` would have to watch: who may have the run, if it is not free for sure.
    pub fn doubt(path: &Path, journal: &Path, owner: &Owner) -> io::Result<Option<String>> {
        let sight = Sight::look(path, journal)?;
        let holder =
            || sight.holder().map_or("another process".to_owned(), |holder| holder.owner.to_string());
        Ok(sight.free_for(owner).is_none().then(holder))
    }

    /// Who had the run last; nobody if it was given back.
    pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
        let notice = Notice::read(path)?.filter(|notice| !notice.is_released);
        Ok(notice.map(Notice::into_holder))
    }

    /// The number of whoever took the run last, and whether that process was one of this host and is dead.
    pub fn last(path: &Path) -> io::Result<Option<(u32, bool)>> {
        let here = Owner::this_process(None, 0);
        Ok(Notice::read(path)?.map(|notice| (notice.token, notice.owner.is_dead(&here))))
    }

    /// A number larger than that of everyone who had the run before: that of the segment.
    pub const fn token(&self) -> u32 {
        self.token
    }

    /// True once somebody else has taken the run; found within a beat.
    pub fn is_lost(&self) -> bool {
        self.shared.is_lost.load(Ordering::Acquire)
    }

    fn keep(path: &Path, journal: &Path, notice: Notice, beat: Duration) -> io::Result<Self> {
        let token = notice.token;
        let shared = Arc::new(Shared::default());
        let mut beating = Beating {
            shared: Arc::clone(&shared),
            path: path.to_owned(),
            later: path_of(journal, token + 1),
            notice,
        };
        let builder = thread::Builder::new().name("lease".to_owned());
        let thread = builder.spawn(move || beating.run(beat))?;
        Ok(Lease { shared, token, thread: Some(thread) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.over.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    is_over: Mutex<bool>,
    over: Condvar,
    is_lost: AtomicBool,
}

/// What the thread has that renews a lease.
struct Beating {
    shared: Arc<Shared>,
    path: PathBuf,
    /// The segment of whoever comes next.
    later: PathBuf,
    notice: Notice,
}

impl Beating {
    fn run(&mut self, beat: Duration) {
        loop {
            let is_over = self.wait(beat);
            self.notice.beat += 1;
            self.notice.is_released = is_over;
            if let Err(error) = self.renew() {
                log::warn!("cannot renew `{}`: {error}", self.path.display());
            }
            if is_over || self.shared.is_lost.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// True if it was not the time that ended the waiting, but the owner.
    fn wait(&self, beat: Duration) -> bool {
        let is_over = self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.over.wait_timeout_while(is_over, beat, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn renew(&self) -> io::Result<()> {
        let found = Notice::read(&self.path)?;
        if self.later.try_exists()? || found.is_some_and(|found| found.token > self.notice.token) {
            self.shared.is_lost.store(true, Ordering::Release);
            return Ok(());
        }
        replace(&self.path, self.notice.to_text().as_bytes())
    }
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Notice {
    version: u32,
    /// The number of the segment that the owner writes.
    token: u32,
    /// How often it was renewed.
    beat: u64,
    is_released: bool,
    #[serde(rename = "since_us")]
    since: Timestamp,
    owner: Owner,
}

impl Notice {
    fn to_text(&self) -> String {
        toml::to_string(self).expect("names and numbers are TOML")
    }

    /// None if there is none, or none that can be understood: then somebody has to be waited for.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            // On NFS a file that was replaced while it was read.
            Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(toml::from_str(&text).ok().filter(|notice: &Notice| notice.version == VERSION))
    }

    fn into_holder(self) -> Holder {
        Holder { owner: self.owner, since: self.since }
    }
}

/// What is to be seen of a run from outside. While somebody is at work, it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    last: u32,
    /// Bytes of the last segment.
    length: u64,
    notice: Option<Notice>,
}

impl Sight {
    /// Waits until the run is free, and says which segment was the last then.
    fn watch(
        path: &Path,
        journal: &Path,
        owner: &Owner,
        patience: Duration,
    ) -> Result<(Predecessor, u32), LeaseError> {
        let pause = (patience / 30).clamp(Duration::from_millis(2), Duration::from_millis(500));
        let look = || Self::look(path, journal).map_err(|error| LeaseError::Io(path.to_owned(), error));
        let began = clock::now();
        let first = look()?;
        let mut sight = first.clone();
        loop {
            if let Some(from) = sight.free_for(owner) {
                return Ok((from, sight.last));
            }
            if sight != first {
                return Err(LeaseError::Held(sight.holder()));
            }
            thread::sleep(pause);
            // The last look must come after the last moment.
            let is_over = clock::now().since(began) >= patience.into();
            sight = look()?;
            if is_over && sight == first {
                return Ok((
                    Predecessor::Silent(sight.holder().map(|holder| holder.owner), patience),
                    sight.last,
                ));
            }
        }
    }

    fn look(path: &Path, journal: &Path) -> io::Result<Self> {
        let last = last_segment(journal)?;
        let length = if last == 0 { 0 } else { fs::metadata(path_of(journal, last))?.len() };
        Ok(Sight { last, length, notice: Notice::read(path)? })
    }

    /// What the owner of the last segment says; a lease that is older says nothing about that.
    fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref().filter(|notice| notice.token == self.last)
    }

    fn holder(&self) -> Option<Holder> {
        self.notice().cloned().map(Notice::into_holder)
    }

    /// Who had the run if it is free for sure.
    fn free_for(&self, owner: &Owner) -> Option<Predecessor> {
        if self.last == 0 {
            return Some(Predecessor::Nobody);
        }
        let notice = self.notice()?;
        let earlier = notice.owner.clone();
        if notice.is_released {
            return Some(Predecessor::Done(earlier));
        }
        notice.owner.is_gone(owner).then_some(Predecessor::Gone(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(60);
    const LONG: Duration = Duration::from_secs(600);

    struct Run {
        _directory: tempfile::TempDir,
        path: PathBuf,
        journal: PathBuf,
    }

    impl Run {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let [path, journal] = ["lease", "journal"].map(|name| directory.path().join(name));
            Run { path, journal, _directory: directory }
        }

        fn take(&self, owner: &Owner, patience: Duration) -> Result<Taken, LeaseError> {
            Lease::take(&self.path, &self.journal, owner, patience)
        }

        /// What somebody said who does not say anything more.
        fn said(&self, token: u32, owner: Owner) {
            self.says(token, 4, owner);
        }

        fn says(&self, token: u32, beat: u64, owner: Owner) {
            for number in 1..=token {
                fs::write(path_of(&self.journal, number), "").unwrap();
            }
            let since = Timestamp(1_790_000_000_000_000);
            let notice = Notice { version: VERSION, token, beat, is_released: false, since, owner };
            replace(&self.path, notice.to_text().as_bytes()).unwrap();
        }
    }

    fn me() -> Owner {
        Owner::this_process(None, 0)
    }

    #[test]
    fn who_took_a_run_last_is_seen_to_be_dead() {
        let run = Run::new();
        assert_eq!(Lease::last(&run.path).unwrap(), None);
        run.said(3, elsewhere());
        assert_eq!(Lease::last(&run.path).unwrap(), Some((3, false)), "nobody here knows");
        run.said(4, Owner { pid: u32::MAX, ..me() });
        assert_eq!(Lease::last(&run.path).unwrap(), Some((4, true)));
        let _taken = run.take(&me(), LONG).unwrap();
        assert_eq!(Lease::last(&run.path).unwrap(), Some((5, false)));
    }

    fn elsewhere() -> Owner {
        Owner { host: "n042".into(), pid: 77, job: Some("1234".into()), ..me() }
    }

    #[test]
    fn a_free_run_is_taken_at_once_and_given_back() {
        let run = Run::new();
        let first = run.take(&me(), LONG).unwrap();
        assert_eq!((&first.from, first.lease.token()), (&Predecessor::Nobody, 1));
        assert_eq!(Lease::holder(&run.path).unwrap().unwrap().owner, me());
        let doubt = || Lease::doubt(&run.path, &run.journal, &me()).unwrap();
        assert_eq!(doubt(), Some(me().to_string()));
        drop(first);
        assert_eq!(doubt(), None);
        assert_eq!(Lease::holder(&run.path).unwrap(), None);
        let second = run.take(&me(), LONG).unwrap();
        assert_eq!((&second.from, second.lease.token()), (&Predecessor::Done(me()), 2));
        assert_eq!(second.segment.number(), 2);
    }

    #[test]
    fn whoever_renews_the_lease_keeps_the_run() {
        let run = Run::new();
        let taken = Lease::take(&run.path, &run.journal, &me(), SHORT).unwrap();
        let error = run.take(&me(), LONG).unwrap_err();
        let LeaseError::Held(Some(holder)) = &error else { panic!("{error}") };
        assert_eq!(holder.owner, me());
        assert!(error.hint().is_some() && !taken.lease.is_lost());
    }

    #[test]
    fn a_refusal_names_who_and_since_when() {
        let owner = Owner { job: Some("1234".into()), pid: 77, host: "n042".into(), ..me() };
        let holder = Holder { owner, since: Timestamp(1_790_000_000_000_000) };
        let error = LeaseError::Held(Some(holder));
        insta::assert_snapshot!(error, @"it is being scheduled already, by process 77 on n042, in job 1234, since 2026-09-21T14:13:20.000000Z");
    }

    #[test]
    fn whoever_is_gone_for_sure_is_not_waited_for() {
        let run = Run::new();
        let gone = Owner { pid: u32::MAX, ..me() };
        run.said(1, gone.clone());
        assert_eq!(run.take(&me(), LONG).unwrap().from, Predecessor::Gone(gone));
        let run = Run::new();
        run.said(3, elsewhere());
        let again = Owner { restarts: 1, ..Owner::this_process(Some("1234".into()), 0) };
        let taken = run.take(&again, LONG).unwrap();
        assert_eq!((taken.from, taken.segment.number()), (Predecessor::Gone(elsewhere()), 4));
    }

    #[test]
    fn a_lease_that_stands_still_is_taken_over_and_that_is_said() {
        let run = Run::new();
        run.said(2, elsewhere());
        let taken = run.take(&me(), SHORT).unwrap();
        assert_eq!((taken.lease.token(), taken.segment.number()), (3, 3));
        insta::assert_snapshot!(taken.from, @"process 77 on n042, in job 1234, has given no sign of life for 60 ms");
        assert_eq!(Lease::holder(&run.path).unwrap().unwrap().owner, me());
    }

    #[test]
    fn a_lease_that_nobody_understands_is_watched_and_taken() {
        for text in ["", "token = ", "\u{0}\u{0}", "version = 2"] {
            let run = Run::new();
            fs::write(&run.journal, "").unwrap();
            fs::write(&run.path, text).unwrap();
            assert_eq!(run.take(&me(), SHORT).unwrap().from, Predecessor::Silent(None, SHORT));
        }
    }

    #[test]
    fn whoever_took_the_segment_and_has_not_said_so_yet_is_waited_for() {
        let run = Run::new();
        run.said(1, Owner { pid: u32::MAX, ..me() });
        let segment = NewSegment::take(&run.journal, 1).unwrap().unwrap();
        thread::scope(|scope| {
            let late = scope.spawn(|| run.take(&me(), LONG).unwrap_err());
            for beat in 0.. {
                if late.is_finished() {
                    break;
                }
                run.says(2, beat, elsewhere());
            }
            let error = late.join().unwrap();
            assert!(matches!(error, LeaseError::Held(Some(_))), "{error}");
        });
        assert_eq!(segment.number(), 2);
    }

    #[test]
    fn a_journal_that_grows_is_a_sign_of_life() {
        let run = Run::new();
        fs::write(&run.journal, "x").unwrap();
        thread::scope(|scope| {
            let late = scope.spawn(|| run.take(&me(), LONG).unwrap_err());
            while !late.is_finished() {
                let mut bytes = fs::read(&run.journal).unwrap();
                bytes.push(b'x');
                fs::write(&run.journal, bytes).unwrap();
            }
            assert!(matches!(late.join().unwrap(), LeaseError::Held(None)));
        });
    }

    #[test]
    fn whoever_lost_the_run_says_so_and_leaves_the_lease_alone() {
        let run = Run::new();
        let taken = Lease::take(&run.path, &run.journal, &me(), SHORT).unwrap();
        run.said(2, elsewhere());
        while !taken.lease.is_lost() {
            thread::yield_now();
        }
        drop(taken);
        assert_eq!(Lease::holder(&run.path).unwrap().unwrap().owner, elsewhere());
    }

    #[test]
    fn a_lease_that_was_removed_is_written_again() {
        let run = Run::new();
        let _taken = Lease::take(&run.path, &run.journal, &me(), SHORT).unwrap();
        fs::remove_file(&run.path).unwrap();
        while Lease::holder(&run.path).unwrap().is_none() {
            thread::yield_now();
        }
    }

    /// The run has been begun by somebody who is gone; patience is long, so that nobody is thought
    /// gone who only waits for a processor.
    #[test]
    fn of_a_hundred_that_start_at_once_one_wins() {
        let run = Run::new();
        run.said(1, Owner { pid: u32::MAX, ..me() });
        let barrier = std::sync::Barrier::new(100);
        let take = || {
            barrier.wait();
            run.take(&me(), Duration::from_secs(6))
        };
        let mut taken: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..100).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        taken.retain(Result::is_ok);
        assert_eq!((taken.len(), last_segment(&run.journal).unwrap()), (1, 2));
    }
}
