//! Hears when others change what is ours.

use super::program::Request;
use crate::sys::attributes::{find, text};
use crate::sys::ear::Ear;
use crate::sys::nfnetlink::messages;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Who changes things over and over is not followed faster.
const BREATH: Duration = Duration::from_millis(100);
/// More than the kernel says at once.
const BUFFER_BYTES: usize = 1 << 16;

/// Starts a task that has the program look whenever somebody but `port` changes `table`. It ends
/// with the program.
pub(super) fn start(
    ear: Arc<Ear>,
    table: String,
    port: u32,
    requests: mpsc::Sender<Request>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let concerns = match ear.hear(&mut buffer).await {
                Ok(count) => messages(&buffer[..count]).any(|message| {
                    message.port != port
                        && find(message.attributes, 1).is_some_and(|name| text(name) == table)
                }),
                // Too much to be heard.
                Err(_) => true,
            };
            if concerns {
                tokio::time::sleep(BREATH).await;
                if requests.send(Request::Verify).is_err() {
                    return;
                }
            }
        }
    })
}
