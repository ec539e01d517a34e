//! The lines of a running journalctl. Owns the splitting; interprets none of them.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::remote::{Reader, Running};

/// The number of stderr lines that are kept.
const MAX_STDERR_LINES: usize = 5;

/// A command and its partially read lines.
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
    /// Read the stdout and stderr of `running`.
    pub(super) fn new(mut running: Running) -> Self {
        let half = |stream: &mut Reader| {
            let stream = std::mem::replace(stream, Box::pin(tokio::io::empty()));
            Half { stream: Some(BufReader::with_capacity(64 * 1024, stream)), partial: Vec::new() }
        };
        let (out, err) = (half(&mut running.stdout), half(&mut running.stderr));
        Self { running, out, err, said: Vec::new() }
    }

    /// The next line of stdout, without its newline; `None` when both streams have ended. Text after the last newline
    /// isn't a line, since it was cut off. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        while self.out.stream.is_some() || self.err.stream.is_some() {
            tokio::select! {
                line = self.out.next(), if self.out.stream.is_some() => if line.is_some() {
                    return line;
                },
                line = self.err.next(), if self.err.stream.is_some() => if let Some(line) = line
                    && self.said.len() < MAX_STDERR_LINES
                {
                    self.said.push(String::from_utf8_lossy(&line).into_owned());
                },
            }
        }
        None
    }

    /// The first lines of stderr.
    pub(super) fn said(&self) -> &[String] {
        &self.said
    }

    /// The first lines of stderr, to be delivered.
    pub(super) fn take_said(self) -> Vec<String> {
        self.said
    }

    /// Its exit status.
    ///
    /// # Errors
    /// The error of a broken connection.
    pub(super) async fn end(&mut self) -> Result<u8, String> {
        match self.running.wait().await {
            Ok(ended) => Ok(ended.code()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Its error message, or else its exit status `code`.
    pub(super) fn why(&self, code: u8) -> String {
        if self.said.is_empty() { format!("journalctl ended with status {code}") } else { self.said.join("; ") }
    }
}

impl Half {
    async fn next(&mut self) -> Option<Vec<u8>> {
        let stream = self.stream.as_mut()?;
        // Cancel-safe: what was read stays in `partial`, and the next call continues from there.
        match stream.read_until(b'\n', &mut self.partial).await {
            Ok(_) if self.partial.last() == Some(&b'\n') => {
                self.partial.pop();
                Some(std::mem::take(&mut self.partial))
            }
            // `end` reports a broken connection.
            Ok(_) | Err(_) => {
                self.stream = None;
                None
            }
        }
    }
}
