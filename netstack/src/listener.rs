//! Hears when others change what is ours.

use crate::sys::attributes::{find, text};
use crate::sys::ear::Ear;
use crate::sys::nfnetlink::messages;
use std::sync::Arc;
use std::time::Duration;

/// Who changes things over and over is not followed faster.
const BREATH: Duration = Duration::from_millis(100);
/// More than the kernel says at once.
const BUFFER_BYTES: usize = 1 << 16;

/// Starts a task that calls `look` whenever somebody but `port` changes `table`. It ends when that
/// says that nobody is there to look.
pub(crate) fn start(
    ear: Arc<Ear>,
    table: String,
    port: u32,
    look: impl Fn() -> bool + Send + 'static,
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
                if !look() {
                    return;
                }
            }
        }
    })
}
