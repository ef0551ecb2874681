//! Chance that is quick: a disk draws for each sector.

/// Numbers that a seed decides (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// One of `0..count`.
    pub(super) const fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    pub(super) const fn of_thousand(&mut self, count: u64) -> bool {
        self.below(1000) < count
    }
}
