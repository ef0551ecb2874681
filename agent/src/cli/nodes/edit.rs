//! An object is read, changed and written back, unless somebody else was faster.

use crate::cli::CommandError;
use crate::client::{Client, ObjectPath};
use manifests::Object;

/// So often it is tried again when somebody else was faster.
const TRIES: u32 = 10;

/// The object at `path` is as `change` makes it; false if it was so already.
///
/// # Errors
/// What `change` finds; [`CommandError::Client`] if there is no such object, or others change it
/// all the time.
pub(super) async fn edit(
    client: &Client,
    path: &ObjectPath,
    change: impl Fn(&mut Object) -> Result<(), CommandError>,
) -> Result<bool, CommandError> {
    let mut tries = 0;
    loop {
        let stored = client.get_object(path).await?;
        let mut next = stored.clone();
        change(&mut next)?;
        if next == stored {
            return Ok(false);
        }
        let body = next.to_json().map_err(CommandError::Json)?;
        tries += 1;
        match client.replace(path, &body).await {
            Ok(()) => return Ok(true),
            Err(error) if error.is_conflict() && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}
