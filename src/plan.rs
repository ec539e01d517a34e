//! Minds: values in, a plan and its reasons out. No async, no I/O, no clock, no log, no randomness; imports `model` only.

pub mod converge;
