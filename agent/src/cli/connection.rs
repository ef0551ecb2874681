//! Which agent a command speaks to, and about which namespace.

use super::CommandError;
use crate::client::Client;
use clap::Args;
use manifests::config::parse_configuration;
use manifests::diagnostic::render;
use manifests::parse::SourceFile;
use std::path::{Path, PathBuf};

/// The socket of an agent that was configured with defaults.
const DEFAULT_SOCKET: &str = "/run/keel/keel.sock";
/// The socket's name in `runDir`.
const SOCKET_NAME: &str = "keel.sock";

/// How to reach the agent.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The agent's socket [default: /run/keel/keel.sock] [env: KEEL_SOCKET]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) socket: Option<PathBuf>,
    /// Take the socket from the agent's configuration
    #[arg(long, value_name = "FILE", conflicts_with = "socket", global = true)]
    pub(crate) config: Option<PathBuf>,
}

impl Connection {
    /// The client; connects with the first request.
    ///
    /// # Errors
    /// If the configuration that was named cannot be read.
    pub(crate) fn client(&self) -> Result<Client, CommandError> {
        let from_environment = std::env::var_os("KEEL_SOCKET").filter(|path| !path.is_empty());
        self.socket(from_environment.map(PathBuf::from)).map(Client::new)
    }

    /// Flags before environment before default.
    fn socket(&self, from_environment: Option<PathBuf>) -> Result<PathBuf, CommandError> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(config)) => configured_socket(config),
            (None, None) => Ok(from_environment.unwrap_or_else(|| DEFAULT_SOCKET.into())),
        }
    }
}

fn configured_socket(config: &Path) -> Result<PathBuf, CommandError> {
    let failed = |source| CommandError::Read { path: config.to_owned(), source };
    let content = std::fs::read(config).map_err(failed)?;
    let file = SourceFile { path: config.display().to_string(), content };
    let configuration = parse_configuration(file)
        .map_err(|diagnostics| CommandError::Configuration { reason: render(&diagnostics, false) })?;
    Ok(configuration.run_dir.join(SOCKET_NAME))
}

/// Which namespace is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Scope {
    /// Only this namespace
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
}

/// Which namespaces are meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WideScope {
    #[command(flatten)]
    pub(crate) one: Scope,
    /// Every namespace
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
}

impl WideScope {
    /// The namespace, unless all are meant.
    pub(crate) fn namespace(&self) -> Option<&str> {
        (!self.all_namespaces).then_some(self.one.namespace.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_environment_and_the_environment_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("keel.yaml");
        std::fs::write(
            &config,
            "apiVersion: evenkeel.dev/v1alpha1\nkind: AgentConfiguration\nrunDir: /run/other\n",
        )
        .unwrap();
        let environment = || Some(PathBuf::from("/env.sock"));
        let socket = |socket: Option<&str>, config: Option<&Path>, environment| {
            let connection =
                Connection { socket: socket.map(PathBuf::from), config: config.map(Path::to_owned) };
            connection.socket(environment).unwrap()
        };
        assert_eq!(socket(Some("/flag.sock"), None, environment()), Path::new("/flag.sock"));
        assert_eq!(socket(None, Some(&config), environment()), Path::new("/run/other/keel.sock"));
        assert_eq!(socket(None, None, environment()), Path::new("/env.sock"));
        assert_eq!(socket(None, None, None), Path::new(DEFAULT_SOCKET));
    }
}
