//! What others need to verify the tokens of this node's pods, at Kubernetes' paths.

use super::Api;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use runtime::token::ISSUER;
use serde_json::json;

/// Answers `GET /openid/v1/jwks`.
pub(super) async fn keys(State(api): State<Api>) -> Response {
    ([("content-type", "application/jwk-set+json")], api.node.tokens.jwks().to_string()).into_response()
}

/// Answers `GET /.well-known/openid-configuration`.
pub(super) async fn configuration() -> axum::Json<serde_json::Value> {
    axum::Json(json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}
