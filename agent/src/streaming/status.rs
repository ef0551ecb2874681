//! How a command ended, as the last word on its error stream. Pure.

use runtime::pods::InsideError;
use serde_json::{Value, json};

/// The Status that says it. Source: `k8s.io/apimachinery/pkg/util/remotecommand`.
pub(super) fn status(result: &Result<i32, InsideError>) -> Value {
    match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => {
            let message = crate::chain::chain(error);
            json!({
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": format!("Internal error occurred: {message}"),
                "details": {"causes": [{"message": message}]},
                "code": 500,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_a_cause() {
        assert_eq!(status(&Ok(0))["status"], "Success");
        let failed = status(&Ok(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0]["message"], "3");
        let missing = InsideError::NotStarted { exit_code: 127, message: "no such program".into() };
        assert_eq!(status(&Err(missing))["message"], "Internal error occurred: no such program");
        assert_eq!(status(&Err(InsideError::Ended))["reason"], "InternalError");
    }
}
