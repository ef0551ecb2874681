//! Links `keel` at a fixed address, and makes the types of the Container Runtime Interface and of
//! what peers say to each other.
//!
//! A position-independent executable of this size holds about a megabyte of
//! pointers that each process must relocate into private memory. `keel` is also
//! the supervisor of every pod, so that megabyte would be paid per pod; at a
//! fixed address the pointers are file pages, shared by all. See
//! docs/adr/0004-one-executable.md.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-link-arg-bin=keel=-no-pie");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    // No protoc is needed: protox compiles the listing itself.
    let interface = protox::compile(["proto/cri.proto"], ["proto"])?;
    // The tests speak to the service as a kubelet does.
    tonic_prost_build::configure().build_client(true).compile_fds(interface)?;
    let peers = protox::compile(["proto/peers.proto"], ["proto"])?;
    // Bodies are parts of what was received, not copies.
    tonic_prost_build::configure().bytes(".keel.peers.v1").compile_fds(peers)?;
    Ok(())
}
