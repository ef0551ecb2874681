//! Every answer says how old what it shows may be: this node's copy follows the leader's.

use super::Api;
use axum::extract::{Request, State as StateExtractor};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use std::time::Duration;

/// Seconds, with three places; missing where this node has not heard of a leader since it was started.
const HEADER: &str = "evenkeel-staleness-seconds";
/// A member that only follows hears of the leader every second.
const USUAL: Duration = Duration::from_secs(3);

/// Adds to the answer its age, and a warning, which kubectl prints, where that is not usual.
pub(super) async fn tell(StateExtractor(api): StateExtractor<Api>, request: Request, next: Next) -> Response {
    let age = api.store.cluster().staleness();
    let mut response = next.run(request).await;
    if api.peers.is_none() {
        return response;
    }
    if let Some(age) = age
        && let Ok(value) = HeaderValue::try_from(format!("{:.3}", age.as_secs_f64()))
    {
        response.headers_mut().insert(HEADER, value);
    }
    if let Some(warning) = warning(age)
        && let Ok(value) = HeaderValue::try_from(format!("299 - \"{warning}\""))
    {
        response.headers_mut().append("warning", value);
    }
    response
}

fn warning(age: Option<Duration>) -> Option<String> {
    match age {
        Some(age) if age <= USUAL => None,
        Some(age) => Some(format!(
            "this node has not heard all that the cluster wrote for {} s; what it shows may be old",
            age.as_secs()
        )),
        None => Some("this node has heard no leader since it was started; what it shows may be old".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unusual_is_warned_of() {
        assert_eq!(warning(Some(Duration::from_millis(900))), None);
        assert!(warning(Some(Duration::from_secs(75))).is_some_and(|text| text.contains("for 75 s")));
        assert!(warning(None).is_some_and(|text| text.contains("no leader")));
    }
}
