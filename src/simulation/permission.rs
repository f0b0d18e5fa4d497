//! The function that a user gives to a quota, to count over several machines. It delays requests, and sometimes fails.

use std::future::pending;
use std::sync::Arc;

use tokio::time::{Duration, sleep};

use super::dice::Dice;
use super::stage::{Stage, is_set, stage};
use crate::acquire::{Acquire, Acquiring};
use crate::error::Failure;

/// How many worlds in a thousand with faults have such a function.
const PER_MILLE: u32 = 80;

/// How such a function behaves in one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Permissions {
    /// The longest delay of a request, in milliseconds.
    longest_ms: u64,
    /// How many delays in a thousand are longer than a call.
    very_long_per_mille: u32,
    fails_per_mille: u32,
}

impl Permissions {
    pub(super) fn draw(dice: &mut Dice) -> Option<Self> {
        dice.chance(PER_MILLE).then(|| Self {
            longest_ms: dice.pick(&[0, 500, 20_000]),
            very_long_per_mille: dice.pick(&[0, 0, 30]),
            fails_per_mille: dice.pick(&[0, 20, 100]),
        })
    }
}

/// The permissions of one process.
#[derive(Debug, Default)]
pub(super) struct Granted {
    asked: u64,
    /// Those that are neither used nor returned.
    left: i64,
}

/// The function of one process.
#[derive(Debug)]
struct Function {
    process: usize,
    lane: usize,
}

/// Returns the function of a process, if the world has one.
pub(super) fn of(stage: &Stage, process: usize, lane: usize) -> Option<Arc<dyn Acquire>> {
    stage.world.permissions.map(|_| Arc::new(Function { process, lane }) as Arc<dyn Acquire>)
}

impl Acquire for Function {
    fn acquire(&self) -> Acquiring<'_> {
        Box::pin(async move {
            let (delay, fails) = stage(|stage| stage.is_asked(self.process, self.lane));
            sleep(delay).await;
            if stage(|stage| stage.is_dead(self.process)) {
                return pending().await;
            }
            if fails {
                stage(|stage| stage.refuses(self.lane));
                return Err(Failure::Acquire { reason: "the counter is away".to_owned(), source: None });
            }
            stage(|stage| stage.processes[self.process].granted.left += 1);
            Ok(())
        })
    }

    fn give_back(&self) {
        if is_set() {
            stage(|stage| stage.processes[self.process].granted.left -= 1);
        }
    }
}

impl Stage {
    /// Returns the delay of the next permission, and whether it is refused then.
    fn is_asked(&mut self, process: usize, lane: usize) -> (Duration, bool) {
        let Some(permissions) = self.world.permissions.filter(|_| !self.service.is_calm) else {
            return (Duration::ZERO, false);
        };
        let granted = &mut self.processes[process].granted;
        granted.asked += 1;
        let mut dice = Dice::new(self.seed, "permission", granted.asked * 1_000 + lane as u64);
        let is_very_long = dice.chance(permissions.very_long_per_mille);
        let longest = if is_very_long { 200_000 } else { permissions.longest_ms };
        let delay = Duration::from_millis(dice.between(0, longest));
        for number in self.current.iter().flatten() {
            self.operations[*number].excuse += delay;
        }
        (delay, dice.chance(permissions.fails_per_mille))
    }

    fn refuses(&mut self, lane: usize) {
        if let Some(number) = self.current[lane] {
            self.operations[number].is_refused_permission = true;
        }
        self.tell(super::event::Event::Other("the function of the quota fails".to_owned()));
    }

    /// A process sends a request, and needs a permission for it.
    pub(super) fn uses_permission(&mut self, process: usize, number: usize) {
        if self.world.permissions.is_none() {
            return;
        }
        let left = &mut self.processes[process].granted.left;
        *left -= 1;
        if *left < 0 {
            *left = 0;
            self.violated(5, format!("request {number} is sent without the permission of the quota's function"));
        }
    }

    /// Reports permissions that a process has neither used nor returned, if none of its operations is under way.
    pub(super) fn judge_permissions(&mut self, process: usize) {
        if self.current.iter().any(Option::is_some) || self.is_dead(process) {
            return;
        }
        let left = std::mem::take(&mut self.processes[process].granted.left);
        if left != 0 {
            self.violated(5, format!("{left} permissions of the quota's function are neither used nor returned"));
        }
    }
}
