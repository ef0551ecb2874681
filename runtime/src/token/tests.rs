use super::claims::worn_after;
use super::{Claims, ISSUER, Subject, TokenKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const SUBJECT: Subject<'_> = Subject {
    namespace: "shop",
    account: "web",
    account_uid: "a-1",
    pod: "web-0",
    pod_uid: "p-1",
    node: "node-1",
};
const CLAIMS: Claims<'_> = Claims { subject: SUBJECT, issuer: ISSUER, audience: "vault", seconds: 3600 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn decoded(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).unwrap()
}

#[test]
fn a_token_can_be_verified_with_what_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let key = TokenKey::open(&folder.path().join("key")).unwrap();
    let token = key.renew(None, &CLAIMS, at(1_000)).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let published = &key.jwks()["keys"][0];
    let header: Value = serde_json::from_slice(&decoded(parts[0])).unwrap();
    assert_eq!(header, json!({"alg": "ES256", "kid": published["kid"]}));
    let said: Value = serde_json::from_slice(&decoded(parts[1])).unwrap();
    assert_eq!(said["sub"], "system:serviceaccount:shop:web");
    assert_eq!((&said["iat"], &said["nbf"], &said["exp"]), (&json!(1000), &json!(1000), &json!(4600)));
    assert_eq!((&said["aud"], &said["iss"]), (&json!(["vault"]), &json!(ISSUER)));
    let bound = json!({
        "namespace": "shop", "node": {"name": "node-1"}, "pod": {"name": "web-0", "uid": "p-1"},
        "serviceaccount": {"name": "web", "uid": "a-1"},
    });
    assert_eq!(said["kubernetes.io"], bound);
    let mut point = vec![4];
    point.extend(decoded(published["x"].as_str().unwrap()));
    point.extend(decoded(published["y"].as_str().unwrap()));
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let message = format!("{}.{}", parts[0], parts[1]);
    public.verify(message.as_bytes(), &decoded(parts[2])).unwrap();
    assert!(public.verify(b"another message", &decoded(parts[2])).is_err());
}

#[test]
fn the_key_stays_and_is_nobody_elses_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let first = TokenKey::open(&path).unwrap().jwks();
    assert_eq!(TokenKey::open(&path).unwrap().jwks(), first);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "nonsense").unwrap();
    assert!(TokenKey::open(&path).unwrap_err().to_string().contains("holds no ECDSA key"));
}

#[test]
fn a_token_stays_until_it_is_worn_or_says_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let key = TokenKey::open(&folder.path().join("key")).unwrap();
    let other = TokenKey::open(&folder.path().join("other")).unwrap();
    let token = key.renew(None, &CLAIMS, at(1_000)).unwrap();
    let again = |key: &TokenKey, claims: &Claims<'_>, now| key.renew(Some(&token), claims, at(now)).unwrap();
    assert_eq!(again(&key, &CLAIMS, 1_000 + 2_819), token);
    let changes = [
        again(&key, &CLAIMS, 1_000 + 2_820),
        again(&key, &CLAIMS, 999),
        again(&other, &CLAIMS, 1_001),
        again(&key, &Claims { audience: "db", ..CLAIMS }, 1_001),
        again(&key, &Claims { seconds: 600, ..CLAIMS }, 1_001),
        again(&key, &Claims { subject: Subject { pod_uid: "p-2", ..SUBJECT }, ..CLAIMS }, 1_001),
    ];
    assert!(changes.iter().all(|changed| *changed != token));
    assert_ne!(key.renew(Some("no.token"), &CLAIMS, at(1_000)).unwrap(), token);
}

#[test]
fn tokens_are_replaced_before_four_fifths_of_their_life_or_after_a_day() {
    assert_eq!(worn_after(600), 420);
    assert_eq!(worn_after(3600), 2820);
    assert_eq!(worn_after(30 * 24 * 3600), 24 * 3600 - 60);
}
