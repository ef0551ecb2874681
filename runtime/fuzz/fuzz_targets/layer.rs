//! Any bytes, as a layer's tar archive: nothing is written outside of the layer's own folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::image::{Limits, unpack_layer};

fuzz_target!(|content: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    let _ = unpack_layer(content, &layer, Limits { entries: 1000, bytes: 16 << 20 });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
});
