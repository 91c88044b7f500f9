//! What a command prints: tables and relative times on a terminal, tab-separated lines in a pipe, the answer's own
//! bytes with `--json`. Results go to standard output, talk to standard error.
//!
//! What others wrote (reasons, names, errors of vendors) may try to move the terminal or to look like other text:
//! control and direction characters are printed as escapes.

use std::io::{self, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::Value;

use super::failure::{Failure, Told};
use super::page;
use super::world::Terminal;
use crate::base::time::{Timestamp, span_words};

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Tables on a terminal, tab-separated lines elsewhere.
    Text,
    /// The answer unchanged.
    Json,
    /// One line of JSON for each thing.
    Jsonl,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub format: Format,
    pub terminal: Terminal,
    pub colour: bool,
    pub quiet: bool,
    /// The terminal cannot move its cursor, or is told not to.
    pub still: bool,
    pub now: Timestamp,
}

impl Style {
    /// Whether a sign of life may be drawn.
    pub(crate) const fn animated(self) -> bool {
        self.terminal.animated && !self.still && !self.quiet
    }
}

/// One column of a list, one line of a thing: a heading, a JSON pointer, and what stands there.
pub(crate) struct Column(pub &'static str, pub &'static str, pub Kind);

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, numbers, yes and no, lists of them.
    Plain,
    /// RFC 3339.
    Time,
    /// The items of a grant, as `vendor/scope`.
    Items,
}

/// Prints an answer: a list if it is one, a thing otherwise.
pub(crate) fn answer(out: &mut dyn Write, style: Style, body: &[u8], columns: &[Column]) -> Result<(), Failure> {
    let value: Value = match style.format {
        Format::Json => return raw(out, body),
        Format::Jsonl | Format::Text => serde_json::from_slice(body).unwrap_or_default(),
    };
    match (style.format, value.get("data").and_then(Value::as_array)) {
        (Format::Text, Some(rows)) => list(out, style, rows, columns),
        (Format::Text, None) => thing(out, style, &value, columns),
        (_, Some(rows)) => rows.iter().try_for_each(|row| Ok(writeln!(out, "{row}")?)),
        (_, None) => Ok(writeln!(out, "{value}")?),
    }
}

/// Bytes as they are, and a line end if they have none.
pub(crate) fn raw(out: &mut dyn Write, body: &[u8]) -> Result<(), Failure> {
    out.write_all(body)?;
    if !body.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// The narrowest terminal to which tables are fitted.
const NARROWEST: u16 = 60;

fn list(out: &mut dyn Write, style: Style, rows: &[Value], columns: &[Column]) -> Result<(), Failure> {
    if !style.terminal.stdout {
        for row in rows {
            let cells: Vec<String> = columns.iter().map(|column| column.text(row)).collect();
            writeln!(out, "{}", cells.join("\t"))?;
        }
        return Ok(out.flush()?);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // Columns of a few letters are worse than lines that the terminal breaks.
    match style.terminal.width.filter(|width| *width >= NARROWEST) {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(columns.iter().map(|Column(head, ..)| head.to_uppercase()));
    for row in rows {
        table.add_row(columns.iter().map(|column| column.shown(row, style.now)));
    }
    // An id that is broken over two lines cannot be copied.
    if let Some(first) = table.column_mut(0) {
        first.set_constraint(ColumnConstraint::ContentWidth);
    }
    for line in table.lines() {
        writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
    }
    Ok(out.flush()?)
}

fn thing(out: &mut dyn Write, style: Style, value: &Value, columns: &[Column]) -> Result<(), Failure> {
    let wide = columns
        .iter()
        .map(|Column(head, ..)| head.len())
        .max()
        .unwrap_or_default();
    for column in columns {
        let Column(head, ..) = column;
        if style.terminal.stdout {
            let shown = column.shown(value, style.now);
            if shown != ABSENT {
                writeln!(out, "{head:<wide$}  {shown}")?;
            }
        } else {
            writeln!(out, "{head}\t{}", column.text(value))?;
        }
    }
    Ok(out.flush()?)
}

/// What a terminal shows where nothing is.
const ABSENT: &str = "-";

impl Column {
    /// For machines: as it stands, nothing if it is absent.
    fn text(&self, row: &Value) -> String {
        let Self(_, pointer, kind) = self;
        let value = row.pointer(pointer).unwrap_or(&Value::Null);
        let text = if *kind == Kind::Items {
            items(value)
        } else {
            plain(value)
        };
        visible(&text)
    }

    /// For people.
    fn shown(&self, row: &Value, now: Timestamp) -> String {
        let text = self.text(row);
        let Self(_, _, kind) = self;
        match (kind, Timestamp::parse_rfc3339(&text)) {
            _ if text.is_empty() => ABSENT.to_owned(),
            (Kind::Time, Some(at)) => relative(at, now),
            _ => text,
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

fn items(value: &Value) -> String {
    let item = |item: &Value| {
        let vendor = plain(item.get("vendor").unwrap_or(&Value::Null));
        let scopes = page::list(item, "/scopes");
        let names = scopes.iter().map(|scope| format!("{vendor}/{}", plain(scope)));
        names.collect::<Vec<_>>().join(", ")
    };
    let items = value.as_array().cloned().unwrap_or_default();
    items.iter().map(item).collect::<Vec<_>>().join(", ")
}

/// A time as people say it: `in 4 min`, `51 s ago`, `in 3 d`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let (span, ahead) = if at > now {
        (at.since(now), true)
    } else {
        (now.since(at), false)
    };
    let words = span_words(span);
    match (ahead, span.as_secs()) {
        (_, 0) => "now".to_owned(),
        (true, _) => format!("in {words}"),
        (false, _) => format!("{words} ago"),
    }
}

/// Text on one line: what would move the terminal, hide or turn text is printed as an escape.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |letter| letter.is_control() || turns_or_hides(letter))
}

/// The same for text of several lines; tabs stay.
pub(crate) fn visible_lines(text: &str) -> String {
    let bad = |letter: char| letter != '\t' && (letter.is_control() || turns_or_hides(letter));
    text.lines()
        .map(|line| escaped(line, bad))
        .collect::<Vec<_>>()
        .join("\n")
}

fn escaped(text: &str, bad: impl Fn(char) -> bool) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut shown, letter| {
            if bad(letter) {
                shown.extend(letter.escape_default());
            } else {
                shown.push(letter);
            }
            shown
        })
}

/// Format characters that a terminal does not show: direction, joiners, marks, tags.
fn turns_or_hides(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Prints a failure to `err`: what, why, what to do, which request.
pub(crate) fn failure(err: &mut dyn Write, style: Style, told: &Told) -> io::Result<()> {
    if style.format != Format::Text {
        writeln!(err, "{}", told.json())?;
        return err.flush();
    }
    let (red, plain) = if style.colour {
        ("\u{1b}[1;31m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    writeln!(
        err,
        "{red}error:{plain} {} [{}]",
        visible(&told.what),
        visible(&told.code)
    )?;
    for why in &told.why {
        for line in visible_lines(why).lines() {
            writeln!(err, "    {line}")?;
        }
    }
    if !told.fix.is_empty() {
        writeln!(
            err,
            "    fix: {}",
            visible_lines(&told.fix).replace('\n', "\n         ")
        )?;
    }
    if let Some(request) = &told.request {
        writeln!(err, "    request {}", visible(request))?;
    }
    err.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_763_670_667;
    const COLUMNS: &[Column] = &[
        Column("lease", "/id", Kind::Plain),
        Column("expires", "/expires", Kind::Time),
        Column("trouble", "/trouble", Kind::Plain),
    ];

    fn printed(format: Format, tty: bool, value: &Value) -> String {
        let style = Style {
            format,
            terminal: Terminal {
                stdout: tty,
                width: Some(60),
                ..Terminal::default()
            },
            colour: false,
            quiet: false,
            still: true,
            now: Timestamp::from_secs(NOW),
        };
        let mut out = Vec::new();
        answer(&mut out, style, value.to_string().as_bytes(), COLUMNS).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn leases() -> Value {
        let expires = Timestamp::from_secs(NOW + 240);
        json!({ "object": "list", "has_more": false, "data": [
            { "id": "lea_1", "expires": expires, "trouble": null },
            { "id": "lea_2", "expires": expires, "trouble": "a\tb\u{1b}[2Jc\u{202e}d" },
        ] })
    }

    #[test]
    fn a_terminal_gets_a_table_and_relative_times() {
        let shown = printed(Format::Text, true, &leases());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("LEASE") && lines[0].contains("EXPIRES"), "{shown}");
        assert!(
            lines[1].contains("lea_1") && lines[1].contains("in 4 min") && lines[1].ends_with('-'),
            "{shown}"
        );
        assert!(lines[2].contains(r"a\tb\u{1b}[2Jc\u{202e}d"), "{shown}");
    }

    #[test]
    fn a_pipe_gets_one_untouched_line_a_thing() {
        let shown = printed(Format::Text, false, &leases());
        let first = format!("lea_1\t{}\t", Timestamp::from_secs(NOW + 240));
        assert_eq!(shown.lines().next(), Some(first.as_str()));
        assert_eq!(
            shown.lines().nth(1).map(|line| line.split('\t').count()),
            Some(3),
            "{shown}"
        );
    }

    #[test]
    fn json_is_the_body_and_jsonl_one_line_a_thing() {
        assert_eq!(printed(Format::Json, true, &leases()), format!("{}\n", leases()));
        let lines = printed(Format::Jsonl, true, &leases());
        let read: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(Some(&read), leases()["data"].as_array());
    }

    #[test]
    fn a_thing_is_a_line_a_field() {
        let value = json!({ "id": "lea_1", "expires": Timestamp::from_secs(NOW - 51) });
        assert_eq!(
            printed(Format::Text, true, &value),
            "lease    lea_1\nexpires  51 s ago\n"
        );
        let piped = printed(Format::Text, false, &value);
        assert_eq!(piped.lines().collect::<Vec<_>>()[0], "lease\tlea_1");
        assert_eq!(piped.lines().count(), 3);
    }

    #[test]
    fn spans_are_said_in_their_largest_useful_unit() {
        let now = Timestamp::from_secs(NOW);
        for (ahead, words) in [
            (0, "now"),
            (51, "in 51 s"),
            (119, "in 119 s"),
            (900, "in 15 min"),
            (7169, "in 119 min"),
            (7170, "in 2 h"),
            (28_799, "in 8 h"),
            (170_999, "in 47 h"),
            (171_000, "in 2 d"),
            (259_200, "in 3 d"),
            (-5, "5 s ago"),
        ] {
            assert_eq!(relative(Timestamp::from_secs(NOW + ahead), now), words);
        }
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let style = Style {
            format: Format::Text,
            terminal: Terminal::default(),
            colour: false,
            quiet: false,
            still: true,
            now: Timestamp::default(),
        };
        let failed = Failure::new("vault_sealed", 8, "the vault is sealed", "dekeys unseal").because("No\u{1b}[1m.");
        let Failure::Told(told) = failed else { panic!("told") };
        let mut err = Vec::new();
        failure(&mut err, style, &told).unwrap();
        let wanted = "error: the vault is sealed [vault_sealed]\n    No\\u{1b}[1m.\n    fix: dekeys unseal\n";
        assert_eq!(String::from_utf8(err).unwrap(), wanted);
        let mut err = Vec::new();
        failure(
            &mut err,
            Style {
                format: Format::Json,
                ..style
            },
            &told,
        )
        .unwrap();
        let value: Value = serde_json::from_slice(&err).unwrap();
        assert_eq!(
            (&value["code"], &value["fix"]),
            (&json!("vault_sealed"), &json!("dekeys unseal"))
        );
    }
}
