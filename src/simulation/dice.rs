//! Random numbers that depend only on the seed and on their purpose.

/// Numbers for one purpose. Each purpose has its own, so that omitting a decision changes no other.
#[derive(Debug, Clone)]
pub(super) struct Dice(fastrand::Rng);

impl Dice {
    /// Returns the numbers of a seed for a purpose, such as the fate of the ninth request.
    pub(super) fn new(seed: u64, purpose: &str, number: u64) -> Self {
        // FNV-1a over the purpose, then the finalizer of SplitMix64: neighboring seeds must be unrelated.
        let mut hash = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        for part in [seed, number] {
            hash = hash.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            hash ^= hash >> 31;
        }
        Self(fastrand::Rng::with_seed(hash))
    }

    /// Returns whether an event with this chance in a thousand happens.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.0.u32(0..1000) < per_mille
    }

    /// Returns a number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// Returns an index below `length`, which must not be 0.
    pub(super) fn index(&mut self, length: usize) -> usize {
        self.0.usize(0..length.max(1))
    }

    /// Returns one of several.
    pub(super) fn pick<T: Clone>(&mut self, several: &[T]) -> T {
        several[self.index(several.len())].clone()
    }
}
