//! Files between tasks: who makes which, and what the patterns of `inputs` find.

use std::cell::OnceCell;

use crate::client::formats::description::Template;
use crate::client::formats::disk::{FilePattern, Listings, absolute, exists, is_wild, shown};
use crate::client::formats::text::{Fault, Outcome, Problem, Span};
use crate::core::id::TaskId;

use super::expansion::{Scope, Style};

/// Every declared output, in order of path, and what was seen of the disk.
pub(super) struct Files {
    directory: String,
    outputs: Vec<(String, TaskId)>,
    by_end: OnceCell<Vec<u32>>,
    listings: Listings,
}

/// A file that an input names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// As commands see it, while they run in the graph's directory.
    pub shown: String,
    /// Absolute.
    pub path: String,
    /// The task that makes it; none if it is on disk already.
    pub producer: Option<TaskId>,
}

/// Two tasks that make one file: the path, and the tasks in order.
pub(super) struct Clash {
    pub path: String,
    pub tasks: [TaskId; 2],
}

impl Files {
    /// Indexes outputs, which are absolute paths.
    pub fn new(directory: &str, mut outputs: Vec<(String, TaskId)>) -> Result<Files, Clash> {
        outputs.sort_unstable();
        if let Some(pair) = outputs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Clash { path: shown(directory, &pair[0].0), tasks: [pair[0].1, pair[1].1] });
        }
        let directory = directory.to_owned();
        Ok(Files { directory, outputs, by_end: OnceCell::new(), listings: Listings::default() })
    }

    /// What one input of one element names, in order: declared outputs, or else files on disk.
    /// A pattern does not find what the task itself makes.
    pub fn find(&self, input: &Template, scope: &Scope<'_>, asker: TaskId) -> Outcome<Vec<Match>> {
        let written = input.expand_plain(scope, Style::Plain)?;
        let path = absolute(&self.directory, &written);
        if let Some(producer) = self.producer(&path) {
            return Ok(vec![Match { shown: written, path, producer: Some(producer) }]);
        }
        let found = match is_pattern(input) {
            true => {
                let pattern = input.expand_plain(scope, Style::Pattern)?;
                self.find_pattern(&pattern, input.span, asker)?
            }
            false if exists(&path) => {
                vec![Match { shown: written.clone(), path, producer: None }]
            }
            false => Vec::new(),
        };
        match found.is_empty() {
            false => Ok(found),
            true => Err(self.nothing(scope.key.text(), written, input.span)),
        }
    }

    /// The task that makes a file, by absolute path.
    pub fn producer(&self, path: &str) -> Option<TaskId> {
        let place = self.outputs.binary_search_by(|(output, _)| output.as_str().cmp(path));
        place.ok().map(|place| self.outputs[place].1)
    }

    fn nothing(&self, task: &str, pattern: String, span: Span) -> Box<Fault> {
        let outputs = self.outputs.iter().map(|(path, _)| path.strip_prefix(&self.directory).unwrap_or(path));
        let outputs = outputs.map(|path| path.trim_start_matches('/'));
        Fault::at(span, Problem::NoFile { task: task.to_owned(), pattern: pattern.clone() })
            .hint("files that tasks make are named in their `outputs`")
            .nearest(&pattern, outputs.take(NEAREST_SOUGHT_MAX))
    }

    fn find_pattern(&self, written: &str, span: Span, asker: TaskId) -> Outcome<Vec<Match>> {
        let pattern = FilePattern::new(&self.directory, written, span)?;
        let mut found: Vec<Match> = self
            .candidates(&pattern)
            .into_iter()
            .filter(|(path, producer)| *producer != asker && pattern.matches(path))
            .map(|(path, producer)| self.matched(path, Some(*producer)))
            .collect();
        if found.is_empty() {
            let paths = pattern.on_disk(&self.listings)?;
            let not_own = |path: &String| self.producer(path) != Some(asker);
            found = paths.iter().filter(|path| not_own(path)).map(|path| self.matched(path, None)).collect();
        }
        found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    fn matched(&self, path: &str, producer: Option<TaskId>) -> Match {
        Match { shown: shown(&self.directory, path), path: path.to_owned(), producer }
    }

    /// Outputs that begin, or that end, as the pattern does: whichever are fewer.
    fn candidates(&self, pattern: &FilePattern) -> Vec<&(String, TaskId)> {
        let (prefix, suffix) = (pattern.prefix(), pattern.suffix());
        let start = self.outputs.partition_point(|(path, _)| path.as_str() < prefix);
        let begun = &self.outputs[start..];
        let begun = &begun[..begun.partition_point(|(path, _)| path.starts_with(prefix))];
        if begun.len() <= FEW || suffix.is_empty() {
            return begun.iter().collect();
        }
        let by_end = self.by_end.get_or_init(|| self.order_by_end());
        let reversed = |place: &u32| self.outputs[*place as usize].0.bytes().rev();
        let start = by_end.partition_point(|place| reversed(place).lt(suffix.bytes().rev()));
        let ended = &by_end[start..];
        let count = ended.partition_point(|place| self.outputs[*place as usize].0.ends_with(suffix));
        match count < begun.len() {
            true => ended[..count].iter().map(|place| &self.outputs[*place as usize]).collect(),
            false => begun.iter().collect(),
        }
    }

    fn order_by_end(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.outputs.len() as u32).collect();
        let reversed = |place: &u32| self.outputs[*place as usize].0.bytes().rev();
        order.sort_unstable_by(|left, right| reversed(left).cmp(reversed(right)));
        order
    }
}

/// Outputs up to which they are simply tried one by one.
const FEW: usize = 64;

/// Outputs that are compared to find the one that was meant.
const NEAREST_SOUGHT_MAX: usize = 10_000;

/// True if the file's author wrote a wildcard; those in expanded text are literal.
fn is_pattern(template: &Template) -> bool {
    template.literals().any(is_wild)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(outputs: &[&str], pattern: &str) -> Vec<String> {
        let outputs = outputs.iter().enumerate();
        let outputs = outputs.map(|(task, path)| (format!("/nowhere/{path}"), TaskId::from(task)));
        let files = Files::new("/nowhere", outputs.collect()).ok().unwrap();
        let matches = files.find_pattern(pattern, Span::default(), TaskId(u32::MAX)).unwrap();
        matches.into_iter().map(|found| found.shown).collect()
    }

    #[test]
    fn patterns_find_outputs_in_order() {
        let outputs = ["b.sam", "a.sam", "x/c.sam", ".d.sam", "a.txt"];
        let check = |pattern: &str, expected: &[&str]| assert_eq!(found(&outputs, pattern), expected);
        check("*.sam", &["a.sam", "b.sam"]);
        check("*/c.*", &["x/c.sam"]);
        check("**/*.sam", &["a.sam", "b.sam", "x/c.sam"]);
        check("./[ab].sam", &["a.sam", "b.sam"]);
        check("?.txt", &["a.txt"]);
        check("*.bam", &[]);
    }

    #[test]
    fn many_outputs_are_found_by_their_end_too() {
        let outputs: Vec<String> = (0..1000).map(|number| format!("{number}.{}", number % 100)).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        assert_eq!(found(&outputs, "*.77").len(), 10);
        assert_eq!(found(&outputs, "99*.*")[..2], ["99.99", "990.90"]);
    }

    #[test]
    fn one_file_made_twice_is_a_clash() {
        let outputs = vec![("/d/x".to_owned(), TaskId(4)), ("/d/x".to_owned(), TaskId(2))];
        let clash = Files::new("/d", outputs).err().unwrap();
        assert_eq!((clash.path.as_str(), clash.tasks), ("x", [TaskId(2), TaskId(4)]));
    }
}
