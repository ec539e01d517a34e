//! Runs the user's commands in the shell, with a timeout, and keeps the end of their output for error messages. Owns
//! their processes: a command that is aborted is killed with all processes that it has started.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// How much of the end of a command's output is kept, in bytes.
const MAX_OUTPUT: usize = 2048;

/// Run `command` in `/bin/sh`. If it takes longer than `limit`, or the future is dropped, its whole process group is
/// killed.
///
/// # Errors
/// Why it failed, as a sentence, with the end of its output.
pub(super) async fn run(command: &str, limit: Duration) -> Result<(), String> {
    run_program(&["/bin/sh".into(), "-c".into(), command.into()], limit).await
}

/// The same for a program, named first, with its arguments.
pub(super) async fn run_program(command: &[String], limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("there is no command".into()) };
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its notifications would be taken for this sidecar's.
        .env_remove("NOTIFY_SOCKET")
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| format!("can't run {program}: {error}"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = tokio::time::timeout(limit, async {
        let (_, said_out, said_err) = tokio::join!(std::future::ready(()), tail(out), tail(err));
        (child.wait().await, said_err, said_out)
    })
    .await;
    let Ok((status, said_err, said_out)) = ended else {
        drop(group);
        let _ = child.wait().await;
        return Err(format!("it took longer than {} s", limit.as_secs_f64()));
    };
    group.0 = None;
    let status = status.map_err(|error| format!("can't wait for it: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = if said_err.is_empty() { said_out } else { said_err };
    Err(if said.is_empty() { status.to_string() } else { format!("{status}: {said}") })
}

/// A process group that is killed on drop, unless its leader has ended: its id may have been reused.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of a stream, trimmed.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        let excess = kept.len().saturating_sub(MAX_OUTPUT);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::shell_word;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn failures_say_why() {
        assert_eq!(run("exit 0", LIMIT).await, Ok(()));
        assert_eq!(run("echo out; echo why >&2; exit 3", LIMIT).await, Err("exit status: 3: why".into()));
        assert_eq!(run("echo out; exit 3", LIMIT).await, Err("exit status: 3: out".into()));
        assert_eq!(run("exit 3", LIMIT).await, Err("exit status: 3".into()));
        let long = run("yes x | head -n 100000 >&2; echo end >&2; false", LIMIT).await.unwrap_err();
        assert!(long.len() < 3000 && long.ends_with("end"), "{long}");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let command = format!("(sleep 2; touch {}) & wait", shell_word(&mark.display().to_string()));
        let begun = tokio::time::Instant::now();
        assert_eq!(run(&command, Duration::from_millis(200)).await, Err("it took longer than 0.2 s".into()));
        tokio::time::sleep_until(begun + Duration::from_secs(3)).await;
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (begun, mark) = (dir.path().join("begun"), dir.path().join("mark"));
        let command = format!("(touch {}; sleep 1; touch {}) & wait", begun.display(), mark.display());
        let all = async {
            while !begun.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            done = run(&command, LIMIT) => panic!("{done:?}"),
            () = all => {}
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn words_are_quoted() {
        let word = "a'b \"$HOME\" \\";
        let command = format!("test $(printf %s {} | wc -c) = {}", shell_word(word), word.len());
        assert_eq!(run(&command, LIMIT).await, Ok(()));
    }
}
