//! Against the tables of the reference, and against a model that looks at every rule.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;

fn route(name: &str) -> Route {
    Route {
        ingress: Arc::new(IngressName { namespace: "n".into(), name: name.into() }),
        backend: Arc::new(Backend::default()),
        options: Arc::new(RouteOptions {
            redirect: false,
            http2: false,
            read_timeout: Duration::from_secs(60),
            body_limit: None,
        }),
    }
}

fn found<'a>(table: &'a Table, host: &str, path: &str) -> Option<&'a str> {
    table.find(host, path).map(|route| route.ingress.name.as_str())
}

/// Source: the table of examples in Kubernetes' "Ingress", "Path types".
#[test]
fn paths_match_as_the_reference_says() {
    let exact = |path: &str| PathRule::Exact(path.into());
    let prefix = |path: &str| PathRule::Prefix(path.into());
    for (rule, path, matches) in [
        (prefix("/"), "/any/path", true),
        (prefix("/"), "/", true),
        (exact("/foo"), "/foo", true),
        (exact("/foo"), "/bar", false),
        (exact("/foo"), "/foo/", false),
        (exact("/foo/"), "/foo", false),
        (prefix("/foo"), "/foo", true),
        (prefix("/foo"), "/foo/", true),
        (prefix("/foo/"), "/foo", true),
        (prefix("/foo/"), "/foo/", true),
        (prefix("/aaa/bb"), "/aaa/bbb", false),
        (prefix("/aaa/bbb"), "/aaa/bbb", true),
        (prefix("/aaa/bbb/"), "/aaa/bbb", true),
        (prefix("/aaa/bbb"), "/aaa/bbb/", true),
        (prefix("/aaa/bbb"), "/aaa/bbb/ccc", true),
        (prefix("/aaa/bbb"), "/aaa/bbbxyz", false),
        (prefix("/foo"), "/Foo", false),
    ] {
        let mut table = Table::default();
        assert_eq!(table.add(&HostRule::Any, &rule, route("a")), None);
        assert_eq!(found(&table, "x", path).is_some(), matches, "{rule:?} {path}");
    }
}

#[test]
fn the_longest_path_counts_and_an_exact_one_before_a_prefix() {
    let mut table = Table::default();
    for (path, name) in [
        (PathRule::Prefix("/".into()), "root"),
        (PathRule::Prefix("/aaa".into()), "aaa"),
        (PathRule::Prefix("/aaa/bbb".into()), "bbb"),
        (PathRule::Prefix("/foo/".into()), "prefix"),
        (PathRule::Exact("/foo".into()), "exact"),
    ] {
        assert_eq!(table.add(&HostRule::Any, &path, route(name)), None);
    }
    for (path, name) in [
        ("/aaa/ccc", "aaa"),
        ("/aaa/bbb", "bbb"),
        ("/ccc", "root"),
        ("/foo", "exact"),
        ("/foo/", "prefix"),
        ("/foo/x", "prefix"),
        ("*", "root"),
    ] {
        let wanted = (path != "*").then_some(name);
        assert_eq!(found(&table, "x", path), wanted, "{path}");
    }
}

#[test]
fn the_most_precise_host_decides_and_defaults_come_last() {
    let mut table = Table::default();
    let slash = PathRule::Prefix("/a".into());
    for (host, name) in [("", "any"), ("*.foo.com", "wildcard"), ("bar.foo.com", "exact")] {
        assert_eq!(table.add(&HostRule::parse(host), &slash, route(name)), None);
    }
    assert_eq!(table.add_default(&HostRule::parse("bar.foo.com"), route("own")), None);
    assert_eq!(table.add_last(route("last")), None);
    for (host, path, name) in [
        ("bar.foo.com", "/a", "exact"),
        ("bar.foo.com", "/b", "own"),
        ("baz.foo.com", "/a", "wildcard"),
        ("baz.foo.com", "/b", "last"),
        ("foo.com", "/a", "any"),
        ("baz.bar.foo.com", "/a", "any"),
        ("foo.com", "/b", "last"),
    ] {
        assert_eq!(found(&table, host, path), Some(name), "{host} {path}");
    }
}

#[test]
fn the_first_of_two_alike_stays_and_is_named() {
    let mut table = Table::default();
    let (host, path) = (HostRule::parse("a.b"), PathRule::Prefix("/x".into()));
    assert_eq!(table.add(&host, &path, route("old")), None);
    let taken = table.add(&host, &PathRule::Prefix("/x/".into()), route("new"));
    assert_eq!(taken.map(|name| name.name.clone()), Some("old".to_owned()));
    assert_eq!(table.add(&host, &PathRule::Exact("/x".into()), route("exact")), None);
    assert_eq!(found(&table, "a.b", "/x/y"), Some("old"));
}

/// A rule: host, whether it is exact, path.
type Rule = (String, bool, String);

/// What the reference says, rule by rule.
fn model<'a>(rules: &'a [Rule], host: &str, path: &str) -> Option<&'a Rule> {
    let names = |rule: &str| match rule.strip_prefix("*.") {
        None => rule.is_empty() || rule == host,
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
    };
    let precise = |rule: &str| match rule {
        "" => 0,
        wildcard if wildcard.starts_with('*') => 1,
        _ => 2,
    };
    let best = rules.iter().filter(|rule| names(&rule.0)).map(|rule| precise(&rule.0)).max()?;
    let elements = |path: &str| -> Vec<String> {
        path.strip_suffix('/').unwrap_or(path).split('/').map(str::to_owned).collect()
    };
    let (asked, whole) = (path.split('/').map(str::to_owned).collect::<Vec<_>>(), path);
    let wants = |rule: &&Rule| {
        if rule.1 { rule.2 == whole } else { asked.starts_with(&elements(&rule.2)) }
    };
    let mut fitting: Vec<_> =
        rules.iter().filter(|rule| names(&rule.0) && precise(&rule.0) == best).filter(wants).collect();
    // Stable: of rules that are alike the first stays.
    fitting.sort_by_key(|rule| (Reverse(rule.1), Reverse(elements(&rule.2).len())));
    fitting.first().copied()
}

proptest! {
    #[test]
    fn the_table_finds_what_the_model_finds(
        rules in prop::collection::vec(
            ("(|a\\.x|b\\.x|\\*\\.x|\\*\\.a\\.x)", any::<bool>(), "(/[ab]{0,1}){1,3}/?"), 0..12),
        host in "(a\\.x|b\\.x|c\\.x|c\\.a\\.x|x)",
        path in "(/[ab]{0,1}){1,4}/?",
    ) {
        let mut table = Table::default();
        for (number, (host, exact, path)) in rules.iter().enumerate() {
            let rule = if *exact { PathRule::Exact(path.clone()) } else { PathRule::Prefix(path.clone()) };
            let _taken = table.add(&HostRule::parse(host), &rule, route(&number.to_string()));
        }
        let expected = model(&rules, &host, &path);
        let got = found(&table, &host, &path).map(|number| &rules[number.parse::<usize>().unwrap()]);
        prop_assert_eq!(got, expected);
    }
}
