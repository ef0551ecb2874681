//! Manifests that others wrote, if they lie beside the repository: each is read,
//! or refused for the reasons that `corpus.txt` lists.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use manifests::parse::{SourceFile, parse};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn yaml_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            into.push(path);
        }
    }
}

/// `path: ok`, or the codes of its errors; a file alone, as a user would try it.
fn verdict(folder: &Path, path: &Path) -> String {
    let name = path.strip_prefix(folder).unwrap().display().to_string();
    let parsed = parse(vec![SourceFile { path: name.clone(), content: fs::read(path).unwrap() }]);
    let codes: BTreeSet<&str> = parsed.diagnostics.iter().filter(|d| d.is_error()).map(|d| d.code).collect();
    let codes: Vec<&str> = codes.into_iter().collect();
    format!("{name}: {}\n", if codes.is_empty() { "ok".to_owned() } else { codes.join(", ") })
}

#[test]
fn manifests_of_others_are_judged_as_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../../shared/corpus");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let mut files = Vec::new();
    yaml_files(&folder, &mut files);
    files.sort();
    let found: String = files.iter().map(|path| verdict(&folder, path)).collect();
    let golden = root.join("tests/corpus.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &found).unwrap();
    }
    assert_eq!(fs::read_to_string(&golden).unwrap_or_default(), found);
}
