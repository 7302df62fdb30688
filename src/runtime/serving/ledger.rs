//! Which of a client's calls may still be made: what they were pickled into is kept as long.
//!
//! A call is over for good once it has ended, the client does not hold its output, and all that take that output
//! are over as well: until then the loss of an output may have it made again.

use std::collections::HashMap;

/// A number of no block.
const NO_BLOCK: u32 = u32::MAX;

/// The calls of a client, by its numbers.
#[derive(Default)]
pub struct Ledger {
    calls: Vec<Call>,
    /// How many calls of each block are not over.
    left: HashMap<u32, u32>,
    /// Calls that are over once they have ended.
    due: Vec<u32>,
}

/// One call.
struct Call {
    block: u32,
    /// Calls that take its output and are not over, and one more while the client holds that.
    needs: u32,
    is_held: bool,
    /// What it takes.
    inputs: Box<[u32]>,
}

/// A call that is submitted: its block, what it takes, and whether its output is held.
pub struct NewCall {
    pub block: u32,
    pub inputs: Box<[u32]>,
    pub is_held: bool,
}

impl Ledger {
    /// Enters the calls that are numbered next.
    pub fn enter(&mut self, calls: Vec<NewCall>) {
        let first = self.calls.len() as u32;
        for NewCall { block, inputs, is_held } in calls {
            *self.left.entry(block).or_default() += 1;
            self.calls.push(Call { block, needs: u32::from(is_held), is_held, inputs });
        }
        for number in first..self.calls.len() as u32 {
            let call = &mut self.calls[number as usize];
            let inputs = std::mem::take(&mut call.inputs);
            inputs.iter().for_each(|&input| self.count(input, 1));
            self.calls[number as usize].inputs = inputs;
        }
        let calls = (first..).zip(&self.calls[first as usize..]);
        self.due.extend(calls.filter(|(_, call)| call.needs == 0).map(|(number, _)| number));
    }

    /// As many numbers are of calls that will never be.
    pub fn skip(&mut self, count: u32) {
        let none = || Call { block: NO_BLOCK, needs: 0, is_held: false, inputs: Box::default() };
        self.calls.extend((0..count).map(|_| none()));
    }

    /// The client holds this output no longer.
    pub fn release(&mut self, number: u32) {
        if let Some(call) = self.calls.get_mut(number as usize)
            && std::mem::take(&mut call.is_held)
        {
            self.count(number, -1);
        }
    }

    /// The client holds nothing but these.
    pub fn release_all_but(&mut self, kept: &[u32]) {
        let held: Vec<u32> =
            (0..).zip(&self.calls).filter(|(_, call)| call.is_held).map(|(n, _)| n).collect();
        held.into_iter().filter(|number| !kept.contains(number)).for_each(|number| self.release(number));
    }

    fn count(&mut self, number: u32, change: i32) {
        let Some(call) = self.calls.get_mut(number as usize) else { return };
        call.needs = call.needs.saturating_add_signed(change);
        if call.needs == 0 && change < 0 {
            self.due.push(number);
        }
    }

    /// The blocks that nothing is left of, as far as that was not said before.
    pub fn settle(&mut self, has_ended: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut unneeded = Vec::new();
        let mut running = Vec::new();
        while let Some(number) = self.due.pop() {
            let call = &self.calls[number as usize];
            if call.needs > 0 || call.block == NO_BLOCK {
                // Somebody came to take its output, or it was settled before.
                continue;
            }
            if !has_ended(number) {
                running.push(number);
                continue;
            }
            let call = &mut self.calls[number as usize];
            let (block, inputs) =
                (std::mem::replace(&mut call.block, NO_BLOCK), std::mem::take(&mut call.inputs));
            if let Some(left) = self.left.get_mut(&block) {
                *left -= 1;
                if *left == 0 {
                    self.left.remove(&block);
                    unneeded.push(block);
                }
            }
            inputs.iter().for_each(|&input| self.count(input, -1));
        }
        self.due = running;
        unneeded
    }

    /// True if some calls may be settled now.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(block: u32, inputs: &[u32], is_held: bool) -> NewCall {
        NewCall { block, inputs: inputs.into(), is_held }
    }

    #[test]
    fn a_block_goes_with_the_last_of_its_calls_that_may_be_made_again() {
        let mut ledger = Ledger::default();
        // 0 in block 7 is taken by 1 in block 8, which is held.
        ledger.enter(vec![call(7, &[], false), call(8, &[0], true)]);
        assert!(!ledger.is_due() && ledger.settle(|_| true).is_empty());
        ledger.release(1);
        assert!(ledger.settle(|number| number == 0).is_empty(), "it runs still");
        assert!(ledger.is_due());
        assert_eq!(ledger.settle(|_| true), [8, 7]);
        assert!(!ledger.is_due() && ledger.settle(|_| true).is_empty());
    }

    #[test]
    fn what_is_taken_later_is_kept_as_long() {
        let mut ledger = Ledger::default();
        ledger.enter(vec![call(0, &[], true), call(0, &[], true)]);
        ledger.release(0);
        assert!(ledger.settle(|_| true).is_empty(), "the other one is held");
        ledger.skip(3);
        ledger.enter(vec![call(1, &[1, 1], false)]);
        ledger.release(1);
        ledger.release(1);
        assert!(ledger.settle(|number| number != 5).is_empty());
        assert_eq!(ledger.settle(|_| true), [1, 0]);
    }

    #[test]
    fn another_client_holds_what_it_knows() {
        let mut ledger = Ledger::default();
        ledger.enter(vec![call(0, &[], true), call(1, &[], true), call(2, &[], false)]);
        ledger.release_all_but(&[1]);
        let mut unneeded = ledger.settle(|_| true);
        unneeded.sort_unstable();
        assert_eq!(unneeded, [0, 2]);
    }
}
