//! Where a repository is, from its configured address.

use super::GitError;
use super::credentials::Secret;
use reqwest::Url;
use std::path::PathBuf;

/// A repository's place, by the way that leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// On this machine: read in place.
    Local(PathBuf),
    /// `http://` or `https://`.
    Http(HttpLocation),
    /// `ssh://` or `user@host:path`.
    Ssh(SshLocation),
}

/// A smart http server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpLocation {
    base: String,
    user: Option<String>,
    password: Option<Secret>,
}

impl HttpLocation {
    /// The address without user information and trailing slash.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.base.starts_with("https:")
    }
}

/// A repository behind an ssh server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SshLocation {
    /// `user@host` or `host`, for the ssh client's command line.
    pub(super) destination: String,
    pub(super) port: Option<u16>,
    /// As the server's shell shall see it, not quoted yet.
    pub(super) path: String,
    shown: String,
}

impl Location {
    /// The place that `url` names.
    ///
    /// # Errors
    /// [`GitError::InvalidUrl`], with the address stripped of user information.
    pub(super) fn parse(url: &str) -> Result<Self, GitError> {
        let invalid = |reason| GitError::InvalidUrl { url: redacted(url), reason };
        if url.chars().any(char::is_control) {
            return Err(GitError::InvalidUrl { url: "…".into(), reason: "it holds a control character" });
        }
        let location = match url.split_once("://") {
            None if url.starts_with('/') => Ok(Self::Local(PathBuf::from(url))),
            None => scp(url).map(Self::Ssh),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "file" => local(rest).map(Self::Local),
                "http" | "https" => http(url).map(Self::Http),
                "ssh" | "git+ssh" | "ssh+git" => ssh(rest).map(Self::Ssh),
                "git" => Err("the git protocol is neither encrypted nor authenticated; use https or ssh"),
                _ => Err("the scheme is none of file, http, https and ssh"),
            },
        };
        location.map_err(invalid)
    }

    /// The address for people and records: without any user information for http, without
    /// a password for ssh.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Local(path) => format!("file://{}", path.display()),
            Self::Http(http) => http.base.clone(),
            Self::Ssh(ssh) => ssh.shown.clone(),
        }
    }
}

fn local(rest: &str) -> Result<PathBuf, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file:// address names no other host: write file:///absolute/path");
    }
    Ok(PathBuf::from(decoded(path)?))
}

fn http(text: &str) -> Result<HttpLocation, &'static str> {
    let mut url = Url::parse(text).map_err(|_| "it cannot be parsed")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a repository has neither query nor fragment");
    }
    let user = Some(decoded(url.username())?).filter(|user| !user.is_empty());
    let password = url.password().map(decoded).transpose()?.map(Secret::new);
    let cannot_be_a_base = "it cannot be parsed";
    url.set_username("").map_err(|()| cannot_be_a_base)?;
    url.set_password(None).map_err(|()| cannot_be_a_base)?;
    Ok(HttpLocation { base: url.as_str().trim_end_matches('/').to_owned(), user, password })
}

fn ssh(rest: &str) -> Result<SshLocation, &'static str> {
    let (authority, path) = rest.split_once('/').ok_or("the path of the repository is missing")?;
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("ssh takes no password from the address; use auth.sshKeyFile");
    }
    let (host, port) = host_and_port(host_port)?;
    let path = decoded(path)?;
    // `ssh://host/~user/x` is below a home folder, anything else is absolute.
    let path = if path.starts_with('~') { path } else { format!("/{path}") };
    ssh_location(user, host, port, path, format!("ssh://{rest}"))
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("the host cannot be parsed")?)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map(|port| port.parse().map_err(|_| "the port is not a number from 0 to 65535"));
    Ok((host, port.transpose()?))
}

fn scp(text: &str) -> Result<SshLocation, &'static str> {
    let not_absolute = "it is neither an absolute path, nor user@host:path, nor has it a scheme";
    let (authority, path) = text.split_once(':').ok_or(not_absolute)?;
    if authority.contains('/') {
        return Err(not_absolute);
    }
    if path.split('/').next().is_some_and(|first| first.contains('@')) {
        return Err("ssh takes no password from the address; use auth.sshKeyFile");
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    ssh_location(user, host, None, path.to_owned(), text.to_owned())
}

fn ssh_location(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: String,
    shown: String,
) -> Result<SshLocation, &'static str> {
    if host.is_empty() || path.is_empty() || path == "/" {
        return Err("host or path is missing");
    }
    // Such a host would be read as an option by the ssh client, such a path by git-upload-pack.
    if [user.unwrap_or(""), host, &path].iter().any(|part| part.starts_with('-')) {
        return Err("user, host and path may not start with a dash");
    }
    if host.contains(char::is_whitespace) || user.is_some_and(|user| user.contains(char::is_whitespace)) {
        return Err("user and host hold no blanks");
    }
    let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
    Ok(SshLocation { destination, port, path, shown })
}

/// `url` without what may be a user and a password.
fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    // A password may hold a slash by mistake: then everything up to the last `@` goes.
    let user_end = rest.rfind('@').filter(|at| *at < authority_end || rest[..*at].contains(':'));
    let rest = user_end.map_or(rest, |at| &rest[at + 1..]);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("a % is not followed by two hexadecimal digits");
        };
        bytes.push(
            u8::try_from(high * 16 + low).map_err(|_| "a % is not followed by two hexadecimal digits")?,
        );
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    if text.chars().any(char::is_control) { Err("it holds a control character") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh_of(url: &str) -> SshLocation {
        match Location::parse(url).unwrap() {
            Location::Ssh(ssh) => ssh,
            other @ (Location::Local(_) | Location::Http(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn local_paths_are_absolute_with_or_without_a_scheme() {
        for url in ["/srv/a b.git", "file:///srv/a%20b.git", "file://localhost/srv/a%20b.git"] {
            assert_eq!(Location::parse(url).unwrap(), Location::Local("/srv/a b.git".into()));
        }
        for url in ["srv/a.git", "./a.git", "file://srv/a.git", "", "/srv/a\n"] {
            assert!(matches!(Location::parse(url), Err(GitError::InvalidUrl { .. })), "{url}");
        }
    }

    #[test]
    fn user_information_of_http_never_shows() {
        let location = Location::parse("https://me:hun%2Fter2@example.org/x.git/").unwrap();
        assert_eq!(location.shown(), "https://example.org/x.git");
        assert!(!format!("{location:?}").contains("hun"));
        for bad in [
            "ftp://me:hunter2@example.org/x",
            "https://me:hunter2@/x",
            "https://me:hunter2@h/x?y=1",
            "me:hunter2@example.org:x",
            "ssh://me:hunter2@example.org/x",
            "ssh://me:hun/hunter2@example.org/x",
        ] {
            let error = Location::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn ssh_has_two_forms() {
        let scp = ssh_of("git@example.org:org/x.git");
        assert_eq!(
            (scp.destination.as_str(), scp.port, scp.path.as_str()),
            ("git@example.org", None, "org/x.git")
        );
        let url = ssh_of("ssh://git@example.org:2222/srv/x%20y.git");
        assert_eq!(
            (url.destination.as_str(), url.port, url.path.as_str()),
            ("git@example.org", Some(2222), "/srv/x y.git")
        );
        assert_eq!(ssh_of("ssh://[::1]:22/~me/x").path, "~me/x");
        assert_eq!(ssh_of("ssh://[::1]:22/~me/x").destination, "::1");
    }

    #[test]
    fn what_the_ssh_client_would_take_for_an_option_is_refused() {
        for url in ["ssh://-oProxyCommand=x/y", "-oProxyCommand=x:y", "ssh://-lx@h/y", "h:-x", "ssh://h/"] {
            assert!(matches!(Location::parse(url), Err(GitError::InvalidUrl { .. })), "{url}");
        }
    }
}
