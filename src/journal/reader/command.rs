//! A running journalctl as lines. Owns the splitting; understands none of them.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::remote::{Reader, Running};

/// Lines of stderr that are kept for the end.
const KEPT: usize = 5;

/// A command and what of its lines has come so far.
pub(super) struct Command {
    running: Running,
    out: Half,
    err: Half,
    said: Vec<String>,
}

struct Half {
    stream: Option<BufReader<Reader>>,
    partial: Vec<u8>,
}

impl Command {
    /// Of `running`, whose stdout and stderr are read here.
    pub(super) fn new(mut running: Running) -> Self {
        let half = |stream: &mut Reader| {
            let stream = std::mem::replace(stream, Box::pin(tokio::io::empty()));
            Half { stream: Some(BufReader::with_capacity(64 * 1024, stream)), partial: Vec::new() }
        };
        let (out, err) = (half(&mut running.stdout), half(&mut running.stderr));
        Self { running, out, err, said: Vec::new() }
    }

    /// The next line of stdout, without its end; `None` when both streams have ended. What comes after the last newline
    /// is no line: it was cut off. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        while self.out.stream.is_some() || self.err.stream.is_some() {
            tokio::select! {
                line = self.out.next(), if self.out.stream.is_some() => if line.is_some() {
                    return line;
                },
                line = self.err.next(), if self.err.stream.is_some() => if let Some(line) = line
                    && self.said.len() < KEPT
                {
                    self.said.push(String::from_utf8_lossy(&line).into_owned());
                },
            }
        }
        None
    }

    /// The first lines of its stderr.
    pub(super) fn said(&self) -> &[String] {
        &self.said
    }

    /// Those, to be handed on.
    pub(super) fn take_said(self) -> Vec<String> {
        self.said
    }

    /// Its exit status.
    ///
    /// # Errors
    /// In words, when the connection broke.
    pub(super) async fn end(&mut self) -> Result<u8, String> {
        match self.running.wait().await {
            Ok(ended) => Ok(ended.code()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What it said, or else that it ended with `code`.
    pub(super) fn why(&self, code: u8) -> String {
        if self.said.is_empty() { format!("journalctl ended with status {code}") } else { self.said.join("; ") }
    }
}

impl Half {
    async fn next(&mut self) -> Option<Vec<u8>> {
        let stream = self.stream.as_mut()?;
        // Dropped half way, what has been read stays in `partial`, and the next call goes on from there.
        match stream.read_until(b'\n', &mut self.partial).await {
            Ok(_) if self.partial.last() == Some(&b'\n') => {
                self.partial.pop();
                Some(std::mem::take(&mut self.partial))
            }
            // A connection that breaks is reported by its end.
            Ok(_) | Err(_) => {
                self.stream = None;
                None
            }
        }
    }
}
