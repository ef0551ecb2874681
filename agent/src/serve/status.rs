//! Kubernetes `Status` objects: how the API says no.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    /// 404: there is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    /// 400: the request makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    /// 405: not this verb on this path.
    pub(crate) fn method_not_allowed(message: impl Into<String>) -> Self {
        Self { code: StatusCode::METHOD_NOT_ALLOWED, reason: "MethodNotAllowed", message: message.into() }
    }

    /// 409: somebody else was faster.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self { code: StatusCode::CONFLICT, reason: "Conflict", message: message.into() }
    }

    /// 410: the resource version is too old to watch from.
    pub(crate) fn gone(message: impl Into<String>) -> Self {
        Self { code: StatusCode::GONE, reason: "Expired", message: message.into() }
    }

    /// 422: the object breaks a rule.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: StatusCode::UNPROCESSABLE_ENTITY, reason: "Invalid", message: message.into() }
    }

    /// 500: our own fault, or the disk's.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: message.into() }
    }

    /// The JSON form.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16()})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code, Json(self.to_json())).into_response()
    }
}
