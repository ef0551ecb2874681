//! Any bytes are either objects or diagnostics, as manifests and as the agent's
//! configuration: no panic, no hang, and every message can be shown.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run parse fuzz/seeds --fuzz-dir fuzz` in `manifests/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use manifests::config::parse_configuration;
use manifests::diagnostic::render;
use manifests::parse::{SourceFile, parse};

fuzz_target!(|content: &[u8]| {
    let file = SourceFile { path: "fuzz.yaml".to_owned(), content: content.to_vec() };
    let parsed = parse(vec![file.clone()]);
    render(&parsed.diagnostics, true);
    if let Err(diagnostics) = parse_configuration(file) {
        assert!(!diagnostics.is_empty());
        render(&diagnostics, false);
    }
});
