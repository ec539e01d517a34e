//! What Flotilla decides, and on which values. This crate depends on nothing else of ours:
//!
//! * [`model`]: values, such as names, unit files, hosts, and the cluster as one value;
//! * [`plan`]: the pure core: values in, plans and reasons out; depends on `model` only.
//!
//! They are a crate of their own because a release is built for size, and this part of it for speed. It owns all
//! policy, and must never wait, read a clock, log, or use the crate `flotilla`, which re-exports both modules. The
//! feature `testing` adds what tests there need: the schemas of the values, and reports made from a line of text.

pub mod model;
pub mod plan;
