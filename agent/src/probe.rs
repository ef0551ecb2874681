//! `keel probe`: one probe of a container that is too big for its supervisor, in a process
//! of its own: TLS, HTTP/2 and names. Started by the supervisor, in the pod's network.

mod grpc;

use runtime::plan::{Action, HttpAction, Place};
use std::ffi::OsString;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

/// As the kubelet presents itself, which servers tell apart from users.
const USER_AGENT: &str = concat!("kube-probe/keel-", env!("CARGO_PKG_VERSION"));
const REDIRECTS: usize = 10;
/// Whoever started us ends us earlier.
const PATIENCE: Duration = Duration::from_secs(600);

/// Does the probe that the arguments tell: an [`Action`] as JSON, and the pod's address.
/// Exits with 0 if it went well, else says on standard output why not.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().filter_map(|arg| arg.into_string().ok()).collect();
    let outcome = match args.as_slice() {
        [action, address] => probe(action, address),
        _ => Err("usage: probe ACTION ADDRESS".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn probe(action: &str, address: &str) -> Result<(), String> {
    let action: Action = serde_json::from_str(action).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        match &action {
            Action::Http(http) => get(http, address).await,
            Action::Tcp(place) => connect(place, address).await,
            Action::Grpc { place, service } => grpc::check(&authority(place, address), service).await,
            Action::Exec(_) | Action::Sleep(_) => Err("this is nothing for a process of its own".to_owned()),
        }
    })
}

/// `host:port`, as URLs have it.
fn authority(place: &Place, address: &str) -> String {
    let host = place.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(address);
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{}", place.port),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{host}:{}", place.port),
    }
}

async fn connect(place: &Place, address: &str) -> Result<(), String> {
    let authority = authority(place, address);
    match tokio::net::TcpStream::connect(&authority).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("dial tcp {authority}: {error}")),
    }
}

/// Well is 200 to 399; redirects are followed on the same host only, as the kubelet does.
async fn get(http: &HttpAction, address: &str) -> Result<(), String> {
    let scheme = if http.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}{}", authority(&http.place, address), http.path);
    let failed =
        |error: reqwest::Error| format!("Get \"{url}\": {}", crate::chain::chain(&error.without_url()));
    let client = reqwest::Client::builder()
        // Whether the server is who it says is its clients' question, not the probe's.
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .user_agent(USER_AGENT)
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::custom(|attempt| {
            let host = |url: &reqwest::Url| url.host_str().map(str::to_owned);
            let away = attempt.previous().first().is_some_and(|first| host(first) != host(attempt.url()));
            if away {
                attempt.stop()
            } else if attempt.previous().len() > REDIRECTS {
                attempt.error(format!("stopped after {REDIRECTS} redirects"))
            } else {
                attempt.follow()
            }
        }))
        .build()
        .map_err(failed)?;
    let mut request = client.get(&url).header("accept", "*/*");
    for (name, value) in &http.headers {
        request = request.header(name, value);
    }
    let status = request.send().await.map_err(failed)?.status().as_u16();
    match status {
        200..=399 => Ok(()),
        _ => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_address_is_the_usual_host() {
        let place = |host: Option<&str>| Place { host: host.map(str::to_owned), port: 80 };
        assert_eq!(authority(&place(None), "10.0.0.1"), "10.0.0.1:80");
        assert_eq!(authority(&place(None), "fd00::1"), "[fd00::1]:80");
        assert_eq!(authority(&place(Some("web.example.com")), "10.0.0.1"), "web.example.com:80");
    }
}
