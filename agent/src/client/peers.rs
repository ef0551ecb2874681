//! The node's part in its cluster.

use super::{Client, ClientError, Query};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

const TOKENS: &str = "/evenkeel/v1alpha1/tokens";

/// A join token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListedToken {
    /// Names it.
    pub(crate) id: String,
    /// RFC 3339.
    pub(crate) created_at: String,
    /// RFC 3339; never without.
    pub(crate) expires_at: Option<String>,
    /// Any number without.
    pub(crate) uses_left: Option<u32>,
    /// RFC 3339.
    pub(crate) deleted_at: Option<String>,
    /// What a node joins with; told only once.
    pub(crate) token: String,
    /// Where it joins.
    pub(crate) server: String,
}

/// The node's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeCertificate {
    /// The node.
    pub(crate) node: String,
    /// Where its peers find it.
    pub(crate) address: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// The hash of its key.
    pub(crate) key: String,
    /// The hashes of the authorities' keys.
    pub(crate) authorities: Vec<String>,
    /// Whether the node has an authority's key.
    pub(crate) signs: bool,
    /// RFC 3339.
    pub(crate) expires_at: String,
    /// RFC 3339.
    pub(crate) renewed_by: String,
}

impl Client {
    /// Every join token.
    ///
    /// # Errors
    /// [`ClientError::Status`] if the node has no peers; the connection's errors.
    pub(crate) async fn tokens(&self) -> Result<Vec<ListedToken>, ClientError> {
        self.json(Method::GET, TOKENS, None).await
    }

    /// A new join token.
    ///
    /// # Errors
    /// As [`Client::tokens`].
    pub(crate) async fn create_token(
        &self,
        ttl_seconds: Option<u32>,
        uses: Option<u32>,
    ) -> Result<ListedToken, ClientError> {
        let mut query = Query::default();
        for (name, value) in [("ttlSeconds", ttl_seconds), ("uses", uses)] {
            if let Some(value) = value {
                query.push(name, &value.to_string());
            }
        }
        self.json(Method::POST, &query.on(TOKENS), None).await
    }

    /// The token lets nobody in any more.
    ///
    /// # Errors
    /// [`ClientError::Status`] if there is none; the connection's errors.
    pub(crate) async fn delete_token(&self, id: &str) -> Result<(), ClientError> {
        self.json::<Value>(Method::DELETE, &format!("{TOKENS}/{id}"), None).await.map(drop)
    }

    /// The node's certificate.
    ///
    /// # Errors
    /// As [`Client::tokens`].
    pub(crate) async fn certificate(&self) -> Result<NodeCertificate, ClientError> {
        self.json(Method::GET, "/evenkeel/v1alpha1/certificate", None).await
    }

    /// The node is a member no more, and does not come back with its key.
    ///
    /// # Errors
    /// [`ClientError::Status`] if there is none; the connection's errors.
    pub(crate) async fn remove_member(&self, name: &str) -> Result<(), ClientError> {
        let target = format!("/evenkeel/v1alpha1/members/{name}");
        self.json::<Value>(Method::DELETE, &target, None).await.map(drop)
    }
}

/// The cluster, as a member sees it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClusterView {
    /// Its id.
    pub(crate) cluster: String,
    /// Whether somebody leads whom a majority follows.
    pub(crate) writable: bool,
    /// How old what the node shows may be; none if it heard no leader since it was started.
    pub(crate) staleness_seconds: Option<f64>,
    /// Every member.
    pub(crate) members: Vec<MemberView>,
}

/// One member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MemberView {
    /// Its number.
    pub(crate) id: u64,
    /// Its node's name.
    pub(crate) name: String,
    /// Where it answers.
    pub(crate) address: String,
    /// Its failure domain.
    pub(crate) zone: String,
    /// Whether it counts for majorities.
    pub(crate) voter: bool,
    /// Whether it leads.
    pub(crate) leader: bool,
    /// Whether it is the one that was asked.
    #[serde(rename = "self")]
    pub(crate) is_self: bool,
    /// Since when the leader has not heard it; only the leader knows.
    pub(crate) silent_seconds: Option<u64>,
    /// For how long its disk has done nothing; the leader knows it of all, others of themselves.
    pub(crate) disk_stuck_seconds: Option<u64>,
}

/// Bytes as they come.
#[derive(Debug)]
pub(crate) struct Parts(Incoming);

impl Parts {
    /// The next bytes; none after the last.
    ///
    /// # Errors
    /// If the answer is cut off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.0.frame().await {
            if let Ok(bytes) = frame.map_err(ClientError::Interrupted)?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

impl Client {
    /// The cluster, as the node sees it.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn cluster(&self) -> Result<ClusterView, ClientError> {
        self.json(Method::GET, "/evenkeel/v1alpha1/cluster", None).await
    }

    /// A copy of all objects, as it comes.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn snapshot(&self) -> Result<Parts, ClientError> {
        let response = self.send(Method::GET, "/evenkeel/v1alpha1/cluster/snapshot", None).await?;
        Ok(Parts(response.into_body()))
    }
}
