//! `keel image`: what images the node has.

use super::CommandError;
use super::connection::Connection;
use super::output::{self, Output};
use crate::client::{ListedImage, PullLine, RemovedImages};
use crate::print::{Table, bytes, human_duration, seconds_between};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

/// What images the node has
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        /// Whole digests
        #[arg(long)]
        no_trunc: bool,
        /// Ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Fetch an image now, with the node's own credentials
    Pull {
        /// `nginx:1.27`, `registry.example.com/web@sha256:…`
        reference: String,
    },
    /// Forget images that no pod uses
    #[command(visible_alias = "remove")]
    Rm {
        /// References or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Take an archive (`docker save`, `skopeo copy oci-archive:`) into the store
    Import {
        /// The archive, or the folder of an OCI layout, as the agent sees it
        path: PathBuf,
        /// What pods call it: `web:v1`
        name: String,
        /// Which image of the archive, if it has several
        #[arg(long)]
        tag: Option<String>,
    },
    /// Remove every image that no pod uses
    Prune,
}

pub(super) async fn run(args: &ImageArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    match &args.action {
        Action::Ls { no_trunc, quiet } => {
            let images = client.images().await?;
            output.write(listing(&images, *no_trunc, *quiet, Timestamp::now()))?;
        }
        Action::Pull { reference } => return pull(args, reference, output).await,
        Action::Rm { images } => {
            for image in images {
                told(&client.remove_image(image).await?, output)?;
            }
        }
        Action::Import { path, name, tag } => {
            let absolute = std::path::absolute(path);
            let path = absolute.map_err(|source| CommandError::Read { path: path.clone(), source })?;
            let image = client.import_image(&path.to_string_lossy(), tag.as_deref(), name).await?;
            output.line(&format!("{name} {}", image.id))?;
        }
        Action::Prune => told(&client.prune_images().await?, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows a pull; a bar is drawn only on a terminal.
async fn pull(args: &ImageArgs, reference: &str, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let mut lines = args.connection.client()?.pull_image(reference).await?;
    let bar = ProgressBar::no_length().with_message(reference.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    while let Some(line) = lines.next().await? {
        let line: PullLine = serde_json::from_slice(&line).map_err(CommandError::Json)?;
        if !line.error.is_empty() {
            bar.finish_and_clear();
            return Err(CommandError::Pull { reference: reference.to_owned(), reason: line.error });
        }
        if !line.id.is_empty() {
            bar.finish_and_clear();
            output.line(&format!("{reference} {}", line.digest))?;
            if !line.from.is_empty() {
                output::note(&line.from);
            }
            return Ok(ExitCode::SUCCESS);
        }
        bar.set_length(line.total);
        bar.set_position(line.done);
    }
    let reason = "the agent ended before the pull did".to_owned();
    Err(CommandError::Pull { reference: reference.to_owned(), reason })
}

fn told(removed: &RemovedImages, output: &mut Output<'_>) -> Result<(), CommandError> {
    for reference in &removed.references {
        output.line(&format!("removed {reference}"))?;
    }
    if removed.references.is_empty() {
        output::note("No image is unused.");
    }
    Ok(())
}

fn listing(images: &[ListedImage], whole: bool, quiet: bool, now: Timestamp) -> String {
    if quiet {
        return images.iter().map(|image| format!("{}\n", short(&image.id, whole))).collect();
    }
    let mut table = Table { heads: vec!["IMAGE", "ID", "SIZE", "USED", "IN USE"], rows: Vec::new() };
    for image in images {
        for reference in &image.references {
            let used = image.used_at.parse::<Timestamp>().map_or_else(|_| String::new(), |at| age(at, now));
            let in_use = if image.in_use { "yes" } else { "no" };
            let id = short(&image.id, whole).to_owned();
            table.rows.push(vec![reference.clone(), id, bytes(image.size_bytes), used, in_use.to_owned()]);
        }
    }
    table.render()
}

/// `5m ago`.
fn age(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human_duration(seconds_between(at, now)))
}

/// As much of a digest as people compare.
fn short(id: &str, whole: bool) -> &str {
    match id.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.get(..12).unwrap_or(hex),
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_reference() {
        let image = ListedImage {
            id: format!("sha256:{}", "ab".repeat(32)),
            references: vec!["docker.io/library/nginx:1.27".into(), "r.example.com/web:v1".into()],
            size_bytes: 3 << 20,
            used_at: "2026-01-01T00:00:00Z".into(),
            in_use: true,
            ..ListedImage::default()
        };
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().expect("a time");
        assert_eq!(
            listing(std::slice::from_ref(&image), false, false, now),
            "IMAGE                          ID             SIZE   USED     IN USE\n\
             docker.io/library/nginx:1.27   abababababab   3.0M   5m ago   yes\n\
             r.example.com/web:v1           abababababab   3.0M   5m ago   yes\n"
        );
        assert_eq!(listing(&[image], false, true, now), "abababababab\n");
    }
}
