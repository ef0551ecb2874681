//! What a process uses, as `/proc` says.

/// Of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Resident set, bytes.
    pub(crate) resident_bytes: f64,
    /// User and system time, seconds.
    pub(crate) cpu_seconds: f64,
    /// Open descriptors.
    pub(crate) open_files: f64,
}

/// What this process uses; `None` where `/proc` is not mounted.
pub(crate) fn of_self() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).ok()?);
    let page = f64::from(u32::try_from(rustix::param::page_size()).ok()?);
    let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count();
    parse(&stat, ticks, page, f64::from(u32::try_from(open_files).ok()?))
}

/// Reads `/proc/<pid>/stat`: fields 14, 15 (times) and 24 (resident pages).
/// The command in parentheses may hold spaces. Source: `proc_pid_stat(5)`.
fn parse(stat: &str, ticks: f64, page: f64, open_files: f64) -> Option<Usage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Usage {
        resident_bytes: number(24)? * page,
        cpu_seconds: (number(14)? + number(15)?) / ticks,
        open_files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 5 0 100 1000000 250 18446744073709551615";
        let usage = parse(stat, 100.0, 4096.0, 7.0).expect("parsed");
        assert_eq!(usage, Usage { resident_bytes: 250.0 * 4096.0, cpu_seconds: 2.0, open_files: 7.0 });
    }
}
