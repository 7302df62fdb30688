//! Inputs turned around: who waits for a task.
//!
//! A segment's dependents follow from the rules of those that take of it, as long as these are few.
//! Everything else stands in rows: what single tasks take, and what many small segments take.

use crate::core::id::TaskId;

use super::GraphError;
use super::columns::{Form, Rows, Segment, Table};
use super::progression::{Inverse, Progression};
use super::row::Row;

/// Rules and single takers of one segment up to which no rows are made.
const FEW: u32 = 16;
/// Dependents of a task that a rule gives on average, past which it is never written out.
const MANY_TAKERS: u64 = 4;
/// Stands for a segment without rows.
const NO_ROWS: u32 = u32::MAX;

/// Who waits for each task.
#[derive(Clone, Debug)]
pub(super) struct Dependents {
    /// Of each segment: its first row, and where its rules start and end.
    kinds: Vec<[u32; 3]>,
    rules: Vec<[u32; Inverse::WORDS]>,
    rows: Rows,
}

impl Dependents {
    /// Turns the inputs around, in a few passes.
    pub fn derive(table: &Table) -> Result<Self, GraphError> {
        let plan = Plan::of(table);
        let rows = plan.rows(table)?;
        Ok(plan.finish(table, rows))
    }

    /// Takes rows that were derived before; refuses those that are not what the inputs say.
    pub fn with_rows(table: &Table, rows: Rows) -> Result<Self, GraphError> {
        let plan = Plan::of(table);
        match plan.fits(table, &rows) {
            true => Ok(plan.finish(table, rows)),
            false => Err(GraphError::Inconsistent("the rows of dependents do not fit the inputs")),
        }
    }

    /// What cannot be derived without looking at every dependency.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Who waits for a task.
    pub fn row<'a>(&'a self, table: &Table, task: TaskId) -> Row<'a> {
        let number = table.segment_of(task);
        let [first_row, start, end] = self.kinds[number];
        let rules = &self.rules[start as usize..end as usize];
        if first_row == NO_ROWS {
            return Row::takers(&[], rules, task);
        }
        let row = self.rows.row((first_row + task.0 - table.columns.segment(number).first) as usize);
        match rules.is_empty() {
            true => Row::listed(row),
            false => Row::takers(row, rules, task),
        }
    }

    /// The rules for a segment, if nothing about its dependents stands in rows.
    pub fn only_rules(&self, segment: usize) -> Option<impl Iterator<Item = Inverse> + Clone + '_> {
        let [first_row, start, end] = self.kinds[segment];
        let rules = self.rules[start as usize..end as usize].iter().map(Inverse::from_words);
        (first_row == NO_ROWS).then_some(rules)
    }
}

/// What becomes of the dependents of each segment.
struct Plan {
    /// Rules that take of each segment.
    rules: Vec<u32>,
    /// Dependencies of listed tasks on each segment.
    edges: Vec<u32>,
    /// The first row of each segment that has rows.
    first_row: Vec<u32>,
    row_count: u32,
}

impl Plan {
    fn of(table: &Table) -> Self {
        let count = table.columns.segment_count();
        let (mut rules, mut edges) = (vec![0_u32; count], vec![0_u32; count]);
        for segment in table.columns.segments() {
            each_rule_taken(table, segment, |_, taken| rules[taken] = rules[taken].saturating_add(1));
        }
        match count {
            1 => edges[0] = (table.columns.values.entries.len() + table.columns.orders.entries.len()) as u32,
            _ => {
                let entries = table.columns.values.entries.iter().chain(table.columns.orders.entries.iter());
                entries.for_each(|input| edges[table.segment_of(TaskId(*input))] += 1);
            }
        }
        let mut plan = Plan { rules, edges, first_row: vec![NO_ROWS; count], row_count: 0 };
        for (number, segment) in table.columns.segments().enumerate() {
            if plan.is_crowded(number) || plan.lists_edges(number) {
                plan.first_row[number] = plan.row_count;
                plan.row_count += segment.count;
            }
        }
        plan
    }

    /// True if too many rules take of a segment to look at all of them for each of its tasks.
    fn is_crowded(&self, segment: usize) -> bool {
        self.rules[segment] > FEW
    }

    /// True if what single tasks take of a segment stands in rows.
    fn lists_edges(&self, segment: usize) -> bool {
        self.edges[segment] > 0 && self.rules[segment].saturating_add(self.edges[segment]) > FEW
    }

    /// True if what `takers` tasks take by a rule of a segment stands in rows.
    fn lists_rule(&self, table: &Table, segment: usize, rule: Progression, takers: u32) -> bool {
        let edges = u64::from(rule.count) * u64::from(takers);
        self.is_crowded(segment) && edges <= MANY_TAKERS * u64::from(table.columns.segment(segment).count)
    }

    /// Visits every dependency that stands in a row, in the order of dependents: the row, the task
    /// that is waited for, and who waits.
    fn each_edge(&self, table: &Table, mut visit: impl FnMut(u32, u32, u32)) {
        if self.row_count == 0 {
            return;
        }
        for segment in table.columns.segments() {
            match segment.form {
                Form::Listed(at) => self.each_listed_edge(table, segment, at, &mut visit),
                Form::Alike(_) => self.each_rule_edge(table, segment, &mut visit),
            }
        }
    }

    fn each_listed_edge(
        &self,
        table: &Table,
        segment: Segment,
        at: u32,
        visit: &mut impl FnMut(u32, u32, u32),
    ) {
        let is_one = self.first_row.len() == 1;
        for (task, row) in segment.tasks().zip(at as usize..) {
            let columns = &table.columns;
            for &input in columns.values.row(row).iter().chain(columns.orders.row(row)) {
                if is_one {
                    visit(input, input, task.0);
                    continue;
                }
                let taken = table.segment_of(TaskId(input));
                if self.lists_edges(taken) {
                    visit(self.row_of(table, taken, input), input, task.0);
                }
            }
        }
    }

    fn each_rule_edge(&self, table: &Table, segment: Segment, visit: &mut impl FnMut(u32, u32, u32)) {
        let Form::Alike(alike) = segment.form else { return };
        let mut is_listed = false;
        each_rule_taken(table, segment, |rule, taken| {
            is_listed |= self.lists_rule(table, taken, rule, segment.count);
        });
        if !is_listed {
            return;
        }
        for (task, element) in segment.tasks().zip(0..) {
            for rule in table.columns.rules_of(alike) {
                for input in rule.inputs(element) {
                    let taken = table.segment_of(input);
                    if self.lists_rule(table, taken, rule, segment.count) {
                        visit(self.row_of(table, taken, input.0), input.0, task.0);
                    }
                }
            }
        }
    }

    fn row_of(&self, table: &Table, segment: usize, task: u32) -> u32 {
        self.first_row[segment] + task - table.columns.segment(segment).first
    }

    /// A counting sort, so dependents stand in the order of ids.
    fn rows(&self, table: &Table) -> Result<Rows, GraphError> {
        let mut ends = vec![0_u32; self.row_count as usize];
        let mut total = 0_u64;
        self.each_edge(table, |row, _, _| {
            total += 1;
            ends[row as usize] = ends[row as usize].wrapping_add(1);
        });
        u32::try_from(total).map_err(|_| GraphError::TooManyDependencies)?;
        let mut sum = 0;
        for end in &mut ends {
            // For now the start; moved to the end by the filling below.
            sum += std::mem::replace(end, sum);
        }
        let mut entries = vec![0; total as usize];
        self.each_edge(table, |row, _, dependent| {
            let place = &mut ends[row as usize];
            entries[*place as usize] = dependent;
            *place += 1;
        });
        Ok(Rows { ends: ends.into(), entries: entries.into() })
    }

    /// True if rows say what the inputs say. Both sides are added up, each dependency by its mark, so
    /// that either is gone through in its own order.
    fn fits(&self, table: &Table, rows: &Rows) -> bool {
        let Rows { ends, entries } = rows;
        let is_rising = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        let is_complete = ends.last().copied().unwrap_or(0) as usize == entries.len();
        if ends.len() != self.row_count as usize || !is_rising || !is_complete {
            return false;
        }
        let mut told = 0_u64;
        for (segment, first_row) in table.columns.segments().zip(&self.first_row) {
            if *first_row == NO_ROWS {
                continue;
            }
            for (task, row) in segment.tasks().zip(*first_row as usize..) {
                let row = rows.row(row);
                let is_ascending = row.windows(2).all(|pair| pair[0] < pair[1]);
                if !is_ascending || row.last().is_some_and(|last| *last as usize >= table.task_count()) {
                    return false;
                }
                told = row.iter().fold(told, |sum, dependent| sum.wrapping_add(mark(task.0, *dependent)));
            }
        }
        let (mut count, mut meant) = (0_u64, 0_u64);
        self.each_edge(table, |_, input, dependent| {
            count += 1;
            meant = meant.wrapping_add(mark(input, dependent));
        });
        count == entries.len() as u64 && told == meant
    }

    /// Adds the rules to the rows.
    fn finish(self, table: &Table, rows: Rows) -> Dependents {
        let mut found: Vec<(usize, Inverse)> = Vec::new();
        for segment in table.columns.segments() {
            each_rule_taken(table, segment, |rule, taken| {
                if !self.lists_rule(table, taken, rule, segment.count) {
                    found.push((taken, Inverse::new(rule, segment.first, segment.count)));
                }
            });
        }
        self.each_single_taker(table, |taken, input, task| {
            found.push((taken, Inverse::new(Progression::all(TaskId(input), 1), task, 1)));
        });
        found.sort_by_key(|(taken, rule)| (*taken, rule.first_taker()));
        let mut kinds: Vec<[u32; 3]> = self.first_row.iter().map(|row| [*row, 0, 0]).collect();
        for (at, (taken, _)) in (0..).zip(&found) {
            let kind = &mut kinds[*taken];
            if kind[2] == 0 {
                kind[1] = at;
            }
            kind[2] = at + 1;
        }
        let rules = found.into_iter().map(|(_, rule)| rule.to_words()).collect();
        Dependents { kinds, rules, rows }
    }

    /// Visits what listed tasks take and no row tells of.
    fn each_single_taker(&self, table: &Table, mut visit: impl FnMut(usize, u32, u32)) {
        if (0..self.edges.len()).all(|taken| self.edges[taken] == 0 || self.lists_edges(taken)) {
            return;
        }
        for segment in table.columns.segments() {
            if let Form::Alike(_) = segment.form {
                continue;
            }
            for task in segment.tasks() {
                for input in table.inputs(task) {
                    let taken = table.segment_of(input);
                    if !self.lists_edges(taken) {
                        visit(taken, input.0, task.0);
                    }
                }
            }
        }
    }
}

/// Visits the rules of a segment with each segment that they may take anything of. The last rule comes
/// first: where inputs ascend, that gives dependents in the order of ids.
fn each_rule_taken(table: &Table, segment: Segment, mut visit: impl FnMut(Progression, usize)) {
    let Form::Alike(alike) = segment.form else { return };
    for rule in table.columns.rules_of(alike).rev() {
        let (least, greatest) = rule.reach(segment.count);
        let ends = (TaskId(least as u32), TaskId(greatest as u32));
        (table.segment_of(ends.0)..=table.segment_of(ends.1)).for_each(|taken| visit(rule, taken));
    }
}

/// A number that looks like chance, from both ends of a dependency: the finaliser of MurmurHash3.
fn mark(input: u32, dependent: u32) -> u64 {
    let mut mark = (u64::from(input) << 32 | u64::from(dependent)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mark = (mark ^ mark >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mark = (mark ^ mark >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mark ^ mark >> 33
}
