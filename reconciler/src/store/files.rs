//! The files below a store, as the store asks for them: so that a test can put disks below it
//! that forget, fail and fill up.

use redb::{Database, DatabaseError};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pages that redb keeps in memory. Entries are read from the disk only by who lags.
const CACHE_BYTES: usize = 4 << 20;
/// What is copied at a time.
const PART_BYTES: usize = 1 << 20;

/// What is there already, and what may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The file is there.
    Existing,
    /// It is made if it is missing.
    Missing,
    /// It is empty after.
    Fresh,
}

/// A file system.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// The folder is there after, and so after a power cut.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn OpenFile>>;
    /// The database in a file; nobody else has it open.
    fn database(&self, path: &Path, how: How) -> Result<Database, DatabaseError>;
    /// The length of a file in bytes; none if it is not there.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// The files of a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder are on disk after.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// How long to wait before the next commit: a disk of a simulation is slow by this.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// An open file. Places are given by each call: who shares it needs no lock.
pub(super) trait OpenFile: fmt::Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Reads what is there at `offset`; 0 bytes at the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// What was written is on disk after.
    ///
    /// # Errors
    /// If it may not be, nor be there the next time: [`rewrite`] it then.
    fn sync(&self) -> io::Result<()>;
}

/// Reads or writes an open file from its start on.
#[derive(Debug)]
pub(super) struct Cursor<'f> {
    file: &'f dyn OpenFile,
    at: u64,
}

impl<'f> Cursor<'f> {
    pub(super) fn new(file: &'f dyn OpenFile) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.at, out)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Cursor<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes again all that `file` holds. After a sync that failed, the kernel takes for written
/// what it could not write, and the next sync says that all is well: only what is written again
/// is synced again. The bytes stay what they are, so a crash on the way does no harm.
pub(super) fn rewrite(file: &dyn OpenFile) -> io::Result<()> {
    let length = file.len()?;
    let mut part = vec![0; PART_BYTES];
    let mut at = 0;
    while at < length {
        let count = file.read_at(at, &mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(at, &part[..count])?;
        at += count as u64;
    }
    file.sync()
}

/// The computer's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostFiles;

impl Files for HostFiles {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        path.parent().map_or(Ok(()), |parent| self.sync_folder(parent))
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn OpenFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options.create(how != How::Existing).truncate(how == How::Fresh);
        Ok(Box::new(options.open(path)?))
    }

    fn database(&self, path: &Path, how: How) -> Result<Database, DatabaseError> {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        if how == How::Existing {
            return builder.open(path);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(how == How::Fresh).mode(0o600);
        builder.create_file(options.open(path)?)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // The parent of a relative name without a folder.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }
}

impl OpenFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, out, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // With the length, if that is another; without the times, which nobody asks for.
        self.sync_data()
    }
}
