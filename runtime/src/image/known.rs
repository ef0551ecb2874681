//! What the store's records say, kept in memory: whoever asks for an image asks often.

use super::error::ImageError;
use super::record::{self, Record};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Every record, and when it was last used.
pub(super) type Records = Arc<Vec<(Record, SystemTime)>>;

/// The records as they were last read; nothing once one has changed.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Records>>);

impl Known {
    /// The records of `folder`, which are read if one has changed.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(super) fn records(&self, folder: &Path) -> Result<Records, ImageError> {
        // Held while they are read: what changes meanwhile is forgotten after.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(records) = &*known {
            return Ok(Arc::clone(records));
        }
        let records = Arc::new(record::all(folder)?);
        *known = Some(Arc::clone(&records));
        Ok(records)
    }

    /// The records, if they need not be read for it.
    pub(super) fn at_hand(&self) -> Option<Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A record has changed on the disk.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
