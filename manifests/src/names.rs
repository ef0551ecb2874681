//! The syntax of names, labels and the like. Each check answers with what is
//! wrong, in words that follow `name`: `must …`.

/// A finding: what is wrong with the name, and a right one close to it, if there is one.
pub(crate) type Wrong = (String, Option<String>);

type Check = Result<(), Wrong>;

fn edge(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// A name made right as far as that is clear: lower case, dashes.
fn mended(name: &str, check: fn(&str) -> bool) -> Option<String> {
    let lower: String = name
        .trim()
        .chars()
        .map(|c| if c == '_' || c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect();
    let lower = lower.trim_matches(['-', '.']).to_owned();
    (check(&lower) && lower != name).then(|| format!("did you mean `{lower}`?"))
}

fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
        && bytes.iter().all(|b| edge(*b) || *b == b'-')
}

fn is_label_1035(name: &str) -> bool {
    is_label(name) && name.as_bytes()[0].is_ascii_lowercase()
}

fn is_subdomain(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        !bytes.is_empty()
            && edge(bytes[0])
            && edge(bytes[bytes.len() - 1])
            && bytes.iter().all(|b| edge(*b) || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

fn judged(name: &str, check: fn(&str) -> bool, most: usize, rule: &str) -> Check {
    if check(name) {
        return Ok(());
    }
    if name.is_empty() {
        return Err(("must not be empty".to_owned(), None));
    }
    if name.len() > most {
        return Err((format!("must have at most {most} characters, not {}", name.len()), None));
    }
    Err((rule.to_owned(), mended(name, check)))
}

/// RFC 1123 label.
pub(crate) fn label(name: &str) -> Check {
    judged(
        name,
        is_label,
        63,
        "must be lower case letters, digits and `-`, with a letter or digit at both ends",
    )
}

/// RFC 1035 label.
pub(crate) fn label_1035(name: &str) -> Check {
    let rule =
        "must be lower case letters, digits and `-`, begin with a letter and end with a letter or digit";
    judged(name, is_label_1035, 63, rule)
}

/// RFC 1123 subdomain.
pub(crate) fn subdomain(name: &str) -> Check {
    let rule =
        "must be lower case letters, digits, `-` and `.`, with a letter or digit at both ends of each part";
    judged(name, is_subdomain, 253, rule)
}

/// One part of a URL's path.
pub(crate) fn path_segment(name: &str) -> Check {
    if matches!(name, "" | "." | "..") || name.contains(['/', '%']) {
        return Err((
            "must be one part of a path: not empty, `.` or `..`, without `/` and `%`".to_owned(),
            None,
        ));
    }
    Ok(())
}

/// At most `most` characters.
pub(crate) fn label_length(name: &str, most: usize) -> Check {
    if name.len() > most {
        return Err((format!("must have at most {most} characters here, not {}", name.len()), None));
    }
    Ok(())
}

/// `[prefix/]name`, the key of a label or annotation.
pub(crate) fn qualified(key: &str) -> Check {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        subdomain(prefix).map_err(|(what, _)| (format!("has the prefix `{prefix}`, which {what}"), None))?;
    }
    if name.is_empty() || name.len() > 63 {
        return Err(("must have 1 to 63 characters after its prefix".to_owned(), None));
    }
    if !is_word(name) {
        let rule = "must be letters, digits, `-`, `_` and `.`, with a letter or digit at both ends, \
                    after at most one prefix with `/`";
        return Err((rule.to_owned(), None));
    }
    Ok(())
}

/// The value of a label.
pub(crate) fn label_value(value: &str) -> Check {
    if value.is_empty() || (value.len() <= 63 && is_word(value)) {
        return Ok(());
    }
    let rule = if value.len() > 63 {
        format!("has the value `{value}`, which must have at most 63 characters")
    } else {
        format!(
            "has the value `{value}`, which must be letters, digits, `-`, `_` and `.`, with a letter or digit at both ends"
        )
    };
    Err((rule, None))
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The key of a ConfigMap or Secret: a file name.
pub(crate) fn data_key(key: &str) -> Check {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > 253 || !key.bytes().all(valid) {
        return Err(("must be 1 to 253 letters, digits, `-`, `_` and `.`".to_owned(), None));
    }
    if key == "." || key.starts_with("..") {
        return Err(("must not be `.` nor begin with `..`".to_owned(), None));
    }
    Ok(())
}

/// The name of an environment variable: printable ASCII without `=`.
pub(crate) fn env_name(name: &str) -> Check {
    if name.is_empty() {
        return Err(("must not be empty".to_owned(), None));
    }
    if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Err(("must be printable ASCII without `=`".to_owned(), None));
    }
    Ok(())
}

/// The name of a port: `http`, at most 15 characters.
pub(crate) fn port_name(name: &str) -> Check {
    let valid = (1..=15).contains(&name.len())
        && is_label(name)
        && !name.contains("--")
        && name.bytes().any(|b| b.is_ascii_lowercase());
    if valid {
        return Ok(());
    }
    let rule = "must be at most 15 lower case letters, digits and single `-`, with at least one letter, \
                and no `-` at its ends";
    Err((rule.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kubernetes_does() {
        assert!(label("web-1").is_ok() && label("1web").is_ok() && label_1035("1web").is_err());
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(label(&"a".repeat(63)).is_ok() && label(&"a".repeat(64)).is_err());
        assert!(subdomain("a.b-c.d").is_ok() && subdomain("a..b").is_err() && subdomain("a.-b").is_err());
        assert!(qualified("app.kubernetes.io/name").is_ok() && qualified("a/b/c").is_err());
        assert!(qualified("App_x").is_ok() && qualified("").is_err() && qualified("/a").is_err());
        assert!(label_value("").is_ok() && label_value("a b").is_err() && label_value("-").is_err());
        assert!(data_key("a.conf").is_ok() && data_key("..a").is_err() && data_key("a/b").is_err());
        assert!(env_name("A.b-c").is_ok() && env_name("A=B").is_err());
        assert!(port_name("http").is_ok() && port_name("80").is_err() && port_name("a--b").is_err());
        assert_eq!(label("My_App").unwrap_err().1.as_deref(), Some("did you mean `my-app`?"));
    }
}
