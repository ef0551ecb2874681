//! Chance, for names and uids: from the kernel, or as a test fixes it.

/// Numbers per request to the kernel.
const POOL: usize = 64;

/// A source of chance that a test can fix.
pub trait RandomSource: std::fmt::Debug {
    /// The next number, uniform over `u64`.
    fn next(&mut self) -> u64;
}

/// A [`RandomSource`] that asks the kernel, some numbers at a time.
#[derive(Debug)]
pub struct OsRandom {
    pool: [u64; POOL],
    left: usize,
}

impl OsRandom {
    /// A source that has asked for nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { pool: [0; POOL], left: 0 }
    }
}

impl Default for OsRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl RandomSource for OsRandom {
    fn next(&mut self) -> u64 {
        if self.left == 0 {
            for number in &mut self.pool {
                // Refused only before the kernel's pool is seeded and on kernels without
                // getrandom(2): there is nothing sensible to go on with.
                *number = getrandom::u64().expect("the kernel gives random numbers");
            }
            self.left = POOL;
        }
        self.left -= 1;
        self.pool[self.left]
    }
}
