//! Sets of completion indexes, in the words of a Job's status: `0,2-4,7`.

use std::collections::BTreeSet;
use std::fmt::Write;

/// A set of completion indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads the status' form; what cannot be read is left out.
    pub(super) fn parse(text: Option<&str>) -> Self {
        let mut indexes = BTreeSet::new();
        for part in text.unwrap_or_default().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                indexes.extend(first..=last);
            }
        }
        Self(indexes)
    }

    /// The status' form; `None` for no index at all.
    pub(super) fn to_text(&self) -> Option<String> {
        let mut runs: Vec<(i32, i32)> = Vec::new();
        for index in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                Some(_) | None => runs.push((*index, *index)),
            }
        }
        let mut text = String::new();
        for (first, last) in runs {
            let separator = if text.is_empty() { "" } else { "," };
            let written = match last - first {
                0 => write!(text, "{separator}{first}"),
                1 => write!(text, "{separator}{first},{last}"),
                _ => write!(text, "{separator}{first}-{last}"),
            };
            written.expect("a String takes all text");
        }
        (!text.is_empty()).then_some(text)
    }

    /// Adds `index`; true if it was not there.
    pub(super) fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    /// Adds all of `others`.
    pub(super) fn extend(&mut self, others: &Self) {
        self.0.extend(&others.0);
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    #[test]
    fn every_set_of_eight_indexes_is_read_back_as_written() {
        for bits in 0_u32..256 {
            let mut indexes = Indexes::default();
            for index in 0..8 {
                if bits & (1 << index) != 0 {
                    indexes.insert(index);
                }
            }
            assert_eq!(Indexes::parse(indexes.to_text().as_deref()), indexes);
        }
    }

    #[test]
    fn three_in_a_row_are_a_range_and_two_are_not() {
        for text in ["0", "0,1", "0-2", "0,2-4,7", "3,4,6"] {
            assert_eq!(Indexes::parse(Some(text)).to_text().as_deref(), Some(text));
        }
        assert_eq!(Indexes::parse(None).to_text(), None);
    }
}
