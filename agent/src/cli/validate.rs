//! `keel validate`: manifests checked as the agent checks them, without an agent.

use super::output::Output;
use super::{CommandError, output};
use crate::print::{Colour, Paint};
use clap::{Args, ValueEnum};
use manifests::diagnostic::{self, Diagnostic};
use manifests::parse::{self, SourceFile};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Check manifests, with file, line and column of each error.
///
/// Folders are read with all folders in them: *.yaml, *.yml and *.json. All files
/// together are one revision, as the agent would take them. Exits 0 if all is well.
///
///   keel validate manifests/
///   kustomize build overlay | keel validate -
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ValidateArgs {
    /// Files and folders; - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Machine-readable
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
}

/// The endings of files that may hold manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

pub(super) fn run(args: &ValidateArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let files = read(&args.paths)?;
    let count = files.len();
    let parsed = parse::parse(files);
    let valid = !parsed.has_errors();
    match args.output {
        Some(Format::Json) => {
            let report = json!({
                "valid": valid,
                "files": count,
                "objects": parsed.objects.len(),
                "diagnostics": parsed.diagnostics,
            });
            output.line(&serde_json::to_string_pretty(&report).map_err(CommandError::Json)?)?;
        }
        None => {
            write_diagnostics(&parsed.diagnostics);
            if count == 0 {
                output::note("No manifests found: no file ends in .yaml, .yml or .json.");
            } else if valid {
                let good = output.paint().paint(Colour::Good, "valid:");
                output.line(&format!("{good} {}", tally(parsed.objects.len(), count)))?;
            }
        }
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tally(objects: usize, files: usize) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!("{} in {}", plural(objects, "object"), plural(files, "file"))
}

/// Diagnostics go where a compiler's go.
fn write_diagnostics(diagnostics: &[Diagnostic]) {
    if diagnostics.is_empty() {
        return;
    }
    let terminal = std::io::stderr().is_terminal();
    let paint = Paint::new(terminal, std::env::var_os("NO_COLOR").as_deref());
    output::note(diagnostic::render(diagnostics, paint.is_enabled()).trim_end_matches('\n'));
}

/// Every file that `paths` name, each once, in the order of the paths and then of names.
fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, CommandError> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut content = Vec::new();
            let failed = |source| CommandError::Read { path: "standard input".into(), source };
            std::io::stdin().read_to_end(&mut content).map_err(failed)?;
            files.push(SourceFile { path: "<stdin>".into(), content });
            continue;
        }
        let mut found = Vec::new();
        collect(path, true, &mut found)?;
        for file in found.into_iter().filter(|file| seen.insert(file.clone())) {
            let failed = |source| CommandError::Read { path: file.clone(), source };
            let content = std::fs::read(&file).map_err(failed)?;
            files.push(SourceFile { path: file.display().to_string(), content });
        }
    }
    Ok(files)
}

/// Adds `path`, or what it holds if it is a folder. A file that was named is
/// taken whatever its ending. Links to folders are not followed below the path
/// itself, as they could go round in circles; hidden folders (`.git`) are left out.
fn collect(path: &Path, named: bool, found: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let failed = |source| CommandError::Read { path: path.to_owned(), source };
    let is_folder = if named {
        std::fs::metadata(path).map_err(failed)?.is_dir()
    } else {
        std::fs::symlink_metadata(path).map_err(failed)?.is_dir()
    };
    if !is_folder {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_file = || std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        if named || (ENDINGS.contains(&ending) && is_file()) {
            found.push(path.to_owned());
        }
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    let hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    entries.iter().filter(|entry| !hidden(entry)).try_for_each(|entry| collect(entry, false, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_without_hidden_ones_and_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("b/.git")).unwrap();
        for file in ["z.yml", "b/a.yaml", "b/.git/x.yaml", "b/c.json", "b/notes.txt", "named.txt"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("b/round")).unwrap();
        let files = read(&[root.to_owned(), root.join("b/a.yaml"), root.join("named.txt")]).unwrap();
        let names: Vec<_> =
            files.iter().map(|file| Path::new(&file.path).strip_prefix(root).unwrap().to_owned()).collect();
        let wanted = ["b/a.yaml", "b/c.json", "z.yml", "named.txt"].map(PathBuf::from);
        assert_eq!(names, wanted);
        assert!(matches!(read(&[root.join("none")]), Err(CommandError::Read { .. })));
    }
}
