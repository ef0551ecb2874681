//! `keel sync`: look at the Git sources now.

use super::connection::Connection;
use super::output::Output;
use super::{CommandError, output};
use crate::client::SyncReport;
use crate::print::{Colour, Paint, short_commit};
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// Look at the Git sources now, and say what became of it.
///
/// Exits 0 if every source is in sync, 1 if one could not be fetched or was refused.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// Only this source
    source: Option<String>,
    /// Machine-readable
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
}

pub(super) async fn run(args: &SyncArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let reports = args.connection.client()?.sync(args.source.as_deref()).await?;
    match args.output {
        Some(Format::Json) => {
            let text = serde_json::to_string_pretty(&reports).map_err(CommandError::Json)?;
            output.line(&text)?;
        }
        None if reports.is_empty() => output::note("No sources are configured."),
        None => {
            for report in &reports {
                output.write(render(report, output.paint()))?;
            }
        }
    }
    let in_sync = reports.iter().all(|report| report.result == "Synced");
    Ok(if in_sync { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One source: a line, and under it what was wrong.
fn render(report: &SyncReport, paint: Paint) -> String {
    let (commit, before) = (short_commit(&report.commit), short_commit(&report.previous_commit));
    let took = format!("in {} ms", report.duration_millis);
    let head = match report.result.as_str() {
        "Synced" => {
            let what = match before {
                before if before == commit => format!("up to date at {commit}"),
                "" => format!("now at {commit}"),
                before => format!("{before} → {commit}"),
            };
            format!("{} {}: {what} {took}\n", paint.paint(Colour::Good, "✔"), report.source)
        }
        result => {
            let what = if commit.is_empty() { String::new() } else { format!(" {commit} was refused;") };
            let stays = match before {
                "" => " nothing is in force".to_owned(),
                before => format!(" {before} stays in force"),
            };
            format!("{} {}: {result}:{what}{stays} ({took})\n", paint.paint(Colour::Bad, "✘"), report.source)
        }
    };
    report.message.lines().fold(head, |text, line| format!("{text}  {line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_told_in_a_line_and_its_errors_under_it() {
        let report = SyncReport {
            source: "infra".into(),
            result: "Synced".into(),
            commit: "1a2b3c4d5e".into(),
            previous_commit: "9f8e7d6c5b".into(),
            message: String::new(),
            duration_millis: 35,
        };
        assert_eq!(render(&report, Paint::OFF), "✔ infra: 9f8e7d6 → 1a2b3c4 in 35 ms\n");
        let same = SyncReport { previous_commit: report.commit.clone(), ..report.clone() };
        assert_eq!(render(&same, Paint::OFF), "✔ infra: up to date at 1a2b3c4 in 35 ms\n");
        let first = SyncReport { previous_commit: String::new(), ..report.clone() };
        assert_eq!(render(&first, Paint::OFF), "✔ infra: now at 1a2b3c4 in 35 ms\n");
        let bad = SyncReport { result: "Invalid".into(), message: "one\ntwo".into(), ..report };
        assert_eq!(
            render(&bad, Paint::OFF),
            "✘ infra: Invalid: 1a2b3c4 was refused; 9f8e7d6 stays in force (in 35 ms)\n  one\n  two\n"
        );
    }
}
