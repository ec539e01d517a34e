//! A log event as one line: its message, then its fields. Shared by the tests that check what is logged.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};

/// The line so far.
pub(crate) struct LogLine(pub(crate) String);

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?} "));
        } else {
            write!(self.0, "{}={value:?} ", field.name()).unwrap();
        }
    }
}
