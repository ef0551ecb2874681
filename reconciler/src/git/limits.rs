//! How much a repository may ask of the node.

use std::time::Duration;

/// Bounds of one fetch. The defaults are far above any sane folder of manifests, and
/// far below what would harm a small machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One manifest, in bytes.
    pub file_bytes: u64,
    /// All manifests of a revision together, in bytes.
    pub total_bytes: u64,
    /// Manifests in a revision.
    pub files: usize,
    /// What one fetch may download, in bytes.
    pub transfer_bytes: u64,
    /// How long a server may take to be connected to.
    pub connect_timeout: Duration,
    /// How long a server may stay silent.
    pub idle_timeout: Duration,
    /// How long one fetch may take in all.
    pub fetch_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 16 << 20,
            total_bytes: 256 << 20,
            files: 20_000,
            transfer_bytes: 1 << 30,
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            fetch_timeout: Duration::from_secs(600),
        }
    }
}
