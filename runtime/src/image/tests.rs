use super::digest::digest_of;
use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci_spec::image::Arch;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tar::{Builder, Header};
use tempfile::TempDir;

/// A tar archive of plain files that belong to whoever runs the tests.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getegid().as_raw()));
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn configuration(arch: &str, diff_ids: &[String]) -> Vec<u8> {
    let config = json!({
        "architecture": arch, "os": "linux",
        "config": {"Entrypoint": ["/entry"], "Cmd": ["arg"], "Env": ["A=1"], "User": "app:staff",
                   "WorkingDir": "/srv", "StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).unwrap()
}

/// An OCI layout that is being written.
struct Layout(PathBuf);

impl Layout {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        Self(path)
    }

    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = digest_of(content);
        fs::write(self.0.join("blobs/sha256").join(&digest[7..]), content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// The descriptor of an image of these layers, given plain and as stored.
    fn image(&self, arch: &str, layers: &[(&[u8], Vec<u8>)]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|(plain, _)| digest_of(plain)).collect();
        let config = self.blob("application/vnd.oci.image.config.v1+json", &configuration(arch, &diff_ids));
        let stored =
            layers.iter().map(|(_, stored)| self.blob("application/vnd.oci.image.layer.v1.tar", stored));
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": stored.collect::<Vec<_>>()});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut descriptor = self.blob("application/vnd.oci.image.manifest.v1+json", &manifest);
        descriptor["platform"] = json!({"architecture": arch, "os": "linux"});
        descriptor
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.0.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
        fs::write(self.0.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    fn tar(&self, to: &Path) {
        let mut builder = Builder::new(fs::File::create(to).unwrap());
        builder.append_dir_all(".", &self.0).unwrap();
        builder.finish().unwrap();
    }
}

fn tagged(mut descriptor: Value, tag: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    descriptor
}

struct World {
    folder: TempDir,
    store: ImageStore,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().join("images")).unwrap();
        Self { folder, store }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn layout(&self) -> Layout {
        Layout::new(self.at("layout"))
    }

    /// `scheme:` and the path of `name` and what follows.
    fn resolve(&self, scheme: &str, name: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        self.store.resolve(&format!("{scheme}:{}", self.at(name).display()), policy)
    }

    /// How many entries are in a folder of the store.
    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.at("images").join(folder)).unwrap().count()
    }
}

fn read(image: &Image, layer: usize, path: &str) -> Vec<u8> {
    match &image.rootfs {
        Rootfs::Layers(layers) => fs::read(layers[layer].join(path)).unwrap(),
        Rootfs::Host { .. } => panic!("not the host's root"),
    }
}

fn arch() -> String {
    Arch::default().to_string()
}

fn reason<T: std::fmt::Debug>(result: Result<T, ImageError>) -> (&'static str, String) {
    let error = result.unwrap_err();
    (error.reason(), error.to_string())
}

#[test]
fn a_layout_is_unpacked_whatever_its_compression() {
    let world = World::new();
    let layout = world.layout();
    let plain = [tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")]), tar_of(&[("c", b"3")])];
    let layers = [
        (&plain[0][..], plain[0].clone()),
        (&plain[1][..], gzip(&plain[1])),
        (&plain[2][..], zstd(&plain[2])),
    ];
    let descriptor = layout.image(&arch(), &layers);
    layout.index(std::slice::from_ref(&descriptor));
    let image = world.resolve("oci", "layout", PullPolicy::IfNotPresent).unwrap();
    assert_eq!(image.digest, descriptor["digest"]);
    assert_eq!([read(&image, 0, "c"), read(&image, 1, "b"), read(&image, 2, "a")], [b"3", b"2", b"1"]);
    assert_eq!((image.config.entrypoint[0].as_str(), image.config.cmd[0].as_str()), ("/entry", "arg"));
    assert_eq!((image.config.user.as_str(), image.config.working_dir.as_str()), ("app:staff", "/srv"));
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(image.config.exposed_ports, ["80/tcp"]);
    assert_eq!((world.count("layers"), world.count("tmp")), (3, 0));
}

#[test]
fn tags_and_platforms_choose_among_images() {
    let world = World::new();
    let layout = world.layout();
    let layer = |text: &[u8]| tar_of(&[("who", text)]);
    let (one, two, other) = (layer(b"one"), layer(b"two"), layer(b"other"));
    let image = |arch: &str, plain: &[u8]| layout.image(arch, &[(plain, plain.to_vec())]);
    let foreign = if arch() == "amd64" { "arm64" } else { "amd64" };
    let nested = json!({"schemaVersion": 2, "manifests": [image(foreign, &other), image(&arch(), &two)]});
    let nested =
        layout.blob("application/vnd.oci.image.index.v1+json", &serde_json::to_vec(&nested).unwrap());
    let far = layout.image(foreign, &[(&other, other.clone())]);
    layout.index(&[tagged(image(&arch(), &one), "v1"), tagged(nested, "v2"), tagged(far, "far")]);

    let who = |tag: &str| world.resolve("oci", &format!("layout:{tag}"), PullPolicy::IfNotPresent);
    assert_eq!(read(&who("v1").unwrap(), 0, "who"), b"one");
    assert_eq!(read(&who("v2").unwrap(), 0, "who"), b"two");
    let (kind, message) = reason(who("v3"));
    assert_eq!(
        (kind, message.as_str()),
        ("ErrImagePull", "no image is tagged \"v3\"; there are: v1, v2, far")
    );
    assert!(matches!(who("far"), Err(ImageError::Platform { .. })));
    let untagged = world.resolve("oci", "layout", PullPolicy::IfNotPresent);
    assert!(matches!(untagged, Err(ImageError::Ambiguous { .. })));
}

#[test]
fn archives_of_layouts_are_read_where_they_lie() {
    let world = World::new();
    let layout = world.layout();
    let plain = tar_of(&[("a", b"1")]);
    layout.index(&[tagged(layout.image(&arch(), &[(&plain, gzip(&plain))]), "v1")]);
    layout.tar(&world.at("image.tar"));
    fs::write(world.at("image.tgz"), gzip(&fs::read(world.at("image.tar")).unwrap())).unwrap();
    for name in ["image.tar:v1", "image.tar", "image.tgz"] {
        let image = world.resolve("oci-archive", name, PullPolicy::IfNotPresent).unwrap();
        assert_eq!(read(&image, 0, "a"), b"1");
    }
    assert_eq!((world.count("layers"), world.count("references"), world.count("tmp")), (1, 3, 0));
}

/// What `docker save` wrote of old, with a link for a layer that two images share.
fn docker_archive(to: &Path) -> Vec<u8> {
    let layers = [tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")])];
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest_of(layer)).collect();
    let config = configuration(&arch(), &diff_ids);
    let entry =
        |tag: &str| json!({"Config": "c.json", "RepoTags": [tag], "Layers": ["x/layer.tar", "y/layer.tar"]});
    let manifest = serde_json::to_vec(&json!([entry("shop/web:1.0"), entry("shop/web:2.0")])).unwrap();
    let mut builder = Builder::new(fs::File::create(to).unwrap());
    let mut append = |path: &str, content: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content).unwrap();
    };
    append("c.json", &config);
    append("x/layer.tar", &layers[0]);
    append("z/layer.tar", &layers[1]);
    append("manifest.json", &manifest);
    let mut link = Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "y/layer.tar", "../z/layer.tar").unwrap();
    builder.finish().unwrap();
    config
}

#[test]
fn docker_archives_are_read_by_tag() {
    let world = World::new();
    let config = docker_archive(&world.at("saved.tar"));
    let image = world.resolve("docker-archive", "saved.tar:1.0", PullPolicy::IfNotPresent).unwrap();
    assert_eq!(image.id, digest_of(&config));
    assert_eq!([read(&image, 0, "b"), read(&image, 1, "a")], [b"2", b"1"]);
    let several = world.resolve("docker-archive", "saved.tar", PullPolicy::IfNotPresent);
    let (kind, message) = reason(several);
    assert_eq!(kind, "ErrImagePull");
    assert!(message.ends_with("shop/web:1.0, shop/web:2.0"), "{message}");
    assert!(matches!(
        world.resolve("docker-archive", "saved.tar:3.0", PullPolicy::IfNotPresent),
        Err(ImageError::NoSuchTag { .. })
    ));
}

#[test]
fn policies_say_when_the_file_is_looked_at() {
    let world = World::new();
    let layout = world.layout();
    let write = |text: &[u8]| {
        let plain = tar_of(&[("a", text)]);
        layout.index(&[layout.image(&arch(), &[(&plain, plain.clone())])]);
    };
    write(b"old");
    let resolve = |policy| world.resolve("oci", "layout", policy);
    let (kind, message) = reason(resolve(PullPolicy::Never));
    assert_eq!(kind, "ErrImageNeverPull");
    assert!(message.ends_with("is not present with pull policy of Never"), "{message}");
    resolve(PullPolicy::Always).unwrap();
    write(b"new");
    for (policy, content) in [
        (PullPolicy::Never, b"old"),
        (PullPolicy::IfNotPresent, b"old"),
        (PullPolicy::Always, b"new"),
        (PullPolicy::Never, b"new"),
    ] {
        assert_eq!(read(&resolve(policy).unwrap(), 0, "a"), content, "{policy:?}");
    }
    fs::remove_dir_all(world.at("layout")).unwrap();
    assert_eq!(read(&resolve(PullPolicy::IfNotPresent).unwrap(), 0, "a"), b"new");
    assert_eq!(reason(resolve(PullPolicy::Always)).0, "ErrImagePull");
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let damage = |which: fn(&Value) -> String| {
        let world = World::new();
        let layout = world.layout();
        let plain = tar_of(&[("a", b"1")]);
        let descriptor = layout.image(&arch(), &[(&plain, plain.clone())]);
        layout.index(std::slice::from_ref(&descriptor));
        let manifest = layout.0.join("blobs/sha256").join(&descriptor["digest"].as_str().unwrap()[7..]);
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        let digest = which(&json!({"self": descriptor, "manifest": manifest}));
        let path = layout.0.join("blobs/sha256").join(&digest[7..]);
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(&path, content).unwrap();
        let result = world.resolve("oci", "layout", PullPolicy::IfNotPresent);
        assert_eq!((world.count("layers"), world.count("references"), world.count("tmp")), (0, 0, 0));
        result
    };
    for which in [
        (|all: &Value| all["self"]["digest"].as_str().unwrap().to_owned()) as fn(&Value) -> String,
        |all| all["manifest"]["config"]["digest"].as_str().unwrap().to_owned(),
        |all| all["manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned(),
    ] {
        assert!(matches!(damage(which), Err(ImageError::DigestMismatch { .. })));
    }
}

#[test]
fn a_layer_must_be_the_one_that_the_configuration_names() {
    let world = World::new();
    let layout = world.layout();
    let (named, given) = (tar_of(&[("a", b"1")]), tar_of(&[("a", b"2")]));
    layout.index(&[layout.image(&arch(), &[(&named, gzip(&given))])]);
    match world.resolve("oci", "layout", PullPolicy::IfNotPresent) {
        Err(ImageError::DigestMismatch { what, .. }) => assert_eq!(what, "uncompressed layer"),
        other => panic!("taken: {other:?}"),
    }
}

#[test]
fn compressed_bombs_end_at_the_limit() {
    let world = World::new();
    let layout = world.layout();
    let plain = tar_of(&[("zeros", &vec![0; 8 << 20])]);
    layout.index(&[layout.image(&arch(), &[(&plain, gzip(&plain))])]);
    let small =
        ImageStore::open(world.at("small")).unwrap().with_limits(Limits { entries: 10, bytes: 1 << 20 });
    let reference = format!("oci:{}", world.at("layout").display());
    match small.resolve(&reference, PullPolicy::IfNotPresent) {
        Err(ImageError::Layer { source: LayerError::TooManyBytes { .. }, .. }) => {}
        other => panic!("not refused: {other:?}"),
    }
    // Also if the bytes come after the archive's end.
    let mut trailing = tar_of(&[]);
    trailing.resize(8 << 20, 0);
    layout.index(&[layout.image(&arch(), &[(&trailing, gzip(&trailing))])]);
    match small.resolve(&reference, PullPolicy::Always) {
        Err(ImageError::Layer { source: LayerError::TooManyBytes { .. }, .. }) => {}
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_layer_that_an_image_has_twice_is_stacked_once() {
    let world = World::new();
    let layout = world.layout();
    let (one, two) = (tar_of(&[("a", b"1")]), tar_of(&[("a", b"2")]));
    let layers = [(&one[..], one.clone()), (&two[..], two.clone()), (&one[..], one.clone())];
    layout.index(&[layout.image(&arch(), &layers)]);
    let image = world.resolve("oci", "layout", PullPolicy::IfNotPresent).unwrap();
    assert_eq!([read(&image, 0, "a"), read(&image, 1, "a")], [b"1", b"2"]);
    assert!(matches!(&image.rootfs, Rootfs::Layers(layers) if layers.len() == 2));
}

#[test]
fn unfinished_work_is_swept_and_damaged_records_are_made_anew() {
    let world = World::new();
    let layout = world.layout();
    let plain = tar_of(&[("a", b"1")]);
    layout.index(&[layout.image(&arch(), &[(&plain, plain.clone())])]);
    world.resolve("oci", "layout", PullPolicy::IfNotPresent).unwrap();
    fs::create_dir_all(world.at("images/tmp/7/layer/fs/deep")).unwrap();
    for entry in fs::read_dir(world.at("images/references")).unwrap() {
        fs::write(entry.unwrap().path(), "{").unwrap();
    }
    let store = ImageStore::open(world.at("images")).unwrap();
    assert_eq!(world.count("tmp"), 0);
    let reference = format!("oci:{}", world.at("layout").display());
    assert_eq!(reason(store.resolve(&reference, PullPolicy::Never)).0, "ImageInspectError");
    store.resolve(&reference, PullPolicy::IfNotPresent).unwrap();
    store.resolve(&reference, PullPolicy::Never).unwrap();
}

#[test]
fn references_that_name_no_file_have_kubernetes_reasons() {
    let world = World::new();
    let resolve = |reference: &str| world.store.resolve(reference, PullPolicy::IfNotPresent);
    let host = resolve("host:").unwrap();
    assert_eq!((host.id.as_str(), &host.rootfs), ("host:", &Rootfs::Host { hidden: Vec::new() }));
    for (reference, wanted) in [
        ("nginx:1.27", "ErrImagePull"),
        ("Nginx", "InvalidImageName"),
        ("oci:./relative", "InvalidImageName"),
        ("host:/x", "InvalidImageName"),
        ("oci:/nowhere/at/all", "ErrImagePull"),
        ("oci-archive:/nowhere.tar", "ErrImagePull"),
    ] {
        assert_eq!(reason(resolve(reference)).0, wanted, "{reference}");
    }
}
