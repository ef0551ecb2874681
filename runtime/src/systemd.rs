//! Where systemd is PID 1, it owns the cgroup tree: pods live in slices and scopes that it
//! made, with `Delegate=yes`, so that what is below a scope is ours.
//!
//! Source: <https://systemd.io/CGROUP_DELEGATION/>, org.freedesktop.systemd1(5).

mod names;

pub(crate) use names::{Place, pod_of_scope, slice_path};

use crate::plan::Resources;
use futures::StreamExt;
use std::path::Path;
use std::time::Duration;
use zbus::zvariant::{OwnedObjectPath, Value};

/// How long systemd may take to answer, or to make a scope.
const PATIENCE: Duration = Duration::from_secs(20);
/// In the place of a job's result.
const DISCONNECTED: &str = "disconnected";
/// What systemd adds to a pod's own grace before it kills.
const AFTER_GRACE: Duration = Duration::from_secs(10);
/// A thousandth of a core, as CPU time per second.
const USEC_PER_MILLI: u64 = 1000;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Value<'_>)],
        aux: &[(&str, Vec<(&str, Value<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    fn subscribe(&self) -> zbus::Result<()>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: zbus::zvariant::ObjectPath<'_>,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

/// Why systemd made no scope.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ScopeError {
    #[error("cannot ask systemd for the scope {scope}")]
    Ask { scope: String, source: Box<zbus::Error> },
    #[error("systemd did not make the scope {scope}: its job ended as {result:?}")]
    Refused { scope: String, result: String },
    #[error("systemd did not make the scope {scope} in time")]
    Timeout { scope: String },
}

impl ScopeError {
    /// systemd was not reached, or does not want to.
    pub(crate) fn is_lasting(&self) -> bool {
        let of_this_scope = |error: &zbus::Error| matches!(error, zbus::Error::MethodError(name, ..) if name.ends_with(".UnitExists"));
        matches!(self, Self::Ask { source, .. } if !of_this_scope(source))
    }

    /// The connection is of no use any more.
    pub(crate) fn is_disconnection(&self) -> bool {
        matches!(self, Self::Ask { source, .. } if matches!(**source, zbus::Error::InputOutput(_)))
            || matches!(self, Self::Refused { result, .. } if result == DISCONNECTED)
    }
}

/// What a scope is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// `keel-pod1234.scope`.
    pub(crate) name: &'a str,
    /// `keel-burstable.slice`; made if it is missing.
    pub(crate) slice: &'a str,
    /// For people.
    pub(crate) description: &'a str,
    /// The first process in it.
    pub(crate) pid: u32,
    /// Limits of the whole.
    pub(crate) limits: &'a Resources,
    /// Between being told to end and being killed.
    pub(crate) grace: Duration,
}

/// The system's service manager.
#[derive(Debug, Clone)]
pub struct Systemd {
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// The service manager, if systemd is PID 1 here and answers; `None` where it is not.
    ///
    /// # Errors
    /// If systemd is PID 1 and cannot be reached over the system bus.
    pub async fn detect() -> Result<Option<Self>, zbus::Error> {
        // sd_booted(3).
        if !Path::new("/run/systemd/system").is_dir() {
            return Ok(None);
        }
        let connected = async { Self::on(&zbus::Connection::system().await?).await.map(Some) };
        tokio::time::timeout(PATIENCE, connected).await.unwrap_or_else(|_| {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(zbus::Error::InputOutput(std::sync::Arc::new(late)))
        })
    }

    /// The service manager at the other end of `connection`.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn on(connection: &zbus::Connection) -> Result<Self, zbus::Error> {
        let manager = ManagerProxy::new(connection).await?;
        // Without a subscriber systemd tells nobody when a job is done.
        manager.subscribe().await?;
        Ok(Self { manager })
    }

    /// The scope exists, with the process in it.
    pub(crate) async fn start_scope(&self, scope: &Scope<'_>) -> Result<(), ScopeError> {
        let late = || ScopeError::Timeout { scope: scope.name.to_owned() };
        tokio::time::timeout(PATIENCE, self.start(scope)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn start(&self, scope: &Scope<'_>) -> Result<(), ScopeError> {
        let ask = |error| ScopeError::Ask { scope: scope.name.to_owned(), source: Box::new(error) };
        let mut removed = self.manager.receive_job_removed().await.map_err(ask)?;
        let properties = properties(scope);
        let job = match self.manager.start_transient_unit(scope.name, "fail", &properties, &[]).await {
            // What a lost supervisor of the same pod left, perhaps.
            Err(zbus::Error::MethodError(..)) => {
                self.clear(scope.name, &mut removed).await;
                self.manager.start_transient_unit(scope.name, "fail", &properties, &[]).await
            }
            other => other,
        }
        .map_err(ask)?;
        match end_of(&mut removed, &job).await {
            Some(result) if result == "done" => Ok(()),
            result => Err(ScopeError::Refused {
                scope: scope.name.to_owned(),
                result: result.unwrap_or_else(|| DISCONNECTED.to_owned()),
            }),
        }
    }

    /// No unit of that name is there, as far as that can be had.
    async fn clear(&self, name: &str, removed: &mut JobRemovedStream) {
        if let Ok(job) = self.manager.stop_unit(name, "replace").await {
            let _ = end_of(removed, &job).await;
        }
        let _ = self.manager.reset_failed_unit(name).await;
    }
}

/// How the job ended; `None` if the connection did.
async fn end_of(removed: &mut JobRemovedStream, job: &OwnedObjectPath) -> Option<String> {
    while let Some(signal) = removed.next().await {
        if let Ok(args) = signal.args()
            && args.job.as_str() == job.as_str()
        {
            return Some(args.result.clone());
        }
    }
    None
}

/// Limits are given to systemd too: what it does not know of, it would reset.
fn properties<'a>(scope: &'a Scope<'_>) -> Vec<(&'static str, Value<'a>)> {
    let mut properties = vec![
        ("Description", Value::from(scope.description)),
        ("Slice", Value::from(scope.slice)),
        ("PIDs", Value::from(vec![scope.pid])),
        ("Delegate", Value::from(true)),
        ("CollectMode", Value::from("inactive-or-failed")),
        ("TasksAccounting", Value::from(true)),
        ("MemoryAccounting", Value::from(true)),
        ("CPUAccounting", Value::from(true)),
        // A pod ends in order, by its supervisor's word: the others do not hear this one.
        ("KillSignal", Value::from(crate::supervisor::SCOPE_STOP_SIGNAL)),
        ("TimeoutStopUSec", Value::from(usec(scope.grace + AFTER_GRACE))),
        // One container's want of memory is no reason to end the others.
        ("OOMPolicy", Value::from("continue")),
        // Ends before what it stands on does.
        ("After", Value::from(vec!["local-fs.target", "network.target"])),
    ];
    let Resources { memory_bytes, cpu_millis, cpu_shares, pids, .. } = scope.limits;
    properties.extend(memory_bytes.map(|bytes| ("MemoryMax", Value::from(bytes))));
    properties.extend(memory_bytes.map(|_| ("MemorySwapMax", Value::from(0_u64))));
    let quota = cpu_millis.map(|millis| millis.saturating_mul(USEC_PER_MILLI));
    properties.extend(quota.map(|usec| ("CPUQuotaPerSecUSec", Value::from(usec))));
    properties.extend(cpu_shares.map(|shares| ("CPUWeight", Value::from(crate::cgroup::weight(shares)))));
    // The pod's own processes, and its supervisor.
    properties.push(("TasksMax", Value::from(pids.unwrap_or(u64::MAX))));
    properties
}

fn usec(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
