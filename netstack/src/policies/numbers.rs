//! Numbers for what has no number of its own: the same from one start to the next. Pure.

use crate::names::digest;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who has which number, and how often it is used.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    uses: BTreeMap<u32, (Arc<str>, usize)>,
}

impl Numbers {
    /// The number of what `text` describes, used once more. True if nobody else uses it.
    ///
    /// It follows from the text, so that after a restart the kernel has it already. Two texts never
    /// share one.
    pub(super) fn take(&mut self, text: &str) -> (u32, bool) {
        let mut salt = 0_u32;
        loop {
            let sum = digest(&[text.as_bytes(), &salt.to_ne_bytes()].concat());
            let number = u32::try_from(sum >> 32).unwrap_or(0).max(1);
            match self.uses.get_mut(&number) {
                None => {
                    self.uses.insert(number, (text.into(), 1));
                    return (number, true);
                }
                Some((other, count)) if **other == *text => {
                    *count += 1;
                    return (number, false);
                }
                Some(_) => salt += 1,
            }
        }
    }

    /// One use less. True if that was the last.
    pub(super) fn give_back(&mut self, number: u32) -> bool {
        let Some((_, count)) = self.uses.get_mut(&number) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.uses.remove(&number);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_texts_and_are_free_when_nobody_uses_them() {
        let mut numbers = Numbers::default();
        let (a, new) = numbers.take("a");
        assert!(new && a != 0);
        assert_eq!(numbers.take("a"), (a, false));
        let (b, _) = numbers.take("b");
        assert_ne!(a, b);
        assert!(!numbers.give_back(a) && numbers.give_back(a));
        assert_eq!(Numbers::default().take("b"), (b, true));
    }

    #[test]
    fn two_texts_never_share_a_number() {
        let mut numbers = Numbers::default();
        let (a, _) = numbers.take("a");
        // As if another text had come to the same sum.
        numbers.uses.insert(a, ("other".into(), 1));
        let (other, new) = numbers.take("a");
        assert!(new && other != a);
    }
}
