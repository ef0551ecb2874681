//! The image store of the node.

use super::{Client, ClientError, Lines, Query};
use hyper::Method;
use serde::Deserialize;

const IMAGES: &str = "/evenkeel/v1alpha1/images";

/// One image of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListedImage {
    /// The digest of its configuration.
    pub(crate) id: String,
    /// The full references that led to it.
    pub(crate) references: Vec<String>,
    /// With the digests of their manifests.
    pub(crate) digests: Vec<String>,
    /// Of its layers as they came.
    pub(crate) size_bytes: u64,
    /// RFC 3339.
    pub(crate) used_at: String,
    /// A pod of this node has it.
    pub(crate) in_use: bool,
}

/// What a removal took away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RemovedImages {
    /// Full references.
    pub(crate) references: Vec<String>,
    /// Unpacked layers.
    pub(crate) layers: usize,
}

/// How far a pull is, or how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PullLine {
    /// Bytes that are there.
    pub(crate) done: u64,
    /// Bytes that are needed; 0 until that is known.
    pub(crate) total: u64,
    /// Set at the good end.
    pub(crate) id: String,
    /// Set at the good end.
    pub(crate) digest: String,
    /// Set at the good end if something was fetched: who gave what.
    pub(crate) from: String,
    /// Set at the bad end.
    pub(crate) error: String,
}

impl Client {
    /// Every image of the store.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn images(&self) -> Result<Vec<ListedImage>, ClientError> {
        self.json(Method::GET, IMAGES, None).await
    }

    /// Lets the agent pull `reference`; each line is a [`PullLine`].
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn pull_image(&self, reference: &str) -> Result<Lines, ClientError> {
        let mut query = Query::default();
        query.push("reference", reference);
        let target = query.on(&format!("{IMAGES}/pull"));
        Ok(Lines::new(self.send(Method::POST, &target, None).await?.into_body()))
    }

    /// Lets the agent take an archive into its store.
    ///
    /// # Errors
    /// [`ClientError::Status`] if it is none; the connection's errors.
    pub(crate) async fn import_image(
        &self,
        path: &str,
        tag: Option<&str>,
        name: &str,
    ) -> Result<PullLine, ClientError> {
        let mut query = Query::default();
        query.push("path", path).push("name", name);
        if let Some(tag) = tag {
            query.push("tag", tag);
        }
        self.json(Method::POST, &query.on(&format!("{IMAGES}/import")), None).await
    }

    /// The reference is forgotten.
    ///
    /// # Errors
    /// [`ClientError::Status`] if it is unknown or in use; the connection's errors.
    pub(crate) async fn remove_image(&self, reference: &str) -> Result<RemovedImages, ClientError> {
        let mut query = Query::default();
        query.push("reference", reference);
        self.json(Method::DELETE, &query.on(IMAGES), None).await
    }

    /// Unused images are gone.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn prune_images(&self) -> Result<RemovedImages, ClientError> {
        self.json(Method::POST, &format!("{IMAGES}/prune"), None).await
    }
}
