//! `keel get`: objects in kubectl's columns, or as YAML, JSON or names.

use super::connection::{Connection, WideScope};
use super::output::Output;
use super::target::Target;
use super::{CommandError, output, target};
use crate::client::{Client, ObjectPath, Selectors, WatchKind, typed};
use crate::print::{self, Columns, Table, Widths};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use manifests::Kind;
use serde::Serialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// List objects, in kubectl's columns.
///
///   keel get pods                  pods of the namespace default
///   keel get pods -A -o wide       of every namespace, with addresses
///   keel get deploy,cm -n shop     several kinds
///   keel get deployment/web -o yaml
///   keel get all                   what runs, and what makes it run
///   keel get revisions             what each Git source has in force
///   keel get pods -w               and every change from now on
///
/// Kinds: pods (po), deployments (deploy), replicasets (rs), daemonsets (ds), jobs,
/// cronjobs (cj), configmaps (cm), secrets, services (svc), namespaces (ns), nodes (no),
/// events (ev), revisions (rev).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct GetArgs {
    /// KIND[,KIND…] [NAME…], KIND/NAME…, or all
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
    #[command(flatten)]
    scope: WideScope,
    /// Only objects with these labels: `app=web,tier!=cache`
    #[arg(long, short = 'l', value_name = "LABELS", default_value = "", hide_default_value = true)]
    selector: String,
    /// Only objects with these fields: `status.phase=Running`
    #[arg(long, value_name = "FIELDS", default_value = "", hide_default_value = true)]
    field_selector: String,
    /// How to write them
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// After the list, write each change until interrupted
    #[arg(long, short)]
    watch: bool,
    /// Add a column with each object's labels
    #[arg(long)]
    show_labels: bool,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table with more columns
    Wide,
    Yaml,
    Json,
    /// KIND/NAME, one per line
    Name,
}

/// The objects of one target, as they are now.
struct Found {
    kind: Kind,
    /// `None` if objects were named.
    resource_version: Option<String>,
    items: Vec<Value>,
}

pub(super) async fn run(args: &GetArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let targets = target::targets(&args.objects)?;
    let mut found = Vec::new();
    let mut missing = false;
    for target in &targets {
        found.push(fetch(&client, target, args, &mut missing).await?);
    }
    if args.watch {
        let [target] = targets.as_slice() else {
            return Err(CommandError::Usage("-w watches one kind at a time"));
        };
        if missing {
            return Ok(ExitCode::FAILURE);
        }
        return watch(&client, target, args, output).await;
    }
    match args.output {
        Some(Format::Yaml | Format::Json) => write_documents(args, found, output)?,
        Some(Format::Name) => {
            for found in &found {
                found.items.iter().try_for_each(|item| output.line(&name_of(found.kind, item)))?;
            }
        }
        Some(Format::Wide) | None => write_tables(args, found, missing, output)?,
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The objects of `target`. Of names, each that is not there is reported, and
/// `missing` becomes true.
async fn fetch(
    client: &Client,
    target: &Target,
    args: &GetArgs,
    missing: &mut bool,
) -> Result<Found, CommandError> {
    if target.names.is_empty() {
        let path = ObjectPath::all(target.kind, args.scope.namespace());
        let list = client.list(&path, &args.selectors()).await?;
        return Ok(Found {
            kind: target.kind,
            resource_version: Some(list.resource_version),
            items: list.items,
        });
    }
    let Some(namespace) = args.scope.namespace() else {
        return Err(CommandError::Usage("a name is looked up in one namespace; -A does not go with it"));
    };
    let mut items = Vec::new();
    for name in &target.names {
        match client.get(&ObjectPath::one(target.kind, namespace, name)).await {
            Ok(item) => items.push(item),
            Err(error) if error.is_not_found() => {
                output::report(&error);
                *missing = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Found { kind: target.kind, resource_version: None, items })
}

impl GetArgs {
    fn selectors(&self) -> Selectors {
        Selectors { labels: self.selector.clone(), fields: self.field_selector.clone() }
    }

    fn columns(&self, prefix: bool) -> Columns {
        Columns {
            wide: self.output == Some(Format::Wide),
            namespace: self.scope.all_namespaces,
            labels: self.show_labels,
            prefix,
        }
    }
}

fn name_of(kind: Kind, item: &Value) -> String {
    let name = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    print::qualified_name(kind, name)
}

fn write_tables(
    args: &GetArgs,
    found: Vec<Found>,
    missing: bool,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let several = found.len() > 1;
    let columns = args.columns(several);
    let now = Timestamp::now();
    let mut first = true;
    for found in found.into_iter().filter(|found| !found.items.is_empty()) {
        let mut table = Table::default();
        if !args.no_headers {
            table.heads = print::heads(found.kind, columns);
        }
        for item in found.items {
            table.rows.push(print::row(&typed(found.kind, item)?, columns, now));
        }
        if !first {
            output.line("")?;
        }
        first = false;
        output.write(table.render())?;
    }
    if first && !missing {
        output::note(&nothing(args.scope.namespace().filter(|_| namespaced(&args.objects))));
    }
    Ok(())
}

/// True unless only kinds without namespace were asked for.
fn namespaced(words: &[String]) -> bool {
    target::targets(words).is_ok_and(|targets| targets.iter().any(|target| target.kind.is_namespaced()))
}

/// kubectl's words for an empty list.
fn nothing(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("No resources found in {namespace} namespace."),
        None => "No resources found".into(),
    }
}

/// One object that was named stands for itself; everything else is a List.
fn write_documents(args: &GetArgs, found: Vec<Found>, output: &mut Output<'_>) -> Result<(), CommandError> {
    let named = found.iter().all(|found| found.resource_version.is_none());
    let mut items: Vec<Value> = found.into_iter().flat_map(|found| found.items).collect();
    let document = match items.len() {
        0 if named => return Ok(()),
        1 if named => items.remove(0),
        _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}),
    };
    output.write(document_text(args.output, &document)?)
}

fn document_text(format: Option<Format>, document: &Value) -> Result<String, CommandError> {
    match format {
        Some(Format::Json) => {
            let pretty = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut bytes = Vec::new();
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, pretty);
            document.serialize(&mut serializer).map_err(CommandError::Json)?;
            Ok(format!("{}\n", String::from_utf8_lossy(&bytes)))
        }
        Some(Format::Yaml | Format::Wide | Format::Name) | None => {
            serde_yaml::to_string(document).map_err(|error| CommandError::Yaml { reason: error.to_string() })
        }
    }
}

/// Writes what is there, then a line for each change, until the agent goes away.
async fn watch(
    client: &Client,
    target: &Target,
    args: &GetArgs,
    output: &mut Output<'_>,
) -> Result<ExitCode, CommandError> {
    let path = ObjectPath::all(target.kind, args.scope.namespace());
    let mut selectors = args.selectors();
    if let [name] = target.names.as_slice() {
        let named = Selectors::named(name).fields;
        selectors.fields =
            [named, selectors.fields].into_iter().filter(|f| !f.is_empty()).collect::<Vec<_>>().join(",");
    } else if target.names.len() > 1 {
        return Err(CommandError::Usage("-w watches a whole kind, or one name"));
    }
    let list = client.list(&path, &selectors).await?;
    let mut writer = WatchWriter { args, kind: target.kind, widths: Widths::default(), begun: false };
    writer.write_all(list.items, output)?;
    let mut watch = client.watch(&path, &selectors, &list.resource_version).await?;
    while let Some(event) = watch.next().await? {
        let deleted = event.kind == WatchKind::Deleted;
        // kubectl shows the last state of what is gone; of a pod that is `Terminating` or `Completed`.
        if !deleted || target.kind != Kind::Event {
            writer.write_all(vec![event.object], output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes rows of a watch under one head.
struct WatchWriter<'a> {
    args: &'a GetArgs,
    kind: Kind,
    widths: Widths,
    begun: bool,
}

impl WatchWriter<'_> {
    fn write_all(&mut self, items: Vec<Value>, output: &mut Output<'_>) -> Result<(), CommandError> {
        match self.args.output {
            Some(Format::Name) => items.iter().try_for_each(|item| output.line(&name_of(self.kind, item))),
            Some(Format::Yaml) => items.iter().try_for_each(|item| {
                output.write(format!("---\n{}", document_text(self.args.output, item)?))
            }),
            Some(Format::Json) => {
                items.iter().try_for_each(|item| output.write(document_text(self.args.output, item)?))
            }
            Some(Format::Wide) | None => self.write_rows(items, output),
        }
    }

    fn write_rows(&mut self, items: Vec<Value>, output: &mut Output<'_>) -> Result<(), CommandError> {
        let columns = self.args.columns(false);
        let now = Timestamp::now();
        let mut rows = Vec::new();
        for item in items {
            let row = print::row(&typed(self.kind, item)?, columns, now);
            self.widths.fit(&row);
            rows.push(row);
        }
        if !rows.is_empty() && !std::mem::replace(&mut self.begun, true) && !self.args.no_headers {
            let heads = print::heads(self.kind, columns);
            self.widths.fit(&heads);
            output.line(&self.widths.line(&heads))?;
        }
        rows.iter().try_for_each(|row| output.line(&self.widths.line(row)))
    }
}
