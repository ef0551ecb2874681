//! A container's environment: the image's, the ConfigMaps and Secrets that it
//! takes whole, and its own variables, each over the ones before.

use super::build::PodInput;
use super::error::Cause;
use super::expand::expand;
use super::field::field_value;
use super::file_variable;
use super::resource::resource_field;
use super::values::secret_values;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};

/// Variables in the order in which they were first set.
#[derive(Debug, Default, Clone)]
pub(super) struct Env(Vec<(String, String)>);

impl Env {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// `text` with the references to these variables replaced.
    pub(super) fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name).map(str::to_owned))
    }

    /// These over `base`, as `NAME=value`.
    pub(super) fn over(self, base: &[(&str, String)], image: &[String]) -> Vec<String> {
        let mut all = Self::default();
        base.iter().for_each(|(name, value)| all.set(name, value.clone()));
        image
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .for_each(|(name, value)| all.set(name, value.to_owned()));
        self.0.into_iter().for_each(|(name, value)| all.set(&name, value));
        all.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// What the pod says of the environment of `container`; the image's is not in
/// it, as references never see that.
///
/// # Errors
/// If something that is not optional is missing.
pub(super) fn of_pod(container: &Container, input: &PodInput<'_>) -> Result<Env, Cause> {
    let mut env = Env::default();
    for source in container.env_from.iter().flatten() {
        take_all(&mut env, source, input)?;
    }
    for (place, variable) in container.env.iter().flatten().enumerate() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) if source.file_key_ref.is_some() => file_variable::mark(place),
            (_, Some(source)) => match value_from(source, container, input)? {
                Some(value) => value,
                None => continue,
            },
            (value, None) => env.expand(value.as_deref().unwrap_or_default()),
        };
        env.set(&variable.name, value);
    }
    Ok(env)
}

/// Adds each key of a ConfigMap or Secret whose name can be a variable's.
fn take_all(env: &mut Env, source: &EnvFromSource, input: &PodInput<'_>) -> Result<(), Cause> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut add = |key: &str, value: String| {
        let name = format!("{prefix}{key}");
        if is_variable_name(&name) {
            env.set(&name, value);
        }
    };
    if let Some(wanted) = &source.config_map_ref {
        match input.config_maps.get(&wanted.name) {
            Some(map) => map.data.iter().flatten().for_each(|(key, value)| add(key, value.clone())),
            None if wanted.optional == Some(true) => {}
            None => return Err(Cause::ConfigMapNotFound { name: wanted.name.clone() }),
        }
    }
    if let Some(wanted) = &source.secret_ref {
        match input.secrets.get(&wanted.name) {
            Some(secret) => {
                for (key, value) in secret_values(secret) {
                    add(key, text(value, key, &wanted.name)?);
                }
            }
            None if wanted.optional == Some(true) => {}
            None => return Err(Cause::SecretNotFound { name: wanted.name.clone() }),
        }
    }
    Ok(())
}

/// Printable ASCII without `=`, as the API server has it for names from keys.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

fn text(value: &[u8], key: &str, name: &str) -> Result<String, Cause> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.contains('\0'))
        .map(str::to_owned)
        .ok_or_else(|| Cause::NotText { key: key.to_owned(), name: name.to_owned() })
}

/// The value of a `valueFrom`; `None` if it is optional and not there.
fn value_from(
    source: &EnvVarSource,
    container: &Container,
    input: &PodInput<'_>,
) -> Result<Option<String>, Cause> {
    if let Some(field) = &source.field_ref {
        return field_value(&field.field_path, input.pod, input.node).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let other = selector.container_name.as_deref().filter(|name| !name.is_empty());
        let unknown = || Cause::UnknownResource { resource: selector.resource.clone() };
        let target = match other {
            Some(name) => input.container(name).ok_or_else(unknown)?,
            None => container,
        };
        return resource_field(selector, target, input.node).map(Some);
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let optional = wanted.optional == Some(true);
        let Some(map) = input.config_maps.get(&wanted.name) else {
            let missing = Cause::ConfigMapNotFound { name: wanted.name.clone() };
            return if optional { Ok(None) } else { Err(missing) };
        };
        let found = map.data.as_ref().and_then(|data| data.get(&wanted.key)).cloned();
        return key_or(found, optional, || input.key_not_found("ConfigMap", &wanted.name, &wanted.key));
    }
    if let Some(wanted) = &source.secret_key_ref {
        let optional = wanted.optional == Some(true);
        let Some(secret) = input.secrets.get(&wanted.name) else {
            let missing = Cause::SecretNotFound { name: wanted.name.clone() };
            return if optional { Ok(None) } else { Err(missing) };
        };
        let found = secret_values(secret).get(wanted.key.as_str()).copied();
        let found = found.map(|value| text(value, &wanted.key, &wanted.name)).transpose()?;
        return key_or(found, optional, || input.key_not_found("Secret", &wanted.name, &wanted.key));
    }
    Err(Cause::Unsupported { feature: "a variable from nowhere".to_owned() })
}

fn key_or(
    found: Option<String>,
    optional: bool,
    missing: impl FnOnce() -> Cause,
) -> Result<Option<String>, Cause> {
    if found.is_none() && !optional { Err(missing()) } else { Ok(found) }
}
