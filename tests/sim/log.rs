//! Writes the log of the daemons into the journal, and notes which marks it reaches. An error that asks to be reported
//! is a violation: it is what the leader's own check logs.

#[path = "../support/log_line.rs"]
mod log_line;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::forge;
use super::journal::Journal;
use log_line::LogLine;

/// The beginning of the log line of the leader's self-check.
const SELF_CHECK: &str = "checked the cluster";

/// Follows the log of this thread.
pub(crate) struct Log(pub(crate) Journal);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("flotilla")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = LogLine(String::new());
        event.record(&mut line);
        let part = event.metadata().target().trim_start_matches("flotilla::").split("::").next().unwrap_or_default();
        self.0.logged(part, &line.0);
        if *event.metadata().level() == Level::DEBUG {
            if line.0.starts_with(SELF_CHECK) {
                self.0.self_check();
            }
            return;
        }
        let line = format!("  {} {part}: {}", event.metadata().level(), line.0.trim_end());
        // An assignment that somebody else has written breaks rules until the leader has removed it.
        let fault = line.contains("please report") && !line.contains(forge::UNIT);
        if fault { self.0.violate(line) } else { self.0.note(line) }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
