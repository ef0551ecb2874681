//! Whether a commit may take force, and what it then says. Pure.

use crate::controllers::garbage::DEFAULT_NAMESPACE;
use crate::controllers::revision::manifest_of;
use crate::git::Fetched;
use crate::store::State;
use manifests::config::GitSource;
use manifests::diagnostic::{Diagnostic, Severity, render};
use manifests::parse::{Parsed, ParsedObject};
use manifests::revision::{
    AUTHOR_ANNOTATION, COMMIT_ANNOTATION, ORIGIN_ANNOTATION, Revision, RevisionSpec, SOURCE_ANNOTATION,
};
use manifests::{Kind, Object, ObjectKey};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// The annotations that say where an object comes from; ours alone to set.
const OURS: [&str; 4] = [SOURCE_ANNOTATION, COMMIT_ANNOTATION, AUTHOR_ANNOTATION, ORIGIN_ANNOTATION];

/// Why a commit does not take force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For `RevisionStatus::result`.
    pub(super) result: &'static str,
    /// The commit, if one was reached.
    pub(super) commit: String,
    /// What was wrong, rendered for a person.
    pub(super) message: String,
}

/// What a look changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Revised {
    /// What takes force; nothing if it is in force already.
    pub(super) spec: Option<RevisionSpec>,
    /// What the user should know all the same.
    pub(super) message: String,
}

/// Judges the commit `fetched` of `source`, whose files hold `parsed`; `place`
/// is the repository's address and the followed reference.
pub(super) fn accept(
    state: &State,
    source: &GitSource,
    place: (String, String),
    fetched: Fetched,
    parsed: Parsed,
) -> Result<Revised, Refusal> {
    let key = ObjectKey::new(Kind::Revision, "", source.name.as_str());
    let before = state.get(&key).and_then(|object| (&**object).try_into().ok());
    let Parsed { objects, mut diagnostics } = parsed;
    diagnostics.extend(missing_namespaces(state, &objects));
    let refuse = |result, message| Err(Refusal { result, commit: fetched.commit.clone(), message });
    if diagnostics.iter().any(Diagnostic::is_error) {
        return refuse("Invalid", render(&diagnostics, false));
    }
    let had_objects = before.is_some_and(|before: &Revision| !before.spec.objects.is_empty());
    if objects.is_empty() && had_objects && !source.allow_empty {
        let message = "the commit has no object; with `allowEmpty: true` this would delete everything that \
                       came from the source";
        return refuse("Emptied", message.into());
    }
    let mut message = render(&diagnostics, false);
    for line in claimed_elsewhere(state, &source.name, &objects) {
        message.push_str(&line);
    }
    let (url, reference) = place;
    let mut spec = RevisionSpec {
        url,
        reference,
        commit: fetched.commit,
        author: fetched.author,
        committed_at: fetched.committed_at.to_string(),
        subject: fetched.subject,
        ..RevisionSpec::default()
    };
    stamp(&mut spec, &source.name, before, objects).map_err(|(key, error)| Refusal {
        result: "Invalid",
        commit: spec.commit.clone(),
        message: format!("{key}: {error}"),
    })?;
    let is_news = before.is_none_or(|before| before.spec != spec);
    Ok(Revised { spec: is_news.then_some(spec), message })
}

/// Fills in the objects, in key order, each with where it comes from, and the
/// hash over them. An object that is as it was keeps its commit and author.
fn stamp(
    spec: &mut RevisionSpec,
    source: &str,
    before: Option<&Revision>,
    objects: Vec<ParsedObject>,
) -> Result<(), (ObjectKey, serde_json::Error)> {
    let mut objects: Vec<_> = objects.into_iter().map(|parsed| (parsed.object.key(), parsed)).collect();
    objects.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hasher = Sha256::new();
    for (key, ParsedObject { object, path, line }) in objects {
        let mut manifest = object.to_json().map_err(|error| (key.clone(), error))?;
        take_ours(&mut manifest);
        hasher.update(manifest.to_string());
        let same = before.and_then(|before| manifest_of(before, &key)).filter(|old| {
            let mut old = (*old).clone();
            take_ours(&mut old);
            old == manifest
        });
        let kept = |annotation: &str| Some(same?["metadata"]["annotations"][annotation].as_str()?.to_owned());
        let commit = kept(COMMIT_ANNOTATION).unwrap_or_else(|| spec.commit.clone());
        let author = kept(AUTHOR_ANNOTATION).unwrap_or_else(|| spec.author.clone());
        let values = [source.to_owned(), commit, author, format!("{path}:{line}")];
        let annotations = &mut manifest["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = Value::Object(Map::new());
        }
        for (annotation, value) in OURS.into_iter().zip(values) {
            annotations[annotation] = Value::String(value);
        }
        spec.objects.push(manifest);
    }
    spec.content_hash = hex::encode(hasher.finalize());
    Ok(())
}

/// Takes our annotations out, and the map with them if nothing else is in it.
fn take_ours(manifest: &mut Value) {
    let Some(meta) = manifest["metadata"].as_object_mut() else { return };
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.retain(|key, _| !OURS.contains(&key.as_str()));
    if annotations.is_empty() {
        meta.remove("annotations");
    }
}

/// An error for each object in a namespace that neither the revision nor
/// anything else brings.
fn missing_namespaces(state: &State, objects: &[ParsedObject]) -> Vec<Diagnostic> {
    let namespace_key = |name: &str| ObjectKey::new(Kind::Namespace, "", name);
    let brought: HashSet<&str> = objects
        .iter()
        .filter(|parsed| parsed.object.kind() == Kind::Namespace)
        .map(|parsed| parsed.object.name())
        .collect();
    let exists = |name: &str| {
        name.is_empty()
            || name == DEFAULT_NAMESPACE
            || brought.contains(name)
            || state.get(&namespace_key(name)).is_some()
            || revisions(state).any(|r| manifest_of(r, &namespace_key(name)).is_some())
    };
    let homeless = objects.iter().filter(|parsed| !exists(parsed.object.namespace()));
    homeless
        .map(|parsed| {
            let name = parsed.object.namespace();
            Diagnostic {
                severity: Severity::Error,
                path: parsed.path.clone(),
                line: parsed.line,
                column: 1,
                field: "metadata.namespace".into(),
                code: "missing-namespace",
                message: format!("{}: there is no namespace `{name}`", parsed.object.key()),
                help: Some(format!("add a Namespace `{name}` to the repository")),
                length: 1,
                source_line: None,
            }
        })
        .collect()
}

/// A line for each object that another source has.
fn claimed_elsewhere(state: &State, source: &str, objects: &[ParsedObject]) -> Vec<String> {
    let owner = |object: &Object| {
        let stored = state.get(&object.key())?.annotation(SOURCE_ANNOTATION)?.to_owned();
        let claims = |r: &Revision| {
            r.metadata.name.as_ref() == Some(&stored) && manifest_of(r, &object.key()).is_some()
        };
        (stored != source && revisions(state).any(claims)).then_some(stored)
    };
    let claimed = objects.iter().filter_map(|parsed| Some((parsed, owner(&parsed.object)?)));
    claimed
        .map(|(parsed, owner)| {
            format!(
                "{}:{}: {} belongs to source {owner}: left as it is\n",
                parsed.path,
                parsed.line,
                parsed.object.key()
            )
        })
        .collect()
}

fn revisions(state: &State) -> impl Iterator<Item = &Revision> {
    state.list(Kind::Revision, None).filter_map(|object| (&**object).try_into().ok())
}
