//! Certificates, and the protocols that are agreed on with them.

use super::*;
use hyper::Version;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate for `name`, and who trusts it.
fn certificate(name: &str) -> (Certificate, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let pem = made.cert.pem();
    let certificate =
        Certificate::parse(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    (certificate, CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
}

async fn secure(
    site: &Site,
    name: &'static str,
    trusted: &[&CertificateDer<'static>],
    protocols: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for one in trusted {
        roots.add((*one).clone()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut configuration = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    configuration.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(site.https).await?;
    TlsConnector::from(Arc::new(configuration)).connect(ServerName::try_from(name).unwrap(), stream).await
}

#[tokio::test]
async fn certificates_are_shown_by_name_and_swapped_under_way() {
    let site = Site::open(vec![("/", route(&[backend(echo).await], options()))]).await;
    let (one, one_trusts) = certificate("one.example");
    let (any, any_trusts) = certificate("a.wild.example");
    let mut certificates = Certificates::default();
    assert!(certificates.add(HostRule::parse("one.example"), one.clone()));
    assert!(certificates.add(HostRule::parse("*.wild.example"), any));
    assert!(!certificates.add(HostRule::parse("one.example"), one));
    site.ingress.set_certificates(certificates);
    let trusts = [&one_trusts, &any_trusts];
    secure(&site, "one.example", &trusts[..1], &[]).await.unwrap();
    secure(&site, "a.wild.example", &trusts[1..], &[]).await.unwrap();
    assert!(secure(&site, "wild.example", &trusts, &[]).await.is_err(), "nobody has this name");
    let (new, new_trusts) = certificate("one.example");
    let mut certificates = Certificates::default();
    assert!(certificates.add(HostRule::parse("one.example"), new));
    site.ingress.set_certificates(certificates);
    secure(&site, "one.example", &[&new_trusts], &[]).await.unwrap();
    assert!(secure(&site, "one.example", &trusts, &[]).await.is_err(), "it is another's now");
    site.end().await;
}

/// A client of HTTP/2, for which `site` has a certificate now.
async fn http2_client(site: &Site) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let (certificate, trusts) = certificate("site.example");
    let mut certificates = Certificates::default();
    assert!(certificates.add(HostRule::Any, certificate));
    site.ingress.set_certificates(certificates);
    let stream = secure(site, "site.example", &[&trusts], &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn http2_is_spoken_to_clients_that_know_it() {
    let site = Site::open(vec![("/", route(&[backend(echo).await], options()))]).await;
    let mut sender = http2_client(&site).await;
    let port = site.https.port();
    let request = Request::get(format!("https://site.example:{port}/x"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let said = text(response).await;
    assert_eq!(
        said,
        format!(
            "GET /x HTTP/1.1 host=site.example:{port} for=127.0.0.1 proto=https port={port} cookie=a=1; b=2 te= body="
        )
    );
    drop(sender);
    site.end().await;
}

#[tokio::test]
async fn a_backend_of_grpc_is_asked_by_http2_and_its_trailers_come() {
    let grpc = |request: Request<Incoming>| async move {
        let (_, body) = echo(request).await.into_parts();
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("grpc-status", "7".parse().unwrap());
        Response::new(body.with_trailers(std::future::ready(Some(Ok(trailers)))))
    };
    let options = RouteOptions { http2: true, ..options() };
    let site = Site::open(vec![("/", route(&[backend(grpc).await], options))]).await;
    let mut sender = http2_client(&site).await;
    let uri = format!("https://site.example:{}/pkg.Service/Call", site.https.port());
    let request = Request::post(uri).header("te", "trailers").body(Full::new(Bytes::from_static(b"m")));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let all = response.into_body().collect().await.unwrap();
    assert_eq!(all.trailers().unwrap()["grpc-status"], "7");
    let said = String::from_utf8(all.to_bytes().to_vec()).unwrap();
    assert!(said.contains("/pkg.Service/Call HTTP/2.0 host= "), "{said}");
    assert!(said.contains("te=trailers body=m"), "{said}");
    drop(sender);
    site.end().await;
}

#[tokio::test]
async fn clients_without_tls_are_sent_to_where_there_is() {
    let options = RouteOptions { redirect: true, ..options() };
    let site = Site::open(vec![("/", route(&[backend(echo).await], options))]).await;
    let response = site.ask(get("/a?b=c")).await;
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    let wanted = format!("https://site.example:{}/a?b=c", site.https.port());
    assert_eq!(response.headers()["location"], wanted.as_str());
    site.end().await;
}
