//! What a story has besides its first draw. Each trait has numbers of its own, so that the rest of a seed stays as it
//! was.

use super::super::dice::Dice;
use super::super::world::World;
use super::{End, How, Lane, Part, Step, Story};

/// How many stopped runs in a thousand are abandoned sooner.
const IMPATIENT_PER_MILLE: u32 = 500;
/// How many killed runs in a thousand lose the log of their plan.
const LOST_LOG_PER_MILLE: u32 = 300;
/// How many recoveries in a thousand are interrupted.
const KILLED_RECOVERY_PER_MILLE: u32 = 300;
/// How many jobs in a thousand end with a run over failed rows and conflicts that is killed and loses its log.
const LOST_RETRY_PER_MILLE: u32 = 100;
/// How many operations in a thousand are the last of their process.
const RESTART_PER_MILLE: u32 = 120;
/// How many single calls in a thousand are cancelled.
const CANCELLED_PER_MILLE: u32 = 250;
/// How many reverts in a thousand are followed by another one, of the plan or of any of its reverts.
const REVERTED_AGAIN_PER_MILLE: u32 = 500;
/// How many runs in a thousand include only a part of their plan.
const PART_PER_MILLE: u32 = 150;

impl Story {
    /// Adds every trait. Without `has_more`, nothing disturbs the story.
    pub(super) fn add_traits(&mut self, seed: u64, world: &World, has_more: bool) {
        self.include_parts(&mut Dice::new(seed, "parts", 0));
        let stops = &mut Dice::new(seed, "stops", 0);
        self.abandon(stops);
        self.lose_logs(stops);
        let may_die = has_more && !self.is_one_process;
        self.recover(may_die, &mut Dice::new(seed, "recoveries", 0));
        self.cancel(world, &mut Dice::new(seed, "cancelled calls", 0));
        for lane in self.lanes.iter_mut().filter(|_| may_die) {
            lane.restart(stops);
        }
    }

    fn steps(&mut self) -> impl Iterator<Item = &mut Step> {
        self.lanes.iter_mut().flat_map(|lane| &mut lane.steps)
    }

    fn runs(&mut self) -> impl Iterator<Item = &mut How> {
        self.steps().filter_map(|step| match step {
            Step::Apply(_, how) | Step::Revert(_, how) => Some(how),
            _ => None,
        })
    }

    fn include_parts(&mut self, dice: &mut Dice) {
        for how in self.runs() {
            if dice.chance(PART_PER_MILLE) {
                how.part = Part::draw(dice);
            }
        }
    }

    fn abandon(&mut self, dice: &mut Dice) {
        for step in self.steps() {
            if let Step::Plan(_, end) | Step::Apply(_, How { end, .. }) | Step::Revert(_, How { end, .. }) = step
                && let End::Stop(_, grace) = end
                && dice.chance(IMPATIENT_PER_MILLE)
            {
                *grace = dice.between(0, 500);
            }
        }
    }

    fn lose_logs(&mut self, dice: &mut Dice) {
        for how in self.runs().filter(|how| matches!(how.end, End::Kill(_) | End::KillAtStep(_))) {
            how.loses_log = dice.chance(LOST_LOG_PER_MILLE);
        }
    }

    fn recover(&mut self, may_die: bool, dice: &mut Dice) {
        for lane in self.lanes.iter_mut().filter(|_| may_die) {
            lane.lose_a_retry(dice);
        }
        for how in self.runs().filter(|how| how.loses_log) {
            if dice.chance(KILLED_RECOVERY_PER_MILLE) {
                // Before or after the commit to each file; most plans have no revert.
                how.recovery_dies_at = Some(dice.pick(&[1, 2, 1, 2, 3, 4]));
            }
        }
    }

    fn cancel(&mut self, world: &World, dice: &mut Dice) {
        for step in self.steps() {
            if let Step::Patch(.., end) | Step::Update(.., end) = step
                && dice.chance(CANCELLED_PER_MILLE)
            {
                // Mostly while it reads or updates; otherwise perhaps in a wait.
                let longest = if dice.chance(700) { 4 * world.latency_ms.1 } else { 60_000 };
                *end = End::Cancel(dice.between(0, longest));
            }
        }
    }
}

impl Lane {
    /// Adds a run over failed rows and conflicts behind the last run of a job, and its log is lost.
    fn lose_a_retry(&mut self, dice: &mut Dice) {
        let is_run = |step: &Step| matches!(step, Step::Apply(..));
        let Some(last) = self.steps.iter().rposition(is_run).filter(|_| dice.chance(LOST_RETRY_PER_MILLE)) else {
            return;
        };
        let Step::Apply(job, _) = self.steps[last] else { return };
        let how = How {
            retries: true,
            overwrite: dice.chance(700),
            clear_unknown: dice.chance(500),
            end: End::KillAtStep(dice.between(1, 40)),
            loses_log: true,
            ..How::CALM
        };
        self.steps.insert(last + 1, Step::Apply(job, how));
    }

    /// Adds reverts behind a revert: of the plan, or of any of its reverts.
    pub(super) fn revert_again(&mut self, dice: &mut Dice, world: &World) {
        let mut steps = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            let reverted = if let Step::Revert(job, _) = step { Some(job) } else { None };
            steps.push(step);
            while let Some(job) = reverted.filter(|_| dice.chance(REVERTED_AGAIN_PER_MILLE)) {
                steps.push(Step::Revert(job, How { of: dice.between(0, 3) as usize, ..How::draw(dice, world) }));
            }
        }
        self.steps = steps;
    }

    /// Makes another process continue after some operations.
    fn restart(&mut self, dice: &mut Dice) {
        let steps = std::mem::take(&mut self.steps);
        let restarts = |step: Step| {
            let is_last = dice.chance(RESTART_PER_MILLE);
            std::iter::once(step).chain(is_last.then_some(Step::Restart))
        };
        self.steps = steps.into_iter().flat_map(restarts).collect();
    }
}
