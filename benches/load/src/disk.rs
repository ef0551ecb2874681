//! What the disk itself takes: the limit of every durable write.

use crate::work::summary;
use anyhow::Result;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

/// Places in the file that are written in turn.
const PLACES: usize = 1024;

/// Writes `bytes` bytes and flushes them, `count` times; the file is as long before as after.
pub(crate) fn measure(path: &Path, bytes: usize, count: usize) -> Result<Value> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let data = vec![0x5a; bytes];
    fill(&file, &data)?;
    let mut all = Vec::with_capacity(count);
    let started = Instant::now();
    for number in 0..count {
        let begun = Instant::now();
        file.write_all_at(&data, (number % PLACES * bytes) as u64)?;
        file.sync_data()?;
        all.push(begun.elapsed());
    }
    Ok(summary(all, started.elapsed().as_secs_f64()))
}

fn fill(file: &File, data: &[u8]) -> Result<()> {
    for place in 0..PLACES {
        file.write_all_at(data, (place * data.len()) as u64)?;
    }
    Ok(file.sync_all()?)
}
