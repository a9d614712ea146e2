use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Answer, Channel, Problem, Request, message, script};
use crate::session::Session;

const REQUEST: Request<'_> = Request { words: &["true"], input: b"", limit: Duration::from_secs(5) };

/// A channel whose other side has said this and hears what is asked.
fn channel(said: &[u8]) -> (Channel, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(said).unwrap();
    (Channel::new(ours, &Session::silent()).unwrap(), theirs)
}

#[test]
fn words_stay_words_whatever_is_in_them() {
    assert_eq!(script(&["echo", "it's", "$HOME", ""]), r"exec 'echo' 'it'\''s' '$HOME' ''");
}

#[test]
fn a_request_carries_the_lengths_of_what_follows() {
    let request = Request { words: &["cat"], input: b"in\n", limit: Duration::from_secs(7) };
    assert_eq!(message(3, &request), b"3 7 10 3\nexec 'cat'in\n");
}

#[test]
fn an_answer_has_four_numbers_and_no_more() {
    assert_eq!(Answer::parse("3 1 20 0"), Some(Answer { id: 3, status: 1, output: 20, errors: 0 }));
    for line in ["", "3 1 20", "3 1 20 0 0", "3 256 20 0", "3 one 20 0"] {
        assert_eq!(Answer::parse(line), None, "{line}");
    }
}

#[test]
fn status_and_both_outputs_are_told_apart() {
    let (mut channel, _theirs) = channel(b"ready\n1 3 4 2\nout\n!\n");
    channel.greet(Duration::from_secs(1)).unwrap();
    let output = channel.ask(&REQUEST).unwrap();
    assert_eq!((output.status.code(), output.stdout, output.stderr), (Some(3), b"out\n".to_vec(), b"!\n".to_vec()));
}

#[test]
fn an_agent_that_started_anew_answers_all_the_same() {
    let (mut channel, _theirs) = channel(b"ready\n1 0 0 0\n");
    assert!(channel.ask(&REQUEST).unwrap().status.success());
}

#[test]
fn after_an_answer_to_something_else_nothing_is_asked_any_more() {
    let (mut channel, mut theirs) = channel(b"7 0 0 0\n");
    assert!(matches!(channel.ask(&REQUEST), Err(Problem::Garbled(line)) if line == "7 0 0 0"));
    assert!(matches!(channel.ask(&REQUEST), Err(Problem::Closed)));
    drop(channel);
    let mut asked = String::new();
    theirs.read_to_string(&mut asked).unwrap();
    assert_eq!(asked, "1 5 11 0\nexec 'true'");
}

#[test]
fn a_machine_that_is_gone_is_not_waited_for() {
    let (mut channel, theirs) = channel(b"");
    drop(theirs);
    assert!(matches!(channel.greet(Duration::from_secs(60)), Err(Problem::Closed)));
}
