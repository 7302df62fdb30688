//! What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::scheduler::Left;
use crate::core::time::{Micros, Timestamp};
use crate::observe::report::{Report, ReportBuilder};
use crate::observe::snapshot::Snapshot;
use crate::runtime::envelope::StandardStream;
use crate::runtime::scheduler_loop::Watcher;

/// How often the bar is drawn.
const DRAW_EVERY: Micros = Micros::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Micros = Micros::from_secs(15);

/// Tasks named that run again, or that an edit takes away.
const NEWS_SHOWN: usize = 10;

/// Follows a run's events and shows where it stands.
pub struct Progress {
    events: ReportBuilder,
    shown: Shown,
    /// Forwarded output goes to standard error when standard output is for results.
    is_stdout_taken: bool,
    /// True while earlier lives of the run are told.
    is_past: bool,
    last: Timestamp,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// Follows a run of `graph` from its start; one that `resumes` tells of its earlier lives first.
    pub fn new(graph: Arc<Graph>, resumes: bool, quiet: bool, is_stdout_taken: bool) -> Self {
        let shown = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bar(bar()),
            (false, false) => Shown::Lines,
        };
        let (events, last) = (ReportBuilder::new(graph), Timestamp::default());
        Progress { events, shown, is_stdout_taken, is_past: resumes, last }
    }

    /// The state that the events led to.
    pub fn snapshot(&self) -> &Snapshot {
        self.events.snapshot()
    }

    /// The summary of what happened.
    pub fn report(&self) -> Report {
        self.events.report()
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn draw(&self, bar: &ProgressBar) {
        let counts = self.snapshot().counts();
        bar.set_length(u64::from(counts.total()));
        bar.set_position(u64::from(counts.ended()));
        bar.set_message(match counts.failed {
            0 => String::new(),
            failed => format!("{failed} failed"),
        });
    }

    fn line(&self, now: Timestamp) -> String {
        let counts = self.snapshot().counts();
        let rate = self.snapshot().rate_per_s(now);
        let mut line = format!("{} of {} tasks finished", counts.finished, counts.total());
        if counts.running > 0 {
            line += &format!(", {} running", counts.running);
        }
        if counts.failed > 0 {
            line += &format!(", {} failed", counts.failed);
        }
        line += &format!(" after {}", self.snapshot().elapsed(now));
        if rate > 0.0 {
            let left = f64::from(counts.total() - counts.ended()) / rate;
            line += &format!(", about {} left", Micros((left * 1e6) as u64));
        }
        line
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos}/{len} {msg} eta {eta}");
    let style = style.expect("the template is right").progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

impl Watcher for Progress {
    fn on_event(&mut self, time: Timestamp, event: &Event) {
        if let Event::TasksSkipped { tasks } = event
            && !self.is_past
            && !matches!(self.shown, Shown::Nothing)
        {
            let count: u32 = tasks.iter().map(|span| span.count).sum();
            if count > 0 {
                super::output::tell(&format!("skipped: {count} (their outputs are there)"));
            }
        }
        self.events.on_event(time, event);
    }

    fn on_output(&mut self, stream: StandardStream, bytes: &[u8]) {
        let is_stdout = stream == StandardStream::Out && !self.is_stdout_taken;
        // A reader that has seen enough must not end the run.
        let write = || {
            let _ = match is_stdout {
                true => io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()),
                false => io::stderr().write_all(bytes),
            };
        };
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(write),
            Shown::Nothing | Shown::Lines => write(),
        }
    }

    fn on_graph(&mut self, graph: Arc<Graph>) {
        self.events.on_graph(graph);
    }

    fn on_resumed(&mut self, left: Left, news: &[String]) {
        self.is_past = false;
        if !matches!(self.shown, Shown::Nothing) {
            let Left { durable, to_do, repeated } = left;
            super::output::tell(&format!("resumed: {durable} durable, {to_do} to do, {repeated} repeated"));
            news.iter().take(NEWS_SHOWN).for_each(|line| super::output::tell(&format!("  {line}")));
            if let more @ 1.. = news.len().saturating_sub(NEWS_SHOWN) {
                super::output::tell(&format!(
                    "  and {more} more, which `logs/rank-0.log` in the run directory names"
                ));
            }
        }
    }

    fn on_turn(&mut self, now: Timestamp) {
        // What is told of earlier lives of the run is old.
        if self.last == Timestamp::default() {
            self.last = now;
        }
        let (every, line) = match &self.shown {
            Shown::Nothing => return,
            Shown::Bar(_) => (DRAW_EVERY, false),
            Shown::Lines => (LINE_EVERY, true),
        };
        if now.since(self.last) < every {
            return;
        }
        self.last = now;
        if line {
            super::output::tell(&self.line(now));
        } else if let Shown::Bar(bar) = &self.shown {
            self.draw(bar);
        }
    }
}
