#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::too_many_arguments, reason = "the interface is that of systemd")]

use super::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedValue;

/// Unit and properties of each scope that was asked for.
type Asked = Arc<Mutex<Vec<(String, HashMap<String, OwnedValue>)>>>;

/// A service manager that makes whatever is asked, unless its name has `bad` in it.
struct Fake {
    asked: Asked,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Fake {
    fn subscribe(&self) {}

    fn reset_failed_unit(&self, _name: String) {}

    async fn stop_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        self.asked.lock().unwrap().retain(|(asked, _)| *asked != name);
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/8").unwrap();
        Self::job_removed(&emitter, 8, job.as_ref(), name, "done".to_owned()).await?;
        Ok(job)
    }

    async fn start_transient_unit(
        &self,
        name: String,
        _mode: String,
        properties: Vec<(String, OwnedValue)>,
        _aux: Vec<(String, Vec<(String, OwnedValue)>)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<OwnedObjectPath> {
        let result = if name.contains("bad") { "failed" } else { "done" };
        if self.asked.lock().unwrap().iter().any(|(asked, _)| *asked == name) {
            return Err(zbus::fdo::Error::Failed(format!("Unit {name} was already loaded")));
        }
        self.asked.lock().unwrap().push((name.clone(), properties.into_iter().collect()));
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        // Before the answer, as a fast systemd may.
        Self::job_removed(&emitter, 7, job.as_ref(), name, result.to_owned()).await?;
        Ok(job)
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: zbus::zvariant::ObjectPath<'_>,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

async fn manager() -> (Systemd, Asked, zbus::Connection) {
    let asked = Asked::default();
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let guid = zbus::Guid::generate();
    let server = zbus::connection::Builder::unix_stream(theirs)
        .server(guid)
        .unwrap()
        .p2p()
        .serve_at("/org/freedesktop/systemd1", Fake { asked: Arc::clone(&asked) })
        .unwrap()
        .build();
    let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
    let (server, client) = tokio::try_join!(server, client).unwrap();
    (Systemd::on(&client).await.unwrap(), asked, server)
}

fn scope<'a>(name: &'a str, limits: &'a Resources) -> Scope<'a> {
    Scope {
        name,
        slice: "keel.slice",
        description: "Pod default/web",
        pid: 4242,
        limits,
        grace: Duration::from_secs(5),
    }
}

#[tokio::test]
async fn a_scope_is_asked_for_with_its_process_and_limits() {
    let (systemd, asked, _server) = manager().await;
    let limits = Resources { memory_bytes: Some(64 << 20), cpu_millis: Some(250), ..Resources::default() };
    systemd.start_scope(&scope("keel-podx.scope", &limits)).await.unwrap();
    let asked = asked.lock().unwrap();
    let (name, properties) = &asked[0];
    let number = |name: &str| u64::try_from(&*properties[name]).unwrap();
    assert_eq!(name, "keel-podx.scope");
    assert_eq!(<&str>::try_from(&*properties["Slice"]).unwrap(), "keel.slice");
    assert_eq!(Vec::<u32>::try_from(properties["PIDs"].try_clone().unwrap()).unwrap(), [4242]);
    assert!(bool::try_from(&*properties["Delegate"]).unwrap());
    assert_eq!((number("MemoryMax"), number("CPUQuotaPerSecUSec")), (64 << 20, 250_000));
    assert!(!properties.contains_key("CPUWeight"));
    assert_eq!(number("TimeoutStopUSec"), 15_000_000);
}

#[tokio::test]
async fn what_a_lost_pod_left_gives_way_to_it() {
    let (systemd, asked, _server) = manager().await;
    let limits = Resources::default();
    systemd.start_scope(&scope("keel-podx.scope", &limits)).await.unwrap();
    systemd.start_scope(&scope("keel-podx.scope", &limits)).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_systemd_refuses_is_an_error_with_its_word() {
    let (systemd, _asked, _server) = manager().await;
    let limits = Resources::default();
    let refused = systemd.start_scope(&scope("keel-bad.scope", &limits)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "systemd did not make the scope keel-bad.scope: its job ended as \"failed\""
    );
}
