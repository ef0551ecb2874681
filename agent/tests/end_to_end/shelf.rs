//! A registry with one image, for those who have its password.

use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Where it is, in the network of the thread that made it.
pub(crate) const HOST: &str = "127.0.0.1:5005";
/// `me:secret`.
pub(crate) const LOGIN: &str = "bWU6c2VjcmV0";

#[derive(Default)]
struct Content {
    /// By path: media type and bytes.
    files: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// Paths that were asked for with the password.
    asked: Vec<String>,
    over: bool,
}

/// Ends when it is dropped.
pub(crate) struct Shelf {
    content: Arc<Mutex<Content>>,
    server: Option<JoinHandle<()>>,
}

fn digest(file: &Path) -> String {
    let said = Command::new("sha256sum").arg(file).output().unwrap();
    format!("sha256:{}", String::from_utf8(said.stdout).unwrap().split(' ').next().unwrap())
}

/// `app:TAG` with a busybox and so many bytes of noise, as a registry has it; and the layer's digest.
fn image(folder: &Path, tag: &str, noise: u64) -> (BTreeMap<String, (&'static str, Vec<u8>)>, String) {
    let root = folder.join(format!("image-{tag}"));
    fs::create_dir_all(root.join("bin")).unwrap();
    let mut random = fs::File::open("/dev/urandom").unwrap().take(noise);
    std::io::copy(&mut random, &mut fs::File::create(root.join("noise")).unwrap()).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "echo", "cat"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let mut files = BTreeMap::new();
    let mut put = |name: &str, kind: &'static str, content: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, &content).unwrap();
        let (digest, size) = (digest(&path), content.len());
        files.insert(format!("/v2/app/blobs/{digest}"), (kind, content));
        json!({"mediaType": kind, "digest": digest, "size": size})
    };
    let packed = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().unwrap();
    let layer = put("layer.tar", "application/vnd.oci.image.layer.v1.tar", packed.stdout);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = put("config", "application/vnd.oci.image.config.v1+json", config.to_string().into());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let manifest: Vec<u8> = manifest.to_string().into();
    let path = folder.join("manifest");
    fs::write(&path, &manifest).unwrap();
    files.insert(format!("/v2/app/manifests/{}", digest(&path)), (kind, manifest.clone()));
    files.insert(format!("/v2/app/manifests/{tag}"), (kind, manifest));
    (files, layer["digest"].as_str().unwrap().to_owned())
}

impl Shelf {
    pub(crate) fn new(folder: &Path) -> Self {
        let content = Content { files: image(folder, "1", 0).0, ..Content::default() };
        let content = Arc::new(Mutex::new(content));
        let listener = TcpListener::bind(HOST).unwrap();
        let shown = Arc::clone(&content);
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shown.lock().unwrap().over {
                    return;
                }
                // Whoever leaves early misses the answer.
                let _gone = answer(stream, &shown);
            }
        });
        Self { content, server: Some(server) }
    }

    /// `app:TAG` is there too, with so many bytes of noise; the digest of its one layer.
    pub(crate) fn add(&self, folder: &Path, tag: &str, noise: u64) -> String {
        let (files, layer) = image(folder, tag, noise);
        self.content.lock().unwrap().files.extend(files);
        layer
    }

    /// How often the image was looked up with the password.
    pub(crate) fn lookups(&self) -> usize {
        let content = self.content.lock().unwrap();
        content.asked.iter().filter(|path| path.contains("/manifests/")).count()
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Ok(mut content) = self.content.lock() {
            content.over = true;
        }
        let _woken = TcpStream::connect(HOST);
        let _ended = self.server.take().map(JoinHandle::join);
    }
}

fn answer(mut stream: TcpStream, content: &Mutex<Content>) -> std::io::Result<()> {
    let head: Vec<String> = BufReader::new(stream.try_clone()?)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let mut words = head.first().map(String::as_str).unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
    let mut content = content.lock().unwrap();
    let password = format!("authorization: basic {LOGIN}").to_ascii_lowercase();
    let known = head.iter().any(|line| line.to_ascii_lowercase() == password);
    let (status, kind, body) = match content.files.get(&path) {
        _ if !known => {
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"shelf\"", "text/plain", Vec::new())
        }
        Some((kind, body)) => ("200 OK", *kind, body.clone()),
        None if path == "/v2/" => ("200 OK", "application/json", b"{}".to_vec()),
        None => ("404 Not Found", "application/json", b"{\"errors\":[]}".to_vec()),
    };
    if known {
        content.asked.push(path);
    }
    drop(content);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(&body) }
}
