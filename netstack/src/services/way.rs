//! What happens to a packet for a service: one of a small number of ways, each a chain of the kernel.

use std::fmt::Write as _;
use std::time::Duration;

/// The most endpoints that one port can have; more are not asked.
pub(super) const MOST: usize = (1 << 15) - 1;
const AT_NODE: u32 = 1 << 15;
const LOCAL: u32 = 1 << 16;
const MASQUERADE: u32 = 1 << 17;
const TIME: u32 = 18;
/// Times from here on are counted in steps, so that a day has room.
const COARSE: u32 = 1 << 13;
const STEP: u32 = 16;

/// Which endpoints one is picked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Pool {
    Cluster,
    Local,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Its sender is told that nobody answers.
    Refuse,
    /// Nothing is said.
    Drop,
    /// It goes to one of the endpoints.
    Pick(Pick),
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    /// Of so many, 1 to [`MOST`].
    pub(super) count: u16,
    /// The packet came to a port of the node, whatever its address.
    pub(super) at_node: bool,
    pub(super) pool: Pool,
    /// It gets an address of this node as its sender's if it leaves the node.
    pub(super) masquerade: bool,
    /// For how many seconds the client stays with the endpoint; 0 if it does not. See [`seconds`].
    pub(super) sticky: u32,
}

/// The time as ways have it: whole seconds to a day, above two hours in steps of sixteen.
pub(super) fn seconds(time: Option<Duration>) -> u32 {
    const DAY: u32 = 86_400;
    let Some(time) = time else { return 0 };
    let seconds = u32::try_from(time.as_secs()).unwrap_or(DAY).clamp(1, DAY);
    if seconds < COARSE { seconds } else { seconds.next_multiple_of(STEP) }
}

impl Way {
    /// The number that stands for it in maps.
    pub(super) fn number(self) -> u32 {
        let Self::Pick(pick) = self else { return if self == Self::Drop { LOCAL } else { 0 } };
        let time = if pick.sticky < COARSE { pick.sticky } else { COARSE | (pick.sticky / STEP) };
        let flag = |is, bit| if is { bit } else { 0 };
        u32::from(pick.count)
            | flag(pick.at_node, AT_NODE)
            | flag(pick.pool == Pool::Local, LOCAL)
            | flag(pick.masquerade, MASQUERADE)
            | time << TIME
    }

    /// The way that `number` stands for.
    pub(super) fn of(number: u32) -> Option<Self> {
        let way = match u16::try_from(number & (AT_NODE - 1)) {
            Ok(0) if number == LOCAL => Self::Drop,
            Ok(0) => Self::Refuse,
            Ok(count) => {
                let time = number >> TIME;
                let sticky = if time & COARSE == 0 { time } else { (time & (COARSE - 1)) * STEP };
                let pool = if number & LOCAL == 0 { Pool::Cluster } else { Pool::Local };
                let (at_node, masquerade) = (number & AT_NODE != 0, number & MASQUERADE != 0);
                Self::Pick(Pick { count, at_node, pool, masquerade, sticky })
            }
            Err(_) => return None,
        };
        // What would be written otherwise was not written here.
        (way.number() == number).then_some(way)
    }

    /// The name of its chain.
    pub(super) fn chain(self) -> String {
        let pick = match self {
            Self::Refuse => return "refuse".into(),
            Self::Drop => return "drop".into(),
            Self::Pick(pick) => pick,
        };
        let mut name = format!("pick-{}", pick.count);
        if pick.pool == Pool::Local {
            name.push_str("-local");
        }
        if pick.at_node {
            name.push_str("-node");
        }
        if pick.masquerade {
            name.push_str("-masq");
        }
        if pick.sticky > 0 {
            let _ = write!(name, "-{}s", pick.sticky);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_stands_for_one_way(
            count in 1_u16..=(1 << 15) - 1,
            flags in any::<(bool, bool, bool)>(),
            time in proptest::option::of(0_u64..200_000),
        ) {
            let sticky = seconds(time.map(Duration::from_secs));
            prop_assert!(sticky <= 86_400 && time.is_none_or(|t| u64::from(sticky) >= t.clamp(1, 86_400)));
            let pool = if flags.0 { Pool::Local } else { Pool::Cluster };
            let way = Way::Pick(Pick { count, at_node: flags.1, pool, masquerade: flags.2, sticky });
            prop_assert_eq!(Way::of(way.number()), Some(way));
        }

        #[test]
        fn what_is_no_way_is_none(number in any::<u32>()) {
            prop_assert!(Way::of(number).is_none_or(|way| way.number() == number));
        }
    }

    #[test]
    fn names_tell_what_a_chain_does() {
        let pick = Pick { count: 3, at_node: false, pool: Pool::Cluster, masquerade: false, sticky: 0 };
        assert_eq!(Way::Pick(pick).chain(), "pick-3");
        let pick = Pick { at_node: true, pool: Pool::Local, masquerade: true, sticky: 10_800, ..pick };
        assert_eq!(Way::Pick(pick).chain(), "pick-3-local-node-masq-10800s");
        assert_eq!(Way::of(Way::Refuse.number()), Some(Way::Refuse));
        assert_eq!(Way::of(Way::Drop.number()), Some(Way::Drop));
        assert_eq!(seconds(Some(Duration::from_secs(10_800))), 10_800, "the default is exact");
    }
}
