//! `keel taint`: which pods a node takes, and which it ends.

use super::edit::edit;
use super::{node_mut, path};
use crate::cli::CommandError;
use crate::cli::connection::Connection;
use crate::cli::output::Output;
use clap::Args;
use k8s_openapi::api::core::v1::Taint;
use std::process::ExitCode;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const WANTED: &str = "want KEY=VALUE:EFFECT, KEY:EFFECT, KEY:EFFECT- or KEY-, where EFFECT is NoSchedule, \
                      PreferNoSchedule or NoExecute";

/// Put taints on nodes, or take them away.
///
///   keel taint nodes n1 gpu=yes:NoSchedule   pods that do not tolerate it are bound elsewhere
///   keel taint nodes n1 gpu=yes:NoExecute    and those that are there end
///   keel taint nodes n1 gpu-                 all taints of this key go
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct TaintArgs {
    /// nodes NODE… TAINT…
    #[arg(required = true, value_name = "WORD")]
    words: Vec<String>,
    /// Replace a taint of the same key and effect
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What one word says.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    Add(Taint),
    /// Of any effect if that is `None`.
    Remove {
        key: String,
        effect: Option<String>,
    },
}

pub(super) async fn run(args: &TaintArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let (nodes, changes) = read(&args.words)?;
    let client = args.connection.client()?;
    for name in nodes {
        edit(&client, &path(name), |object| {
            let Some(node) = node_mut(object) else { return Ok(()) };
            let spec = node.spec.get_or_insert_default();
            let mut taints = spec.taints.take().unwrap_or_default();
            changes.iter().try_for_each(|change| apply(&mut taints, change, name, args.overwrite))?;
            spec.taints = (!taints.is_empty()).then_some(taints);
            Ok(())
        })
        .await?;
        let removes = |change: &Change| matches!(change, Change::Remove { .. });
        let word = match (changes.iter().any(removes), changes.iter().all(removes)) {
            (_, true) => "untainted",
            (true, false) => "modified",
            (false, false) => "tainted",
        };
        output.line(&format!("node/{name} {word}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The nodes and the changes that `words` name.
fn read(words: &[String]) -> Result<(Vec<&str>, Vec<Change>), CommandError> {
    let kind = words.first().map(String::as_str).unwrap_or_default();
    let words = match kind {
        "node" | "nodes" | "no" => &words[1..],
        _ => words,
    };
    let is_change = |word: &&String| word.contains([':', '=']) || word.ends_with('-');
    let nodes: Vec<_> = words.iter().take_while(|word| !is_change(word)).collect();
    let changes = words[nodes.len()..].iter().map(|word| change(word)).collect::<Result<Vec<_>, _>>()?;
    if nodes.is_empty() || changes.is_empty() {
        return Err(CommandError::Usage("name nodes and taints: keel taint nodes NODE KEY=VALUE:EFFECT"));
    }
    let names = nodes.into_iter().map(|name| name.strip_prefix("node/").unwrap_or(name)).collect();
    Ok((names, changes))
}

fn change(word: &str) -> Result<Change, CommandError> {
    let wrong = || CommandError::Word { word: word.to_owned(), wanted: WANTED };
    let known = |effect: &str| EFFECTS.contains(&effect);
    if let Some(removed) = word.strip_suffix('-') {
        let (named, effect) = match removed.split_once(':') {
            Some((named, effect)) => (named, Some(effect.to_owned())),
            None => (removed, None),
        };
        let key = named.split_once('=').map_or(named, |(key, _)| key).to_owned();
        if key.is_empty() || effect.as_deref().is_some_and(|effect| !known(effect)) {
            return Err(wrong());
        }
        return Ok(Change::Remove { key, effect });
    }
    let (named, effect) = word.split_once(':').ok_or_else(wrong)?;
    let (key, value) = match named.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (named, None),
    };
    if key.is_empty() || !known(effect) {
        return Err(wrong());
    }
    Ok(Change::Add(Taint { key: key.into(), value, effect: effect.into(), time_added: None }))
}

fn apply(taints: &mut Vec<Taint>, change: &Change, node: &str, overwrite: bool) -> Result<(), CommandError> {
    match change {
        Change::Remove { key, effect } => {
            let before = taints.len();
            taints.retain(|taint| {
                taint.key != *key || effect.as_ref().is_some_and(|effect| taint.effect != *effect)
            });
            if taints.len() == before {
                let what = match effect {
                    Some(effect) => format!("{key}:{effect}"),
                    None => key.clone(),
                };
                return Err(CommandError::NoTaint { node: node.to_owned(), taint: what });
            }
        }
        Change::Add(new) => {
            match taints.iter_mut().find(|taint| taint.key == new.key && taint.effect == new.effect) {
                Some(old) if old.value == new.value => {}
                Some(_) if !overwrite => {
                    let what = format!("taint {} with effect {}", new.key, new.effect);
                    return Err(CommandError::IsSet { object: format!("node/{node}"), what });
                }
                Some(old) => *old = new.clone(),
                None => taints.push(new.clone()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(words: &[&str], overwrite: bool) -> Result<Vec<String>, String> {
        let all: Vec<String> = ["nodes", "n"].iter().chain(words).map(ToString::to_string).collect();
        let (nodes, changes) = read(&all).map_err(|error| error.to_string())?;
        assert_eq!(nodes, ["n"]);
        let mut taints = vec![Taint {
            key: "a".into(),
            value: Some("1".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        }];
        for change in &changes {
            apply(&mut taints, change, "n", overwrite).map_err(|error| error.to_string())?;
        }
        let word = |taint: &Taint| {
            format!("{}={}:{}", taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect)
        };
        Ok(taints.iter().map(word).collect())
    }

    #[test]
    fn taints_come_and_go_in_kubectls_words() {
        assert_eq!(
            after(&["b=2:NoExecute", "c:NoSchedule"], false).unwrap(),
            ["a=1:NoSchedule", "b=2:NoExecute", "c=:NoSchedule"]
        );
        assert_eq!(after(&["a-"], false).unwrap(), Vec::<String>::new());
        assert_eq!(after(&["a:NoSchedule-"], false).unwrap(), Vec::<String>::new());
        assert_eq!(after(&["a=1:NoSchedule-"], false).unwrap(), Vec::<String>::new());
        assert_eq!(after(&["a=1:NoSchedule"], false).unwrap(), ["a=1:NoSchedule"]);
        assert_eq!(after(&["a=2:NoSchedule"], true).unwrap(), ["a=2:NoSchedule"]);
        assert_eq!(
            after(&["a=2:NoSchedule"], false).unwrap_err(),
            "node/n has taint a with effect NoSchedule already; --overwrite replaces it"
        );
        assert_eq!(after(&["a:NoExecute-"], false).unwrap_err(), "node/n has no taint a:NoExecute");
        for wrong in ["a=1:Never", "=1:NoSchedule", "a=1", ":NoSchedule-"] {
            assert!(after(&[wrong], false).unwrap_err().contains("want KEY=VALUE:EFFECT"), "{wrong}");
        }
    }
}
