//! `git http-backend` behind a tiny http server, with or without TLS.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// How the server answers; may be changed while it runs.
#[derive(Default)]
pub(crate) struct Manners {
    /// The `Authorization` header without which it answers 401.
    pub(crate) authorization: Option<String>,
    /// Answered to everything instead, with these further header lines.
    pub(crate) status: Option<String>,
    /// Takes the question and says nothing more.
    pub(crate) silent: bool,
    /// Cuts the connection after so many bytes of a pack.
    pub(crate) cut_after: Option<usize>,
}

struct Shared {
    root: PathBuf,
    manners: Mutex<Manners>,
    requests: Mutex<Vec<String>>,
    stopped: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

/// Serves every repository below a folder until dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        Self::with_tls(root, None)
    }

    /// With the certificate of [`certificates`].
    pub(crate) fn start_tls(root: &Path, certificates: &Path) -> Self {
        let read = |name: &str| std::fs::read(certificates.join(name)).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(&read("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::with_tls(root, Some(Arc::new(config)))
    }

    fn with_tls(root: &Path, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            manners: Mutex::default(),
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
            tls,
        });
        let serving = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || serving.serve(&listener)));
        Self { address, shared, thread }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}/repo.git", self.address.port())
    }

    pub(crate) fn behave(&self, manners: Manners) {
        *self.shared.manners.lock().unwrap() = manners;
    }

    /// The first lines of the requests since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let stream = stream.unwrap();
            if self.manners.lock().unwrap().silent {
                held.push(stream);
                continue;
            }
            // A client that does not trust the server breaks off: its own test sees that.
            match &self.tls {
                Some(tls) => {
                    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                    self.answer(StreamOwned::new(connection, stream)).ok();
                }
                None => {
                    self.answer(stream).ok();
                }
            }
        }
    }

    fn answer(&self, stream: impl Read + Write) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (first, headers) = read_head(&mut stream)?;
        if first.is_empty() {
            return Ok(());
        }
        self.requests.lock().unwrap().push(first.clone());
        let header =
            |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let length = header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let mut reply =
            self.reply(&first, header("content-type").unwrap_or(""), &body, header("authorization"));
        let cut = self.manners.lock().unwrap().cut_after.filter(|_| first.starts_with("POST"));
        if let Some(cut) = cut {
            reply.truncate(cut);
        }
        stream.get_mut().write_all(&reply)?;
        stream.get_mut().flush()
    }

    fn reply(&self, first: &str, kind: &str, body: &[u8], authorization: Option<&str>) -> Vec<u8> {
        let manners = self.manners.lock().unwrap();
        if let Some(status) = &manners.status {
            return format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes();
        }
        if manners.authorization.is_some() && manners.authorization.as_deref() != authorization {
            return b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\n\
                Content-Length: 0\r\nConnection: close\r\n\r\n"
                .to_vec();
        }
        drop(manners);
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let output = self.backend(
            &[
                ("REQUEST_METHOD", method),
                ("PATH_INFO", path),
                ("QUERY_STRING", query),
                ("CONTENT_TYPE", kind),
                ("CONTENT_LENGTH", &body.len().to_string()),
            ],
            body,
        );
        let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(output[..end].to_vec()).unwrap();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
        let length = output.len() - end - 4;
        let mut reply =
            format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
                .into_bytes();
        reply.extend_from_slice(&output[end + 4..]);
        reply
    }

    fn backend(&self, variables: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut backend = Command::new("git")
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        backend.stdin.take().unwrap().write_all(body).ok();
        backend.wait_with_output().unwrap().stdout
    }
}

type Headers = Vec<(String, String)>;

fn read_head(stream: &mut impl std::io::BufRead) -> std::io::Result<(String, Headers)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    let header = |line: String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Ok((first, lines.map(header).collect()))
}

/// An authority `ca.pem` of its own, and a certificate for `localhost` by it, in `dir`.
pub(crate) fn certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(dir.join("san"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -out server.pem -days 2 -extfile san");
}
