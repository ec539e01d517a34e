//! Printing. Owns the streams of the process and the layout of tables; never words a message.

pub(super) mod filled;
pub(super) mod fitted;
pub(super) mod people;
mod printer;
pub(super) mod table;

pub(super) use printer::{Printer, log_to_stderr, warn};
