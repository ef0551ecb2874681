//! The node's peers: who they are, and how messages get to and from them.
//!
//! One port. TLS 1.3 both ways with certificates of the cluster's own authority, and HTTP/2
//! with gRPC in it. See docs/adr/0006-peers-over-mtls.md. Decisions are pure: `trust` judges
//! certificates, `token` tokens, `renewal` and `backoff` say when; nothing here understands
//! what messages say.

mod authority;
mod backoff;
mod dial;
mod door;
mod ears;
mod folder;
mod identity;
mod key_hash;
mod link;
mod links;
mod papers;
mod passport;
mod renewal;
mod tls;
mod trust;
mod wire;

#[cfg(test)]
mod tests;

/// A number from 0 to 1 that nobody can guess; 0 where the kernel has none.
fn chance() -> f64 {
    let bits = getrandom::u32().unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}
