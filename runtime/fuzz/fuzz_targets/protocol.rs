//! Any bytes on a supervisor's socket are requests or errors, and any bytes from a supervisor,
//! or in the files of a pod's folder, are replies, plans and OCI specifications or errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::plan::PodPlan;
use runtime::state::PodState;
use runtime::supervisor::protocol::Reply;

fuzz_target!(|content: &[u8]| {
    runtime::supervisor::receive(content);
    let _ = serde_json::from_slice::<Reply>(content);
    let _ = serde_json::from_slice::<PodPlan>(content);
    let _ = serde_json::from_slice::<PodState>(content);
    let _ = serde_json::from_slice::<oci_spec::runtime::Spec>(content);
});
