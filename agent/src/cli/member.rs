//! `keel certificate` and `keel node`: who this node is to its peers, and who is a member no more.

use super::CommandError;
use super::connection::Connection;
use super::output::Output;
use crate::client::NodeCertificate;
use crate::print::{human_duration, seconds_between};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use std::process::ExitCode;

/// Who this node is to its peers, and until when.
///
/// Exits 1 if the certificate has expired.
#[derive(Debug, Args)]
pub(super) struct CertificateArgs {
    #[command(flatten)]
    connection: Connection,
}

/// The members of the cluster
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove nodes from the cluster for good: their keys are refused from here on
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(super) async fn certificate(
    args: &CertificateArgs,
    output: &mut Output<'_>,
) -> Result<ExitCode, CommandError> {
    let certificate = args.connection.client()?.certificate().await?;
    let (text, good) = render(&certificate, Timestamp::now());
    output.write(text)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn node(args: &NodeArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let Action::Rm { names } = &args.action;
    for name in names {
        client.remove_member(name).await?;
        output.line(&format!("node {name} removed"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The certificate in lines, and whether it is good.
fn render(certificate: &NodeCertificate, now: Timestamp) -> (String, bool) {
    let when = |text: &str| match text.parse::<Timestamp>() {
        Ok(at) if at > now => format!("{text} (in {})", human_duration(seconds_between(now, at))),
        Ok(at) => format!("{text} ({} ago)", human_duration(seconds_between(at, now))),
        Err(_) => text.to_owned(),
    };
    let good = certificate.expires_at.parse::<Timestamp>().is_ok_and(|at| at > now);
    let signs = if certificate.signs { "yes" } else { "no" };
    let rows = [
        ("Node", certificate.node.clone()),
        ("Address", certificate.address.clone()),
        ("Cluster", certificate.cluster.clone()),
        ("Key", certificate.key.clone()),
        ("Authority", certificate.authorities.join(", ")),
        ("Signs", signs.to_owned()),
        ("Expires", when(&certificate.expires_at)),
        ("Renewed by", when(&certificate.renewed_by)),
    ];
    (rows.iter().map(|(head, value)| format!("{:<12}{value}\n", format!("{head}:"))).collect(), good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_end_and_whether_that_was() {
        let certificate = NodeCertificate {
            node: "n1".into(),
            expires_at: "2026-01-02T00:00:00Z".into(),
            renewed_by: "2026-01-01T06:00:00Z".into(),
            ..NodeCertificate::default()
        };
        let (text, good) = render(&certificate, "2026-01-01T00:00:00Z".parse().expect("a time"));
        assert!(good && text.contains("Expires:    2026-01-02T00:00:00Z (in 24h)\n"), "{text}");
        let (text, good) = render(&certificate, "2026-01-03T00:00:00Z".parse().expect("a time"));
        assert!(!good && text.contains("(24h ago)"), "{text}");
    }
}
