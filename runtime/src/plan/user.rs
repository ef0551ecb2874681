//! Who a container runs as.

use super::error::Cause;
use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};
use oci_spec::runtime::User;

/// The user of a container, as far as it is known without the image's `/etc/passwd`.
pub(super) struct RunAs {
    /// Numeric ids; 0 where a name stands in `unresolved`.
    pub(super) user: User,
    /// `user` or `user:group`, by name or number, for the sandbox to look up.
    pub(super) unresolved: Option<String>,
}

/// The user by the container's, the pod's and the image's word, in this order.
///
/// # Errors
/// If `runAsNonRoot` is broken or cannot be checked, or an id is out of range.
pub(super) fn run_as(
    container: Option<&SecurityContext>,
    pod: Option<&PodSecurityContext>,
    image_user: &str,
) -> Result<RunAs, Cause> {
    let uid = container.and_then(|c| c.run_as_user).or_else(|| pod.and_then(|p| p.run_as_user));
    let gid = container.and_then(|c| c.run_as_group).or_else(|| pod.and_then(|p| p.run_as_group));
    let non_root = container.and_then(|c| c.run_as_non_root).or_else(|| pod.and_then(|p| p.run_as_non_root));
    let (image_user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let user = uid.map_or_else(|| image_user.to_owned(), |uid| uid.to_string());
    let group = match (gid, uid) {
        (Some(gid), _) => gid.to_string(),
        (None, Some(_)) => String::new(),
        (None, None) => image_group.to_owned(),
    };
    let user = if user.is_empty() { "0".to_owned() } else { user };
    if non_root == Some(true) {
        check_non_root(&user, uid.is_none())?;
    }
    for id in [uid, gid].into_iter().flatten() {
        self::id(id)?;
    }
    let mut resolved = User::default();
    resolved.set_uid(user.parse().unwrap_or(0)).set_gid(group.parse().unwrap_or(0));
    let groups = supplemental_groups(pod)?;
    resolved.set_additional_gids((!groups.is_empty()).then_some(groups));
    // Also of a number the image can know the group, and the groups beside.
    let unresolved = Some(match group.as_str() {
        "" => user,
        group => format!("{user}:{group}"),
    });
    Ok(RunAs { user: resolved, unresolved })
}

fn check_non_root(user: &str, by_image: bool) -> Result<(), Cause> {
    match user.parse::<u32>() {
        Ok(0) => Err(Cause::RunsAsRoot { by_image }),
        Ok(_) => Ok(()),
        Err(_) => Err(Cause::UserNotVerifiable { user: user.to_owned() }),
    }
}

fn supplemental_groups(pod: Option<&PodSecurityContext>) -> Result<Vec<u32>, Cause> {
    let Some(pod) = pod else { return Ok(Vec::new()) };
    let own = pod.supplemental_groups.iter().flatten();
    own.chain(&pod.fs_group).map(|&group| id(group)).collect()
}

/// A user or group id; the highest one means "none" to the kernel.
fn id(id: i64) -> Result<u32, Cause> {
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or(Cause::BadId { id })
}
