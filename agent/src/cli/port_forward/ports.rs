//! `[LOCAL:]REMOTE`, and what it means for a pod. Pure.

use crate::cli::CommandError;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::str::FromStr;

/// One pair of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    /// The same as the remote one if `None`; any free one if 0.
    local: Option<u16>,
    remote: Remote,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Remote {
    Number(u16),
    Name(String),
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no [LOCAL:]REMOTE like 8080:80, :80 or 8080:http");
        let (local, remote) = match text.split_once(':') {
            Some(("", remote)) => (Some(0), remote),
            Some((local, remote)) => (Some(local.parse().map_err(|_| wrong())?), remote),
            None => (None, text),
        };
        let is_name = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        };
        let remote = match remote.parse() {
            Ok(number) if number > 0 => Remote::Number(number),
            Err(_) if is_name(remote) => Remote::Name(remote.to_owned()),
            Ok(_) | Err(_) => return Err(wrong()),
        };
        Ok(Self { local, remote })
    }
}

impl Ports {
    /// The local port, if it leads to `remote`.
    pub(super) fn local_for(&self, remote: u16) -> u16 {
        match (self.local, &self.remote) {
            (Some(local), _) => local,
            (None, Remote::Number(asked)) => *asked,
            (None, Remote::Name(_)) => remote,
        }
    }

    /// The pod's port that is meant, through `service` if it was named by one.
    ///
    /// # Errors
    /// If the service or the pod has no such port.
    pub(super) fn remote_of(&self, pod: &Pod, service: Option<&Service>) -> Result<u16, CommandError> {
        let Some(service) = service else { return of_pod(pod, &self.remote) };
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let found = ports.clone().find(|port| match &self.remote {
            Remote::Number(number) => port.port == i32::from(*number),
            Remote::Name(name) => port.name.as_ref() == Some(name),
        });
        let known = || ports.map(|port| port.port.to_string()).collect::<Vec<_>>().join(", ");
        let Some(port) = found else { return Err(unknown(&self.remote, &known())) };
        match &port.target_port {
            Some(IntOrString::String(name)) => of_pod(pod, &Remote::Name(name.clone())),
            Some(IntOrString::Int(number)) if *number > 0 => number_of(*number, &self.remote),
            Some(IntOrString::Int(_)) | None => number_of(port.port, &self.remote),
        }
    }
}

fn of_pod(pod: &Pod, remote: &Remote) -> Result<u16, CommandError> {
    let name = match remote {
        Remote::Number(number) => return Ok(*number),
        Remote::Name(name) => name,
    };
    let containers = pod.spec.iter().flat_map(|spec| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .flat_map(|c| c.ports.iter().flatten())
    });
    match containers.clone().find(|port| port.name.as_ref() == Some(name)) {
        Some(port) => number_of(port.container_port, remote),
        None => {
            let known: Vec<_> = containers.filter_map(|port| port.name.clone()).collect();
            Err(unknown(remote, &known.join(", ")))
        }
    }
}

fn number_of(number: i32, remote: &Remote) -> Result<u16, CommandError> {
    u16::try_from(number).map_err(|_| unknown(remote, &number.to_string()))
}

fn unknown(remote: &Remote, known: &str) -> CommandError {
    let port = match remote {
        Remote::Number(number) => number.to_string(),
        Remote::Name(name) => name.clone(),
    };
    CommandError::NoPort { port, known: if known.is_empty() { "none".to_owned() } else { known.to_owned() } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pairs_read_as_in_kubectl() {
        let pair = |text: &str| text.parse::<Ports>();
        assert_eq!(pair("80"), Ok(Ports { local: None, remote: Remote::Number(80) }));
        assert_eq!(pair("8080:80"), Ok(Ports { local: Some(8080), remote: Remote::Number(80) }));
        assert_eq!(pair(":http"), Ok(Ports { local: Some(0), remote: Remote::Name("http".into()) }));
        for wrong in ["", ":", "80:", "0", "x:80", "70000", "80:-", "1:2:3", "8080:h p"] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_service_leads_to_its_target_port() {
        let pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [
            {"name": "a", "ports": [{"name": "web", "containerPort": 8000}]}]}}))
        .unwrap();
        let service = serde_json::from_value(json!({"metadata": {}, "spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": "web"}, {"port": 90, "targetPort": 9000}, {"port": 91}]}}))
        .unwrap();
        let remote = |text: &str, service| text.parse::<Ports>().unwrap().remote_of(&pod, service);
        for (asked, port) in [("80", 8000), ("http", 8000), ("90", 9000), ("91", 91)] {
            assert_eq!(remote(asked, Some(&service)).unwrap(), port);
        }
        assert_eq!(
            remote("92", Some(&service)).unwrap_err().to_string(),
            "there is no port 92; there are: 80, 90, 91"
        );
        assert_eq!(remote("web", None).unwrap(), 8000);
        assert_eq!(remote("5", None).unwrap(), 5);
        assert!(remote("http", None).is_err());
    }
}
