//! What the user should be told beside the state: the agent makes events of it.

use super::{Now, PodMachine};
use crate::state::Notice;

/// As many as may have happened while nobody listened.
const KEPT: usize = 16;

impl PodMachine {
    pub(super) fn notice(&mut self, warning: bool, reason: &str, message: String, now: Now) {
        let notices = &mut self.state.notices;
        let sequence = notices.last().map_or(1, |last| last.sequence + 1);
        if notices.len() >= KEPT {
            notices.remove(0);
        }
        notices.push(Notice { sequence, warning, reason: reason.to_owned(), message, at: now.wall });
    }
}
