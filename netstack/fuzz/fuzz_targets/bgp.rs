//! Any bytes from a router are read, refused, or waited for the rest of.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| netstack::judge_bgp(content));
