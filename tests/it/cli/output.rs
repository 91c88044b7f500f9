//! Results: tables for people, lines for pipes, the body for programs.

use std::io::{self, Write};

use dekeys::base::time::Ttl;
use serde_json::{Value, json};

use super::stage::{Answer, NOW, Server, Stage, id};

fn leases() -> Value {
    let lease = |last: char, minutes: i64, vendor: &str| {
        json!({
            "id": id("lea", last), "object": "lease", "livemode": false, "state": "active", "grant": id("grt", '1'),
            "prim": id("pri", '1'), "vendor": vendor, "credential": id("cred", '1'), "resolves": 12,
            "created": NOW, "expires": NOW.plus(Ttl::from_mins(minutes)), "lease_duration": 60, "renewable": false,
        })
    };
    json!({ "object": "list", "data": [lease('3', 4, "openai"), lease('4', 15, "a-vendor-with-a-name-that-is-rather-long")], "has_more": true })
}

#[test]
fn a_terminal_gets_a_table_and_where_it_goes_on() {
    let server = Server::always(|| Answer::ok(&leases()));
    let ran = Stage::at_terminal("").at(&server).run("lease ls");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("LEASE ") && lines[0].ends_with("STATE"), "{ran:?}");
    assert!(lines[1].starts_with(&id("lea", '3')), "an id is whole: {ran:?}");
    assert!(lines[1].contains("in 4 min") && lines[1].ends_with("active"), "{ran:?}");
    assert_eq!(ran.err, format!("more follow: --after {}\n", id("lea", '4')));
}

#[test]
fn a_terminal_too_narrow_for_a_table_breaks_lines_itself() {
    let server = Server::always(|| Answer::ok(&leases()));
    for width in [None, Some(10)] {
        let mut stage = Stage::at_terminal("").at(&server);
        stage.terminal.width = width;
        let ran = stage.run("lease ls");
        assert_eq!(ran.out.lines().count(), 3, "{ran:?}");
    }
}

#[test]
fn a_pipe_gets_a_line_a_thing_without_heading_or_cuts() {
    let server = Server::always(|| Answer::ok(&leases()));
    let ran = Stage::new().at(&server).run("lease ls --limit 2 --after x");
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2);
    let expires = NOW.plus(Ttl::from_mins(15)).to_string();
    let long = "a-vendor-with-a-name-that-is-rather-long";
    assert_eq!(
        lines[1],
        [&id("lea", '4'), long, &id("pri", '1'), &expires, "12", "active"]
    );
    assert_eq!(server.seen()[0].query, "limit=2&starting_after=x");
}

#[test]
fn json_is_the_very_body() {
    let spelled = r#"{ "object" : "list", "data":[ {"id":"x","z":1.0} ],"has_more":false}"#;
    let server = Server::always(|| Answer {
        body: spelled.to_owned(),
        ..Answer::ok(&Value::Null)
    });
    for line in ["lease ls --json", "lease ls -o json"] {
        let ran = Stage::at_terminal("").at(&server).run(line);
        assert_eq!((ran.out, ran.exit), (format!("{spelled}\n"), 0));
    }
    let mut stage = Stage::new().at(&server);
    stage.set("DEKEYS_OUTPUT", "jsonl");
    assert_eq!(stage.run("lease ls").out, "{\"id\":\"x\",\"z\":1.0}\n");
    stage.set("DEKEYS_OUTPUT", "xml");
    let ran = stage.run("lease ls");
    assert!(ran.exit == 2 && ran.err.contains("DEKEYS_OUTPUT is `xml`"), "{ran:?}");
}

#[test]
fn nothing_is_said_in_words_only_to_people_who_listen() {
    let server = Server::always(|| Answer::ok(&json!({ "object": "list", "data": [], "has_more": false })));
    let stage = Stage::at_terminal("").at(&server);
    assert_eq!(stage.run("lease ls").err, "no leases\n");
    assert_eq!(stage.run("lease ls --quiet").err, "");
    let verbose = stage.run("lease ls --verbose").err;
    assert!(
        verbose.contains(&format!("> GET {}/v1/leases\n< 200", server.url())),
        "{verbose}"
    );
}

/// A pipe whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_reader_that_has_gone_is_no_crash() {
    let server = Server::always(|| Answer::ok(&leases()));
    let stage = Stage::new().at(&server);
    for line in [&["lease", "ls"][..], &["lease", "ls", "--json"], &["--help"]] {
        assert_eq!(stage.onto(line, Box::new(Closed), Box::new(Closed)), 0, "{line:?}");
    }
    let sealed = Server::always(|| Answer::problem(503, "vault_sealed", "x", "", ""));
    let stage = Stage::new().at(&sealed);
    assert_eq!(stage.onto(&["lease", "ls"], Box::new(Closed), Box::new(Closed)), 8);
}

#[test]
fn grants_show_what_they_are_for() {
    let server = Server::always(|| {
        let item =
            json!({ "vendor": "openai", "scopes": ["chat:write", "models:read"], "policy": "p", "policy_version": 1 });
        Answer::ok(&json!({ "object": "list", "has_more": false, "data": [{
            "id": id("grt", '1'), "items": [item], "limits": { "remaining_resolves": 7 }, "expires": NOW, "state": "expired",
        }] }))
    });
    let ran = Stage::new().at(&server).run("grant ls");
    assert_eq!(
        ran.out,
        format!(
            "{}\topenai/chat:write, openai/models:read\t7\t{NOW}\texpired\n",
            id("grt", '1')
        )
    );
}

#[test]
fn the_log_is_followed_without_gaps_and_in_order() {
    let event = |number: i64| json!({ "sequence": number, "leaf": null, "event": { "id": "e", "type": "lease.created", "timestamp": NOW, "object": "o", "actor": "a" } });
    let page = move |numbers: &[i64], more: bool| {
        let data: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
        Answer::ok(&json!({ "object": "list", "data": data, "has_more": more }))
    };
    let server = Server::start(move |_, before| match before {
        0 => page(&[2, 1], false),
        1 | 3 => page(&[6, 5], true),
        2 => page(&[4, 3, 2], true),
        _ => Answer::problem(503, "overloaded", "Busy", "", ""),
    });
    let ran = Stage::new().at(&server).run("audit tail --follow --type lease.");
    let numbers: Vec<&str> = ran.out.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6"], "{ran:?}");
    assert_eq!(ran.exit, 10, "ends when the server ends");
    assert!(
        server.seen()[2].query.contains("before=5"),
        "{:?}",
        server.seen()[2].query
    );
}

#[test]
fn all_pages_of_a_list_can_be_had() {
    let server = Server::start(|seen, before| {
        let more = before == 0;
        assert_eq!(seen.query.contains("starting_after=a"), !more, "{}", seen.query);
        let id = if more { "a" } else { "b" };
        Answer::ok(&json!({ "object": "list", "data": [{ "id": id }], "has_more": more }))
    });
    let ran = Stage::new().at(&server).run("api /v1/leases -f limit=1 --paginate");
    assert_eq!(ran.out, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
}

#[test]
fn config_show_says_where_each_value_comes_from() {
    let mut stage = Stage::new();
    stage.set("DEKEYS_LISTEN", "127.0.0.1:9000");
    let data = stage.path("data").display().to_string();
    let ran = stage.run(&format!("config show --data-dir {data}"));
    assert!(
        ran.out.contains("listen\t127.0.0.1:9000\tenvironment DEKEYS_LISTEN\n"),
        "{ran:?}"
    );
    assert!(
        ran.out.contains(&format!("data_dir\t{data}\tflag --data-dir\n")),
        "{ran:?}"
    );
}
