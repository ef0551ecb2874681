//! When a peer that could not be reached is tried again; pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
/// A peer that comes back is found again so fast.
const LONGEST: Duration = Duration::from_millis(500);

/// How long a peer is left alone after it could not be reached `failures` times in a row;
/// `chance` (0 to 1) takes up to a half away, so that nodes do not knock all at once.
pub(super) fn rest(failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let rest = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    rest.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_left_alone_longer_each_time_but_never_long() {
        let millis: Vec<u128> = (1..8).map(|failures| rest(failures, 0.0).as_millis()).collect();
        assert_eq!(millis, [20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(rest(3, 1.0).as_millis(), 40);
        assert_eq!(rest(u32::MAX, 0.0), LONGEST);
    }
}
