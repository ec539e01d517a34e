//! Operations on units and their progress, as exchanged by the API and the command line. Values; `plan::progress` has
//! the rules.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::unit::Desired;

/// What was asked of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Have it on a host, not started.
    Load,
    /// Start it, as systemd understands that.
    Start,
    /// Stop it and start it where it is.
    Restart,
    /// Stop it, and keep it on its host.
    Stop,
    /// Have it on no host.
    Unload,
    /// Forget it.
    Destroy,
}

impl Operation {
    const ALL: [Self; 6] = [Self::Load, Self::Start, Self::Restart, Self::Stop, Self::Unload, Self::Destroy];

    /// The operation that leads to the desired state.
    #[must_use]
    pub fn towards(desired: Desired) -> Self {
        match desired {
            Desired::Inactive => Self::Unload,
            Desired::Loaded => Self::Load,
            Desired::Launched => Self::Start,
        }
    }

    /// The command's name.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Unload => "unload",
            Self::Destroy => "destroy",
        }
    }

    /// The state of a unit after the operation.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Self::Load | Self::Stop => "loaded",
            Self::Start | Self::Restart => "launched",
            Self::Unload => "inactive",
            Self::Destroy => "destroyed",
        }
    }

    /// The desired state that it sets; `None` for a destroy.
    #[must_use]
    pub fn desired(self) -> Option<Desired> {
        match self {
            Self::Load | Self::Stop => Some(Desired::Loaded),
            Self::Start | Self::Restart => Some(Desired::Launched),
            Self::Unload => Some(Desired::Inactive),
            Self::Destroy => None,
        }
    }
}

/// The error for a string that isn't an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no operation: it must be load, start, restart, stop, unload or destroy")]
pub struct OperationError(String);

impl FromStr for Operation {
    type Err = OperationError;

    fn from_str(text: &str) -> Result<Self, OperationError> {
        Self::ALL.into_iter().find(|operation| operation.verb() == text).ok_or_else(|| OperationError(text.into()))
    }
}

/// How far an operation on a unit is. The texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", tag = "state", content = "why")]
pub enum Progress {
    /// Done.
    Done,
    /// Done on every host that has reported. Others may still follow, so it counts when it stays so.
    Settling,
    /// Nothing is under way, and how the last attempt ended isn't known: a change that was just made is about to begin,
    /// an old one is over.
    Idle(String),
    /// It has failed; why.
    Failed(String),
    /// It fails for now, and changes of other units in the same moment may help: why. Counts when it stays so.
    Failing(String),
    /// No host fits for now: why, in short. Counts when it stays so.
    Unplaced(String),
    /// It is under way: what it waits for.
    Waiting(String),
}

impl Progress {
    /// The progress on a unit that isn't in the cluster any more; `leaving` is whether a host must still remove it.
    #[must_use]
    pub fn of_absent(operation: Operation, leaving: bool) -> Self {
        match operation {
            Operation::Load | Operation::Start | Operation::Restart => Self::Failed("was destroyed meanwhile".into()),
            _ if leaving => Self::Waiting("waiting for its host to stop and forget it".into()),
            Operation::Stop | Operation::Unload | Operation::Destroy => Self::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_as_the_commands_are() {
        for operation in Operation::ALL {
            assert_eq!(operation.verb().parse(), Ok(operation));
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.verb());
        }
        assert!("reload".parse::<Operation>().unwrap_err().to_string().starts_with("`reload` is no operation"));
    }

    #[test]
    fn progress_is_a_state_and_a_reason() {
        let json = |progress: &Progress| serde_json::to_string(progress).unwrap();
        assert_eq!(json(&Progress::Done), r#"{"state":"done"}"#);
        let waiting = Progress::Waiting("waiting for n1".into());
        assert_eq!(json(&waiting), r#"{"state":"waiting","why":"waiting for n1"}"#);
        assert_eq!(serde_json::from_str::<Progress>(&json(&waiting)).unwrap(), waiting);
    }

    #[test]
    fn what_is_absent_is_done_for_those_who_wanted_it_away() {
        let leaving = Progress::Waiting("waiting for its host to stop and forget it".into());
        let destroyed = Progress::Failed("was destroyed meanwhile".into());
        for operation in Operation::ALL {
            let progress = [true, false].map(|leaving| Progress::of_absent(operation, leaving));
            let expected = match operation {
                Operation::Load | Operation::Start | Operation::Restart => [destroyed.clone(), destroyed.clone()],
                _ => [leaving.clone(), Progress::Done],
            };
            assert_eq!(progress, expected, "{operation:?}");
        }
    }
}
