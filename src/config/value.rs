//! Values of keys, read from text whatever layer they come from, and shown as text.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use url::Url;

use super::{AdminListen, LogFormat, Rail};
use crate::base::time::Ttl;

/// Why a value is no good, and what would be.
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) fix: String,
}

pub(super) fn bad<T>(message: impl Into<String>, fix: impl Into<String>) -> Result<T, Bad> {
    Err(Bad {
        message: message.into(),
        fix: fix.into(),
    })
}

pub(super) fn socket(text: &str) -> Result<SocketAddr, Bad> {
    text.parse().or_else(|_| {
        bad(
            format!("`{}` is not an address and port", cut(text)),
            "write `127.0.0.1:8402` or `[::1]:8402`",
        )
    })
}

pub(super) fn admin_listen(text: &str) -> Result<AdminListen, Bad> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute(path).map(AdminListen::Unix);
    }
    let address = socket(text)?;
    if !address.ip().is_loopback() {
        return bad(
            format!("`{address}` can be reached from other machines; whoever reaches it can try unseal keys"),
            "write `127.0.0.1:8403` or `unix:/run/dekeys/admin.sock`",
        );
    }
    Ok(AdminListen::Tcp(address))
}

pub(super) fn database_url(text: &str) -> Result<String, Bad> {
    let fix = "write `sqlite:///var/lib/dekeys/dekeys.db` or `postgres://user@host/name`";
    if let Some(path) = text.strip_prefix("sqlite://") {
        if path.is_empty() || path.starts_with(':') {
            return bad("a database in memory would forget every key that is out", fix);
        }
        if path.contains('?') {
            return bad("options after `?` are not accepted for SQLite", fix);
        }
        return Ok(text.to_owned());
    }
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") && url.has_host() => Ok(text.to_owned()),
        _ => bad("not the address of a SQLite or PostgreSQL database", fix),
    }
}

/// The address of a database without its password, wherever that stands.
pub(super) fn mask(text: &str) -> String {
    if text.starts_with("sqlite://") {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else {
        return "***".to_owned();
    };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if pairs.iter().any(|(key, _)| is_password(key)) {
        let masked = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), if is_password(key) { "***" } else { value }));
        url.query_pairs_mut().clear().extend_pairs(masked);
    }
    url.to_string()
}

fn is_password(key: &str) -> bool {
    key.to_ascii_lowercase().contains("pass")
}

pub(super) fn path(text: &str) -> Result<PathBuf, Bad> {
    if text.is_empty() || text.contains('\0') {
        return bad("not a path", "write the path of a file, or leave the key out");
    }
    Ok(PathBuf::from(text))
}

fn absolute(text: &str) -> Result<PathBuf, Bad> {
    let path = path(text)?;
    if path.is_absolute() {
        return Ok(path);
    }
    bad(
        format!("`{}` is not an absolute path", cut(text)),
        "write it with a `/` at the beginning",
    )
}

pub(super) fn public_url(text: &str) -> Result<Url, Bad> {
    let fix = "write `https://dekeys.example.org`";
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            bad(format!("`{}` is not an http or https address", cut(text)), fix)
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() => {
            bad("the address must have no user, query or fragment", fix)
        }
        Ok(url) => Ok(url),
        Err(_) => bad(format!("`{}` is not an address", cut(text)), fix),
    }
}

/// An address that may carry a key in its path or query.
pub(super) fn rpc_url(text: &str) -> Result<Url, Bad> {
    let fix = "write `https://` and the node's address";
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() => Ok(url),
        // What was written may hold a key.
        _ => bad("it is not an http or https address", fix),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Bad> {
    [LogFormat::Auto, LogFormat::Text, LogFormat::Json]
        .into_iter()
        .find(|format| format.as_str() == text)
        .map_or_else(
            || {
                bad(
                    format!("`{}` is not a log format", cut(text)),
                    "write `auto`, `text` or `json`",
                )
            },
            Ok,
        )
}

pub(super) fn log_level(text: &str) -> Result<String, Bad> {
    let fix = "write `error`, `warn`, `info`, `debug` or `trace`, or directives as in `info,dekeys=debug`";
    let good = text.split(',').all(|directive| {
        let level = directive.rsplit('=').next().unwrap_or_default();
        level.parse::<tracing::level_filters::LevelFilter>().is_ok()
    });
    if good && tracing_subscriber::EnvFilter::try_new(text).is_ok() {
        Ok(text.to_owned())
    } else {
        bad(format!("`{}` is not a log level", cut(text)), fix)
    }
}

pub(super) fn rail(text: &str) -> Result<Rail, Bad> {
    [Rail::Off, Rail::Sim, Rail::Http]
        .into_iter()
        .find(|rail| rail.as_str() == text)
        .map_or_else(
            || {
                bad(
                    format!("`{}` is not a payment rail", cut(text)),
                    "write `off`, `sim` or `http`",
                )
            },
            Ok,
        )
}

/// CAIP-2 of an Ethereum chain.
pub(super) fn network(text: &str) -> Result<String, Bad> {
    let chain = text.strip_prefix("eip155:").unwrap_or_default();
    if (1..=20).contains(&chain.len()) && chain.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    bad(
        format!("`{}` is not a network", cut(text)),
        "write CAIP-2, as in `eip155:84532`",
    )
}

/// An Ethereum address.
pub(super) fn account(text: &str) -> Result<String, Bad> {
    let hex = text.strip_prefix("0x").unwrap_or_default();
    if hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    bad(
        format!("`{}` is not an account", cut(text)),
        "write `0x` and 40 hexadecimal digits",
    )
}

pub(super) fn words(text: &str) -> Result<String, Bad> {
    if (1..=64).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    bad(
        "must be 1 to 64 characters",
        "write the words as the token's contract has them",
    )
}

/// A span of 1 second to 1 hour.
pub(super) fn span(text: &str) -> Result<Ttl, Bad> {
    let fix = "write a span from 1s to 1h, as in `30s`";
    match text.parse::<Ttl>() {
        Ok(span) if (Ttl::from_secs(1)..=Ttl::from_mins(60)).contains(&span) => Ok(span),
        Ok(span) => bad(format!("{span} is out of bounds"), fix),
        Err(error) => bad(error.to_string(), fix),
    }
}

/// A span of up to a month.
pub(super) fn days(text: &str) -> Result<Ttl, Bad> {
    let fix = "write a span from 1s to 30d, as in `7d`";
    match text.parse::<Ttl>() {
        Ok(span) if (Ttl::from_secs(1)..=Ttl::from_mins(30 * 24 * 60)).contains(&span) => Ok(span),
        Ok(span) => bad(format!("{span} is out of bounds"), fix),
        Err(error) => bad(error.to_string(), fix),
    }
}

/// A span of the rotation of keys.
pub(super) fn rotation(text: &str, least: Ttl, most: Ttl) -> Result<Ttl, Bad> {
    let fix = format!("write a span from {least} to {most}, as in `7d`");
    match text.parse::<Ttl>() {
        Ok(span) if (least..=most).contains(&span) => Ok(span),
        Ok(span) => bad(format!("{span} is out of bounds"), &fix),
        Err(error) => bad(error.to_string(), &fix),
    }
}

/// A span of up to a month, or none.
pub(super) fn days_or_off(text: &str) -> Result<Option<Ttl>, Bad> {
    if text == "off" {
        return Ok(None);
    }
    days(text).map(Some)
}

/// How long an authorization to pay may be valid: payers need 30 s to be settled in time.
pub(super) fn payment_timeout(text: &str) -> Result<Ttl, Bad> {
    let span = span(text)?;
    if span < Ttl::from_secs(60) {
        return bad(
            format!("{span} is too short to sign and settle in"),
            "write `60s` or more",
        );
    }
    Ok(span)
}

pub(super) fn number(text: &str, most: usize) -> Result<usize, Bad> {
    let fix = format!("write a whole number up to {most}");
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => bad(format!("`{}` is not such a number", cut(text)), fix),
    }
}

pub(super) fn count(text: &str, most: i64) -> Result<i64, Bad> {
    match text.parse() {
        Ok(number) if (0..=most).contains(&number) => Ok(number),
        _ => bad(
            format!("`{}` is not such a number", cut(text)),
            format!("write a whole number up to {most}"),
        ),
    }
}

pub(super) fn at_least_one(text: &str, most: usize) -> Result<usize, Bad> {
    match number(text, most)? {
        0 => bad("must not be 0", format!("write a whole number from 1 to {most}")),
        number => Ok(number),
    }
}

/// Bytes: `65536`, `256 KiB`, `1 MiB`; 1 KiB to 16 MiB.
pub(super) fn size(text: &str) -> Result<usize, Bad> {
    let fix = "write a size from 1 KiB to 16 MiB, as in `256 KiB`";
    let (digits, unit) = match text.strip_suffix("KiB").map(|rest| (rest, 1024)) {
        Some(split) => split,
        None => text.strip_suffix("MiB").map_or((text, 1), |rest| (rest, 1024 * 1024)),
    };
    let bytes = digits
        .trim_end()
        .parse::<usize>()
        .ok()
        .and_then(|count| count.checked_mul(unit));
    match bytes {
        Some(bytes) if (1024..=16 * 1024 * 1024).contains(&bytes) => Ok(bytes),
        _ => bad(format!("`{}` is not such a size", cut(text)), fix),
    }
}

pub(super) fn show_size(bytes: usize) -> String {
    match bytes {
        bytes if bytes % (1024 * 1024) == 0 => format!("{} MiB", bytes / (1024 * 1024)),
        bytes if bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        bytes => bytes.to_string(),
    }
}

/// Ranges of addresses, separated by commas.
pub(super) fn ranges(text: &str) -> Result<Vec<String>, Bad> {
    text.split(',')
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .map(range)
        .collect()
}

fn range(text: &str) -> Result<String, Bad> {
    let fix = "write address ranges as in `10.1.0.0/16`";
    let refuse = || bad(format!("`{}` is not a range of addresses", cut(text)), fix);
    let Some((address, prefix)) = text.split_once('/') else {
        return refuse();
    };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else {
        return refuse();
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    if prefix > most {
        return refuse();
    }
    if prefix == 0 {
        return bad("a range of all addresses would open everything", fix);
    }
    Ok(format!("{address}/{prefix}"))
}

/// User input as it may be shown: short, on one line.
pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_masked() {
        for (text, shown) in [
            ("postgres://u:s3cret@h/db", "postgres://u:***@h/db"),
            (
                "postgres://u@h/db?password=s3cret&sslmode=require",
                "postgres://u@h/db?password=***&sslmode=require",
            ),
            (
                "postgres://u@h/db?sslpassword=s3cret",
                "postgres://u@h/db?sslpassword=***",
            ),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("sqlite:///a/b.db", "sqlite:///a/b.db"),
            ("s3cret", "***"),
        ] {
            assert_eq!(mask(text), shown);
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(size("256 KiB").ok(), Some(256 * 1024));
        assert_eq!(size("1MiB").ok(), Some(1024 * 1024));
        assert_eq!(size("2049").ok(), Some(2049));
        for text in [
            "",
            "KiB",
            "-1 KiB",
            "17 MiB",
            "1 KB",
            "1023",
            "99999999999999999999 KiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        for bytes in [2049, 3 * 1024, 2 * 1024 * 1024] {
            assert_eq!(size(&show_size(bytes)).ok(), Some(bytes));
        }
    }

    #[test]
    fn the_admin_address_is_not_reachable_from_elsewhere() {
        for good in ["127.0.0.1:1", "[::1]:1", "unix:/run/x.sock"] {
            assert!(admin_listen(good).is_ok(), "{good}");
        }
        for open in [
            "0.0.0.0:8403",
            "[::]:8403",
            "10.0.0.1:1",
            "unix:x.sock",
            "unix:",
            "localhost:1",
        ] {
            assert!(admin_listen(open).is_err(), "{open}");
        }
    }

    #[test]
    fn ranges_of_everything_and_nonsense_are_refused() {
        assert_eq!(
            ranges("10.1.0.0/16, fd00::/8").ok().unwrap(),
            ["10.1.0.0/16", "fd00::/8"]
        );
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8"] {
            assert!(ranges(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_databases_and_other_schemes_are_refused() {
        for text in [
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite://",
            "sqlite:///a?mode=memory",
            "mysql://h/d",
            "",
        ] {
            assert!(database_url(text).is_err(), "{text}");
        }
    }
}
