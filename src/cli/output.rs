//! Printing. Owns the streams of the process and the layout of tables; never words a message.

mod printer;
pub(super) mod table;

pub(super) use printer::{Printer, log_to_stderr, warn};
