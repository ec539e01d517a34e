//! The options of `rollout`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::OutputFormat;
use crate::model::rollout::Request;

/// `rollout`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rollout {
    /// The template of a set, or a unit with [X-Rollout]: web@, db; without one, all rollouts that aren't done
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// What to do with it
    #[arg(value_name = "ACTION", value_enum)]
    pub(in crate::cli) action: Option<Action>,
    /// Only print what ACTION would lead to; the exit status is 3 if anything would happen
    #[arg(long, requires = "action", conflicts_with = "follow")]
    pub(in crate::cli) plan: bool,
    /// Show how it goes on until it has ended, or waits for promotion
    #[arg(long, short = 'f', requires = "name")]
    pub(in crate::cli) follow: bool,
    /// Follow it at most this long, such as 60s or 5m
    #[arg(long, value_name = "TIME", value_parser = super::change::time, requires = "follow")]
    pub(in crate::cli) timeout: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) output: OutputFormat,
}

/// What can be asked of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Action {
    /// Let no other member have the new file until it is resumed
    Pause,
    /// Go on
    Resume,
    /// Go on beyond the canaries
    Promote,
    /// Begin again with the file that failed
    Retry,
}

impl Action {
    /// As the API has it.
    pub(in crate::cli) fn request(self) -> Request {
        match self {
            Self::Pause => Request::Pause,
            Self::Resume => Request::Resume,
            Self::Promote => Request::Promote,
            Self::Retry => Request::Retry,
        }
    }
}
