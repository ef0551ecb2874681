//! Any bytes from a client of the name server are answered by a message, refused, or passed over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| netstack::judge_dns_question(content));
