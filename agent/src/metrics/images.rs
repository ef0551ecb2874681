//! Where images come from, and what peers get of them.

use super::Maker;
use prometheus::{Counter, CounterVec};
use runtime::image::registry::{Counts, Failure, Source};

/// What is fetched of images, and given to peers.
#[derive(Debug, Clone)]
pub(crate) struct ImageMetrics {
    /// By `from`.
    blobs: CounterVec,
    /// By `from`.
    bytes: CounterVec,
    served: Counter,
    /// By `reason`.
    failures: CounterVec,
}

impl ImageMetrics {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        let blobs = make.counters(
            "keel_image_blobs_fetched_total",
            "Blobs of images that were fetched, by who gave the last byte.",
            &["from"],
        )?;
        let bytes =
            make.counters("keel_image_bytes_fetched_total", "Bytes of images that were fetched.", &["from"])?;
        let served = make.counter("keel_image_bytes_served_total", "Bytes of images that peers got.")?;
        let failures = make.counters(
            "keel_image_peer_failures_total",
            "Peers that did not answer, or gave what they should not have.",
            &["reason"],
        )?;
        for from in ["peer", "registry"] {
            blobs.with_label_values(&[from]);
            bytes.with_label_values(&[from]);
        }
        for reason in ["gone", "corrupt"] {
            failures.with_label_values(&[reason]);
        }
        Ok(Self { blobs, bytes, served, failures })
    }
}

/// Counters are floating-point numbers, which are exact far beyond any number of bytes here.
#[allow(clippy::cast_precision_loss, reason = "2^53 bytes are eight pebibytes")]
impl Counts for ImageMetrics {
    fn fetched(&self, from: Source, blobs: u64, bytes: u64) {
        let from = match from {
            Source::Peer => "peer",
            Source::Registry => "registry",
        };
        self.blobs.with_label_values(&[from]).inc_by(blobs as f64);
        self.bytes.with_label_values(&[from]).inc_by(bytes as f64);
    }

    fn failed(&self, how: Failure) {
        let reason = match how {
            Failure::Gone => "gone",
            Failure::Corrupt => "corrupt",
        };
        self.failures.with_label_values(&[reason]).inc();
    }

    fn served(&self, bytes: u64) {
        self.served.inc_by(bytes as f64);
    }
}
