use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tar::{Builder, Header};
use tempfile::TempDir;

const LIMITS: Limits = Limits { entries: 100, bytes: 16 << 20 };

/// A header whose path and link are taken as they are, however bad.
fn header(kind: EntryType, path: &str, link: &str, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    header.set_mtime(1_700_000_000);
    header.set_size(bytes);
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

#[derive(Default)]
struct Layer(Vec<(Header, Vec<u8>)>);

impl Layer {
    fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.0.push((header(EntryType::Regular, path, "", content.len() as u64), content.to_vec()));
        self
    }

    fn folder(mut self, path: &str) -> Self {
        self.0.push((header(EntryType::Directory, path, "", 0), Vec::new()));
        self
    }

    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        self.0.push((header(kind, path, target, 0), Vec::new()));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        if let Some((header, _)) = self.0.last_mut() {
            change(header);
            header.set_cksum();
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (header, content) in &self.0 {
            builder.append(header, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack(&self) -> Result<TempDir, LayerError> {
        unpack_bytes(&self.bytes())
    }
}

fn unpack_bytes(bytes: &[u8]) -> Result<TempDir, LayerError> {
    let folder = tempfile::tempdir().unwrap();
    unpack(bytes, folder.path(), LIMITS).map(|()| folder)
}

fn refusal(layer: &Layer) -> String {
    match layer.unpack() {
        Err(LayerError::Refused { problem, .. }) => problem.to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn files_folders_and_links_keep_what_they_are() {
    let layer = Layer::default()
        .folder("bin/")
        .with(|header| header.set_mode(0o1777))
        .file("bin/tool", b"#!")
        .with(|header| header.set_mode(0o4755))
        .link(EntryType::Symlink, "bin/sh", "/bin/tool")
        .link(EntryType::Link, "bin/same", "bin/tool")
        .file("deep/er/file", b"x");
    let folder = layer.unpack().unwrap();
    let at = |path: &str| fs::symlink_metadata(folder.path().join(path)).unwrap();
    assert_eq!(at("bin/tool").mode() & 0o7777, 0o4755);
    assert_eq!(at("bin").mode() & 0o7777, 0o1777);
    assert_eq!(at("bin").mtime(), 1_700_000_000);
    assert_eq!(at("bin/tool").mtime(), 1_700_000_000);
    assert_eq!(at("bin/same").ino(), at("bin/tool").ino());
    assert_eq!(fs::read_link(folder.path().join("bin/sh")).unwrap(), Path::new("/bin/tool"));
    assert_eq!(fs::read(folder.path().join("deep/er/file")).unwrap(), b"x");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let layer = Layer::default()
        .file("a", b"1")
        .file("a", b"2")
        .folder("b")
        .file("b/inner", b"x")
        .file("b", b"file now")
        .link(EntryType::Symlink, "c", "a")
        .file("c", b"file now")
        .file("d", b"x")
        .folder("d");
    let folder = layer.unpack().unwrap();
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"2", "not written through the link");
    assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"file now");
    assert_eq!(fs::read(folder.path().join("c")).unwrap(), b"file now");
    assert!(folder.path().join("d").is_dir());
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn whiteouts_become_overlayfs_own() {
    let layer = Layer::default()
        .file("etc/.wh.gone", b"")
        .folder("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"x")
        .file("kept", b"x")
        .file(".wh.kept", b"")
        .file(".wh.again", b"")
        .folder("again")
        .file(".wh..wh.plnk", b"");
    let folder = layer.unpack().unwrap();
    let gone = fs::symlink_metadata(folder.path().join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    let is_opaque = |path: &str| {
        let mut value = [0; 8];
        let name = "trusted.overlay.opaque";
        rustix::fs::getxattr(folder.path().join(path), name, &mut value).is_ok_and(|n| &value[..n] == b"y")
    };
    assert!(is_opaque("opaque") && is_opaque("again") && !is_opaque("etc"));
    assert_eq!(fs::read(folder.path().join("kept")).unwrap(), b"x");
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".wh.")), "{names:?}");
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn owners_devices_and_attributes_are_kept_but_not_overlayfs_own() {
    let mut builder = Builder::new(Vec::new());
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.user.note", b"hello".as_slice()),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".as_slice()),
            ("mtime", b"1700000000.25".as_slice()),
        ])
        .unwrap();
    let mut owned = header(EntryType::Regular, "owned", "", 1);
    owned.set_uid(1234);
    owned.set_gid(5678);
    owned.set_mode(0o6755);
    owned.set_cksum();
    builder.append(&owned, b"x".as_slice()).unwrap();
    let mut node = header(EntryType::Char, "null", "", 0);
    node.set_device_major(1).unwrap();
    node.set_device_minor(3).unwrap();
    node.set_mode(0o666);
    node.set_cksum();
    builder.append(&node, io::empty()).unwrap();
    builder.append(&header(EntryType::Fifo, "pipe", "", 0), io::empty()).unwrap();
    let folder = unpack_bytes(&builder.into_inner().unwrap()).unwrap();

    let owned = fs::metadata(folder.path().join("owned")).unwrap();
    assert_eq!((owned.uid(), owned.gid(), owned.mode() & 0o7777), (1234, 5678, 0o6755));
    assert_eq!((owned.mtime(), owned.mtime_nsec()), (1_700_000_000, 250_000_000));
    let mut value = [0; 16];
    let path = folder.path().join("owned");
    assert_eq!(rustix::fs::getxattr(&path, "user.note", &mut value).unwrap(), 5);
    assert!(rustix::fs::getxattr(&path, "trusted.overlay.redirect", &mut value).is_err());
    let node = fs::metadata(folder.path().join("null")).unwrap();
    assert_eq!((node.rdev(), node.mode() & 0o777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(fs::metadata(folder.path().join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn long_runs_of_zeros_become_holes() {
    let mut content = vec![0; 4 << 20];
    content[0] = 1;
    let end = content.len() - 1;
    content[end] = 2;
    let folder = Layer::default().file("sparse", &content).unpack().unwrap();
    let path = folder.path().join("sparse");
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20, "most of it takes no space");
    let all_zeros = Layer::default().file("zeros", &vec![0; 1 << 20]).unpack().unwrap();
    assert_eq!(fs::metadata(all_zeros.path().join("zeros")).unwrap().len(), 1 << 20);
}

#[test]
fn paths_that_leave_the_layer_are_refused() {
    for path in ["../evil", "a/../../evil", "a/..", "/etc/evil"] {
        let problem = refusal(&Layer::default().file(path, b"x"));
        assert!(problem.contains("'..'") || problem.contains("absolute"), "{path}: {problem}");
    }
    for target in ["../../etc/passwd", "/etc/passwd"] {
        let layer = Layer::default().link(EntryType::Link, "evil", target);
        assert_eq!(refusal(&layer), "it links out of the layer", "{target}");
    }
    assert_eq!(refusal(&Layer::default().file("dir/.wh.", b"")), "it hides nothing");
    assert_eq!(refusal(&Layer::default().file("dir/.wh...", b"")), "it hides nothing");
    assert_eq!(refusal(&Layer::default().file("./", b"x")), "it is the root");
}

#[test]
fn links_that_the_archive_made_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let through = |kind: EntryType, target: &str, path: &str| {
        Layer::default().link(kind, "door", target).file(path, b"evil")
    };
    for (target, path) in
        [(target, "door/new"), (target, "door/victim"), ("..", "door/x"), ("../..", "door/x/y")]
    {
        assert_eq!(
            refusal(&through(EntryType::Symlink, target, path)),
            "it leads out of the layer",
            "{target}"
        );
    }
    let linked =
        Layer::default().link(EntryType::Symlink, "door", target).link(EntryType::Link, "in", "door/victim");
    assert_eq!(refusal(&linked), "it leads out of the layer");
    let whiteout = Layer::default().link(EntryType::Symlink, "door", target).file("door/.wh.victim", b"");
    assert_eq!(refusal(&whiteout), "it leads out of the layer");
    let circle = Layer::default().link(EntryType::Symlink, "a", "a").file("a/x", b"");
    assert_eq!(refusal(&circle), "its links lead in a circle");
    let dangling = Layer::default().link(EntryType::Symlink, "a", "nowhere").file("a/x", b"");
    assert_eq!(refusal(&dangling), "a file is in its way");
    let names: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"safe");

    // One that stays inside is used.
    let inside =
        Layer::default().folder("usr/lib").link(EntryType::Symlink, "lib", "usr/lib").file("lib/x", b"1");
    let folder = inside.unpack().unwrap();
    assert_eq!(fs::read(folder.path().join("usr/lib/x")).unwrap(), b"1");
}

#[test]
fn a_file_is_never_written_through_a_link_of_its_own_name() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let layer = Layer::default()
        .link(EntryType::Symlink, "x", victim.to_str().unwrap())
        .file("x", b"evil")
        .link(EntryType::Symlink, "dir", outside.path().to_str().unwrap())
        .folder("dir")
        .with(|header| header.set_mode(0o700));
    let folder = layer.unpack().unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"safe");
    assert!(folder.path().join("dir").is_dir() && outside.path().join("victim").exists());
}

#[test]
fn bombs_are_refused() {
    let mut many = Layer::default();
    for index in 0..=LIMITS.entries {
        many = many.file(&format!("f{index}"), b"");
    }
    assert!(matches!(many.unpack(), Err(LayerError::TooManyEntries { limit: 100 })));

    // What a header claims counts before a byte is read.
    let claim = Layer(vec![(header(EntryType::Regular, "huge", "", 1 << 40), Vec::new())]);
    assert!(matches!(claim.unpack(), Err(LayerError::TooManyBytes { .. })));

    let mut long_name = header(EntryType::GNULongName, "././@LongLink", "", 64 << 20).as_bytes().to_vec();
    long_name.resize(512 + (64 << 20), b'a');
    match unpack_bytes(&long_name) {
        Err(LayerError::Read(error)) => assert!(error.to_string().contains("header is too large"), "{error}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn broken_archives_are_errors() {
    let whole = Layer::default().file("a", &[7; 2000]).bytes();
    assert!(matches!(unpack_bytes(&whole[..1024]), Err(LayerError::Read(_))));
    let mut damaged = whole;
    damaged[5] ^= 0xff;
    assert!(matches!(unpack_bytes(&damaged), Err(LayerError::Read(_))));
    let owner = Layer::default().file("a", b"").with(|header| header.set_uid(u64::from(u32::MAX)));
    assert_eq!(refusal(&owner), "its owner is no user or group id");
    let unknown = Layer(vec![(header(EntryType::new(b'Z'), "a", "", 0), Vec::new())]);
    assert_eq!(refusal(&unknown), "it is of an unknown type");
}

/// Names that meet, links that lead everywhere, whiteouts, and paths that are bad.
fn any_entry() -> impl Strategy<Value = (u8, String, String)> {
    let part = || {
        prop::sample::select(vec!["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh.", "/", "c\u{e9}"])
    };
    let path = || prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
    let kind = prop::sample::select(b"0125\x00".to_vec());
    (kind, path(), path())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever an archive says, nothing outside of its folder is touched.
    #[test]
    fn no_archive_reaches_out_of_its_folder(entries in prop::collection::vec(any_entry(), 1..12)) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("a");
        fs::create_dir(&inner).unwrap();
        fs::write(outer.path().join("b"), "safe").unwrap();
        let mut layer = Layer::default();
        for (kind, path, link) in &entries {
            layer = layer.link(EntryType::new(*kind), path, link);
        }
        // Refused or not, it does not panic.
        let _ = unpack(layer.bytes().as_slice(), &inner, LIMITS);
        let mut names: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["a", "b"]);
        prop_assert_eq!(fs::read(outer.path().join("b")).unwrap(), b"safe");
        prop_assert!(fs::symlink_metadata(&inner).unwrap().is_dir());
    }

    /// Bytes that are no archive, or a damaged one, are an error at worst.
    #[test]
    fn damaged_archives_do_no_harm(at in 0..3000_usize, value: u8, cut in 0..4096_usize) {
        let mut bytes = Layer::default().folder("d").file("d/x", &[1; 700]).link(EntryType::Link, "y", "d/x").bytes();
        let length = bytes.len();
        bytes[at % length] = value;
        bytes.truncate(length.saturating_sub(cut));
        let _ = unpack_bytes(&bytes);
    }
}
