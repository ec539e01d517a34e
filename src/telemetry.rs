//! Log lines on stderr, where the journal collects them. Owns format and level, never the wording.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::model::text::without_os_error;

/// The log level of a running daemon.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: reload::Handle<Targets, Registry>,
}

impl LogLevel {
    /// Set the level: 0 logs changes, more also logs reasons.
    pub fn set(&self, verbosity: u8) {
        // Fails only if there is no subscriber any more.
        let _ = self.filter.reload(targets(verbosity));
    }
}

fn targets(verbosity: u8) -> Targets {
    let ours = if verbosity > 0 { Level::DEBUG } else { Level::INFO };
    Targets::new().with_target("flotilla", ours).with_default(LevelFilter::WARN)
}

/// Start logging: changes, and with `verbosity` above 0 also reasons. Libraries log warnings only.
pub fn init(verbosity: u8) -> LogLevel {
    let (filter, handle) = reload::Layer::new(targets(verbosity));
    let terminal = std::io::stderr().is_terminal();
    let stderr = Stderr { is_journal: is_journal() };
    let format = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(terminal).with_target(false);
    // The journal has its own timestamps.
    if terminal {
        tracing_subscriber::registry().with(format.with_filter(filter)).init();
    } else {
        tracing_subscriber::registry().with(format.without_time().with_filter(filter)).init();
    }
    LogLevel { filter: handle }
}

/// Log a client's steps on stderr (`--debug`).
pub fn init_client() {
    let filter = Targets::new().with_target("flotilla", Level::DEBUG);
    let stderr = Stderr { is_journal: false };
    let format = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(false).with_target(false);
    let log = tracing_subscriber::registry().with(format.without_time().with_filter(filter));
    // It fails only if there is a subscriber already, which then logs.
    drop(log.try_init());
}

/// Whether stderr is still the stream that systemd connected to the journal (`$JOURNAL_STREAM` in `systemd.exec(5)`).
fn is_journal() -> bool {
    let stream = std::env::var_os("JOURNAL_STREAM");
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    stderr.is_ok_and(|stderr| stream == Some(format!("{}:{}", stderr.dev(), stderr.ino()).into()))
}

/// The destination of log lines. The journal gets their level, for `journalctl --priority warning`.
#[derive(Debug, Clone, Copy)]
struct Stderr {
    is_journal: bool,
}

impl MakeWriter<'_> for Stderr {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { prefix: "" }
    }

    fn make_writer_for(&self, meta: &Metadata<'_>) -> Line {
        Line { prefix: if self.is_journal { prefix(*meta.level()) } else { "" } }
    }
}

/// The prefixes of `sd-daemon(3)`.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// A line as it is printed: with its prefix, and without the numbers of errors.
fn printed(prefix: &str, line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    [prefix.as_bytes(), without_os_error(&text).as_bytes()].concat()
}

/// Writes one line.
struct Line {
    prefix: &'static str,
}

impl Write for Line {
    /// In a single write, so that lines of other threads don't interleave.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&printed(self.prefix, line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_and_no_numbers_of_errors() {
        let line = b"WARN can't write x: No space left on device (os error 28) unit=a.service\n";
        assert_eq!(printed("<4>", line), b"<4>WARN can't write x: No space left on device unit=a.service\n");
    }
}
