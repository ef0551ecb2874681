//! Amounts as Kubernetes counts them: 32-bit, and shares of a whole in percent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a share that is no whole number goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// How many there are, as a status field holds it.
pub(crate) fn count<I: IntoIterator>(items: I) -> i32 {
    i32::try_from(items.into_iter().count()).unwrap_or(i32::MAX)
}

/// `amount` itself, or its percentage of `whole`; 0 for what is neither.
pub(crate) fn share(amount: &IntOrString, whole: i32, round: Round) -> i32 {
    let percent = match amount {
        IntOrString::Int(number) => return *number,
        IntOrString::String(text) => text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()),
    };
    let hundredths = percent.unwrap_or(0) * i64::from(whole);
    let share = match round {
        Round::Up => (hundredths + 99).div_euclid(100),
        Round::Down => hundredths.div_euclid(100),
    };
    i32::try_from(share).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Round, share};
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    #[test]
    fn percentages_round_the_way_they_are_told() {
        let quarter = IntOrString::String("25%".into());
        let cases = [(0, 0, 0), (1, 1, 0), (3, 1, 0), (4, 1, 1), (5, 2, 1), (10, 3, 2)];
        for (whole, up, down) in cases {
            assert_eq!(share(&quarter, whole, Round::Up), up, "25% of {whole}, up");
            assert_eq!(share(&quarter, whole, Round::Down), down, "25% of {whole}, down");
        }
    }

    #[test]
    fn a_number_is_itself_and_nonsense_is_nothing() {
        assert_eq!(share(&IntOrString::Int(7), 2, Round::Up), 7);
        assert_eq!(share(&IntOrString::String("many".into()), 2, Round::Up), 0);
    }
}
