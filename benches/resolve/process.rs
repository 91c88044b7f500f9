//! What the operating system says of a process.

use crate::Outcome;

/// The processor time a process has used, in microseconds.
pub(crate) fn cpu_micros(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no process")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let ticks = f64::from(field(11).ok_or("no user time")?) + f64::from(field(12).ok_or("no system time")?);
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(ticks * 1e6 / f64::from(per_second))
}

/// The memory a process holds, in MB.
pub(crate) fn memory_mb(pid: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u32 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no memory")?
        .parse()?;
    Ok(f64::from(kilobytes) / 1024.0)
}

/// How many processes waited for a processor in the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
