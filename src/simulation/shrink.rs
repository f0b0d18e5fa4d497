//! Shortens a failing seed: removes one part after the other while the same promise is still broken.

use super::story::{End, How, Lane, Step, Story};
use super::world::{Order, World};

/// The most shorter variants to try.
const MOST_TRIES: usize = 1_500;

/// Returns the shortest failing world and story found.
pub(super) fn shrink(world: &World, story: &Story, fails: impl Fn(&World, &Story) -> bool) -> (World, Story) {
    let (mut world, mut story) = (world.clone(), story.clone());
    let (mut tries, mut index, mut has_shrunk) = (0, 0, false);
    while tries < MOST_TRIES {
        let Some((shorter_world, shorter_story)) = shorter(&world, &story, index) else {
            // A part that was necessary before may be removable now.
            if !std::mem::take(&mut has_shrunk) {
                break;
            }
            index = 0;
            continue;
        };
        tries += 1;
        let is_new = shorter_world != world || shorter_story != story;
        if is_new && fails(&shorter_world, &shorter_story) {
            (world, story) = (shorter_world, shorter_story);
            has_shrunk = true;
        } else {
            index += 1;
        }
    }
    (world, story)
}

/// Returns the variant with a number, out of all that are a little shorter. `None` after the last.
fn shorter(world: &World, story: &Story, index: usize) -> Option<(World, Story)> {
    let mut all: Vec<(World, Story)> = Vec::new();
    let mut of_story = |change: &dyn Fn(&mut Story)| {
        let mut shorter = story.clone();
        change(&mut shorter);
        all.push((world.clone(), shorter));
    };
    for lane in 0..story.lanes.len() {
        // A lane keeps its number, on which its fate depends.
        of_story(&|story| story.lanes[lane] = Lane::default());
    }
    for (lane, it) in story.lanes.iter().enumerate() {
        for step in (0..it.steps.len()).rev() {
            of_story(&|story| drop(story.lanes[lane].steps.remove(step)));
        }
        for (sheet, it) in it.sheets.iter().enumerate() {
            for row in (0..it.rows.len()).rev() {
                of_story(&|story| drop(story.lanes[lane].sheets[sheet].rows.remove(row)));
            }
            for column in (0..it.fields.len()).rev() {
                of_story(&|story| {
                    let sheet = &mut story.lanes[lane].sheets[sheet];
                    sheet.fields.remove(column);
                    sheet.rows.iter_mut().for_each(|row| drop(row.cells.remove(column)));
                });
            }
        }
        for step in 0..it.steps.len() {
            of_story(&|story| match &mut story.lanes[lane].steps[step] {
                Step::Plan(_, end) | Step::Apply(_, How { end, .. }) | Step::Revert(_, How { end, .. }) => {
                    *end = End::ItsOwn;
                }
                Step::Patch(_, given, _) | Step::Update(_, given, _) if given.len() > 1 => drop(given.remove(0)),
                Step::Patch(.., end) | Step::Update(.., end) => *end = End::ItsOwn,
                Step::Pause(seconds) => *seconds /= 2,
                Step::Restart => {}
            });
            of_story(&|story| {
                if let Step::Apply(_, how) | Step::Revert(_, how) = &mut story.lanes[lane].steps[step] {
                    how.concurrency = 1;
                    how.is_twice = false;
                    how.retries = false;
                    how.recovery_dies_at = None;
                    how.part = How::CALM.part;
                }
            });
            of_story(&|story| {
                if let Step::Apply(_, how) | Step::Revert(_, how) = &mut story.lanes[lane].steps[step] {
                    how.loses_log = false;
                }
            });
        }
    }
    let mut of_world = |change: &dyn Fn(&mut World)| {
        let mut shorter = world.clone();
        change(&mut shorter);
        all.push((shorter, story.clone()));
    };
    for fault in 0..world.faults.len() {
        of_world(&|world| {
            world.faults.remove(fault);
        });
    }
    for what in 0..world.traits.len() {
        of_world(&|world| {
            world.traits.remove(what);
        });
    }
    of_world(&|world| world.colleague_s = None);
    of_world(&|world| world.sleep_s = None);
    of_world(&|world| world.lag_ms = 0);
    of_world(&|world| world.permissions = None);
    of_world(&|world| world.other_program_s = None);
    of_world(&|world| world.order = Order::Id);
    of_world(&|world| world.latency_ms = (10, 10));
    of_world(&|world| world.accounts /= 2);
    of_world(&|world| world.accounts = world.accounts.saturating_sub(1));
    all.into_iter().nth(index)
}
