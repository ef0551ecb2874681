//! Any bytes, as what `docker save` and OCI layouts in a tar file are: an image or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::image::ImageStore;

fuzz_target!(|content: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    std::fs::write(&file, content).unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let _ = store.load(&file, None, "fuzz.example.com/image:v1");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
});
