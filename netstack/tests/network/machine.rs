//! A machine with nothing but a loopback, and pods on it.

use futures::TryStreamExt;
use netstack::NetworkOptions;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a packet may take; reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// Options for a network of the kernel's own packet size.
pub(crate) fn options(bridge: &str, cidr: &str) -> NetworkOptions {
    let (bridge, pod_cidrs) = (bridge.into(), cidr.parse().unwrap());
    NetworkOptions { bridge, pod_cidrs, formers: Vec::new(), mtu: 0, fast_path: true }
}

/// Runs `test` on threads in a new network namespace.
pub(crate) fn on_fresh_machine<F>(test: F)
where
    F: AsyncFnOnce(Pod) + Send + 'static,
{
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // Its workers are born into the namespace of this thread.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let host = Pod::here();
            let index = link_index(&host.handle, "lo").await;
            host.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
            test(host).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The names of all links.
pub(crate) async fn links(handle: &Handle) -> BTreeSet<String> {
    let all: Vec<_> = handle.link().get().execute().try_collect().await.unwrap();
    let name = |attribute| if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None };
    all.into_iter().filter_map(|link| link.attributes.into_iter().find_map(name)).collect()
}

pub(crate) async fn link_index(handle: &Handle, name: &str) -> u32 {
    handle.link().get().match_name(name).execute().try_next().await.unwrap().unwrap().header.index
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace: that of a pod, or of the machine.
pub(crate) struct Pod {
    pid: i32,
    jobs: mpsc::Sender<Job>,
    /// A socket in its namespace.
    pub(crate) handle: Handle,
}

impl Pod {
    /// A pod in a namespace of its own.
    pub(crate) fn new() -> Self {
        Self::start(|| unshare(CloneFlags::CLONE_NEWNET).unwrap())
    }

    fn here() -> Self {
        Self::start(|| ())
    }

    fn start(enter: impl FnOnce() + Send + 'static) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, start) = mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        thread::spawn(move || {
            enter();
            let _inside = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            runtime.spawn(connection);
            started.send((nix::unistd::gettid().as_raw(), handle)).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        let (pid, handle) = start.recv().unwrap();
        Self { pid, jobs, handle }
    }

    /// The thread's number, which `/proc` takes as it takes a process'.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> R {
        let (sender, receiver) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(sender.send(job())))).unwrap();
        receiver.recv_timeout(DEADLINE * 2).unwrap()
    }

    /// Connects from here to `address`, where `other` listens. Returns the address
    /// that `other` sees, after a byte has gone through.
    pub(crate) fn meets(&self, other: &Self, address: IpAddr) -> IpAddr {
        let listener = other.run(|| TcpListener::bind(("0.0.0.0", 0)).unwrap());
        let to = SocketAddr::new(address, listener.local_addr().unwrap().port());
        let mut client = self.run(move || TcpStream::connect_timeout(&to, DEADLINE).unwrap());
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (server, from) = listener.accept().unwrap();
        std::io::Write::write_all(&mut &server, b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
        from.ip()
    }

    pub(crate) async fn add_address(&self, link: &str, address: &str, prefix: u8) {
        let index = link_index(&self.handle, link).await;
        self.handle.address().add(index, address.parse().unwrap(), prefix).execute().await.unwrap();
    }

    /// Takes from the pod all that stands between a link that was made and one that works.
    pub(crate) async fn break_interface(&self) {
        let index = link_index(&self.handle, "eth0").await;
        let addresses: Vec<AddressMessage> =
            self.handle.address().get().set_link_index_filter(index).execute().try_collect().await.unwrap();
        for address in addresses {
            self.handle.address().del(address).execute().await.unwrap();
        }
        for name in ["eth0", "lo"] {
            let down = LinkUnspec::new_with_name(name).down().build();
            self.handle.link().set(down).execute().await.unwrap();
        }
    }

    pub(crate) async fn take_out_of_bridge(&self, link: &str) {
        let out = LinkUnspec::new_with_name(link).nocontroller().down().build();
        self.handle.link().set(out).execute().await.unwrap();
    }

    pub(crate) async fn set_group(&self, link: &str, group: u32) {
        let set = LinkUnspec::new_with_name(link).link_group(group).build();
        self.handle.link().set(set).execute().await.unwrap();
    }

    pub(crate) async fn set_alias(&self, link: &str, alias: &str) {
        let set = LinkUnspec::new_with_name(link).alias(alias).build();
        self.handle.link().set(set).execute().await.unwrap();
    }

    pub(crate) async fn alias(&self, link: &str) -> Option<String> {
        let link = self.handle.link().get().match_name(link).execute().try_next().await.unwrap().unwrap();
        let alias =
            |attribute| if let LinkAttribute::IfAlias(alias) = attribute { Some(alias) } else { None };
        link.attributes.into_iter().find_map(alias)
    }

    pub(crate) async fn group(&self, link: &str) -> u32 {
        let link = self.handle.link().get().match_name(link).execute().try_next().await.unwrap().unwrap();
        let group = |attribute| if let LinkAttribute::Group(group) = attribute { Some(group) } else { None };
        link.attributes.into_iter().find_map(group).unwrap()
    }
}
