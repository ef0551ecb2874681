//! What a container executes.

use super::env::Env;
use super::error::Cause;
use crate::image::ImageConfig;
use k8s_openapi::api::core::v1::Container;

/// `command` and `args` over the image's entrypoint and command: a pod's
/// `command` drops both of the image's, its `args` only the image's command.
///
/// # Errors
/// [`Cause::NoCommand`] if nothing is left.
pub(super) fn args(container: &Container, image: &ImageConfig, env: &Env) -> Result<Vec<String>, Cause> {
    let own = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        let list = list.as_ref().filter(|list| !list.is_empty())?;
        Some(list.iter().map(|text| env.expand(text)).collect())
    };
    let (command, args) = (own(&container.command), own(&container.args));
    let line = match (command, args) {
        (Some(command), args) => [command, args.unwrap_or_default()].concat(),
        (None, Some(args)) => [image.entrypoint.clone(), args].concat(),
        (None, None) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    };
    if line.first().is_none_or(String::is_empty) { Err(Cause::NoCommand) } else { Ok(line) }
}
