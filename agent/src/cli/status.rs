//! `keel status`: the node, or an object, in the manner of `systemctl status`.

use super::connection::{Connection, Scope};
use super::dependents::Dependents;
use super::output::Output;
use super::{CommandError, events, target};
use crate::client::{Client, ClientError, ObjectPath, Query, Selectors};
use crate::print::Paint;
use crate::print::status::{self, Branch, LogLine, PodReport, Provenance, WorkloadReport};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use manifests::image::Reference;
use manifests::revision::{AUTHOR_ANNOTATION, COMMIT_ANNOTATION, ORIGIN_ANNOTATION, SOURCE_ANNOTATION};
use manifests::{Kind, Object};
use std::process::ExitCode;

/// Lines of the log that are shown.
const LOG_LINES: usize = 10;

/// How the node is, or an object: since when, processes, usage, log, events, and the commit it came from.
///
///   keel status                   the node, its sources and its pods
///   keel status pod/web-7c5d
///   keel status deployment web    its ReplicaSets and pods as a tree
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct StatusArgs {
    /// KIND/NAME, or KIND NAME; the node if left out
    #[arg(value_name = "OBJECT", num_args = 0..=2)]
    object: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: &StatusArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let paint = output.paint();
    let text = if args.object.is_empty() {
        node(&client, paint).await?
    } else {
        let (kind, name) = target::one(&args.object, Some(Kind::Pod))?;
        let object = client.get_object(&ObjectPath::one(kind, &args.scope.namespace, &name)).await?;
        if let Object::Pod(pod) = object {
            self::pod(&client, *pod, paint).await?
        } else {
            workload(&client, object, paint).await?
        }
    };
    output.write(text)?;
    Ok(ExitCode::SUCCESS)
}

async fn node(client: &Client, paint: Paint) -> Result<String, CommandError> {
    let agent = client.status().await?;
    let found = client.list_objects(&ObjectPath::all(Kind::Pod, None), &Selectors::default()).await?;
    let pods: Vec<Pod> = found.iter().filter_map(|pod| <&Pod>::try_from(pod).ok().cloned()).collect();
    Ok(status::node(&agent, &pods, paint, Timestamp::now()))
}

async fn pod(client: &Client, pod: Pod, paint: Paint) -> Result<String, CommandError> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let object = Object::from(pod.clone());
    let images: Vec<_> = images(&pod).collect();
    let pulls = present(client.status().await)?
        .unwrap_or_default()
        .pulls
        .into_iter()
        .filter(|pull| images.contains(&pull.reference));
    let report = PodReport {
        pulls: pulls.collect(),
        provenance: provenance(client, &object).await?,
        inspection: present(client.inspect(&namespace, &name).await)?,
        log: log(client, &pod).await?,
        events: events_about(client, &object).await?,
        pod,
    };
    Ok(status::pod(&report, paint, Timestamp::now()))
}

/// The images of a pod's containers, in full.
fn images(pod: &Pod) -> impl Iterator<Item = String> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    containers.filter_map(|container| Some(Reference::parse(container.image.as_deref()?).ok()?.to_string()))
}

async fn workload(client: &Client, object: Object, paint: Paint) -> Result<String, CommandError> {
    let now = Timestamp::now();
    let children = if object.kind().is_namespaced() {
        let dependents = Dependents::of(client, object.namespace()).await?;
        branches(&dependents, &object, paint, now)
    } else {
        Vec::new()
    };
    let report = WorkloadReport {
        provenance: provenance(client, &object).await?,
        events: events_about(client, &object).await?,
        children,
        object,
    };
    Ok(status::workload(&report, paint, now))
}

fn branches(dependents: &Dependents, owner: &Object, paint: Paint, now: Timestamp) -> Vec<Branch> {
    let grow = |child: &&Object| Branch {
        children: branches(dependents, child, paint, now),
        ..status::branch(child, paint, now)
    };
    dependents.children(owner).iter().map(grow).collect()
}

/// What is there, or `None` if it is not (or cannot be) there now.
fn present<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ClientError::Status { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn events_about(client: &Client, object: &Object) -> Result<Vec<Event>, ClientError> {
    let namespace = Some(object.namespace()).filter(|namespace| !namespace.is_empty());
    let path = ObjectPath::all(Kind::Event, namespace);
    let found = client.list_objects(&path, &events::about(object.kind(), object.name())).await?;
    let events = found.iter().filter_map(|event| <&Event>::try_from(event).ok());
    // An object of the same name may have been there before.
    let same = |event: &&Event| event.involved_object.uid.as_deref().is_none_or(|uid| uid == object.uid());
    Ok(events.filter(same).cloned().collect())
}

/// Follows the owners up to the object that Git holds.
async fn provenance(client: &Client, object: &Object) -> Result<Provenance, ClientError> {
    let mut provenance = Provenance::default();
    let mut held = object.clone();
    while held.annotation(SOURCE_ANNOTATION).is_none() {
        let Some(owner) = held.controller() else { break };
        let Some(kind) = Kind::from_gvk(&owner.api_version, &owner.kind) else { break };
        provenance.owners.insert(0, format!("{}/{}", owner.kind, owner.name));
        let path = ObjectPath::one(kind, object.namespace(), &owner.name);
        let Some(next) = present(client.get_object(&path).await)? else { break };
        held = next;
    }
    let text = |key: &str| held.annotation(key).unwrap_or_default().to_owned();
    provenance.source = text(SOURCE_ANNOTATION);
    provenance.origin = text(ORIGIN_ANNOTATION);
    provenance.commit = text(COMMIT_ANNOTATION);
    provenance.author = text(AUTHOR_ANNOTATION);
    if provenance.source.is_empty() {
        return Ok(provenance);
    }
    let path = ObjectPath::one(Kind::Revision, "", &provenance.source);
    if let Some(Object::Revision(revision)) = present(client.get_object(&path).await)? {
        provenance.url = revision.spec.url;
        if revision.spec.commit == provenance.commit {
            provenance.subject = Some(revision.spec.subject);
            provenance.committed_at = revision.spec.committed_at.parse().ok();
        }
    }
    Ok(provenance)
}

/// The last lines of all containers, by their time.
async fn log(client: &Client, pod: &Pod) -> Result<Vec<LogLine>, ClientError> {
    let Some(spec) = &pod.spec else { return Ok(Vec::new()) };
    let path = ObjectPath::one(
        Kind::Pod,
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let mut lines = Vec::new();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let mut query = Query::default();
        query.push("container", &container.name);
        query.push("tailLines", &LOG_LINES.to_string()).push("timestamps", "true");
        // A container that has not started has no log.
        let Some(mut log) = present(client.log(&path, &query).await)? else { continue };
        while let Some(line) = log.next().await? {
            lines.extend(log_line(&container.name, &String::from_utf8_lossy(&line)));
        }
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines.split_off(lines.len().saturating_sub(LOG_LINES)))
}

fn log_line(container: &str, line: &str) -> Option<LogLine> {
    let (at, text) = line.split_once(' ')?;
    let text = text.trim_end_matches(['\n', '\r']);
    // What a container wrote must not command the terminal.
    let text = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    Some(LogLine { at: at.parse().ok()?, container: container.to_owned(), text })
}
