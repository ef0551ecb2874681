//! What the agent and systemd tell each other, where systemd is PID 1.

use crate::node::Node;
use runtime::state::Stage;
use runtime::systemd::Systemd;
use sd_notify::NotifyState;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The line of `systemctl status` changes at most this often.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// How long systemd may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The service manager, where it is systemd and can be used: it makes pods' cgroups then.
pub(crate) async fn manager() -> Option<Systemd> {
    match Systemd::detect().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn Error,
                "cannot reach systemd over D-Bus: pods get cgroups beside its own"
            );
            None
        }
    }
}

/// Until `stop`: systemd knows how many pods run, and that this program is not stuck.
pub(crate) async fn report(node: Arc<Node>, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return stop.cancelled().await;
    }
    // Twice as often as is asked for, as sd_watchdog_enabled(3) wants it.
    let watchdog = sd_notify::watchdog_enabled().map(|period| period / 2);
    let mut alive = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
    let mut changes = node.runtime.changes();
    let mut said = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = alive.tick() => {
                if watchdog.is_some() {
                    tell(&NotifyState::Watchdog);
                }
            }
            changed = changes.changed() => if changed.is_err() { return },
        }
        let text = status(&node);
        if text != said {
            tell(&NotifyState::Status(&text));
            said = text;
            // Changes come in swarms. The watchdog is no finer than this.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(STATUS_PERIOD) => {}
            }
        }
    }
}

/// What is needed of systemd itself. Source: `org.freedesktop.systemd1(5)`.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait SystemManager {
    /// `running`, `degraded`, `stopping`…
    #[zbus(property)]
    fn system_state(&self) -> zbus::Result<String>;
}

/// Whether systemd says that the machine goes down, not the agent alone. False without systemd.
pub(crate) async fn goes_down() -> bool {
    // Source: `sd_booted(3)`.
    if !std::path::Path::new("/run/systemd/system").exists() {
        return false;
    }
    let state = async {
        let connection = zbus::Connection::system().await?;
        SystemManagerProxy::new(&connection).await?.system_state().await
    };
    let state = tokio::time::timeout(PATIENCE, state).await;
    state.is_ok_and(|state| state.is_ok_and(|state| state == "stopping"))
}

fn status(node: &Node) -> String {
    let pods = node.runtime.observe();
    let count = |stage: Stage| pods.values().filter(|pod| pod.stage == stage).count();
    let (started, stopping) = (count(Stage::Started), count(Stage::Stopping));
    match stopping {
        0 => format!("{started} pods run"),
        stopping => format!("{started} pods run, {stopping} are being stopped"),
    }
}

fn tell(what: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(what)) {
        tracing::debug!(error = &error as &dyn Error, "systemd was not told");
    }
}
