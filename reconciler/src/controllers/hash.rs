//! The name of a pod template's content, as `pod-template-hash` and
//! `controller-revision-hash` carry it.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Kubernetes' alphabet for generated names: no vowels, so no words; nothing to misread.
pub(crate) const SAFE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The same for equal templates, on every machine and in every run; `collisions`
/// gives a template another one when its first is taken.
pub(crate) fn of_template(template: &PodTemplateSpec, collisions: i32) -> String {
    let json =
        serde_json::to_vec(template).expect("Kubernetes' types have text for keys, so JSON holds them");
    let mut hash = fnv1a(FNV_OFFSET, &json);
    if collisions != 0 {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    hash.to_string().bytes().map(|digit| char::from(SAFE_ALPHABET[usize::from(digit) % 27])).collect()
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

/// Source: the Fowler–Noll–Vo hash, variant 1a, 32 bits.
fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::{FNV_OFFSET, fnv1a, of_template};
    use k8s_openapi::api::core::v1::PodTemplateSpec;

    #[test]
    fn fnv_gives_its_published_values() {
        assert_eq!(fnv1a(FNV_OFFSET, b""), 0x811c_9dc5);
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn a_hash_is_a_label_and_each_collision_gives_another() {
        let template = PodTemplateSpec::default();
        let hashes: Vec<_> = (0..4).map(|collisions| of_template(&template, collisions)).collect();
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hash.is_empty() && hash.len() <= 10, "{hash}");
            assert!(!hashes[..at].contains(hash), "{hashes:?}");
        }
    }
}
