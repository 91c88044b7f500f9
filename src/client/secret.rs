//! Secrets on their way between files, terminals and requests. Beside `token`, the only place of the client where
//! they are exposed.
//!
//! Not protected: copies inside the operating system's buffers and the HTTP library, and a file that others may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;

use http::HeaderValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::base::id::base64url;
use crate::base::random::{self, Random};
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::shares::{self, ShareError};

/// The most that is read as one secret.
const MAX: u64 = 64 * 1024;

/// A secret that cannot be read or written. Says nothing of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretFileError {
    /// Not there, not allowed, not a file.
    #[error("`{path}` cannot be read: {why}")]
    Read {
        /// The file.
        path: String,
        /// The operating system's word.
        why: String,
    },
    /// It cannot be made.
    #[error("`{path}` cannot be written: {why}")]
    Write {
        /// The file.
        path: String,
        /// The operating system's word.
        why: String,
    },
    /// It is there already, and what is in it may be the only copy.
    #[error("`{0}` exists already and is not overwritten")]
    Exists(String),
    /// Nothing in it.
    #[error("`{0}` is empty")]
    Empty(String),
    /// Longer than 64 KiB, or not UTF-8.
    #[error("`{0}` is not a secret: more than 64 KiB, or not text")]
    NotText(String),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a wallet key: it must hold 64 hexadecimal digits")]
    NotWalletKey(String),
}

/// Reads a secret from a file. One line end at its end does not count.
///
/// # Errors
/// [`SecretFileError`].
pub fn read_file(path: &Path) -> Result<SecretText, SecretFileError> {
    let shown = path.display().to_string();
    let mut file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    read_from(&mut file, &shown)
}

/// Reads a secret from `source`, called `name` in errors, up to its end.
///
/// # Errors
/// [`SecretFileError`].
pub fn read_from(source: &mut dyn Read, name: &str) -> Result<SecretText, SecretFileError> {
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX).unwrap_or_default() + 1));
    let mut source = source.take(MAX + 1);
    source
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(name, &error))?;
    secret_of(&bytes, name)
}

/// Reads a secret from `source` up to the end of the line; what follows is left for others.
///
/// # Errors
/// [`SecretFileError`].
pub fn read_line(source: &mut dyn Read, name: &str) -> Result<SecretText, SecretFileError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    while let Some(read) = byte(source).map_err(|error| unreadable(name, &error))? {
        bytes.push(read);
        if read == b'\n' || u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX {
            break;
        }
    }
    secret_of(&bytes, name)
}

/// The next byte, and no more than it; `None` at the end.
///
/// # Errors
/// That of `source`.
pub fn byte(source: &mut dyn Read) -> io::Result<Option<u8>> {
    let mut one = [0u8; 1];
    match source.read_exact(&mut one) {
        Ok(()) => Ok(one.first().copied()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn secret_of(bytes: &[u8], name: &str) -> Result<SecretText, SecretFileError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX {
        return Err(SecretFileError::NotText(name.to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| SecretFileError::NotText(name.to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretFileError::Empty(name.to_owned()));
    }
    Ok(SecretText::new(text.to_owned()))
}

/// Writes a secret to a file that must not exist yet, readable by its owner only (mode 0600), and makes it durable.
///
/// # Errors
/// [`SecretFileError::Exists`], [`SecretFileError::Write`].
pub fn write_new(path: &Path, secret: &SecretText) -> Result<(), SecretFileError> {
    let shown = path.display().to_string();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => SecretFileError::Exists(shown.clone()),
        _ => unwritable(&shown, &error),
    })?;
    let written = file
        .write_all(secret.expose().as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| unwritable(&shown, &error))
}

/// Writes a secret that may take the place of an older one: to a new file of mode 0600, then by renaming.
///
/// # Errors
/// [`SecretFileError::Write`].
pub fn write_over(path: &Path, secret: &SecretText, random: &dyn Random) -> Result<(), SecretFileError> {
    write_over_with(path, secret, 0o600, random)
}

/// Writes a secret and a line end to `out`.
///
/// # Errors
/// That of `out`.
pub fn write_to(out: &mut dyn Write, secret: &SecretText) -> io::Result<()> {
    out.write_all(secret.expose().as_bytes())?;
    out.write_all(b"\n")
}

/// Writes a secret that may take the place of an older one as [`write_over`] does, with another mode than 0600.
///
/// # Errors
/// [`SecretFileError::Write`].
pub fn write_over_with(
    path: &Path,
    secret: &SecretText,
    mode: u32,
    random: &dyn Random,
) -> Result<(), SecretFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display().to_string();
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", base64url(&random::bytes::<9>(random))));
    let beside = Path::new(&beside);
    write_new(beside, secret)?;
    // Set after it was made: the mode that is asked for stands whatever the umask is.
    let moved = std::fs::set_permissions(beside, std::fs::Permissions::from_mode(mode))
        .and_then(|()| std::fs::rename(beside, path));
    moved.map_err(|error| {
        // Best effort: the first error is what counts.
        let _ = std::fs::remove_file(beside);
        unwritable(&shown, &error)
    })
}

/// Puts a secret into the environment that a program will find. Whoever may look at that process sees it.
pub fn put_env(command: &mut Command, name: &str, secret: &SecretText) {
    command.env(name, secret.expose());
}

/// Whether `secret` stands in `bytes`. How long it looks does not depend on how much of it is right.
#[must_use]
pub fn stands_in(secret: &SecretText, bytes: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    let wanted = secret.expose().as_bytes();
    let is = |window: &[u8]| bool::from(window.ct_eq(wanted));
    !wanted.is_empty() && bytes.windows(wanted.len()).any(is)
}

/// Reads a whole file of text that holds secrets, line ends and all; up to 4 MiB.
///
/// # Errors
/// [`SecretFileError`].
pub fn read_whole(path: &Path) -> Result<SecretText, SecretFileError> {
    const MOST: u64 = 4 * 1024 * 1024;
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut file = file.take(MOST + 1);
    file.read_to_end(&mut bytes)
        .map_err(|error| unreadable(&shown, &error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText(shown))?;
    Ok(SecretText::new(text.to_owned()))
}

/// Writes a text that holds secrets to `out`, as it is.
///
/// # Errors
/// That of `out`.
pub fn write_all_to(out: &mut dyn Write, text: &SecretText) -> io::Result<()> {
    out.write_all(text.expose().as_bytes())?;
    out.flush()
}

/// Whether `text` stands in `whole` from byte `at` on.
#[must_use]
pub fn continues(whole: &SecretText, at: usize, text: &str) -> bool {
    whole.expose().get(at..).is_some_and(|rest| rest.starts_with(text))
}

/// Where a comparison of two texts has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All was as it should be, up to this byte.
    At(usize),
    /// What stands after this byte is something else.
    Lost(usize),
}

/// What stands in `whole` where `value` should: `current` if it is that, `stale` if it is something else, `missing` if it
/// is nothing; and where to read on. `next` is what should follow, `last` says that it is the end of the text. Where the
/// text around is not what it should be, a value is current when it stands anywhere after.
#[must_use]
pub fn stands_at(
    whole: &SecretText,
    at: Reading,
    value: &SecretText,
    next: &str,
    last: bool,
) -> (&'static str, Reading) {
    let (Reading::At(from) | Reading::Lost(from)) = at;
    let rest = whole.expose().get(from..).unwrap_or_default();
    if matches!(at, Reading::Lost(_)) {
        return match rest.find(value.expose()) {
            Some(place) => ("current", Reading::At(from + place + value.len())),
            None => ("missing", at),
        };
    }
    if let Some(after) = rest.strip_prefix(value.expose())
        && after.starts_with(next)
    {
        return ("current", Reading::At(from + value.len()));
    }
    let end = match (last, next.is_empty()) {
        (true, _) => rest.strip_suffix(next).map(str::len),
        (false, true) => Some(0),
        (false, false) => rest.find(next),
    };
    match end {
        None => ("missing", Reading::Lost(from)),
        Some(0) => ("missing", at),
        Some(end) => ("stale", Reading::At(from + end)),
    }
}

/// Text put together from plain pieces and secrets, in order.
#[must_use]
pub fn joined(pieces: &[Piece<'_>]) -> SecretText {
    let text = |piece: &Piece<'_>| match piece {
        Piece::Plain(text) => text.len(),
        Piece::Secret(secret) => secret.len(),
    };
    let mut whole = String::with_capacity(pieces.iter().map(text).sum());
    for piece in pieces {
        whole.push_str(match piece {
            Piece::Plain(text) => text,
            Piece::Secret(secret) => secret.expose(),
        });
    }
    SecretText::new(whole)
}

/// A piece of text that holds secrets.
#[derive(Clone, Copy)]
pub enum Piece<'a> {
    /// What everybody may see.
    Plain(&'a str),
    /// What nobody may.
    Secret(&'a SecretText),
}

/// Whether others than the owner may read a file. What is no regular file (a pipe) is nobody else's.
#[must_use]
pub fn is_loose(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.mode() & 0o077 != 0)
}

/// `Authorization: Bearer …`, marked as sensitive; `None` if the text cannot stand in a header.
#[must_use]
pub fn bearer(token: &SecretText) -> Option<HeaderValue> {
    let value = Zeroizing::new(format!("Bearer {}", token.expose().trim()));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A JSON object of secrets.
#[must_use]
pub fn object(secrets: &[(&str, &SecretText)]) -> Zeroizing<Vec<u8>> {
    let room: usize = secrets
        .iter()
        .map(|(name, secret)| 6 * (name.len() + secret.len()) + 8)
        .sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 2));
    bytes.push(b'{');
    for (place, (name, secret)) in secrets.iter().enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        text(&mut bytes, name);
        bytes.push(b':');
        text(&mut bytes, secret.expose());
    }
    bytes.push(b'}');
    bytes
}

/// A secret as a JSON string.
#[must_use]
pub fn json(secret: &SecretText) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(6 * secret.len() + 2));
    text(&mut bytes, secret.expose());
    bytes
}

/// Reads JSON that is a secret: as `T`, and the text at a JSON pointer.
#[must_use]
pub fn parsed<T: serde::de::DeserializeOwned>(json: &SecretText, pointer: &str) -> Option<(T, SecretText)> {
    let value: Value = serde_json::from_str(json.expose()).ok()?;
    let found = at(&value, pointer)?;
    Some((serde_json::from_value(value).ok()?, found))
}

/// A form of secrets, `name=value&…`, percent-encoded.
#[must_use]
pub fn form(secrets: &[(&str, &SecretText)]) -> Zeroizing<Vec<u8>> {
    let room: usize = secrets
        .iter()
        .map(|(name, secret)| 3 * (name.len() + secret.len()) + 2)
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(room));
    for (name, secret) in secrets {
        let before = if text.is_empty() { "" } else { "&" };
        let parts = [before, name, "="];
        for part in parts {
            text.push_str(part);
        }
        text.extend(url::form_urlencoded::byte_serialize(secret.expose().as_bytes()));
    }
    Zeroizing::new(text.as_bytes().to_vec())
}

/// The members of `plain`, and `name` with the JSON `secret`.
#[must_use]
pub fn with_member(plain: &Map<String, Value>, name: &str, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let rest = Value::Object(plain.clone()).to_string();
    let rest = rest.trim_start_matches('{');
    let mut bytes = Zeroizing::new(Vec::with_capacity(rest.len() + 6 * name.len() + secret.len() + 8));
    bytes.push(b'{');
    text(&mut bytes, name);
    bytes.push(b':');
    bytes.extend_from_slice(secret);
    if !plain.is_empty() {
        bytes.push(b',');
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The secret text that stands at a JSON pointer of an answer.
#[must_use]
pub fn at(answer: &Value, pointer: &str) -> Option<SecretText> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(|text| SecretText::new(text.to_owned()))
}

/// Whether two secrets are the same, as when one is typed twice.
#[must_use]
pub fn same(one: &SecretText, other: &SecretText) -> bool {
    use subtle::ConstantTimeEq as _;
    one.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
}

/// Reads a wallet's private key: 64 hexadecimal digits, with or without `0x`.
///
/// # Errors
/// [`SecretFileError`].
pub fn wallet_key(path: &Path) -> Result<SecretBytes, SecretFileError> {
    let text = read_file(path)?;
    let digits = text.expose().trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    let bytes = bytes.ok().map(SecretBytes::new).filter(|bytes| bytes.len() == 32);
    bytes.ok_or_else(|| SecretFileError::NotWalletKey(path.display().to_string()))
}

/// A new unseal key as its file holds it: 32 random bytes, base64url, a line end.
#[must_use]
pub fn new_unseal_key(random: &dyn Random) -> SecretText {
    let bytes = Zeroizing::new(random::bytes::<32>(random));
    SecretText::new(format!("{}\n", *Zeroizing::new(base64url(bytes.as_slice()))))
}

/// A new unseal key in `shares` shares, any `threshold` of which give it back: the text of each.
///
/// # Errors
/// [`ShareError::Threshold`].
pub fn new_shares(random: &dyn Random, shares: u8, threshold: u8) -> Result<Vec<SecretText>, ShareError> {
    let split = shares::split(&shares::fresh(random), shares, threshold, random)?;
    let line = |share: &shares::Share| SecretText::new(format!("{}\n", *share.to_text()));
    Ok(split.iter().map(line).collect())
}

/// Several secrets in one text, one a line.
#[must_use]
pub fn lines(secrets: &[SecretText]) -> SecretText {
    let mut text = Zeroizing::new(String::new());
    for secret in secrets {
        text.push_str(secret.expose().trim());
        text.push('\n');
    }
    SecretText::new(text.to_string())
}

fn text(bytes: &mut Vec<u8>, value: &str) {
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(bytes, value);
}

fn unreadable(path: &str, error: &io::Error) -> SecretFileError {
    SecretFileError::Read {
        path: path.to_owned(),
        why: error.kind().to_string(),
    }
}

fn unwritable(path: &str, error: &io::Error) -> SecretFileError {
    SecretFileError::Write {
        path: path.to_owned(),
        why: error.kind().to_string(),
    }
}

/// A secret as plain text, for the one answer that is asked to show it. The copy is not wiped.
#[must_use]
pub fn shown(secret: &SecretText) -> String {
    secret.expose().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    fn secret(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, &secret("one")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!is_loose(&path));
        let again = write_new(&path, &secret("two"));
        assert_eq!(again, Err(SecretFileError::Exists(path.display().to_string())));
        assert_eq!(read_file(&path).unwrap().expose(), "one");
        write_over(&path, &secret("three"), &SeededRandom::new(1)).unwrap();
        assert_eq!(read_file(&path).unwrap().expose(), "three");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no second file is left"
        );
    }

    #[test]
    fn one_line_end_is_taken_off_and_nothing_else() {
        let read = |text: &str| read_from(&mut text.as_bytes(), "-").map(|secret| secret.expose().to_owned());
        assert_eq!(read("a b \r\n").as_deref(), Ok("a b "));
        assert_eq!(read("a\n\n").as_deref(), Ok("a\n"));
        assert_eq!(read("\n"), Err(SecretFileError::Empty("-".to_owned())));
        assert_eq!(read(&"x".repeat(65_537)), Err(SecretFileError::NotText("-".to_owned())));
    }

    #[test]
    fn secrets_are_escaped_in_json() {
        let (one, two) = (secret("a\"b\\\n\u{1}"), secret("é"));
        let body = object(&[("api_key", &one), ("o\"rg", &two)]);
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value, serde_json::json!({ "api_key": "a\"b\\\n\u{1}", "o\"rg": "é" }));
        let plain = serde_json::json!({ "base_url": "x" });
        let whole = with_member(plain.as_object().unwrap(), "fields", &body);
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["fields"], value);
        assert_eq!(whole["base_url"], "x");
        let alone = with_member(&Map::new(), "fields", b"{}");
        assert_eq!(
            serde_json::from_slice::<Value>(&alone).unwrap(),
            serde_json::json!({ "fields": {} })
        );
    }

    #[test]
    fn secrets_are_escaped_in_forms() {
        let body = form(&[("token", &secret("a&b=c +é")), ("x", &secret("1"))]);
        assert_eq!(body.as_slice(), b"token=a%26b%3Dc+%2B%C3%A9&x=1");
    }

    #[test]
    fn wallet_keys_are_32_bytes_of_hex() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wallet");
        for (text, good) in [
            (format!("0x{}\n", "aB".repeat(32)), true),
            ("ab".repeat(32), true),
            ("ab".repeat(31), false),
            ("zz".repeat(32), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(wallet_key(&path).is_ok(), good, "{text}");
        }
    }
}
