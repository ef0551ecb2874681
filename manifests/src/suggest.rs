//! The nearest right word to a wrong one.

/// The candidate that `word` most likely stands for, if one is near enough: one
/// that differs only in case or separators, or by few edits for its length.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| {
            let other = fold(candidate);
            let distance = if other == folded { 0 } else { distance(&folded, &other) };
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, if a candidate is near.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

fn fold(word: &str) -> Vec<char> {
    word.chars().take(64).filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_of_the_finger_are_understood() {
        let fields = ["replicas", "selector", "strategy", "template"];
        assert_eq!(nearest("replica", fields), Some("replicas"));
        assert_eq!(nearest("slector", fields), Some("selector"));
        assert_eq!(nearest("tempalte", fields), Some("template"));
        assert_eq!(nearest("Deploymnet", ["DaemonSet", "Deployment"]), Some("Deployment"));
        assert_eq!(nearest("mount_path", ["mountPath"]), Some("mountPath"));
    }

    #[test]
    fn what_is_far_is_not_suggested() {
        assert_eq!(nearest("banana", ["replicas", "selector"]), None);
        assert_eq!(nearest("id", ["ip", "kind"]), Some("ip"));
    }
}
