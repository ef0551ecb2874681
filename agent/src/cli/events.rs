//! `keel events`: what happened lately, oldest first.

use super::connection::{Connection, WideScope};
use super::output::Output;
use super::{CommandError, output, target};
use crate::client::{ObjectPath, Selectors, WatchKind, typed};
use crate::print::{self, Table, Widths};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use manifests::{Kind, Object};
use std::process::ExitCode;

/// What happened lately, oldest first.
///
///   keel events --for deployment/web
///   keel events -A -w --types Warning
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    scope: WideScope,
    /// Only what happened to this object: KIND/NAME
    #[arg(long = "for", value_name = "OBJECT")]
    object: Option<String>,
    /// Only events of these types: Normal, Warning
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// After the list, write each new event until interrupted
    #[arg(long, short)]
    watch: bool,
    /// Leave the first line out
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: &EventsArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let path = ObjectPath::all(Kind::Event, args.scope.namespace());
    let selectors = selectors(args.object.as_deref())?;
    let list = client.list(&path, &selectors).await?;
    let mut events = Vec::new();
    for item in list.items {
        events.extend(event(item)?.filter(|event| args.wants(event)));
    }
    events.sort_by_key(print::last_seen);
    let with_namespace = args.scope.all_namespaces;
    let now = Timestamp::now();
    let mut table = Table { heads: print::seen_columns(with_namespace), rows: Vec::new() };
    table.rows.extend(events.iter().map(|event| print::seen_row(event, with_namespace, now)));
    if args.no_headers {
        table.heads.clear();
    }
    if !table.rows.is_empty() || args.watch {
        output.write(table.render())?;
    } else {
        output::note(&match args.scope.namespace() {
            Some(namespace) => format!("No events found in {namespace} namespace."),
            None => "No events found.".into(),
        });
    }
    if !args.watch {
        return Ok(ExitCode::SUCCESS);
    }
    let mut widths = Widths::default();
    widths.fit(&table.heads);
    table.rows.iter().for_each(|row| widths.fit(row));
    let mut watch = client.watch(&path, &selectors, &list.resource_version).await?;
    while let Some(change) = watch.next().await? {
        let gone = change.kind == WatchKind::Deleted;
        if let Some(event) = event(change.object)?.filter(|event| !gone && args.wants(event)) {
            let row = print::seen_row(&event, with_namespace, Timestamp::now());
            widths.fit(&row);
            output.line(&widths.line(&row))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl EventsArgs {
    fn wants(&self, event: &Event) -> bool {
        let kind = event.type_.as_deref().unwrap_or_default();
        self.types.is_empty() || self.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind))
    }
}

fn selectors(object: Option<&str>) -> Result<Selectors, CommandError> {
    let Some(object) = object else { return Ok(Selectors::default()) };
    let (kind, name) = target::one(&[object.to_owned()], None)?;
    Ok(about(kind, &name))
}

/// Selects the events about an object.
pub(super) fn about(kind: Kind, name: &str) -> Selectors {
    Selectors {
        fields: format!("involvedObject.kind={kind},involvedObject.name={name}"),
        ..Selectors::default()
    }
}

fn event(item: serde_json::Value) -> Result<Option<Event>, CommandError> {
    let object = typed(Kind::Event, item)?;
    Ok(if let Object::Event(event) = object { Some(*event) } else { None })
}
