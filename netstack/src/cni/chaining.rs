//! What one plugin has said, for the next, and for the pod. Pure.

use super::Joined;
use super::error::CniError;
use super::list::Fields;
use super::outcome::Outcome;
use super::version::SpecVersion;
use serde_json::Value;

/// The result as the next plugin reads it: in the words of the network's version.
pub(super) fn understand(said: &[u8], version: SpecVersion) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(said).map_err(|error| error.to_string())?;
    let outcome = Outcome::parse(&value, version).map_err(|error| error.to_string())?;
    let own = value.get("cniVersion").and_then(Value::as_str);
    if own == Some(version.name()) {
        return Ok(value);
    }
    if own.is_none() {
        let mut fields: Fields = value.as_object().cloned().unwrap_or_default();
        fields.insert("cniVersion".into(), version.name().into());
        return Ok(Value::Object(fields));
    }
    Ok(outcome.print(version))
}

pub(super) fn joined(network: &str, result: &Value) -> Result<Joined, CniError> {
    let outcome = Outcome::parse(result, SpecVersion::V0_1_0).unwrap_or_default();
    let addresses = outcome.addresses();
    if addresses.is_empty() {
        return Err(CniError::NoAddress { network: network.to_owned() });
    }
    Ok(Joined { network: network.to_owned(), addresses, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_of_another_version_is_translated_for_the_next_plugin() {
        let said = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}}).to_string();
        let understood = understand(said.as_bytes(), SpecVersion::V1_0_0).unwrap();
        assert_eq!(understood["ips"], json!([{"address": "10.1.0.5/16"}]));
        let bare = json!({"ips": [{"address": "10.1.0.5/16"}], "x": 1}).to_string();
        let understood = understand(bare.as_bytes(), SpecVersion::V1_0_0).unwrap();
        assert_eq!((&understood["cniVersion"], &understood["x"]), (&json!("1.0.0"), &json!(1)));
        assert!(understand(b"", SpecVersion::V1_0_0).is_err());
    }
}
