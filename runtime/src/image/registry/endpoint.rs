//! Where a registry's images are fetched from.

use super::super::digest::digest_of;
use super::super::error::ImageError;
use super::Credentials;
use manifests::image::Registry;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use std::path::PathBuf;
use std::time::Duration;

/// A connection that says nothing for so long is broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];
/// Where Docker Hub answers.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// What is known of registries beforehand.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// By the name in references.
    pub hosts: Vec<RegistryHost>,
    /// Docker's `config.json` with the node's own credentials; read at each pull.
    pub credentials_file: Option<PathBuf>,
}

/// A registry that is not reached in the usual way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryHost {
    /// As in references: `docker.io`, `registry.example.com:5000`.
    pub name: String,
    /// Asked in this order.
    pub mirrors: Vec<Endpoint>,
    /// The registry itself, asked last.
    pub origin: Endpoint,
}

/// An address that speaks the distribution protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `HOST[:PORT]`.
    pub host: String,
    /// HTTP without TLS.
    pub plain_http: bool,
    /// PEM file with authorities to trust beside the host's.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate.
    pub skip_tls_verify: bool,
}

impl Endpoint {
    /// The usual way: TLS, and HTTP for this very machine, as Docker does it.
    #[must_use]
    pub fn usual(host: &str) -> Self {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let local = name == "localhost" || name == "[::1]" || name.starts_with("127.");
        Self { host: host.to_owned(), plain_http: local, ca_file: None, skip_tls_verify: false }
    }
}

impl Registries {
    /// The node's own credentials.
    pub(super) fn credentials(&self) -> Result<Credentials, ImageError> {
        let Some(path) = &self.credentials_file else { return Ok(Credentials::default()) };
        let text = std::fs::read(path).map_err(|source| ImageError::io("read", path, source))?;
        Credentials::from_config_json(&text)
            .map_err(|source| ImageError::Credentials { path: path.clone(), source })
    }

    /// Whom to ask for an image of `host`, in order.
    pub(super) fn endpoints(&self, host: &str) -> Vec<Endpoint> {
        match self.hosts.iter().find(|known| known.name == host) {
            Some(known) => known.mirrors.iter().chain([&known.origin]).cloned().collect(),
            None => vec![Endpoint::usual(host)],
        }
    }
}

/// One repository at one endpoint.
pub(super) struct Remote {
    pub(super) client: Client,
    pub(super) reference: Reference,
    pub(super) auth: RegistryAuth,
    /// For messages.
    pub(super) host: String,
}

impl Remote {
    /// A client of its own, so that nobody's credentials serve for somebody else.
    pub(super) fn connect(
        endpoint: &Endpoint,
        registry: &Registry,
        auth: Option<RegistryAuth>,
    ) -> Result<Self, ImageError> {
        let mut extra_root_certificates = Vec::new();
        if let Some(path) = &endpoint.ca_file {
            let data = std::fs::read(path).map_err(|source| ImageError::io("read", path, source))?;
            extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
        }
        let protocol = if endpoint.plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            extra_root_certificates,
            accept_invalid_certificates: endpoint.skip_tls_verify,
            read_timeout: Some(READ_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: concat!("keel/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let host = if endpoint.host == "docker.io" { DOCKER_HUB } else { &endpoint.host }.to_owned();
        let (name, repository) = (host.clone(), registry.repository.clone());
        let reference = match (&registry.digest, &registry.tag) {
            (Some(digest), _) => Reference::with_digest(name, repository, digest.clone()),
            (None, tag) => {
                let tag = tag.clone().unwrap_or_else(|| "latest".to_owned());
                Reference::with_tag(name, repository, tag)
            }
        };
        let client = Client::try_from(config)
            .map_err(|source| ImageError::Pull { host: host.clone(), source: Box::new(source) })?;
        Ok(Self { client, reference, auth: auth.unwrap_or(RegistryAuth::Anonymous), host })
    }

    pub(super) fn failed(&self, source: oci_client::errors::OciDistributionError) -> ImageError {
        ImageError::Pull { host: self.host.clone(), source: Box::new(source) }
    }

    /// What the reference leads to, as the registry says it to whoever we are to it: the digest of a
    /// manifest or an index. On Docker Hub, such a question is not counted as a pull.
    pub(super) async fn digest(&self) -> Result<String, ImageError> {
        let asked = self.client.fetch_manifest_digest(&self.reference, &self.auth).await;
        asked.map_err(|error| self.failed(error))
    }

    /// What the reference leads to, and its digest.
    pub(super) async fn top(&self) -> Result<(String, Vec<u8>), ImageError> {
        self.manifest_of(&self.reference).await
    }

    /// The manifest or index `digest`, checked.
    pub(super) async fn manifest(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        Ok(self.manifest_of(&self.reference.clone_with_digest(digest.to_owned())).await?.1)
    }

    async fn manifest_of(&self, reference: &Reference) -> Result<(String, Vec<u8>), ImageError> {
        let pulled = self.client.pull_manifest_raw(reference, &self.auth, &ACCEPTED).await;
        let (content, _) = pulled.map_err(|error| self.failed(error))?;
        let found = digest_of(&content);
        if let Some(wanted) = reference.digest()
            && wanted.starts_with("sha256:")
            && wanted != found
        {
            return Err(ImageError::DigestMismatch { what: "manifest", wanted: wanted.to_owned(), found });
        }
        Ok((found, content.to_vec()))
    }

    /// The configuration `digest`, checked.
    pub(super) async fn configuration(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let mut content = Vec::new();
        let pulled = self.client.pull_blob(&self.reference, digest, &mut content).await;
        pulled.map_err(|error| self.failed(error))?;
        let found = digest_of(&content);
        if found == digest {
            Ok(content)
        } else {
            Err(ImageError::DigestMismatch { what: "configuration", wanted: digest.to_owned(), found })
        }
    }
}
