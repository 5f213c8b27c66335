//! The machine that figures were taken on.

use serde::{Deserialize, Serialize};

/// What a reader needs to compare a figure with another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Processor name.
    pub(crate) processor: String,
    /// Logical processors.
    pub(crate) cores: usize,
    /// Main memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Operating system.
    pub(crate) system: String,
    /// Instruction-set kernel of the arithmetic.
    pub(crate) kernel: String,
    /// Version of Scuro.
    pub(crate) version: String,
    /// Commit that the binary was built from.
    pub(crate) commit: String,
    /// Seconds since 1970 of the run.
    pub(crate) unix_time: u64,
}

impl Machine {
    /// The machine we run on.
    pub(crate) fn detect() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            processor: field(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: proc_bytes("/proc/meminfo", "MemTotal").unwrap_or(0),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: scuro_polyring::Kernel::detect().name().to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            commit: env!("SCURO_COMMIT").to_string(),
            unix_time: unix_time(),
        }
    }

    /// One line for headers.
    pub(crate) fn summary(&self) -> String {
        let memory = crate::units::bytes(self.memory_bytes);
        format!(
            "{} · {} cores · {memory} · kernel {} · scuro {} ({})",
            self.processor, self.cores, self.kernel, self.version, self.commit
        )
    }
}

/// Bytes of memory that are free for a new job.
pub(crate) fn memory_available() -> Option<u64> {
    proc_bytes("/proc/meminfo", "MemAvailable")
}

/// The most memory that this process ever held.
pub(crate) fn peak_memory() -> Option<u64> {
    proc_bytes("/proc/self/status", "VmHWM")
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |elapsed| elapsed.as_secs())
}

/// `2026-11-20` from seconds since 1970 (proleptic Gregorian, UTC).
pub(crate) fn date(unix_time: u64) -> String {
    let days = (unix_time / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn proc_bytes(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = field(&text, name)?;
    let kibibytes: u64 = value.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_132_800), "2026-11-20");
    }
}
