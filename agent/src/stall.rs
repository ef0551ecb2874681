//! How long programs had to wait for CPU, memory and disk: the kernel's pressure stall
//! information, where it is built in. Source: `Documentation/accounting/psi.rst`.

use serde::{Deserialize, Serialize};

/// What is waited for, as the kernel names it.
pub(crate) const RESOURCES: [&str; 3] = ["cpu", "io", "memory"];

/// Of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MachineStall {
    /// Share of the last ten seconds in which some program waited, in percent.
    pub(crate) some_percent: f64,
    /// In which all did.
    pub(crate) full_percent: f64,
    /// Since the boot, in seconds.
    pub(crate) some_seconds: f64,
    /// Since the boot, in seconds.
    pub(crate) full_seconds: f64,
}

/// Of the whole machine; `None` if the kernel does not say.
pub(crate) fn of_machine(resource: &str) -> Option<MachineStall> {
    parse(&std::fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?)
}

/// Lines of `some avg10=0.12 avg60=0.05 avg300=0.01 total=123456`, in microseconds.
fn parse(text: &str) -> Option<MachineStall> {
    let number = |kind: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        let field = line.split_whitespace().find_map(|field| field.strip_prefix(name))?;
        field.parse::<f64>().ok()
    };
    Some(MachineStall {
        some_percent: number("some", "avg10=")?,
        full_percent: number("full", "avg10=").unwrap_or(0.0),
        some_seconds: number("some", "total=")? / 1e6,
        full_seconds: number("full", "total=").unwrap_or(0.0) / 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.05 total=2500000\n\
                    full avg10=0.25 avg60=0.10 avg300=0.01 total=500000\n";
        let stall =
            MachineStall { some_percent: 1.5, full_percent: 0.25, some_seconds: 2.5, full_seconds: 0.5 };
        assert_eq!(parse(text), Some(stall));
        let old = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse(old), Some(MachineStall::default()));
        assert_eq!(parse("nonsense"), None);
    }
}
