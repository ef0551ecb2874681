//! `keel delete`: the end of objects.

use super::connection::{Connection, Scope};
use super::output::Output;
use super::{CommandError, output, target};
use crate::client::{Client, ObjectPath, Selectors};
use crate::print;
use clap::{ArgAction, Args};
use manifests::Object;
use manifests::revision::{ORIGIN_ANNOTATION, SOURCE_ANNOTATION};
use std::process::ExitCode;

/// Delete objects, and wait until they are gone.
///
/// What Git wants will come back: to be rid of it, remove it from the repository.
///
///   keel delete pod/web-7c5d           its ReplicaSet makes a new one
///   keel delete job backup --wait=false
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DeleteArgs {
    /// KIND/NAME…, or KIND NAME…
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// Seconds a pod's processes get between SIGTERM and SIGKILL [default: the pod's own]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
    grace_period: Option<i64>,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: &DeleteArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let targets = target::targets(&args.objects)?;
    if targets.iter().any(|target| target.names.is_empty()) {
        return Err(CommandError::Usage("name the objects to delete: KIND/NAME… or KIND NAME…"));
    }
    let mut missing = false;
    for target in &targets {
        for name in &target.names {
            let path = ObjectPath::one(target.kind, &args.scope.namespace, name);
            match delete(&client, &path, args, output).await {
                Err(CommandError::Client(error)) if error.is_not_found() => {
                    output::report(&error);
                    missing = true;
                }
                result => result?,
            }
        }
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn delete(
    client: &Client,
    path: &ObjectPath,
    args: &DeleteArgs,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let object = client.get_object(path).await?;
    client.delete(path, args.grace_period).await?;
    if args.wait {
        gone(client, path, &object).await?;
    }
    let kind = print::qualified_name(object.kind(), "");
    output.line(&format!("{} {:?} deleted", kind.trim_end_matches('/'), object.name()))?;
    if let Some(note) = comes_back(&object) {
        output::note(&note);
    }
    Ok(())
}

/// Returns when the object of this uid is gone; a new one of its name does not count.
pub(super) async fn gone(client: &Client, path: &ObjectPath, object: &Object) -> Result<(), CommandError> {
    let namespace = Some(object.namespace()).filter(|namespace| !namespace.is_empty());
    let collection = ObjectPath::all(path.kind(), namespace);
    let selectors = Selectors::named(object.name());
    loop {
        let list = client.list(&collection, &selectors).await?;
        let is_it = |value: &serde_json::Value| {
            value.pointer("/metadata/uid").and_then(serde_json::Value::as_str) == Some(object.uid())
                && value.pointer("/metadata/name").and_then(serde_json::Value::as_str) == Some(object.name())
        };
        if !list.items.iter().any(is_it) {
            return Ok(());
        }
        // Any event is a reason to look again; an ended watch as well.
        client.watch(&collection, &selectors, &list.resource_version).await?.next().await?;
    }
}

/// What to tell of an object that Git owns.
fn comes_back(object: &Object) -> Option<String> {
    let source = object.annotation(SOURCE_ANNOTATION)?;
    let origin =
        object.annotation(ORIGIN_ANNOTATION).map(|origin| format!(" ({origin})")).unwrap_or_default();
    Some(format!(
        "note: {} comes from the source {source}{origin} and will be put back; remove it there to be rid of it",
        print::qualified_name(object.kind(), object.name()),
    ))
}
