//! The daemon's voice: log lines on stderr, where the journal picks them up. Owns format and level, never what is said.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

/// How much a running daemon says.
#[derive(Debug, Clone)]
pub struct Volume {
    filter: reload::Handle<Targets, Registry>,
}

impl Volume {
    /// Say more or less from now on.
    pub fn set(&self, verbosity: u8) {
        // It can only fail when nobody logs any more.
        let _ = self.filter.reload(targets(verbosity));
    }
}

fn targets(verbosity: u8) -> Targets {
    let ours = if verbosity > 0 { Level::DEBUG } else { Level::INFO };
    Targets::new().with_target("flotilla", ours).with_default(LevelFilter::WARN)
}

/// Begin to log: changes, or with `verbosity` above 0 reasons too. Libraries are heard only when they warn.
pub fn init(verbosity: u8) -> Volume {
    let (filter, handle) = reload::Layer::new(targets(verbosity));
    let terminal = std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false);
    // The journal has its own clock; a second one in the line would only make it longer.
    if terminal {
        tracing_subscriber::registry().with(format.with_filter(filter)).init();
    } else {
        tracing_subscriber::registry().with(format.without_time().with_filter(filter)).init();
    }
    Volume { filter: handle }
}

/// Let a client say on stderr what it does, step by step (`--debug`).
pub fn init_client() {
    let filter = Targets::new().with_target("flotilla", Level::DEBUG);
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let log = tracing_subscriber::registry().with(format.without_time().with_filter(filter));
    // A second subscriber is the only failure, and then the first one logs.
    drop(log.try_init());
}
