//! `keel token`: who may join the cluster.

use super::CommandError;
use super::connection::Connection;
use super::output::{self, Output};
use crate::client::ListedToken;
use crate::print::{Table, human_duration, seconds_between};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use std::process::ExitCode;

/// Who may join the cluster
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token, and print it: this once
    Create {
        /// How long it is good; 0 is for ever
        #[arg(long, default_value = "24h", value_parser = ttl)]
        ttl: u32,
        /// How many nodes can join with it [default: any number]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Print the command that a node joins with
        #[arg(long)]
        print_join_command: bool,
    },
    /// List the tokens
    #[command(visible_alias = "ls")]
    List,
    /// Nobody joins with these tokens any more
    #[command(visible_alias = "rm")]
    Delete {
        /// What comes before the point
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Seconds of `24h`, `30m`, `0`.
fn ttl(text: &str) -> Result<u32, String> {
    let wrong = || "write it as `24h`, `30m`; `0` is for ever".to_owned();
    if text == "0" {
        return Ok(0);
    }
    let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
    u32::try_from(duration.as_secs()).ok().filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

pub(super) async fn run(args: &TokenArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    match &args.action {
        Action::Create { ttl, uses, print_join_command } => {
            let made = client.create_token(Some(*ttl).filter(|ttl| *ttl > 0), *uses).await?;
            if *print_join_command {
                output.line(&format!("keel join {} --token {}", made.server, made.token))?;
            } else {
                output.line(&made.token)?;
            }
        }
        Action::List => {
            let tokens = client.tokens().await?;
            if tokens.is_empty() {
                output::note("There are no join tokens.");
            } else {
                output.write(listing(&tokens, Timestamp::now()))?;
            }
        }
        Action::Delete { ids } => {
            for id in ids {
                // What comes after the point is nobody's business.
                let id = id.split_once('.').map_or(id.as_str(), |(id, _)| id);
                client.delete_token(id).await?;
                output.line(&format!("token {id} deleted"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listing(tokens: &[ListedToken], now: Timestamp) -> String {
    let mut table = Table { heads: vec!["TOKEN", "STATE", "TTL", "USES LEFT", "AGE"], rows: Vec::new() };
    let time = |text: &str| text.parse::<Timestamp>().ok();
    for token in tokens {
        let expires = token.expires_at.as_deref().and_then(time);
        let state = match (&token.deleted_at, expires, token.uses_left) {
            (Some(_), _, _) => "deleted",
            (None, Some(at), _) if at <= now => "expired",
            (None, _, Some(0)) => "used up",
            (None, _, _) => "good",
        };
        let ttl = expires.map_or("forever".to_owned(), |at| human_duration(seconds_between(now, at).max(0)));
        let uses = token.uses_left.map_or("any".to_owned(), |uses| uses.to_string());
        let age =
            time(&token.created_at).map_or_else(String::new, |at| human_duration(seconds_between(at, now)));
        table.rows.push(vec![token.id.clone(), state.to_owned(), ttl, uses, age]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_listed_with_what_became_of_them() {
        let good = ListedToken {
            id: "abcdef".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            expires_at: Some("2026-01-02T00:00:00Z".into()),
            ..ListedToken::default()
        };
        let used = ListedToken { uses_left: Some(0), expires_at: None, ..good.clone() };
        let gone = ListedToken { deleted_at: Some("2026-01-01T00:00:00Z".into()), ..good.clone() };
        let old = ListedToken { expires_at: Some("2026-01-01T00:01:00Z".into()), ..good.clone() };
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let text = listing(&[good, used, gone, old], now);
        let states: Vec<&str> = text.lines().skip(1).map(|line| line[9..].trim()).collect();
        assert!(states[0].starts_with("good") && states[1].starts_with("used up"), "{text}");
        assert!(states[2].starts_with("deleted") && states[3].starts_with("expired"), "{text}");
    }

    #[test]
    fn a_time_to_live_is_written_as_people_do() {
        assert_eq!((ttl("24h"), ttl("90s"), ttl("0")), (Ok(86400), Ok(90), Ok(0)));
        assert!(ttl("soon").is_err() && ttl("-1h").is_err() && ttl("5").is_err());
    }
}
