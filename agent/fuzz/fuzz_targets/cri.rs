//! What a client of the CRI asks for: sandboxes and containers become Pods, or an error.
#![no_main]
#![allow(dead_code, reason = "the agent uses all of it")]

mod cri {
    // In a file, so that there is a folder from which the paths below lead.
    pub mod v1;
    #[path = "../../../src/cri/device.rs"]
    pub mod device;
    #[path = "../../../src/cri/pod.rs"]
    pub mod pod;
    #[path = "../../../src/cri/spec.rs"]
    pub mod spec;

    use prost::Message as _;

    pub fn take(bytes: &[u8]) {
        if let Ok(config) = v1::PodSandboxConfig::decode(bytes) {
            let _ = pod::pod("id", &config);
        }
        if let Ok(config) = v1::ContainerConfig::decode(bytes) {
            let _ = spec::container("id", &config);
            let _ = spec::log_path(&v1::PodSandboxConfig::default(), &config);
            let resources = config.linux.and_then(|linux| linux.resources).unwrap_or_default();
            let _ = spec::resources(&resources, None, &runtime::plan::Devices::All);
        }
    }
}

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cri::take(bytes));
