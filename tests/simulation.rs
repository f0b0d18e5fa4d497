//! The simulation itself: that it can be trusted to find the same thing twice.

use replyio::simulation::run_seed;

#[test]
fn a_seed_runs_the_same_way_every_time_whatever_ran_before() {
    let hashes = |seeds: &mut dyn Iterator<Item = u64>| seeds.map(|seed| (seed, run_seed(seed).1)).collect::<Vec<_>>();
    let forward = hashes(&mut (1..=60));
    let mut backward = hashes(&mut (1..=60).rev());
    backward.reverse();
    assert_eq!(forward, backward);
}

#[test]
fn seeds_differ() {
    let hashes: std::collections::BTreeSet<u64> = (1..=20).map(|seed| run_seed(seed).1).collect();
    assert!(hashes.len() > 18, "{hashes:?}");
}
