//! Networks of pods that other programs make: plugins of the Container Network Interface.
//!
//! `list`, `request`, `outcome` and `failure` are the specification's words (pure); `program` calls
//! plugins, `record` keeps on disk what they were called for, and `pin` keeps a pod's namespace until
//! DEL was called. `plugin` is the other side: this network as a plugin of somebody else's runtime.
//!
//! Source: the CNI specification, 1.1.0.

mod chaining;
mod error;
mod failure;
mod folder;
mod list;
mod outcome;
mod pin;
pub mod plugin;
mod program;
mod record;
mod request;
mod version;

pub use error::CniError;
pub use failure::Failure;
pub use folder::{Choice, ChoiceError};
pub use list::{ListError, NetworkList};
pub use outcome::{Interface, Ip, Outcome, OutcomeError};
pub use program::CallError;
pub use request::Command;
pub use version::SpecVersion;

use crate::network::Locks;
use chaining::{joined, understand};
use error::{broken_record, failed};
use list::PluginConf;
use pin::Pins;
use program::{Call, Programs};
use record::{Record, Records};
use request::Parameters;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The pod's interface.
const INTERFACE: &str = "eth0";
/// The plugin needs not be called: it does not know the container.
const UNKNOWN_CONTAINER: u64 = failure::code::UNKNOWN_CONTAINER;

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniOptions {
    /// Holds the networks.
    pub networks: PathBuf,
    /// Hold the plugins, the first first.
    pub plugins: Vec<PathBuf>,
    /// Networks that other programs have put there for their own containers are taken, too.
    pub all: bool,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// May be emptied at boot.
    pub run_dir: PathBuf,
    /// How long one plugin may take.
    pub timeout: Duration,
}

/// A pod that is to be joined.
#[derive(Debug, Clone, PartialEq)]
pub struct CniPod {
    /// `metadata.uid`, which is the container's id.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// A process in its network namespace.
    pub pid: i32,
    /// Arguments by capability: `portMappings`, `bandwidth`, `dns`…
    pub capabilities: serde_json::Map<String, Value>,
}

/// A pod that plugins have joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The network's name.
    pub network: String,
    /// The pod's addresses, the main one first.
    pub addresses: Vec<IpAddr>,
    /// All that the plugins said.
    pub outcome: Outcome,
}

/// Calls plugins. Methods may be called from any task, at once; calls for one pod wait for one another.
#[derive(Debug)]
pub struct Cni {
    options: CniOptions,
    programs: Programs,
    records: Records,
    pins: Pins,
    locks: Locks,
    /// GC is alone with itself.
    collecting: tokio::sync::RwLock<()>,
    /// The network that has said that it is ready.
    ready: Mutex<Option<NetworkList>>,
}

impl Cni {
    /// Nothing is called or looked at yet.
    #[must_use]
    pub fn new(options: CniOptions) -> Self {
        let programs = Programs { folders: options.plugins.clone(), timeout: options.timeout };
        Self {
            programs,
            records: Records(options.state_dir.join("cni")),
            pins: Pins::new(options.run_dir.join("netns")),
            locks: Locks::default(),
            collecting: tokio::sync::RwLock::default(),
            ready: Mutex::default(),
            options,
        }
    }

    /// The network of new pods, as the folder has it now.
    ///
    /// # Errors
    /// [`ChoiceError`].
    pub fn choose(&self) -> Result<Choice, ChoiceError> {
        folder::choose(&self.options.networks, self.options.all)
    }

    /// The network that the pod is joined to, as it was then; nothing if plugins have not all done
    /// their part.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn joined(&self, uid: &str) -> Result<Option<NetworkList>, CniError> {
        let Some(record) = self.find(uid)?.filter(|record| record.result.is_some()) else { return Ok(None) };
        record.list().map(Some).map_err(|source| CniError::Broken { uid: uid.to_owned(), source })
    }

    /// The networks that pods are joined to, by their uids. What cannot be read is left out.
    #[must_use]
    pub fn all_joined(&self) -> BTreeMap<String, String> {
        let (records, _) = self.records.all().unwrap_or_default();
        let joined = records.into_iter().filter(|record| record.result.is_some());
        joined.map(|record| (record.container_id, record.network_name)).collect()
    }

    /// The pod is joined to the network, and its namespace stays until [`Cni::del`]. A pod that is
    /// joined already stays as it is; one whose namespace is another than before is joined anew.
    ///
    /// # Errors
    /// [`CniError`]; DEL was called then, and is called again by [`Cni::del`] if it failed.
    pub async fn add(&self, list: &NetworkList, pod: &CniPod) -> Result<Joined, CniError> {
        let _alone = self.locks.lock(&pod.uid).await;
        let _not_collecting = self.collecting.read().await;
        if let Some(record) = self.find(&pod.uid)? {
            if let (Some(result), true) = (&record.result, self.pins.is_of(&pod.uid, pod.pid))
                && let Ok(joined) = joined(&record.network_name, result)
            {
                return Ok(joined);
            }
            self.take_back(&record).await?;
        }
        // Whoever lacks one need not take anything back.
        for plugin in &list.plugins {
            self.programs.find(&plugin.kind).map_err(|source| failed(list, source))?;
        }
        self.be_ready(list).await?;
        let uid = &pod.uid;
        let netns = self.pins.path(uid).display().to_string();
        let record = Record::new(list, &parameters(pod, netns));
        // Before anything is done.
        self.write(&record)?;
        let added = match self.pins.pin(uid, pod.pid) {
            Ok(_) => self.add_all(list, record.clone()).await,
            Err(source) => Err(CniError::Namespace { uid: uid.clone(), source }),
        };
        if added.is_err()
            && let Ok(Some(record)) = self.find(uid)
        {
            // What fails here is owed: the record stays.
            let _ = self.take_back(&record).await;
        }
        added
    }

    async fn add_all(&self, list: &NetworkList, mut record: Record) -> Result<Joined, CniError> {
        let parameters = record.parameters();
        let mut previous: Option<Value> = None;
        for plugin in &list.plugins {
            let input = request::configuration(list, plugin, &parameters, previous.as_ref());
            let said = self.call(list, plugin, (Command::Add, Some(&parameters)), input).await?;
            let understood = understand(&said, list.version);
            let nonsense = |reason| {
                let (plugin, command) = (plugin.kind.clone(), Command::Add.word());
                failed(list, CallError::Nonsense { plugin, command, reason })
            };
            previous = Some(understood.map_err(nonsense)?);
        }
        record.result = previous;
        self.write(&record)?;
        joined(&list.name, record.result.as_ref().unwrap_or(&Value::Null))
    }

    /// Plugins have taken back what they made for the pod, and its namespace is let go. Returns whether
    /// there was anything. Repeating is harmless.
    ///
    /// # Errors
    /// A plugin's: to be repeated.
    pub async fn del(&self, uid: &str) -> Result<bool, CniError> {
        let _alone = self.locks.lock(uid).await;
        let _not_collecting = self.collecting.read().await;
        match self.find(uid)? {
            Some(record) => self.take_back(&record).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn take_back(&self, record: &Record) -> Result<(), CniError> {
        let uid = &record.container_id;
        let list = record.list().map_err(|source| CniError::Broken { uid: uid.clone(), source })?;
        let mut parameters = record.parameters();
        if !self.pins.holds(uid) {
            // The machine has been down. A path that leads elsewhere would harm others.
            parameters.netns.clear();
        }
        let previous = record.result.as_ref().filter(|_| list.version >= SpecVersion::V0_4_0);
        for plugin in list.plugins.iter().rev() {
            let input = request::configuration(&list, plugin, &parameters, previous);
            match self.call(&list, plugin, (Command::Del, Some(&parameters)), input).await {
                Err(CniError::Call { source: CallError::Failed { failure, .. }, .. })
                    if failure.code == UNKNOWN_CONTAINER => {}
                done => drop(done?),
            }
        }
        let namespace = |source| CniError::Namespace { uid: uid.clone(), source };
        self.pins.unpin(uid).map_err(namespace)?;
        let removed = self.records.remove(record);
        removed.map_err(|source| CniError::Record { what: "remove", uid: uid.clone(), source })
    }

    /// The plugins find what they made for the pod as it was; so does one that was never asked.
    ///
    /// # Errors
    /// The first plugin's that does not.
    pub async fn check(&self, uid: &str) -> Result<(), CniError> {
        let _alone = self.locks.lock(uid).await;
        let _not_collecting = self.collecting.read().await;
        let Some(record) = self.find(uid)? else { return Ok(()) };
        let list = record.list().map_err(|source| CniError::Broken { uid: uid.to_owned(), source })?;
        if list.disable_check || !request::has(list.version, Command::Check) || record.result.is_none() {
            return Ok(());
        }
        let parameters = record.parameters();
        for plugin in &list.plugins {
            let input = request::configuration(&list, plugin, &parameters, record.result.as_ref());
            self.call(&list, plugin, (Command::Check, Some(&parameters)), input).await?;
        }
        Ok(())
    }

    /// Plugins have taken back what they made for pods that are not among the `live`, and know which
    /// are. Returns those that were not, and what went wrong, which is tried again by the next call.
    ///
    /// `live` is asked after the records were read, which are younger than their pods.
    pub async fn sweep(&self, live: impl FnOnce() -> BTreeSet<String>) -> (Vec<String>, Vec<CniError>) {
        let (mut gone, mut errors) = (Vec::new(), Vec::new());
        let records = match self.records.all() {
            Ok((records, broken)) => {
                let broken = broken.into_iter().map(|path| broken_record(&path));
                errors.extend(broken);
                records
            }
            Err(source) => {
                return (gone, vec![CniError::Record { what: "list", uid: String::new(), source }]);
            }
        };
        let live = live();
        for record in records.iter().filter(|record| !live.contains(&record.container_id)) {
            match self.del(&record.container_id).await {
                Ok(_) => gone.push(record.container_id.clone()),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.collect().await);
        (gone, errors)
    }

    /// Plugins of the present network forget attachments that there is no record of.
    async fn collect(&self) -> Vec<CniError> {
        let Ok(Choice { network: Some((_, list)), .. }) = self.choose() else { return Vec::new() };
        if list.disable_gc || !request::has(list.version, Command::Gc) {
            return Vec::new();
        }
        let _alone = self.collecting.write().await;
        let Ok((left, _)) = self.records.all() else { return Vec::new() };
        let own = left.iter().filter(|record| record.network_name == list.name);
        let valid: Vec<_> = own.map(|record| (record.container_id.clone(), record.if_name.clone())).collect();
        let mut errors = Vec::new();
        for plugin in &list.plugins {
            let input = request::with_attachments(&list, plugin, &valid);
            errors.extend(self.call(&list, plugin, (Command::Gc, None), input).await.err());
        }
        errors
    }

    /// The network's plugins say that they can take pods.
    ///
    /// # Errors
    /// The first plugin's that cannot, in its own words.
    pub async fn status(&self, list: &NetworkList) -> Result<(), CniError> {
        for plugin in &list.plugins {
            if request::has(list.version, Command::Status) {
                self.call(list, plugin, (Command::Status, None), request::bare(list, plugin)).await?;
            } else {
                self.programs.find(&plugin.kind).map_err(|source| failed(list, source))?;
            }
        }
        Ok(())
    }

    /// Asked once of each network: whoever cannot take pods later says so by itself.
    async fn be_ready(&self, list: &NetworkList) -> Result<(), CniError> {
        let ready = || self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready().as_ref() == Some(list) {
            return Ok(());
        }
        self.status(list).await?;
        *ready() = Some(list.clone());
        Ok(())
    }

    async fn call(
        &self,
        list: &NetworkList,
        plugin: &PluginConf,
        (command, parameters): (Command, Option<&Parameters>),
        input: Value,
    ) -> Result<Vec<u8>, CniError> {
        let environment = request::environment(command, parameters, &self.options.plugins);
        let call = Call { plugin: &plugin.kind, command, environment, input };
        self.programs.call(call).await.map_err(|source| failed(list, source))
    }

    fn find(&self, uid: &str) -> Result<Option<Record>, CniError> {
        let found = self.records.find(uid, INTERFACE);
        found.map_err(|source| CniError::Record { what: "read", uid: uid.to_owned(), source })
    }

    fn write(&self, record: &Record) -> Result<(), CniError> {
        let uid = || record.container_id.clone();
        self.records.write(record).map_err(|source| CniError::Record { what: "write", uid: uid(), source })
    }
}

/// What is the same for every pod of Kubernetes.
fn parameters(pod: &CniPod, netns: String) -> Parameters {
    let argument = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Parameters {
        container: pod.uid.clone(),
        netns,
        interface: INTERFACE.to_owned(),
        arguments: vec![
            argument("IgnoreUnknown", "1"),
            argument("K8S_POD_NAMESPACE", &pod.namespace),
            argument("K8S_POD_NAME", &pod.name),
            argument("K8S_POD_INFRA_CONTAINER_ID", &pod.uid),
            argument("K8S_POD_UID", &pod.uid),
        ],
        capabilities: pod.capabilities.clone(),
    }
}
