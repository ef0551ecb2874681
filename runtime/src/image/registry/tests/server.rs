//! A registry in a few lines, with every vice that a test wants.

use crate::image::digest::digest_of;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(super) fn digest(bytes: &[u8]) -> String {
    digest_of(bytes)
}

/// A layer as it is sent, and the digest of what it is when unpacked.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    diff_id: String,
    media_type: &'static str,
}

impl Blob {
    pub(super) fn plain(tar: Vec<u8>) -> Self {
        let diff_id = digest(&tar);
        Self { bytes: tar, diff_id, media_type: "application/vnd.oci.image.layer.v1.tar" }
    }
}

/// A tar archive with one file.
pub(super) fn layer(name: &str, content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, content.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}

pub(super) fn gzip(tar: &[u8]) -> Blob {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(tar).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    Blob { bytes: encoder.finish().unwrap(), diff_id: digest(tar), media_type }
}

pub(super) fn zstd(tar: &[u8]) -> Blob {
    let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
    Blob { bytes: zstd::encode_all(tar, 1).unwrap(), diff_id: digest(tar), media_type }
}

#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By `name:tag` and `name@digest`: media type and content.
    manifests: BTreeMap<String, (&'static str, Vec<u8>)>,
    requests: Vec<String>,
    ranges: Vec<u64>,
    cut_after: Option<usize>,
    login: Option<(String, bool)>,
}

pub(super) struct Server {
    host: String,
    shelf: Arc<Mutex<Shelf>>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TOKEN: &str = "a-token";

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shelf: Arc<Mutex<Shelf>> = Arc::default();
        let (served, name) = (Arc::clone(&shelf), host.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served), name.clone()));
            }
        });
        Self { host, shelf }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.shelf.lock().unwrap().requests.clone()
    }

    /// Where ranges began.
    pub(super) fn ranges(&self) -> Vec<u64> {
        self.shelf.lock().unwrap().ranges.clone()
    }

    /// Every answer ends after so many bytes of content.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.shelf.lock().unwrap().cut_after = Some(bytes);
    }

    /// Only who says user and password gets anything; by a token server or directly.
    pub(super) fn close(&self, user: &str, password: &str, token: bool) {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        self.shelf.lock().unwrap().login = Some((basic, token));
    }

    pub(super) fn replace(&self, digest: &str, bytes: Vec<u8>) {
        self.shelf.lock().unwrap().blobs.insert(digest.to_owned(), bytes);
    }

    pub(super) fn add(&self, name: &str, tag: &str, layers: &[Blob]) {
        let manifest = self.manifest(layers, "amd64");
        self.put(name, tag, MANIFEST, &manifest);
    }

    /// An index in which another architecture comes first.
    pub(super) fn add_index(&self, name: &str, tag: &str, layers: &[Blob]) {
        let entries = ["s390x", "amd64"].map(|arch| {
            let manifest = self.manifest(layers, arch);
            let digest = self.put(name, arch, MANIFEST, &manifest);
            let size = manifest.to_string().len();
            json!({"mediaType": MANIFEST, "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": arch}})
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.put(name, tag, INDEX, &index);
    }

    fn manifest(&self, layers: &[Blob], arch: &str) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = json!({"os": "linux", "architecture": arch, "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string();
        let mut shelf = self.shelf.lock().unwrap();
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                shelf.blobs.insert(digest(&layer.bytes), layer.bytes.clone());
                json!({"mediaType": layer.media_type, "digest": digest(&layer.bytes), "size": layer.bytes.len()})
            })
            .collect();
        let id = digest(config.as_bytes());
        let descriptor = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": id, "size": config.len()});
        shelf.blobs.insert(id, config.into_bytes());
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": layers})
    }

    fn put(&self, name: &str, tag: &str, media_type: &'static str, content: &Value) -> String {
        let content = content.to_string().into_bytes();
        let digest = digest(&content);
        let mut shelf = self.shelf.lock().unwrap();
        shelf.manifests.insert(format!("{name}@{digest}"), (media_type, content.clone()));
        shelf.manifests.insert(format!("{name}@{tag}"), (media_type, content));
        digest
    }
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

async fn serve(mut stream: TcpStream, shelf: Arc<Mutex<Shelf>>, host: String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let is_head = head.starts_with("HEAD ");
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let answer = answer((&path, is_head), &header, &shelf, &host);
    let length = answer.body.len();
    let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let cut = shelf.lock().unwrap().cut_after.unwrap_or(usize::MAX);
    let body = if is_head { &[] } else { &answer.body[..length.min(cut)] };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let _ = stream.shutdown().await;
}

fn answer(
    (path, is_head): (&str, bool),
    header: &dyn Fn(&str) -> Option<String>,
    shelf: &Mutex<Shelf>,
    host: &str,
) -> Answer {
    let mut shelf = shelf.lock().unwrap();
    shelf.requests.push(if is_head { format!("HEAD {path}") } else { path.to_owned() });
    let authorization = header("authorization").unwrap_or_default();
    if let Some((login, token)) = shelf.login.clone() {
        if path.starts_with("/token") {
            return if authorization == login {
                Answer::new("200 OK", json!({"token": TOKEN}).to_string())
            } else {
                Answer::new("401 Unauthorized", "no")
            };
        }
        let wanted = if token { format!("Bearer {TOKEN}") } else { login };
        if authorization != wanted {
            let challenge = if token {
                format!("Bearer realm=\"http://{host}/token\",service=\"test\"")
            } else {
                "Basic realm=\"test\"".to_owned()
            };
            return Answer::new("401 Unauthorized", "{\"errors\":[]}").with("www-authenticate", challenge);
        }
    }
    if path == "/v2/" {
        return Answer::new("200 OK", "{}");
    }
    let missing = || {
        Answer::new(
            "404 Not Found",
            "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"no\",\"detail\":\"\"}]}",
        )
    };
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((name, tag)) = rest.split_once("/manifests/") {
        let Some((media_type, content)) = shelf.manifests.get(&format!("{name}@{tag}")) else {
            return missing();
        };
        let digest = digest(content);
        return Answer::new("200 OK", content.clone())
            .with("content-type", *media_type)
            .with("docker-content-digest", digest);
    }
    let Some((_, wanted)) = rest.split_once("/blobs/") else { return missing() };
    let Some(content) = shelf.blobs.get(wanted).cloned() else { return missing() };
    let from = header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from.filter(|from| *from < content.len()) {
        Some(from) => {
            shelf.ranges.push(from as u64);
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            Answer::new("206 Partial Content", &content[from..]).with("content-range", range)
        }
        None => Answer::new("200 OK", content),
    }
}
