//! `keel label`: labels of objects.

use super::edit::edit;
use crate::cli::CommandError;
use crate::cli::connection::{Connection, Scope};
use crate::cli::output::{self, Output};
use crate::cli::target;
use crate::client::ObjectPath;
use crate::node::hardware::label_value;
use clap::Args;
use manifests::revision::SOURCE_ANNOTATION;
use manifests::{Object, ObjectKey};
use std::process::ExitCode;

/// Put labels on objects, or take them away.
///
///   keel label nodes n1 disk=ssd   pods with this nodeSelector may come
///   keel label nodes n1 disk-      the label goes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct LabelArgs {
    /// KIND NAME… KEY=VALUE… KEY-…
    #[arg(required = true, value_name = "WORD")]
    words: Vec<String>,
    /// Replace a label that is there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: &LabelArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let is_change = |word: &&String| word.contains('=') || word.ends_with('-');
    let objects: Vec<_> = args.words.iter().take_while(|word| !is_change(word)).cloned().collect();
    let changes = &args.words[objects.len()..];
    let targets = target::targets(&objects)?;
    if changes.is_empty() || targets.iter().any(|target| target.names.is_empty()) {
        return Err(CommandError::Usage("name objects and labels: keel label nodes NODE KEY=VALUE"));
    }
    let client = args.connection.client()?;
    for target in &targets {
        for name in &target.names {
            let path = ObjectPath::one(target.kind, &args.scope.namespace, name);
            let before = client.get_object(&path).await?;
            let changed = edit(&client, &path, |object| {
                changes.iter().try_for_each(|change| apply(object, change, args.overwrite))
            })
            .await?;
            let what = word(&before.key());
            output.line(&format!("{what} {}", if changed { "labeled" } else { "not labeled" }))?;
            if changed && before.annotation(SOURCE_ANNOTATION).is_some() {
                output::note(&format!("note: {what} comes from Git, which will put its labels back"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `node/n1`.
fn word(key: &ObjectKey) -> String {
    format!("{}/{}", key.kind.as_str().to_lowercase(), key.name)
}

fn apply(object: &mut Object, change: &str, overwrite: bool) -> Result<(), CommandError> {
    let name = word(&object.key());
    let labels = object.metadata_mut().labels.get_or_insert_default();
    if let Some((key, value)) = change.split_once('=') {
        if labels.get(key).is_some_and(|old| old != value) && !overwrite {
            return Err(CommandError::IsSet { object: name, what: format!("label {key}") });
        }
        if !is_key(key) || !is_value(value) {
            let wanted = "want KEY=VALUE, where both are a label's";
            return Err(CommandError::Word { word: change.to_owned(), wanted });
        }
        labels.insert(key.to_owned(), value.to_owned());
    } else if let Some(key) = change.strip_suffix('-') {
        labels.remove(key);
    } else {
        return Err(CommandError::Word { word: change.to_owned(), wanted: "want KEY=VALUE or KEY-" });
    }
    if labels.is_empty() {
        object.metadata_mut().labels = None;
    }
    Ok(())
}

/// `[prefix/]name`.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("a", key));
    let in_prefix = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    !name.is_empty() && is_value(name) && !prefix.is_empty() && prefix.chars().all(in_prefix)
}

fn is_value(value: &str) -> bool {
    label_value(value) == value
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::Kind;
    use serde_json::json;

    #[test]
    fn labels_come_and_go_and_are_replaced_only_if_told_so() {
        let node = || {
            Object::from_json(Kind::Node, json!({"metadata": {"name": "n", "labels": {"a": "1"}}})).unwrap()
        };
        let after = |change: &str, overwrite: bool| {
            let mut object = node();
            apply(&mut object, change, overwrite).map_err(|error| error.to_string())?;
            Ok::<_, String>(json!(object.metadata().labels))
        };
        assert_eq!(after("b=2", false).unwrap(), json!({"a": "1", "b": "2"}));
        assert_eq!(after("a=1", false).unwrap(), json!({"a": "1"}));
        assert_eq!(after("a=2", true).unwrap(), json!({"a": "2"}));
        assert_eq!(after("a-", false).unwrap(), json!(null));
        assert_eq!(after("none-", false).unwrap(), json!({"a": "1"}));
        assert_eq!(after("a=2", false).unwrap_err(), "node/n has label a already; --overwrite replaces it");
        assert!(after("a b=2", false).unwrap_err().contains("want KEY=VALUE"));
        assert!(after("word", false).unwrap_err().contains("want KEY=VALUE or KEY-"));
    }
}
