//! The one place that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks on these")]

/// A line of the result.
pub fn line(text: &str) {
    println!("{text}");
}

/// A remark for people.
pub fn note(text: &str) {
    eprintln!("{text}");
}
