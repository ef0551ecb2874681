//! A folder whose files all change at once, laid out as the kubelet does it:
//!
//! ```text
//! ..2026_11_21_00_15_03.123456789/key   the files
//! ..data -> ..2026_11_21_00_15_03.123456789
//! key -> ..data/key
//! ```
//!
//! A reader follows `..data`, which one rename replaces: it sees all old or all
//! new files, never a mixture, also through a bind mount of the folder.

use super::VolumeError;
use super::payload::{File, Files};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes the folder `root` show exactly `files`; true if it did not before.
///
/// # Errors
/// If something cannot be written; `root` then shows what it showed before.
pub(super) fn write(root: &Path, files: Files, fs_group: Option<u32>) -> Result<bool, VolumeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(root)
        .map_err(|e| VolumeError::io("create", root, e))?;
    fs::set_permissions(root, Permissions::from_mode(0o755))
        .map_err(|e| VolumeError::io("change the mode of", root, e))?;
    let files = with_group_access(files, fs_group);
    let old = fs::read_link(root.join(DATA)).ok();
    if let Some(old) = &old
        && read(&root.join(old)).is_ok_and(|there| shows(&there, &files))
    {
        // A crash may have come between the swap and the names.
        link_names(root, &files)?;
        return Ok(false);
    }
    let fresh = fresh_name();
    write_files(&root.join(&fresh), &files, fs_group)?;
    swap(root, &fresh)?;
    link_names(root, &files)?;
    sweep(root, &fresh)?;
    Ok(true)
}

fn with_group_access(mut files: Files, fs_group: Option<u32>) -> Files {
    if fs_group.is_some() {
        files.values_mut().for_each(|file| file.mode |= 0o440);
    }
    files
}

/// A name that no earlier write used.
fn fresh_name() -> String {
    let now = Timestamp::now();
    let time = now.to_zoned(TimeZone::UTC).strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    format!("{time}.{:09}", now.subsec_nanosecond())
}

fn write_files(folder: &Path, files: &Files, fs_group: Option<u32>) -> Result<(), VolumeError> {
    make_folder(folder, fs_group)?;
    for (path, file) in files {
        let mut at = folder.to_owned();
        for part in path.parent().into_iter().flat_map(Path::components) {
            at.push(part);
            make_folder(&at, fs_group)?;
        }
        let path = folder.join(path);
        write_file(&path, file, fs_group).map_err(|source| VolumeError::io("write", &path, source))?;
    }
    Ok(())
}

fn make_folder(path: &Path, fs_group: Option<u32>) -> Result<(), VolumeError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => return Err(VolumeError::io("create", path, source)),
        Ok(()) => {}
    }
    let mode = if fs_group.is_some() { 0o2755 } else { 0o755 };
    let owned = if fs_group.is_some() { chown(path, None, fs_group) } else { Ok(()) };
    owned
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|source| VolumeError::io("change the mode of", path, source))
}

fn write_file(path: &Path, file: &File, fs_group: Option<u32>) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(&file.data)?;
    if fs_group.is_some() || file.user.is_some() {
        chown(path, file.user, fs_group)?;
    }
    out.set_permissions(Permissions::from_mode(file.mode))
}

/// Points `..data` at `fresh`.
fn swap(root: &Path, fresh: &str) -> Result<(), VolumeError> {
    let next = root.join(DATA_NEXT);
    match fs::remove_file(&next) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(VolumeError::io("remove", &next, source));
        }
        Ok(()) | Err(_) => {}
    }
    symlink(fresh, &next).map_err(|source| VolumeError::io("create", &next, source))?;
    fs::rename(&next, root.join(DATA)).map_err(|source| VolumeError::io("rename", &next, source))
}

/// Makes the names in `root` that lead to the files, and removes those that lead nowhere.
fn link_names(root: &Path, files: &Files) -> Result<(), VolumeError> {
    let wanted: BTreeSet<OsString> =
        files.keys().filter_map(|path| Some(path.components().next()?.as_os_str().to_owned())).collect();
    for name in &wanted {
        let link = root.join(name);
        match symlink(Path::new(DATA).join(name), &link) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(VolumeError::io("create", &link, source));
            }
            Ok(()) | Err(_) => {}
        }
    }
    for name in names(root)? {
        if !name.as_encoded_bytes().starts_with(b"..") && !wanted.contains(&name) {
            let link = root.join(name);
            fs::remove_file(&link).map_err(|source| VolumeError::io("remove", &link, source))?;
        }
    }
    Ok(())
}

/// Removes every generation but `fresh`.
fn sweep(root: &Path, fresh: &str) -> Result<(), VolumeError> {
    for name in names(root)? {
        let old = name.as_encoded_bytes().starts_with(b"..") && name != DATA && name != fresh;
        if old {
            let path = root.join(name);
            fs::remove_dir_all(&path).map_err(|source| VolumeError::io("remove", &path, source))?;
        }
    }
    Ok(())
}

fn names(root: &Path) -> Result<Vec<OsString>, VolumeError> {
    let entries = fs::read_dir(root).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(|source| VolumeError::io("list", root, source))?;
    Ok(entries.into_iter().map(|entry| entry.file_name()).collect())
}

/// True if `there` are the `wanted` files; who owns a file matters where it was said.
fn shows(there: &Files, wanted: &Files) -> bool {
    let same = |(one, other): (&File, &File)| {
        one.data == other.data && one.mode == other.mode && (other.user.is_none() || one.user == other.user)
    };
    there.keys().eq(wanted.keys()) && there.values().zip(wanted.values()).all(same)
}

/// The files under `folder`.
fn read(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        for entry in fs::read_dir(folder.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let mode = metadata.permissions().mode() & 0o777;
                let user = Some(metadata.uid());
                files.insert(path, File { data: fs::read(entry.path())?, mode, user });
            }
        }
    }
    Ok(files)
}
