//! What was measured, as lines and tables.

use std::io::Write as _;
use std::time::Duration;

use crate::{Outcome, process};

/// One round of one case.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// A second.
    pub(crate) rate: f64,
    /// Microseconds of the server's processor time for each.
    pub(crate) cpu: f64,
    /// Half were answered within this.
    pub(crate) p50: Duration,
    /// 99 of 100 were answered within this.
    pub(crate) p99: Duration,
    /// How many were not answered with 2xx.
    pub(crate) refused: u32,
}

impl Sample {
    /// Without times.
    pub(crate) const fn of(rate: f64, cpu: f64) -> Self {
        Self {
            rate,
            cpu,
            p50: Duration::ZERO,
            p99: Duration::ZERO,
            refused: 0,
        }
    }
}

/// All rounds of one case.
pub(crate) struct Row {
    name: &'static str,
    samples: Vec<Sample>,
}

impl Row {
    /// None yet.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            samples: Vec::new(),
        }
    }

    /// One more round.
    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The rate and the processor time.
    pub(crate) fn absolute(&self) -> String {
        let rate = Spread::of(self.samples.iter().map(|sample| sample.rate));
        let cpu = Spread::of(self.samples.iter().map(|sample| sample.cpu));
        format!(
            "{:.0}/s [{:.0}..{:.0}], {:.1} µs CPU each",
            rate.median, rate.least, rate.most, cpu.median
        )
    }
}

/// Median, least and greatest.
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of these numbers; zeros if there are none.
    pub(crate) fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        Self {
            median: numbers.get(numbers.len() / 2).copied().unwrap_or_default(),
            least: numbers.first().copied().unwrap_or_default(),
            most: numbers.last().copied().unwrap_or_default(),
        }
    }
}

/// The cases of one comparison; the first is the floor.
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
}

impl Table {
    /// A table.
    pub(crate) fn new(title: &str, rows: Vec<Row>) -> Self {
        Self {
            title: title.to_owned(),
            rows,
        }
    }

    /// Prints it.
    pub(crate) fn print(&self) -> Outcome<()> {
        line(&format!("\n{} (load average {})", self.title, process::load()))?;
        line(&format!(
            "{:40} {:>6} {:>14} {:>9} {:>9} {:>9} {:>8} {:>9}",
            "", "ratio", "[min..max]", "rate/s", "p50 ms", "p99 ms", "CPU µs", "CPU ratio"
        ))?;
        let floor = self.rows.first().map(|row| row.samples.as_slice()).unwrap_or_default();
        for row in &self.rows {
            let pairs = || row.samples.iter().zip(floor);
            let ratio = Spread::of(pairs().map(|(one, floor)| one.rate / floor.rate));
            let burden = Spread::of(pairs().map(|(one, floor)| one.cpu / floor.cpu.max(0.1)));
            let of = |pick: fn(&Sample) -> f64| Spread::of(row.samples.iter().map(pick)).median;
            let refused: u32 = row.samples.iter().map(|sample| sample.refused).sum();
            let refused = if refused > 0 {
                format!("  {refused} refused")
            } else {
                String::new()
            };
            line(&format!(
                "{:40} {:6.3} [{:5.3}..{:5.3}] {:9.0} {:9.2} {:9.2} {:8.1} {:9.2}{refused}",
                row.name,
                ratio.median,
                ratio.least,
                ratio.most,
                of(|sample| sample.rate),
                of(|sample| sample.p50.as_secs_f64() * 1e3),
                of(|sample| sample.p99.as_secs_f64() * 1e3),
                of(|sample| sample.cpu),
                burden.median,
            ))?;
        }
        Ok(())
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
