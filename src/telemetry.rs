//! Log lines on stderr, where the journal picks them up. Owns format and level, never the words.

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

/// The level at which a running daemon logs.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: reload::Handle<Targets, Registry>,
}

impl LogLevel {
    /// Change the level: 0 logs changes, more logs reasons too.
    pub fn set(&self, verbosity: u8) {
        // It can only fail when nobody logs any more.
        let _ = self.filter.reload(targets(verbosity));
    }
}

fn targets(verbosity: u8) -> Targets {
    let ours = if verbosity > 0 { Level::DEBUG } else { Level::INFO };
    Targets::new().with_target("flotilla", ours).with_default(LevelFilter::WARN)
}

/// Begin to log: changes, or with `verbosity` above 0 reasons too. Of libraries only warnings are logged.
pub fn init(verbosity: u8) -> LogLevel {
    let (filter, handle) = reload::Layer::new(targets(verbosity));
    let terminal = std::io::stderr().is_terminal();
    let stderr = Stderr { is_journal: is_journal() };
    let format = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(terminal).with_target(false);
    // The journal has its own clock; a second one in the line would only make it longer.
    if terminal {
        tracing_subscriber::registry().with(format.with_filter(filter)).init();
    } else {
        tracing_subscriber::registry().with(format.without_time().with_filter(filter)).init();
    }
    LogLevel { filter: handle }
}

/// Let a client say on stderr what it does, step by step (`--debug`).
pub fn init_client() {
    let filter = Targets::new().with_target("flotilla", Level::DEBUG);
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let log = tracing_subscriber::registry().with(format.without_time().with_filter(filter));
    // A second subscriber is the only failure, and then the first one logs.
    drop(log.try_init());
}

/// Whether stderr is the stream that systemd has opened to the journal (`systemd.exec(5)`, `$JOURNAL_STREAM`), and not
/// what somebody has put in its place since.
fn is_journal() -> bool {
    let stream = std::env::var_os("JOURNAL_STREAM");
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    stderr.is_ok_and(|stderr| stream == Some(format!("{}:{}", stderr.dev(), stderr.ino()).into()))
}

/// Where lines go. The journal is told their level, so that `journalctl --priority warning` finds what somebody has to
/// act on.
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

/// As `sd-daemon(3)` has them.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Writes a line.
struct Line {
    prefix: &'static str,
}

impl Write for Line {
    /// All of it at once: lines of other threads mustn't come between.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&[self.prefix.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
