//! `keel port-forward`: local ports that lead to ports of a pod.

mod ports;

use super::connection::{Connection, Scope};
use super::inside::Inside;
use super::output::{self, Output};
use super::{CommandError, choice, target};
use crate::client::{Client, ObjectPath, Selectors};
use crate::print;
use clap::Args;
use k8s_openapi::api::core::v1::{Pod, Service};
use manifests::{Kind, Object};
use ports::Ports;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::{TcpListener, TcpStream};

/// Connect local ports to ports of a pod, until you interrupt it.
///
///   keel port-forward web-7c5d 8080:80        localhost:8080 leads to the pod's port 80
///   keel port-forward deployment/web :http    any free port, to the port of that name
///   keel port-forward service/web 8080:80     as the service maps it, to one of its pods
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct PortForwardArgs {
    /// POD, or KIND/NAME of a service or of what makes pods
    #[arg(value_name = "OBJECT")]
    object: String,
    /// `[LOCAL:]REMOTE`, the remote one by number or name; an empty LOCAL is any free port
    #[arg(value_name = "PORTS", required = true)]
    ports: Vec<Ports>,
    /// Listen on these addresses
    #[arg(long, value_name = "ADDRESS", default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: &PortForwardArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let (pod, service) = pod(&client, args).await?;
    let inside = Inside::of(&client, &pod, String::new()).await?;
    let mut listeners = Vec::new();
    for ports in &args.ports {
        let remote = ports.remote_of(&pod, service.as_ref())?;
        for address in args.address.iter().flat_map(|address| addresses(address)) {
            let local = ports.local_for(remote);
            let listener = match TcpListener::bind((address, local)).await {
                Ok(listener) => listener,
                // Where there is no IPv6, localhost is IPv4 alone.
                Err(_) if address == "::1" && !listeners.is_empty() => continue,
                Err(source) => {
                    return Err(CommandError::Listen { address: format!("{address}:{local}"), source });
                }
            };
            let here = listener.local_addr().map_err(CommandError::Runtime)?;
            output.line(&format!("Forwarding from {here} -> {remote}"))?;
            listeners.push((listener, remote));
        }
    }
    let forwards =
        listeners.into_iter().map(|(listener, remote)| forward(listener, inside.socket.clone(), remote));
    tokio::select! {
        _ = futures::future::join_all(forwards) => {}
        // Told to end: what is open closes with the program.
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// `localhost` is both families.
fn addresses(address: &str) -> Vec<&str> {
    if address == "localhost" { vec!["127.0.0.1", "::1"] } else { vec![address] }
}

async fn forward(listener: TcpListener, socket: PathBuf, remote: u16) {
    loop {
        match listener.accept().await {
            Ok((local, peer)) => {
                let _connection = tokio::spawn(connect(local, peer, socket.clone(), remote));
            }
            Err(error) => {
                output::note(&format!("cannot accept a connection: {error}"));
                return;
            }
        }
    }
}

async fn connect(mut local: TcpStream, peer: SocketAddr, socket: PathBuf, remote: u16) {
    let dialed = tokio::task::spawn_blocking(move || {
        let stream = runtime::pods::dial(&socket, remote)?;
        stream.set_nonblocking(true).map_err(runtime::pods::InsideError::Talk)?;
        Ok::<_, runtime::pods::InsideError>(stream)
    });
    let stream = match dialed.await {
        Ok(Ok(stream)) => TcpStream::from_std(stream).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(crate::chain::chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    match stream {
        // An end that went away is no news.
        Ok(mut stream) => drop(tokio::io::copy_bidirectional(&mut local, &mut stream).await),
        Err(why) => output::note(&format!("connection from {peer} to port {remote}: {why}")),
    }
}

/// The pod, and the service by which it was named.
async fn pod(client: &Client, args: &PortForwardArgs) -> Result<(Pod, Option<Service>), CommandError> {
    let words = std::slice::from_ref(&args.object);
    let namespace = &args.scope.namespace;
    let (kind, name) = target::one(words, Some(Kind::Pod))?;
    if kind != Kind::Service {
        return Ok((choice::pod(client, words, namespace).await?, None));
    }
    let object = client.get_object(&ObjectPath::one(kind, namespace, &name)).await?;
    let none = || CommandError::NoPods { object: format!("service/{name}"), namespace: namespace.clone() };
    let Object::Service(service) = object else { return Err(none()) };
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if selector.is_empty() {
        return Err(none());
    }
    let labels: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let selectors = Selectors { labels: labels.join(","), ..Selectors::default() };
    let found = client.list_objects(&ObjectPath::all(Kind::Pod, Some(namespace)), &selectors).await?;
    let mut pods: Vec<Pod> = found.iter().filter_map(|pod| <&Pod>::try_from(pod).ok().cloned()).collect();
    pods.sort_by_key(|pod| print::pod_summary(pod).ready == 0);
    let pod = pods.into_iter().next().ok_or_else(none)?;
    Ok((pod, Some(*service)))
}
