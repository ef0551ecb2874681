//! The rules of the code base that a compiler does not know: which crate may
//! see which, how long a file may be, and where `unsafe` may stand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Our crates by their folders, and those of ours that each may depend on.
const ARROWS: [(&str, &[&str]); 7] = [
    ("manifests", &[]),
    ("reconciler", &["manifests"]),
    ("runtime", &["manifests"]),
    ("netstack", &["manifests"]),
    ("csi", &["manifests"]),
    ("agent", &["manifests", "reconciler", "runtime", "netstack", "csi"]),
    ("benches/load", &["manifests", "reconciler"]),
];

fn name_of(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(folder, _)| name_of(folder)).collect();
    let found: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(found, ours, "a crate without a row in ARROWS");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = ARROWS.iter().find(|(folder, _)| name_of(folder) == name).expect("a row");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let dependency = dependency["name"].as_str().expect("a name");
            if ours.contains(dependency) {
                assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
            }
        }
    }
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (folder, _) in ARROWS {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20, "the walk finds the code");
    files
}

#[test]
fn no_file_is_longer_than_800_lines() {
    let long: Vec<String> = all_rust_files()
        .into_iter()
        .filter_map(|path| {
            let lines = std::fs::read_to_string(&path).expect("text").lines().count();
            (lines > 800).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these by their nouns: {long:#?}");
}

#[test]
fn unsafe_code_stands_only_under_sys() {
    let allowance = concat!("allow(unsafe", "_code");
    let strays: Vec<PathBuf> = all_rust_files()
        .into_iter()
        .filter(|path| std::fs::read_to_string(path).expect("text").contains(allowance))
        .filter(|path| !path.components().any(|part| part.as_os_str() == "sys"))
        .filter(|path| !path.ends_with("src/sys.rs"))
        .collect();
    assert!(strays.is_empty(), "unsafe outside sys/: {strays:#?}");
}

#[test]
fn no_module_file_is_called_mod_rs() {
    let strays: Vec<PathBuf> = all_rust_files().into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(strays.is_empty(), "name the file after its noun: {strays:#?}");
}

#[test]
fn the_architecture_fits_in_300_lines() {
    let lines = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("text").lines().count();
    assert!(lines <= 300, "ARCHITECTURE.md has {lines} lines");
}

/// The tests that a row of `docs/development/fields.md` names: file and function.
fn tests_of_row(row: &str) -> Vec<(&str, &str)> {
    let quoted = row.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once(".rs::")).collect()
}

#[test]
fn every_test_that_the_table_of_fields_names_is_there() {
    let table = std::fs::read_to_string(root().join("docs/development/fields.md")).expect("text");
    let is_row =
        |line: &&str| line.starts_with("| ") && !line.starts_with("| field ") && !line.starts_with("| try ");
    let rows: Vec<&str> = table.lines().filter(is_row).collect();
    assert!(rows.len() > 70, "the table was read: {} rows", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let tests = tests_of_row(row);
        if tests.is_empty() {
            missing.push(format!("no test sees {row}"));
        }
        let scripts = row.split('`').filter(|word| word.ends_with(".py"));
        missing.extend(scripts.filter(|script| !root().join(script).exists()).map(|one| format!("no {one}")));
        for (file, function) in tests {
            let file = format!("{file}.rs");
            let places = ["runtime/tests", "agent/tests", ""].map(|base| root().join(base).join(&file));
            let text = places.iter().find_map(|path| std::fs::read_to_string(path).ok());
            if !text.is_some_and(|text| text.contains(&format!("fn {function}("))) {
                missing.push(format!("{file} has no {function}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
