//! Links `keel` at a fixed address.
//!
//! A position-independent executable of this size holds about a megabyte of
//! pointers that each process must relocate into private memory. `keel` is also
//! the supervisor of every pod, so that megabyte would be paid per pod; at a
//! fixed address the pointers are file pages, shared by all. See
//! docs/adr/0004-one-executable.md.

fn main() {
    println!("cargo::rustc-link-arg-bin=keel=-no-pie");
    println!("cargo::rerun-if-changed=build.rs");
}
