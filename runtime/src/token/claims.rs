//! What a token says, and when it has said it long enough. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A token is made anew after this share of its life, in hundredths.
const WORN_PERCENT: i64 = 80;
/// Or after a day, as the kubelet has it.
const WORN_SECONDS: i64 = 24 * 3600;
/// How long nobody may look: a token is made anew so much earlier.
const LOOK_SECONDS: i64 = 60;

/// Whom a token is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) account_uid: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) pod_uid: &'a str,
    pub(crate) node: &'a str,
}

/// What one token says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) seconds: i64,
}

impl Claims<'_> {
    /// The token's second part, for a token made at `now` and called `id`.
    pub(super) fn payload(&self, now: Timestamp, id: &str) -> Value {
        let Subject { namespace, account, account_uid, pod, pod_uid, node } = self.subject;
        let now = now.as_second();
        json!({
            "aud": [self.audience],
            "exp": now.saturating_add(self.seconds),
            "iat": now,
            "iss": self.issuer,
            "jti": id,
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": node},
                "pod": {"name": pod, "uid": pod_uid},
                "serviceaccount": {"name": account, "uid": account_uid},
            },
            "nbf": now,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        })
    }

    /// True if `token`, which the key `key_id` signed, says this, and will do for a while.
    /// Whether it is signed well is not looked at.
    pub(super) fn are_in(&self, token: &str, key_id: &str, now: Timestamp) -> bool {
        let mut parts = token.split('.').map(decode);
        let (Some(Some(header)), Some(Some(said))) = (parts.next(), parts.next()) else { return false };
        let wanted = self.payload(now, "");
        let same = |name: &str| said[name] == wanted[name];
        let (Some(iat), Some(exp)) = (said["iat"].as_i64(), said["exp"].as_i64()) else { return false };
        header["kid"] == key_id
            && ["aud", "iss", "kubernetes.io", "sub"].into_iter().all(same)
            && exp.saturating_sub(iat) == self.seconds
            && iat <= now.as_second()
            && now.as_second() < iat.saturating_add(worn_after(self.seconds))
    }
}

/// After how many seconds a token of this life is to be replaced.
pub(super) fn worn_after(life: i64) -> i64 {
    (life.saturating_mul(WORN_PERCENT) / 100).min(WORN_SECONDS).saturating_sub(LOOK_SECONDS)
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
