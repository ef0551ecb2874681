//! What `docker save` writes: `manifest.json`, configurations, and layers.

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::digest::digest_of;
use super::error::ImageError;
use super::layout::{Description, LayerSource, check_layers, configuration, parse};
use serde::Deserialize;

/// One image of a `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The image that `tag` names (`busybox:1.36`, or `1.36` alone), or the only one.
///
/// # Errors
/// If there is none, or anything of it is broken.
pub(super) fn describe(blobs: &Blobs, tag: Option<&str>) -> Result<Description, ImageError> {
    let entries: Vec<Entry> = parse("manifest.json", &blobs.description("manifest.json")?)?;
    let entry = choose(&entries, tag)?;
    let content = blobs.description(&entry.config)?;
    let config = configuration(&entry.config, &content)?;
    let diff_ids = config.rootfs().diff_ids();
    check_layers(entry.layers.len(), diff_ids)?;
    let layers = entry.layers.iter().zip(diff_ids).map(|(file, diff_id)| LayerSource {
        file: file.clone(),
        blob: None,
        diff_id: diff_id.clone(),
    });
    let id = digest_of(&content);
    let layers = layers.collect();
    Ok(Description { digest: id.clone(), id, config: ImageConfig::from(&config), layers })
}

fn choose<'a>(entries: &'a [Entry], tag: Option<&str>) -> Result<&'a Entry, ImageError> {
    let known =
        || entries.iter().flat_map(|entry| entry.repo_tags.iter().flatten()).cloned().collect::<Vec<_>>();
    let Some(tag) = tag else {
        return match entries {
            [one] => Ok(one),
            [] => Err(ImageError::Inconsistent { problem: "archive is empty" }),
            _ => Err(ImageError::Ambiguous { known: known() }),
        };
    };
    let is_it = |name: &String| name == tag || name.rsplit(':').next() == Some(tag);
    let mut fitting = entries.iter().filter(|entry| entry.repo_tags.iter().flatten().any(is_it));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(ImageError::NoSuchTag { tag: tag.to_owned(), known: known() }),
        (Some(_), Some(_)) => Err(ImageError::Ambiguous { known: known() }),
    }
}
