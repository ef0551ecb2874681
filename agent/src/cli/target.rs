//! What the words on the command line name: kinds, and objects.

use super::CommandError;
use manifests::Kind;

/// The kinds of `keel get all`, in kubectl's order.
const ALL: [Kind; 7] =
    [Kind::Pod, Kind::Service, Kind::DaemonSet, Kind::Deployment, Kind::ReplicaSet, Kind::CronJob, Kind::Job];

/// Objects of one kind: all of them, or those named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Their kind.
    pub(crate) kind: Kind,
    /// Empty for all.
    pub(crate) names: Vec<String>,
}

/// Reads `KIND`, `KIND NAME…`, `KIND,KIND`, `all`, or `KIND/NAME…`.
///
/// # Errors
/// If a kind is unknown, or the forms are mixed.
pub(crate) fn targets(words: &[String]) -> Result<Vec<Target>, CommandError> {
    let Some((first, rest)) = words.split_first() else {
        return Err(CommandError::Usage(
            "name a kind: `keel get pods`, `keel get deployment/web`, `keel get all`",
        ));
    };
    if words.iter().any(|word| word.contains('/')) {
        return named(words);
    }
    let kinds = if first == "all" {
        ALL.to_vec()
    } else {
        first.split(',').filter(|word| !word.is_empty()).map(kind).collect::<Result<Vec<_>, _>>()?
    };
    if kinds.len() > 1 && !rest.is_empty() {
        return Err(CommandError::Usage("names go with one kind; use KIND/NAME for several"));
    }
    Ok(kinds.into_iter().map(|kind| Target { kind, names: rest.to_vec() }).collect())
}

/// Reads `KIND/NAME…`; neighbours of one kind become one target.
fn named(words: &[String]) -> Result<Vec<Target>, CommandError> {
    let mut targets: Vec<Target> = Vec::new();
    for word in words {
        let (kind_word, name) = word
            .split_once('/')
            .filter(|(_, name)| !name.is_empty())
            .ok_or(CommandError::Usage("either KIND NAME… or KIND/NAME…, not both"))?;
        let kind = kind(kind_word)?;
        match targets.last_mut() {
            Some(last) if last.kind == kind => last.names.push(name.to_owned()),
            Some(_) | None => targets.push(Target { kind, names: vec![name.to_owned()] }),
        }
    }
    Ok(targets)
}

/// Reads the name of one object: `KIND/NAME`, `KIND NAME`, or `NAME` of a `default` kind.
///
/// # Errors
/// If it is none of these, or the kind is unknown.
pub(crate) fn one(words: &[String], default: Option<Kind>) -> Result<(Kind, String), CommandError> {
    let usage = CommandError::Usage("name one object, as KIND/NAME or KIND NAME");
    match (words, default) {
        ([word], _) if word.contains('/') => match word.split_once('/') {
            Some((kind_word, name)) if !name.is_empty() => Ok((kind(kind_word)?, name.to_owned())),
            Some(_) | None => Err(usage),
        },
        ([word], Some(default)) => Ok((default, word.clone())),
        ([kind_word, name], _) if !name.contains('/') => Ok((kind(kind_word)?, name.clone())),
        _ => Err(usage),
    }
}

/// The kind that `word` names, with or without its group: `deploy`, `deployment.apps`.
///
/// # Errors
/// If there is none.
pub(crate) fn kind(word: &str) -> Result<Kind, CommandError> {
    let (plain, group) = word.split_once('.').map_or((word, None), |(plain, group)| (plain, Some(group)));
    let in_group = |kind: &Kind| {
        group.is_none_or(|group| kind.api_version().split_once('/').is_some_and(|(its, _)| group == its))
    };
    Kind::from_word(plain).filter(in_group).ok_or_else(|| CommandError::UnknownKind {
        word: word.to_owned(),
        known: Kind::ALL.map(Kind::plural).join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<Target>, CommandError> {
        targets(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn target(kind: Kind, names: &[&str]) -> Target {
        Target { kind, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn kinds_and_names_read_as_in_kubectl() {
        assert_eq!(read(&["po"]).unwrap(), [target(Kind::Pod, &[])]);
        assert_eq!(read(&["Pods", "a", "b"]).unwrap(), [target(Kind::Pod, &["a", "b"])]);
        assert_eq!(read(&["cm,secrets"]).unwrap(), [target(Kind::ConfigMap, &[]), target(Kind::Secret, &[])]);
        assert_eq!(
            read(&["deployment.apps/a", "deploy/b", "pod/c"]).unwrap(),
            [target(Kind::Deployment, &["a", "b"]), target(Kind::Pod, &["c"])]
        );
        assert_eq!(read(&["all"]).unwrap().len(), ALL.len());
    }

    #[test]
    fn what_is_neither_is_refused() {
        for words in [&[][..], &["pods,cm", "a"], &["pod/a", "b"], &["pod/"], &["foo"], &["pod.apps"]] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
