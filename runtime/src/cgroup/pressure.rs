//! How long a group's processes wait for what they lack (PSI).
//!
//! Source: Documentation/accounting/psi.rst of the kernel.

use std::fs;
use std::path::Path;

/// Shares of the last ten seconds, of all that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// A processor.
    pub cpu: Stall,
    /// Memory.
    pub memory: Stall,
    /// Disks.
    pub io: Stall,
}

/// In hundredths of a percent of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// At least one process waited.
    pub some: u32,
    /// All that had something to do waited.
    pub full: u32,
}

impl Pressure {
    /// What the group's files say; `None` where the kernel does not keep account.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let stall = |file: &str| Some(Stall::parse(&fs::read_to_string(folder.join(file)).ok()?));
        Some(Self {
            cpu: stall("cpu.pressure")?,
            memory: stall("memory.pressure")?,
            io: stall("io.pressure")?,
        })
    }
}

impl Stall {
    fn parse(text: &str) -> Self {
        let mut stall = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let kind = words.next();
            let share = words.find_map(|word| hundredths(word.strip_prefix("avg10=")?)).unwrap_or(0);
            match kind {
                Some("some") => stall.some = share,
                Some("full") => stall.full = share,
                Some(_) | None => {}
            }
        }
        stall
    }
}

fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    Some(whole.parse::<u32>().ok()?.saturating_mul(100).saturating_add(part.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_last_ten_seconds() {
        let text = "some avg10=12.05 avg60=1.00 avg300=0.20 total=123\nfull avg10=3.40 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(Stall::parse(text), Stall { some: 1205, full: 340 });
        assert_eq!(Stall::parse("some avg10=0.00 avg60=0.00\n"), Stall::default());
        assert_eq!(Stall::parse("nonsense\n"), Stall::default());
    }

    #[test]
    fn a_kernel_without_it_has_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Pressure::read(folder.path()), None);
    }
}
