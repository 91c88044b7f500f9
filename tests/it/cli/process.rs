//! The binary itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

fn dekeys() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dekeys"));
    command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

#[test]
fn exit_codes_reach_the_shell() {
    let status = |args: &[&str]| dekeys().args(args).output().unwrap().status.code();
    assert_eq!(status(&["--version"]), Some(0));
    assert_eq!(status(&["nonsense"]), Some(2));
    assert_eq!(status(&["key", "public", "/nonexistent/key"]), Some(1));
    assert_eq!(status(&["unseal"]), Some(2), "nobody can be asked");
}

/// Starts it, and gives the first line it prints.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    line
}

#[test]
fn a_mock_vendor_takes_the_parameters_of_its_manifest() {
    let project = "6f1c2e3a-1b2c-4d5e-8f90-123456789abc";
    let mock = |more: &[&str]| {
        let mut command = dekeys();
        command.args(["vendor", "mock", "deepgram"]).args(more);
        command
    };
    for (more, told) in [
        (vec![], "deepgram has the parameter `project`"),
        (vec!["--param", "projct=a"], "deepgram has the parameter `project`"),
        (
            vec!["--param", "project=a", "--param", "x=y"],
            "deepgram has no parameter `x`",
        ),
    ] {
        let ran = mock(&more).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert!(
            said.contains(told) && said.contains(&format!("--param project={project}")),
            "{said}"
        );
    }
    let given = format!("project={project}");
    let mut child = mock(&["--param", &given]).stdout(Stdio::piped()).spawn().unwrap();
    let facts: serde_json::Value = serde_json::from_str(&first_line(&mut child)).unwrap();
    let address = facts["url"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let key = facts["root_fields"]["key"].as_str().unwrap();
    let status = |project: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("GET /v1/projects/{project}/keys HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        write!(stream, "{head}authorization: Token {key}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let seen = status(project);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, "200");
}

#[test]
fn a_closed_pipe_is_no_crash() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = dekeys()
        .args(["config", "show", "--data-dir", "/nonexistent/data"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}
