//! How good the schedules are: the real machines on simulated clusters, in virtual time.
//!
//!     cargo bench --bench quality                     all parts, as tables
//!     cargo bench --bench quality -- recorded         recorded executions against other schedulers
//!     cargo bench --bench quality -- many             10,000 workers, a million tasks of a second
//!     cargo bench --bench quality -- order            which task next? memory and time by order
//!     cargo bench --bench quality -- montage --why    one recording by name; where the time goes
//!     cargo bench --bench quality -- --untold         dagmar is not told how long tasks take
//!     cargo bench --bench quality -- --json           a JSON line for each case instead of tables
//!     cargo bench --bench quality -- --small          small inputs: only checks that everything ends
//!
//! `DAGMAR_WFINSTANCES` names a directory of recordings in WfFormat 1.5. Each is played on clusters of
//! 1 to 1024 cores by the scheduler and the workers of dagmar, and by three schedulers written for the
//! comparison, which decide in no time and know everything beforehand.

mod cluster;
mod machines;
mod many;
mod network;
mod order;
mod policies;
mod recorded;
mod reference;
mod table;
mod why;
mod workload;

use workload::Knowledge;

/// What was asked for on the command line.
pub struct Request {
    /// Parts, or parts of recordings' names.
    names: Vec<String>,
    /// Small inputs, only to see that everything ends.
    pub is_small: bool,
    /// JSON lines instead of tables.
    pub is_json: bool,
    /// What dagmar is told of the run times.
    pub knowledge: Knowledge,
    /// Show where the time goes in the worst cases.
    pub is_why: bool,
}

impl Request {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let has = |flag: &str| words.iter().any(|word| word == flag);
        let (is_small, is_json, is_why) = (has("--small"), has("--json"), has("--why"));
        let names = words.iter().filter(|word| !word.starts_with("--")).cloned().collect();
        let knowledge = if has("--untold") { Knowledge::Untold } else { Knowledge::Told };
        Request { names, is_small, is_json, is_why, knowledge }
    }

    fn wants(&self, part: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == part)
    }

    /// The recordings that are asked for by name; empty for all.
    pub fn recordings(&self) -> Vec<&str> {
        let is_part = |name: &&str| ["recorded", "many", "order"].contains(name);
        self.names.iter().map(String::as_str).filter(|name| !is_part(name)).collect()
    }
}

fn main() {
    let request = Request::read();
    network::check();
    if request.wants("recorded") || !request.recordings().is_empty() {
        recorded::compare(&request);
    }
    if request.wants("many") {
        many::many_workers(&request);
    }
    if request.wants("order") {
        order::which_next(&request);
    }
}
