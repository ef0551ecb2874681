//! The values of the annotations.

use super::cycles::AWAITABLE;
use super::{Credential, Socket, Workload};
use crate::{duration, names};
use std::time::Duration;

/// What is wrong, and what would be right.
type Wrong = (String, String);

/// As many descriptors as a program is given in a row.
const MAX_SOCKETS: usize = 32;
/// Of no time at all nothing can be measured.
const SHORTEST: Duration = Duration::from_millis(1);
/// A value that an annotation can have.
pub(super) trait Value: Sized {
    fn read(text: &str) -> Result<Self, Wrong>;
}

/// In thousandths.
pub(super) struct Factor(pub(super) u32);

impl Value for bool {
    fn read(text: &str) -> Result<Self, Wrong> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err((format!("`{other}` is neither true nor false"), "write \"true\"".to_owned())),
        }
    }
}

impl Value for Duration {
    fn read(text: &str) -> Result<Self, Wrong> {
        let found = duration::parse(text);
        found.filter(|found| *found >= SHORTEST).ok_or_else(|| {
            let what = if found.is_some() { "is less than a millisecond" } else { "is no duration" };
            (format!("`{text}` {what}"), "write a duration such as `500ms`, `30s` or `1m30s`".to_owned())
        })
    }
}

impl Value for u32 {
    fn read(text: &str) -> Result<Self, Wrong> {
        let found = text.parse().ok().filter(|number| *number > 0);
        found.ok_or_else(|| {
            (format!("`{text}` is no number above zero"), "write one such as \"5\"".to_owned())
        })
    }
}

impl Value for Factor {
    fn read(text: &str) -> Result<Self, Wrong> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let thousandths = format!("{part:0<3}");
        let found = (digits(whole) && digits(part))
            .then(|| Some(whole.parse::<u32>().ok()? * 1000 + thousandths[..3].parse::<u32>().ok()?));
        let found = found.flatten().filter(|factor| (1000..=1_000_000).contains(factor));
        found.map(Self).ok_or_else(|| {
            (format!("`{text}` is no factor from 1 to 1000"), "write one such as \"2\" or \"1.5\"".to_owned())
        })
    }
}

/// Values between commas.
fn list<T>(text: &str, one: impl Fn(&str) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

impl Value for Vec<Socket> {
    fn read(text: &str) -> Result<Self, Wrong> {
        let sockets = list(text, |one| {
            let wrong =
                |what: &str| (format!("`{one}` {what}"), "write `http=8080` or `dns=udp:53`".to_owned());
            let (name, rest) = one.split_once('=').unwrap_or(("", one));
            let (udp, port) = match rest.split_once(':') {
                Some(("udp", port)) => (true, port),
                Some(("tcp", port)) => (false, port),
                Some(_) => return Err(wrong("is neither tcp nor udp")),
                None => (false, rest),
            };
            let port: u16 = port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| wrong("has no port from 1 to 65535"))?;
            let name = if name.is_empty() { port.to_string() } else { name.to_owned() };
            // It stands between colons in LISTEN_FDNAMES.
            if name.len() > 255 || name.chars().any(|c| c == ':' || c.is_control() || c.is_whitespace()) {
                return Err(wrong("has a name that LISTEN_FDNAMES cannot hold"));
            }
            Ok(Socket { name, udp, port })
        })?;
        if sockets.len() > MAX_SOCKETS {
            let message = format!("{} sockets are too many for one container", sockets.len());
            return Err((message, format!("open at most {MAX_SOCKETS}")));
        }
        for (index, socket) in sockets.iter().enumerate() {
            let same = |other: &Socket| (other.udp, other.port) == (socket.udp, socket.port);
            if sockets[..index].iter().any(same) {
                let message = format!("port {} is here a second time", socket.port);
                return Err((message, "remove one of them".to_owned()));
            }
        }
        Ok(sockets)
    }
}

impl Value for Vec<Credential> {
    fn read(text: &str) -> Result<Self, Wrong> {
        let credentials = list(text, |one| {
            let wrong = || {
                (
                    format!("`{one}` names no key of a Secret"),
                    "write `password=db/password`: file, Secret and key".to_owned(),
                )
            };
            let (name, from) = one.split_once('=').ok_or_else(wrong)?;
            let (secret, key) = from.split_once('/').ok_or_else(wrong)?;
            let is_file = |name: &str| {
                !name.is_empty()
                    && name.len() <= 255
                    && name != "."
                    && name != ".."
                    && !name.contains(['/', ':'])
                    && !name.contains(char::is_control)
            };
            if !is_file(name) || names::subdomain(secret).is_err() || key.is_empty() || key.contains('/') {
                return Err(wrong());
            }
            Ok(Credential { name: name.to_owned(), secret: secret.to_owned(), key: key.to_owned() })
        })?;
        for (index, credential) in credentials.iter().enumerate() {
            if credentials[..index].iter().any(|other| other.name == credential.name) {
                let message = format!("the credential `{}` is here a second time", credential.name);
                return Err((message, "remove one of them".to_owned()));
            }
        }
        Ok(credentials)
    }
}

impl Value for Vec<Workload> {
    fn read(text: &str) -> Result<Self, Wrong> {
        list(text, |one| {
            let kinds = || AWAITABLE.map(|kind| kind.to_string());
            let (kind, name) = one.split_once('/').ok_or_else(|| {
                (format!("`{one}` names no workload"), "write its kind and name: `Deployment/db`".to_owned())
            })?;
            let found = AWAITABLE.into_iter().find(|known| known.to_string().eq_ignore_ascii_case(kind));
            let found = found.ok_or_else(|| {
                let message = format!("a pod can wait for no `{kind}`");
                (message, format!("it can for one of {}", kinds().join(", ")))
            })?;
            names::subdomain(name).map_err(|(rule, help)| {
                (format!("`{name}` {rule}"), help.unwrap_or_else(|| "write the workload's name".to_owned()))
            })?;
            Ok(Workload { kind: found, name: name.to_owned() })
        })
    }
}
