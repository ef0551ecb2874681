//! Devices of the host that a container is given.

use super::v1;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use runtime::plan::{ContainerPlan, DeviceRule, Devices};
use rustix::fs::{FileType, major, minor};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tonic::Status;

/// The container has the device, or all devices of the folder, and may use them as it says.
///
/// # Errors
/// `InvalidArgument` if there is none.
pub(super) fn add(plan: &mut ContainerPlan, wanted: &v1::Device) -> Result<(), Status> {
    let from = Path::new(&wanted.host_path);
    let to =
        Path::new(if wanted.container_path.is_empty() { &wanted.host_path } else { &wanted.container_path });
    let broken = |error: std::io::Error| Status::invalid_argument(format!("{}: {error}", from.display()));
    if fs::metadata(from).map_err(broken)?.is_dir() {
        for entry in fs::read_dir(from).map_err(broken)?.flatten() {
            // What is no device is not given.
            add_one(plan, &entry.path(), &to.join(entry.file_name()), &wanted.permissions);
        }
        return Ok(());
    }
    if add_one(plan, from, to, &wanted.permissions) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{} is no device", from.display())))
}

/// False if there is no device.
fn add_one(plan: &mut ContainerPlan, from: &Path, to: &Path, permissions: &str) -> bool {
    let Ok(found) = fs::metadata(from) else { return false };
    let kind = FileType::from_raw_mode(found.mode());
    let block = kind == FileType::BlockDevice;
    if !block && kind != FileType::CharacterDevice {
        return false;
    }
    let (major, minor) = (major(found.rdev()), minor(found.rdev()));
    let may = |what: char| permissions.is_empty() || permissions.contains(what);
    if let Devices::Usual(more) = &mut plan.resources.devices {
        more.push(DeviceRule {
            block,
            major: Some(major),
            minor: Some(minor),
            make: may('m'),
            read: may('r'),
            write: may('w'),
        });
    }
    let mut device = LinuxDevice::default();
    device
        .set_path(PathBuf::from(to))
        .set_typ(if block { LinuxDeviceType::B } else { LinuxDeviceType::C })
        .set_major(i64::from(major))
        .set_minor(i64::from(minor))
        .set_file_mode(Some(found.mode() & 0o777))
        .set_uid(Some(found.uid()))
        .set_gid(Some(found.gid()));
    let mut linux = plan.spec.linux().clone().unwrap_or_default();
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.push(device);
    linux.set_devices(Some(devices));
    plan.spec.set_linux(Some(linux));
    true
}
