//! Limits, identity and capabilities, in the one order that works.

use super::error::{Failure, Step};
use super::filter::Filter;
use super::user::Identity;
use super::users::Users;
use crate::plan::ContainerSecurity;
use caps::{CapSet, CapsHashSet};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Capabilities, PosixRlimitType, Process};
use std::fs;
use std::io;

/// The process has its limits and its identity, and can never have more capabilities than its
/// specification says. It still has all that it has had, until [`seal`].
pub(super) fn take_on(process: &Process, identity: &Identity, users: Option<&Users>) -> Result<(), Failure> {
    for limit in process.rlimits().iter().flatten() {
        if let Some(resource) = resource(limit.typ()) {
            setrlimit(resource, limit.soft(), limit.hard()).step(|| format!("set {}", limit.typ()))?;
        }
    }
    // The supervisor's own, if it has one, is not for its containers.
    set_oom_score(process.oom_score_adj().unwrap_or(0))?;
    users.map_or(Ok(()), Users::join)?;
    let capabilities = process.capabilities().as_ref();
    let bounding = wanted(capabilities.and_then(|all| all.bounding().as_ref()));
    for capability in caps::runtime::thread_all_supported() {
        if !bounding.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(io::Error::other)
                .step(|| format!("drop {capability}"))?;
        }
    }
    become_user(identity)?;
    // While permitted still holds everything; ambient is a subset of both.
    set(CapSet::Inheritable, capabilities.and_then(|all| all.inheritable().as_ref()))?;
    set(CapSet::Ambient, capabilities.and_then(|all| all.ambient().as_ref()))
}

/// The process has its capabilities and is under its filter: the last before the exec, so that
/// the filter has to allow little beside it.
pub(super) fn seal(
    process: &Process,
    container: &ContainerSecurity,
    filter: Option<&Filter>,
) -> Result<(), Failure> {
    if let Some(profile) = &container.apparmor {
        let step = || format!("take the AppArmor profile {profile} for the exec");
        fs::write("/proc/self/attr/apparmor/exec", format!("exec {profile}")).step(step)?;
    }
    if process.no_new_privileges().unwrap_or(false) {
        rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs".to_owned())?;
        reduce_capabilities(process)?;
        return filter.map_or(Ok(()), Filter::set);
    }
    if let Some(filter) = filter {
        // Only who could do anything may filter what a program with more rights does later.
        let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other);
        let permitted = permitted.step(|| "read the capabilities".to_owned())?;
        caps::set(None, CapSet::Effective, &permitted)
            .map_err(io::Error::other)
            .step(|| "raise the capabilities".to_owned())?;
        filter.set()?;
    }
    reduce_capabilities(process)
}

fn reduce_capabilities(process: &Process) -> Result<(), Failure> {
    let all = process.capabilities().as_ref();
    // Permitted after effective, its subset.
    set(CapSet::Effective, all.and_then(|all| all.effective().as_ref()))?;
    set(CapSet::Permitted, all.and_then(|all| all.permitted().as_ref()))
}

/// Where the kernel refuses a score as low as that, the container keeps the lowest that it may
/// have: every other of this node is over it still.
fn set_oom_score(score: i32) -> Result<(), Failure> {
    let set = |score: i32| fs::write("/proc/self/oom_score_adj", score.to_string());
    match set(score) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && score < 0 => set(0),
        result => result,
    }
    .step(|| "set oom_score_adj".to_owned())
}

fn become_user(identity: &Identity) -> Result<(), Failure> {
    rustix::thread::set_keep_capabilities(true).step(|| "keep capabilities".to_owned())?;
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).step(|| "set supplementary groups".to_owned())?;
    let gid = Gid::from_raw(identity.gid.as_raw());
    setresgid(gid, gid, gid).step(|| format!("become group {gid}"))?;
    let uid = Uid::from_raw(identity.uid.as_raw());
    setresuid(uid, uid, uid).step(|| format!("become user {uid}"))?;
    rustix::thread::set_keep_capabilities(false).step(|| "keep capabilities".to_owned())
}

fn set(set: CapSet, names: Option<&Capabilities>) -> Result<(), Failure> {
    caps::set(None, set, &wanted(names))
        .map_err(io::Error::other)
        .step(|| format!("set the {set:?} capabilities"))
}

/// What is wanted and this process may have: a host can lack some.
fn wanted(names: Option<&Capabilities>) -> CapsHashSet {
    let available = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let parse = |name: &oci_spec::runtime::Capability| format!("CAP_{name}").parse().ok();
    names.into_iter().flatten().filter_map(parse).filter(|one| available.contains(one)).collect()
}

/// `None` for a limit that no Linux has.
fn resource(kind: PosixRlimitType) -> Option<Resource> {
    use PosixRlimitType as P;
    Some(match kind {
        P::RlimitCpu => Resource::RLIMIT_CPU,
        P::RlimitFsize => Resource::RLIMIT_FSIZE,
        P::RlimitData => Resource::RLIMIT_DATA,
        P::RlimitStack => Resource::RLIMIT_STACK,
        P::RlimitCore => Resource::RLIMIT_CORE,
        P::RlimitRss => Resource::RLIMIT_RSS,
        P::RlimitNproc => Resource::RLIMIT_NPROC,
        P::RlimitNofile => Resource::RLIMIT_NOFILE,
        P::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        P::RlimitAs => Resource::RLIMIT_AS,
        P::RlimitLocks => Resource::RLIMIT_LOCKS,
        P::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        P::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        P::RlimitNice => Resource::RLIMIT_NICE,
        P::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        P::RlimitRttime => Resource::RLIMIT_RTTIME,
    })
}
