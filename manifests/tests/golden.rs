//! Every bad manifest has the message that a user sees beside it, as `.stderr`.
//! `UPDATE_GOLDEN=1 cargo test` writes the messages anew: read them before you commit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use manifests::diagnostic::render;
use manifests::parse::{SourceFile, parse};
use std::fs;
use std::path::{Path, PathBuf};

fn manifests_in(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

fn source(path: &Path) -> SourceFile {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    SourceFile { path: name, content: fs::read(path).unwrap() }
}

#[test]
fn every_bad_manifest_gets_its_message() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in manifests_in("bad") {
        let parsed = parse(vec![source(&path)]);
        assert!(!parsed.diagnostics.is_empty(), "{}: nothing is wrong with it", path.display());
        let found = render(&parsed.diagnostics, false);
        let golden = path.with_extension("stderr");
        if update {
            fs::write(&golden, &found).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "other messages than expected:\n{}", wrong.join("\n"));
}

#[test]
fn good_manifests_are_read_without_a_word() {
    for path in manifests_in("good") {
        let parsed = parse(vec![source(&path)]);
        assert_eq!(render(&parsed.diagnostics, false), "", "{}", path.display());
        assert!(!parsed.objects.is_empty(), "{}", path.display());
    }
}
