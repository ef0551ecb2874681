//! What the machine and its system say of themselves: addresses, labels, the board's numbers.
//! What is not told (a container, a board without DMI) is left out, and no error.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// The longest value of a label.
const LABEL_LENGTH: usize = 63;
/// Only asked for the way there: nothing is sent. Addresses for documentation (RFC 5737, RFC 3849).
const FAR_AWAY: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

/// What is known of the machine beside what the kernel counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hardware {
    pub(crate) vendor: String,
    pub(crate) product: String,
    pub(crate) system_uuid: String,
    pub(crate) os_id: String,
    pub(crate) os_version: String,
    pub(crate) os_name: String,
}

impl Hardware {
    /// As the files under `root` tell: `/sys/class/dmi/id`, `/etc/os-release`.
    pub(crate) fn observe(root: &Path) -> Self {
        let read =
            |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned();
        let release = read("etc/os-release");
        let field = |name: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let dmi = |name: &str| read(&format!("sys/class/dmi/id/{name}"));
        Self {
            vendor: dmi("sys_vendor"),
            product: dmi("product_name"),
            // The kubelet writes it in small letters too.
            system_uuid: dmi("product_uuid").to_lowercase(),
            os_id: field("ID"),
            os_version: field("VERSION_ID"),
            os_name: field("PRETTY_NAME"),
        }
    }

    /// The labels that tell of it; none for what is not known.
    pub(crate) fn labels(&self, kernel: &str) -> BTreeMap<String, String> {
        let all = [
            ("node.kubernetes.io/instance-type", self.product.as_str()),
            ("evenkeel.dev/kernel-version", kernel),
            ("evenkeel.dev/os-id", &self.os_id),
            ("evenkeel.dev/os-version", &self.os_version),
            ("evenkeel.dev/vendor", &self.vendor),
            ("evenkeel.dev/product", &self.product),
        ];
        let known = all.into_iter().map(|(key, value)| (key.to_owned(), label_value(value)));
        known.filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// `text` as the value of a label: what cannot stand there becomes `-`, or is cut off at the ends.
pub(crate) fn label_value(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let text: String = text.chars().map(fits).collect();
    let text = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let text = &text[..text.len().min(LABEL_LENGTH)];
    text.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// The machine's addresses towards the rest of the world, IPv4 first; `fallback` where there is no
/// rest of the world.
pub(crate) fn addresses(fallback: IpAddr) -> Vec<IpAddr> {
    let towards = |(from, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
    };
    let found: Vec<_> = FAR_AWAY.into_iter().filter_map(towards).collect();
    if found.is_empty() { vec![fallback] } else { found }
}

/// The same, and first where peers find the machine (`HOST:PORT`), if that is an address.
pub(crate) fn addresses_with(peer: &str, fallback: IpAddr) -> Vec<IpAddr> {
    let known = peer.parse::<SocketAddr>().ok().map(|address| address.ip());
    let mut all = addresses(known.unwrap_or(fallback));
    if let Some(known) = known {
        all.retain(|address| *address != known);
        all.insert(0, known);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_tell_becomes_labels_and_what_they_do_not_is_left_out() {
        let root = tempfile::TempDir::new().expect("a folder");
        assert_eq!(Hardware::observe(root.path()), Hardware::default());
        assert_eq!(Hardware::default().labels(""), BTreeMap::new());
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        };
        write(
            "etc/os-release",
            "NAME=x\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
        );
        write("sys/class/dmi/id/sys_vendor", "Dell Inc.\n");
        write("sys/class/dmi/id/product_name", "PowerEdge R750 (SKU=0A)\n");
        write("sys/class/dmi/id/product_uuid", "4C4C4544-0042\n");
        let found = Hardware::observe(root.path());
        assert_eq!(found.system_uuid, "4c4c4544-0042");
        assert_eq!(found.os_name, "Debian GNU/Linux 12 (bookworm)");
        let labels = found.labels("6.18.0-rc1+");
        let words: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            words,
            [
                "evenkeel.dev/kernel-version=6.18.0-rc1",
                "evenkeel.dev/os-id=debian",
                "evenkeel.dev/os-version=12",
                "evenkeel.dev/product=PowerEdge-R750--SKU-0A",
                "evenkeel.dev/vendor=Dell-Inc",
                "node.kubernetes.io/instance-type=PowerEdge-R750--SKU-0A",
            ]
        );
    }

    #[test]
    fn any_text_becomes_the_value_of_a_label_or_nothing() {
        for (text, value) in [("", ""), ("  ", ""), ("é–", ""), ("_a_", "a"), ("a b", "a-b"), ("..x..", "x")]
        {
            assert_eq!(label_value(text), value, "{text}");
        }
        let long = label_value(&format!("{}-{}", "a".repeat(62), "b".repeat(9)));
        assert_eq!(long, "a".repeat(62));
    }

    #[test]
    fn there_is_always_an_address() {
        let fallback = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
        let found = addresses(fallback);
        assert!(!found.is_empty() && found.iter().all(|ip| !ip.is_loopback()), "{found:?}");
    }
}
