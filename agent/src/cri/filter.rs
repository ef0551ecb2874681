//! What a list leaves out. Pure.

use std::collections::HashMap;

/// True if `labels` has all of `selector`.
pub(super) fn labels_fit(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// True if `wanted` is empty, or the id or its beginning.
pub(super) fn id_fits(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_of_the_selector_has_to_be_there() {
        let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let labels = map(&[("a", "1"), ("b", "2")]);
        assert!(labels_fit(&labels, &map(&[])));
        assert!(labels_fit(&labels, &map(&[("a", "1")])));
        assert!(!labels_fit(&labels, &map(&[("a", "1"), ("b", "3")])));
        assert!(!labels_fit(&labels, &map(&[("c", "")])));
    }
}
