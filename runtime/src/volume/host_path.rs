//! `hostPath`: a path of the host, made or checked by its type.

use super::VolumeError;
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::fs::{self, DirBuilder, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Makes sure that what `volume` needs is on the host.
///
/// Without a type, a missing path becomes a folder, as containerd has it.
///
/// # Errors
/// If it is not of the wanted type, or cannot be made.
pub(super) fn ensure(volume: &str, host: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&host.path);
    match host.type_.as_deref().unwrap_or_default() {
        "" => {
            if found(path)?.is_none() {
                make_folder(path)?;
            }
            return Ok(());
        }
        "DirectoryOrCreate" if found(path)?.is_none() => make_folder(path)?,
        "FileOrCreate" if found(path)?.is_none() => make_file(path)?,
        _ => {}
    }
    let (wanted, is_it): (_, fn(&FileType) -> bool) = match host.type_.as_deref().unwrap_or_default() {
        "Directory" | "DirectoryOrCreate" => ("directory", FileType::is_dir),
        "File" | "FileOrCreate" => ("file", FileType::is_file),
        "Socket" => ("socket file", FileTypeExt::is_socket),
        "CharDevice" => ("character device", FileTypeExt::is_char_device),
        "BlockDevice" => ("block device", FileTypeExt::is_block_device),
        other => {
            return Err(VolumeError::UnknownHostPathType {
                volume: volume.to_owned(),
                found: other.to_owned(),
            });
        }
    };
    if found(path)?.is_some_and(|found| is_it(&found)) {
        Ok(())
    } else {
        Err(VolumeError::HostPathType { volume: volume.to_owned(), path: host.path.clone(), wanted })
    }
}

/// What is at `path`, links followed.
fn found(path: &Path) -> Result<Option<FileType>, VolumeError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(VolumeError::io("look at", path, source)),
    }
}

fn make_folder(path: &Path) -> Result<(), VolumeError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| VolumeError::io("create", path, source))
}

fn make_file(path: &Path) -> Result<(), VolumeError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    match made {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(VolumeError::io("create", path, source))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
