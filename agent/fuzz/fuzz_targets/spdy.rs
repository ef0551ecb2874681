//! What a client sends after its upgrade, in pieces: frames, or an error; never more memory than
//! a few limits. What was read is written and read again as it was.
#![no_main]

#[path = "../../src/streaming/spdy/dictionary.rs"]
mod dictionary;
#[allow(dead_code, reason = "the agent uses all of it")]
#[path = "../../src/streaming/spdy/frame.rs"]
mod frame;

use frame::{Decoder, Encoder, Frame};
use libfuzzer_sys::fuzz_target;

fn read(decoder: &mut Decoder) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = decoder.next() {
        frames.push(frame);
    }
    frames
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, bytes) = input;
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in bytes.chunks(usize::from(size).max(1)) {
        decoder.push(piece);
        frames.extend(read(&mut decoder));
    }
    let mut encoder = Encoder::default();
    for frame in frames {
        let mut written = Vec::new();
        encoder.push(&frame, &mut written);
        // Another connection each time would have another compression: only those without are whole.
        if !matches!(frame, Frame::SynStream { .. } | Frame::SynReply { .. } | Frame::Headers { .. }) {
            let mut again = Decoder::default();
            again.push(&written);
            assert_eq!(read(&mut again), [frame]);
        }
    }
});
