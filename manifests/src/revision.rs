//! A revision of a Git source: the unit of agreement.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The annotation that names the source (its [`Revision`]) that owns an object.
pub const SOURCE_ANNOTATION: &str = "evenkeel.dev/source";
/// The annotation with the commit that last changed an object's manifest.
pub const COMMIT_ANNOTATION: &str = "evenkeel.dev/commit";
/// The annotation with the author of that commit, `Name <email>`.
pub const AUTHOR_ANNOTATION: &str = "evenkeel.dev/author";
/// The annotation with the file, from the repository's root, and line: `apps/web.yaml:12`.
pub const ORIGIN_ANNOTATION: &str = "evenkeel.dev/origin";

/// What a Git source wants, as last accepted. One per source, named like it;
/// the newest replaces the one before. `evenkeel.dev/v1alpha1`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// `metadata.name` is the source's name.
    pub metadata: ObjectMeta,
    /// What is in force.
    pub spec: RevisionSpec,
    /// What became of the newest attempt to sync.
    #[serde(default)]
    pub status: RevisionStatus,
}

/// The commit in force and every object in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// The repository's URL, without credentials.
    pub url: String,
    /// Branch, tag or commit that was asked for.
    pub reference: String,
    /// The full commit id; empty before the first accepted one.
    pub commit: String,
    /// `Name <email>` of the commit's author.
    pub author: String,
    /// RFC 3339.
    pub committed_at: String,
    /// First line of the commit's message.
    pub subject: String,
    /// SHA-256 over the objects, hex.
    pub content_hash: String,
    /// The objects as JSON, defaulted and validated, in [`crate::ObjectKey`] order.
    pub objects: Vec<serde_json::Value>,
}

/// The newest attempt to sync; may name a commit that was refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// `Synced`, `Invalid`, `FetchFailed`, `HistoryRewritten` or `Emptied`; empty before the first attempt.
    pub result: String,
    /// The commit that was looked at, if one was reached.
    #[serde(default)]
    pub attempted_commit: String,
    /// RFC 3339, when `result` last changed.
    #[serde(default)]
    pub since: String,
    /// What was wrong, one per line, rendered for a person; empty if nothing was.
    #[serde(default)]
    pub message: String,
    /// Jobs of the source that ended and may delete themselves, `namespace/name`, with the
    /// commit that last changed their manifest: they have run, and are not put back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub finished_jobs: BTreeMap<String, String>,
}

impl k8s_openapi::Resource for Revision {
    const API_VERSION: &'static str = "evenkeel.dev/v1alpha1";
    const GROUP: &'static str = "evenkeel.dev";
    const KIND: &'static str = "Revision";
    const VERSION: &'static str = "v1alpha1";
    const URL_PATH_SEGMENT: &'static str = "revisions";
    type Scope = k8s_openapi::ClusterResourceScope;
}

impl k8s_openapi::Metadata for Revision {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
