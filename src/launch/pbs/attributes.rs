//! The attributes of PBS jobs, from JSON or from text, as one flat table of words.

use std::collections::BTreeMap;

use serde_json::Value;

/// Jobs and what is said of each: `job_state`, `Resource_List.walltime`, `Variable_List.NAME` ...
pub(super) type Jobs = BTreeMap<String, Attributes>;

/// What is said of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// The value of an attribute; empty if it has none.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The value of an attribute, if it has one.
    pub fn told(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// True if the job was given this variable. Text has all variables in one attribute, with commas
    /// between them and a backslash before commas of their own.
    pub fn has_variable(&self, name: &str, value: &str) -> bool {
        let wanted = format!("{name}={value}");
        self.get(&format!("Variable_List.{name}")) == value
            || self.get("Variable_List").split(',').any(|variable| variable == wanted)
    }
}

/// The jobs in `qstat -f -F json`. `None` if it is not that: versions exist that print bad JSON for
/// variables with quotes in them, and the text form is the way out.
pub(super) fn json(text: &str) -> Option<Jobs> {
    let text = &text[text.find('{')?..];
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let answer = values.next()?.ok()?;
    let jobs = match answer.get("Jobs") {
        Some(jobs) => jobs.as_object()?.clone(),
        // Of a server without jobs, versions differ in whether the member is there.
        None => answer.get("pbs_version").map(|_| serde_json::Map::new())?,
    };
    jobs.iter().map(|(id, job)| Some((id.clone(), attributes(job.as_object()?)))).collect()
}

fn attributes(job: &serde_json::Map<String, Value>) -> Attributes {
    let mut flat = BTreeMap::new();
    for (name, value) in job {
        match value {
            Value::Object(parts) => {
                flat.extend(parts.iter().map(|(part, value)| (format!("{name}.{part}"), word(value))));
            }
            _ => {
                flat.insert(name.clone(), word(value));
            }
        }
    }
    Attributes(flat)
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The jobs in `qstat -f`. A line that begins with a tab continues the one above it, except in
/// Slurm's imitation of the command, which begins every attribute with one.
pub(super) fn text(text: &str) -> Jobs {
    let mut jobs = Jobs::new();
    for block in blocks(text) {
        let mut lines = block.lines();
        let id = lines.next().unwrap_or_default().trim();
        if !id.is_empty() {
            jobs.insert(id.to_owned(), Attributes(unfolded(lines)));
        }
    }
    jobs
}

/// What follows each `Job Id:` at the beginning of a line.
fn blocks(text: &str) -> Vec<&str> {
    const HEAD: &str = "Job Id:";
    let begins = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b'\n';
    let heads: Vec<usize> = text.match_indices(HEAD).map(|(at, _)| at).filter(begins).collect();
    let ends = heads.iter().skip(1).copied().chain([text.len()]);
    heads.iter().zip(ends).map(|(start, end)| &text[start + HEAD.len()..end]).collect()
}

fn unfolded<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut tabs_begin_attributes = None;
    for line in lines {
        let has_tab = line.starts_with('\t');
        let tabs_begin = *tabs_begin_attributes.get_or_insert(has_tab);
        let pair = line.trim_start().split_once(" = ").filter(|(name, _)| is_name(name));
        match (pair, &current) {
            (Some((name, value)), _) if !has_tab || tabs_begin => {
                attributes.insert(name.to_owned(), value.to_owned());
                current = Some(name.to_owned());
            }
            (_, Some(name)) if has_tab => {
                let value: &mut String = attributes.entry(name.clone()).or_default();
                value.push_str(&line[1..]);
            }
            _ => {}
        }
    }
    attributes
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::pbs::captured;

    #[test]
    fn json_and_text_say_the_same() {
        let read = json(&captured("qstat-f-running.json")).unwrap();
        let printed = text(&captured("qstat-f-running.txt"));
        assert_eq!(read.keys().collect::<Vec<_>>(), printed.keys().collect::<Vec<_>>());
        let (read, printed) = (&read["20.pbs"], &printed["20.pbs"]);
        for name in
            ["job_state", "queue", "exec_host", "Resource_List.walltime", "comment", "Submit_arguments"]
        {
            assert_eq!(read.get(name), printed.get(name), "{name}");
        }
        for job in [read, printed] {
            assert!(job.has_variable("PBS_O_LOGNAME", "pbsuser"));
            assert!(!job.has_variable("PBS_O_LOGNAME", "pbs"));
        }
    }

    #[test]
    fn folded_lines_are_unfolded() {
        let jobs = text(&captured("qstat-xf-qdel.txt"));
        let comment = "Job run at Sat Nov 21 at 21:43 on (m1:ncpus=1) and terminated by pbsuser@pbs";
        assert_eq!(jobs["2.pbs"].get("comment"), comment);
    }

    #[test]
    fn every_job_of_a_full_answer_is_read() {
        assert_eq!(json(&captured("qstat-xf-all.json")).unwrap().len(), 21);
        assert_eq!(json(&captured("qstat-f-all.json")).unwrap().len(), 5);
        let subjobs = json(&captured("qstat-tf-array.json")).unwrap();
        assert!(subjobs.contains_key("21[1].pbs"), "{:?}", subjobs.keys());
    }

    #[test]
    fn slurms_imitation_of_the_command_is_read() {
        let printed = "Job Id:\t1\n\tJob_Name = a.sh\n\tjob_state = C\n\tqueue = short\n\nJob Id:\t2\n\tjob_state = R\n\n";
        let jobs = text(printed);
        assert_eq!((jobs["1"].get("queue"), jobs["2"].get("job_state")), ("short", "R"));
    }

    #[test]
    fn what_is_not_an_answer_is_none() {
        for text in ["", "{", "{}", "[]", "{\"Jobs\": 1}", "{\"Jobs\": {\"1\": 2}}", "qstat: cannot connect"]
        {
            assert_eq!(json(text), None, "{text}");
        }
        assert_eq!(json("{\"pbs_version\": \"23\"}"), Some(Jobs::new()));
    }
}
