//! What a scraper of the admin address sees.

use std::collections::BTreeMap;

use dekeys::client::Request;
use dekeys::setup::stage;

use super::{TestApp, send};

/// One scrape: each series, as Prometheus names it, with its value.
#[derive(Debug, Clone)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    pub(crate) series: BTreeMap<String, f64>,
}

impl Scrape {
    fn parse(text: String) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap();
                (name.to_owned(), value)
            })
            .collect();
        Self { text, series }
    }

    /// The value of one series.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The series of a metric; of a histogram the counts.
    pub(crate) fn of(&self, metric: &str) -> BTreeMap<String, f64> {
        let names = [metric.to_owned(), format!("{metric}_count")];
        let own = |name: &&String| {
            let bare = name.split('{').next().unwrap();
            names.iter().any(|known| known == bare)
        };
        let found = self.series.iter().filter(|(name, _)| own(name));
        found.map(|(name, value)| (name.clone(), *value)).collect()
    }
}

/// Asks as a scraper does.
pub(crate) async fn scrape(app: &TestApp) -> Scrape {
    let admin = stage::client(&app.stage.server.admin, None).unwrap();
    let seen = send(&admin, Request::get(&["metrics"])).await;
    assert_eq!(seen.status, 200);
    Scrape::parse(String::from_utf8(seen.body).unwrap())
}
