//! The lock on a store's folder.

use crate::store::OpenError;
use crate::store::open_error::io_error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Takes the lock, and says in its file who has it.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: without it the error is as true.
            drop(file.read_to_string(&mut holder));
            return Err(OpenError::Locked { lock: path.to_owned(), holder: holder.trim().into() });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    // On a full disk, the holder stays unnamed.
    drop(write(&mut file));
    Ok(file)
}
