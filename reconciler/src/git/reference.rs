//! What a source follows: a branch, a tag, one commit, or whatever HEAD is.

use super::GitError;
use git2::Oid;
use manifests::config::GitSource;
use std::fmt;

/// The followed reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Head,
    Branch(String),
    Tag(String),
    /// Trusted as configured: no history is asked for.
    Commit(Oid),
}

impl Wanted {
    /// What `source` asks for.
    ///
    /// # Errors
    /// [`GitError::InvalidReference`] for more than one, or one that cannot exist.
    pub(super) fn of(source: &GitSource) -> Result<Self, GitError> {
        let invalid =
            |reference: &str, reason| GitError::InvalidReference { reference: reference.into(), reason };
        match (&source.branch, &source.tag, &source.commit) {
            (None, None, None) => Ok(Self::Head),
            (Some(name), None, None) => {
                let name = name.strip_prefix("refs/heads/").unwrap_or(name);
                valid_name(name).map_err(|reason| invalid(name, reason))?;
                Ok(Self::Branch(name.to_owned()))
            }
            (None, Some(name), None) => {
                let name = name.strip_prefix("refs/tags/").unwrap_or(name);
                valid_name(name).map_err(|reason| invalid(name, reason))?;
                Ok(Self::Tag(name.to_owned()))
            }
            (None, None, Some(id)) if id.len() == 40 => {
                Oid::from_str(id).map(Self::Commit).map_err(|_| invalid(id, "a commit id is hexadecimal"))
            }
            (None, None, Some(id)) => Err(invalid(id, "a commit is named by its full id of 40 digits")),
            (_, tag, commit) => {
                let second = commit.as_ref().or(tag.as_ref()).map_or("", String::as_str);
                Err(invalid(second, "a source follows one of branch, tag and commit"))
            }
        }
    }

    /// The reference's full name at the repository; none for a commit.
    pub(super) fn full_name(&self) -> Option<String> {
        match self {
            Self::Head => Some("HEAD".into()),
            Self::Branch(name) => Some(format!("refs/heads/{name}")),
            Self::Tag(name) => Some(format!("refs/tags/{name}")),
            Self::Commit(_) => None,
        }
    }

    /// The branches or tags among `references` (full names) that may have been meant,
    /// the likeliest first, at most three.
    pub(super) fn nearest<'a>(&self, references: impl Iterator<Item = &'a str>) -> Vec<String> {
        let (prefix, name) = match self {
            Self::Head => ("refs/heads/", ""),
            Self::Branch(name) => ("refs/heads/", name.as_str()),
            Self::Tag(name) => ("refs/tags/", name.as_str()),
            Self::Commit(_) => return Vec::new(),
        };
        let names =
            references.filter_map(|full| full.strip_prefix(prefix)).filter(|name| !name.ends_with("^{}"));
        let mut ranked: Vec<_> = names.map(|other| (distance(name, other), other)).collect();
        ranked.sort_unstable();
        let near = ranked.iter().filter(|(far, _)| *far <= 2.max(name.len() / 3)).count();
        // Where nothing is similar, the few that there are help more than silence.
        let shown = if near == 0 && ranked.len() <= 3 { ranked.len() } else { near.min(3) };
        ranked[..shown].iter().map(|(_, name)| (*name).to_owned()).collect()
    }

    /// The bare name, for records.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Head => "HEAD".into(),
            Self::Branch(name) | Self::Tag(name) => name.clone(),
            Self::Commit(id) => id.to_string(),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => write!(formatter, "commit at HEAD"),
            Self::Branch(name) => write!(formatter, "branch `{name}`"),
            Self::Tag(name) => write!(formatter, "tag `{name}`"),
            Self::Commit(id) => write!(formatter, "commit {id}"),
        }
    }
}

fn valid_name(name: &str) -> Result<(), &'static str> {
    if git2::Reference::is_valid_name(&format!("refs/heads/{name}")) && !name.contains('*') {
        Ok(())
    } else {
        Err("Git allows no such name")
    }
}

/// Levenshtein's distance in characters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..other.len() {
            let changed = diagonal + usize::from(letter != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_branches_come_first_and_tags_are_no_branches() {
        let all = ["refs/heads/main", "refs/heads/maint", "refs/heads/production", "refs/tags/mian"];
        let nearest = Wanted::Branch("mian".into()).nearest(all.into_iter());
        assert_eq!(nearest, ["main", "maint"][..nearest.len()]);
        assert_eq!(nearest.first().map(String::as_str), Some("main"));
        assert_eq!(Wanted::Branch("zzz".into()).nearest(["refs/heads/trunk"].into_iter()), ["trunk"]);
    }

    #[test]
    fn distances_are_counted_in_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("main", "main"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
