//! What has come and gone through the interfaces of a network namespace.

use std::fs;

/// Since the interface was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
}

/// The interfaces of the process's network namespace, without the loopback; none if it is gone.
pub(crate) fn of_process(pid: i32) -> Vec<Interface> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    text.lines().filter_map(interface).filter(|one| one.name != "lo").collect()
}

/// Bytes that came and went, through all interfaces of that namespace.
pub(crate) fn bytes_of_process(pid: i32) -> (u64, u64) {
    let sum = |(received, sent): (u64, u64), one: Interface| {
        (received.saturating_add(one.received.bytes), sent.saturating_add(one.sent.bytes))
    };
    of_process(pid).into_iter().fold((0, 0), sum)
}

/// A line of `/proc/net/dev`. Source: proc_pid_net(5).
fn interface(line: &str) -> Option<Interface> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let traffic = |of: &[u64]| match of {
        [bytes, packets, errors, dropped, ..] => {
            Some(Traffic { bytes: *bytes, packets: *packets, errors: *errors, dropped: *dropped })
        }
        _ => None,
    };
    let (received, sent) = (traffic(&numbers)?, traffic(numbers.get(8..)?)?);
    Some(Interface { name: name.trim().to_owned(), received, sent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let line = "  eth0: 1296 16 1 3 0 0 0 0 936 12 2 4 0 0 0 0";
        let received = Traffic { bytes: 1296, packets: 16, errors: 1, dropped: 3 };
        let sent = Traffic { bytes: 936, packets: 12, errors: 2, dropped: 4 };
        assert_eq!(interface(line), Some(Interface { name: "eth0".into(), received, sent }));
        assert_eq!(interface("Inter-|   Receive                            |  Transmit"), None);
        assert_eq!(interface(" face |bytes    packets errs drop"), None);
    }
}
