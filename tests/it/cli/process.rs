//! The binary itself.

use std::process::{Command, Stdio};

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
