//! A container's capabilities.

use super::error::Cause;
use k8s_openapi::api::core::v1::SecurityContext;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// containerd's default. They touch only what is the container's own; whom a device
/// node may lead to is the device controller's to say.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setgid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// The sets that a container starts with. Nothing is inheritable or ambient, so
/// a user other than root holds none unless a file grants it.
///
/// # Errors
/// [`Cause::UnknownCapability`].
pub(super) fn capabilities(context: Option<&SecurityContext>) -> Result<LinuxCapabilities, Cause> {
    let set = if context.and_then(|context| context.privileged) == Some(true) {
        ALL.into_iter().collect()
    } else {
        changed(context)?
    };
    let mut all = LinuxCapabilities::default();
    all.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    Ok(all)
}

fn changed(context: Option<&SecurityContext>) -> Result<Capabilities, Cause> {
    let change = context.and_then(|context| context.capabilities.as_ref());
    let add = change.and_then(|change| change.add.clone()).unwrap_or_default();
    let drop = change.and_then(|change| change.drop.clone()).unwrap_or_default();
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut set: Capabilities = match (all(&add), all(&drop)) {
        (_, true) => Capabilities::new(),
        (true, false) => ALL.into_iter().collect(),
        (false, false) => DEFAULT.into_iter().collect(),
    };
    for name in add.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        set.insert(parse(name)?);
    }
    for name in drop.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        set.remove(&parse(name)?);
    }
    Ok(set)
}

fn parse(name: &str) -> Result<Capability, Cause> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    short.parse().map_err(|_| Cause::UnknownCapability { name: name.to_owned() })
}
