//! Any bytes from a server that the name server asked are given on as a message, or passed over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| netstack::judge_dns_answer(content));
