//! Who the program is, by number or by the image's own names.

use super::error::{Failure, Step};
use super::target::Root;
use crate::plan::ContainerPlan;
use oci_spec::runtime::Process;
use rustix::fs::{Gid, Uid};
use std::io;
use std::path::Path;

/// `user`, `user:group`, or either as a number, to look up in the image.
pub(crate) const USER_ANNOTATION: &str = "evenkeel.dev/user";

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<u32>,
    /// From the image, or `/`.
    pub(super) home: String,
}

/// Reads the image's `/etc/passwd` and `/etc/group`; `/` is the container's root by now.
pub(super) fn resolve(container: &ContainerPlan, process: &Process) -> Result<Identity, Failure> {
    resolve_as(container, process, None)
}

/// Like [`resolve`], or as `other`: `user[:group]` by name or number.
pub(super) fn resolve_as(
    container: &ContainerPlan,
    process: &Process,
    other: Option<&str>,
) -> Result<Identity, Failure> {
    resolve_in(&Root::open(Path::new("/"))?, container, process, other)
}

/// Like [`resolve_as`], by the files of the container's `root` wherever that is.
pub(super) fn resolve_in(
    root: &Root,
    container: &ContainerPlan,
    process: &Process,
    other: Option<&str>,
) -> Result<Identity, Failure> {
    let read = |path: &str| root.read(Path::new(path)).unwrap_or_default();
    let named = container.spec.annotations().as_ref().and_then(|all| all.get(USER_ANNOTATION));
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    let user = process.user();
    let numbers = format!("{}:{}", user.uid(), user.gid());
    let own = named.map_or(numbers.as_str(), String::as_str);
    let wanted = other.filter(|other| !other.is_empty()).unwrap_or(own);
    let mut identity = look_up(wanted, &passwd, &group)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        .step(|| format!("find the user {wanted:?} in the image"))?;
    if container.security.strict_groups {
        identity.groups.clear();
    }
    identity.groups.extend(user.additional_gids().iter().flatten());
    // As in every other runtime.
    identity.groups.push(identity.gid.as_raw());
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

/// `None` if a name is not in the files. A user brings the groups that it is a member of; a
/// number not in the files has group 0.
fn look_up(wanted: &str, passwd: &str, group: &str) -> Option<Identity> {
    let (user, group_wanted) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd
        .lines()
        .map(fields)
        .find(|entry| entry.len() >= 6 && (entry[0] == user || (is_number(user) && entry[2] == user)));
    let uid: u32 = match &entry {
        Some(entry) => entry[2].parse().ok()?,
        None => user.parse().ok()?,
    };
    let gid: u32 = match group_wanted {
        Some(wanted) => group_number(wanted, group)?,
        None => entry.as_ref().map_or(Some(0), |entry| entry[3].parse().ok())?,
    };
    let groups = entry.as_ref().map_or_else(Vec::new, |entry| groups_of(entry[0], group));
    let home = entry.map(|entry| entry[5].to_owned()).filter(|home| !home.is_empty());
    Some(Identity {
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
        groups,
        home: home.unwrap_or_else(|| "/".to_owned()),
    })
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn group_number(wanted: &str, group: &str) -> Option<u32> {
    if is_number(wanted) {
        return wanted.parse().ok();
    }
    let entry = group.lines().map(fields).find(|entry| entry.len() >= 3 && entry[0] == wanted)?;
    entry[2].parse().ok()
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let member = |entry: &Vec<&str>| entry.len() >= 4 && entry[3].split(',').any(|name| name == user);
    group.lines().map(fields).filter(member).filter_map(|entry| entry[2].parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:web,other\nlog:x:44:other\nadm:x:4:web\n";

    fn numbers(wanted: &str) -> Option<(u32, u32, Vec<u32>, String)> {
        let found = look_up(wanted, PASSWD, GROUP)?;
        Some((found.uid.as_raw(), found.gid.as_raw(), found.groups, found.home))
    }

    #[test]
    fn names_and_numbers_are_found_in_the_image() {
        assert_eq!(numbers("web"), Some((101, 102, vec![33, 4], "/srv".into())));
        assert_eq!(numbers("101"), Some((101, 102, vec![33, 4], "/srv".into())));
        assert_eq!(numbers("web:log"), Some((101, 44, vec![33, 4], "/srv".into())));
        assert_eq!(numbers("5000:6000"), Some((5000, 6000, vec![], "/".into())));
        assert_eq!(numbers("5000"), Some((5000, 0, vec![], "/".into())));
        assert_eq!(numbers(""), Some((0, 0, vec![], "/root".into())));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(numbers("nobody"), None);
        assert_eq!(numbers("web:none"), None);
        assert_eq!(numbers("99999999999"), None);
    }
}
