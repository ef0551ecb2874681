//! Which files hold which run of a container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The runs that have a log, oldest first.
pub(super) fn runs(folder: &Path) -> io::Result<Vec<u32>> {
    let mut runs: Vec<u32> = names(folder)?.iter().filter_map(|name| Some(parse(name)?.0)).collect();
    runs.sort_unstable();
    runs.dedup();
    Ok(runs)
}

/// The files of `run`, oldest first; the last is the one that is written to.
pub(super) fn files(folder: &Path, run: u32) -> io::Result<Vec<PathBuf>> {
    let names = names(folder)?;
    let mut old: Vec<(&str, &String)> = Vec::new();
    let mut newest = None;
    for name in &names {
        match parse(name) {
            Some((of, "")) if of == run => newest = Some(name),
            Some((of, time)) if of == run => old.push((time, name)),
            _ => {}
        }
    }
    old.sort_unstable();
    let all = old.into_iter().map(|(_, name)| name).chain(newest);
    Ok(all.map(|name| folder.join(name)).collect())
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// `3.log` as (3, ""), `3.log.20260102-150405` as (3, "20260102-150405").
fn parse(name: &str) -> Option<(u32, &str)> {
    let (run, rest) = name.split_once(".log")?;
    let time = if rest.is_empty() { "" } else { rest.strip_prefix('.').filter(|time| !time.is_empty())? };
    Some((run.parse().ok()?, time))
}
