//! systemd's states of a unit as types. Owns the spelling of systemd's words; `plan` decides what to do about a state.
//! Every type preserves unknown words (`Other`): systemd adds states, and reports pass them on.

use std::convert::Infallible;
use std::fmt;

use super::json::quoted;
use super::name::UnitName;

/// An enum of systemd's words with their spelling, and `Other` for the rest.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// Any other word.
            Other(String),
        }

        quoted! { $name by |word| Ok::<_, Infallible>(word.into()) }

        impl $name {
            /// systemd's spelling.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Other(other.into()),
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// `LoadState`: the result of loading the unit's file.
    #[derive(Default)]
    LoadState {
        /// systemd hasn't been asked.
        #[default]
        Unknown = "",
        /// The file was loaded.
        Loaded = "loaded",
        /// There is no file.
        NotFound = "not-found",
        /// An option has an invalid value.
        BadSetting = "bad-setting",
        /// The file isn't a valid unit file.
        Error = "error",
        /// The unit is masked.
        Masked = "masked",
    }
}

words! {
    /// `ActiveState`.
    #[derive(Default)]
    ActiveState {
        /// systemd hasn't been asked.
        #[default]
        Unknown = "",
        /// It runs, or is a oneshot with `RemainAfterExit=` that has finished.
        Active = "active",
        /// It runs and is reloading its configuration.
        Reloading = "reloading",
        /// It is stopped.
        Inactive = "inactive",
        /// It failed.
        Failed = "failed",
        /// It is being started, or waits for its automatic restart.
        Activating = "activating",
        /// It is being stopped.
        Deactivating = "deactivating",
        /// It runs, and systemd refreshes its extensions.
        Refreshing = "refreshing",
    }
}

words! {
    /// How a job ended.
    JobResult {
        /// It succeeded.
        Done = "done",
        /// Another job replaced it.
        Canceled = "canceled",
        /// The unit failed.
        Failed = "failed",
        /// A unit that it requires failed.
        Dependency = "dependency",
        /// It took longer than `JobTimeoutSec=` allows.
        Timeout = "timeout",
        /// A condition of the unit wasn't met, or it needs no such job.
        Skipped = "skipped",
        /// The unit has no such job.
        Invalid = "invalid",
        /// An `Assert…=` of the unit wasn't met.
        Assert = "assert",
        /// systemd doesn't support units of this type here.
        Unsupported = "unsupported",
    }
}

words! {
    /// The type of a job.
    JobKind {
        /// It starts the unit.
        Start = "start",
        /// It stops the unit.
        Stop = "stop",
        /// It stops the unit and starts it again.
        Restart = "restart",
    }
}

impl LoadState {
    /// Whether systemd has found a file of the unit, valid or not.
    #[must_use]
    pub fn is_found(&self) -> bool {
        !matches!(self, Self::Unknown | Self::NotFound)
    }

    /// Whether systemd has said that it can't use the unit: there is no file, or it is invalid or masked.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Loaded)
    }
}

impl JobResult {
    /// Whether the job has not done what it was for.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Failed
            | Self::Canceled
            | Self::Dependency
            | Self::Timeout
            | Self::Invalid
            | Self::Assert
            | Self::Unsupported => true,
            Self::Done | Self::Skipped | Self::Other(_) => false,
        }
    }
}

impl ActiveState {
    /// Whether the unit isn't running, as far as known.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Unknown) || self.has_stopped()
    }

    /// Whether systemd has said that the unit isn't running.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        matches!(self, Self::Inactive | Self::Failed)
    }

    /// Whether the unit is active as for `systemctl is-active`: one that reloads its configuration, or whose extensions
    /// systemd refreshes, still is.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active | Self::Reloading | Self::Refreshing)
    }

    /// Whether the unit runs, or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.is_down()
    }
}

/// systemd's state of one unit (`systemctl show`). The default is that of a unit about which systemd hasn't been asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// `LoadState`.
    pub load: LoadState,
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`, which depends on the unit's type.
    pub sub: String,
    /// The type of the job queued or running for it.
    pub job: Option<JobKind>,
}

impl UnitState {
    /// A stopped unit with this `LoadState`.
    #[must_use]
    pub fn stopped(load: LoadState) -> Self {
        Self { load, active: ActiveState::Inactive, sub: "dead".into(), job: None }
    }
}

/// What systemd knows of a unit beyond its state: how its last invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// `Result`: `success`, `exit-code`, `signal`, `timeout`, …
    pub result: String,
    /// How the command ended that caused it: `exited 203/EXEC`, `killed 9/KILL`.
    pub exit: Option<String>,
    /// The program of that command.
    pub command: Option<String>,
    /// `NRestarts`: how often systemd has started it again by itself.
    pub restarts: u32,
    /// `RestartSec=` in ms, if it wasn't started again yet and systemd was asked.
    pub retry_ms: Option<u64>,
    /// `InvocationID`, as its journal has it; empty if it wasn't needed.
    pub invocation: String,
    /// `StatusText`: what the unit says of itself with `STATUS=`; empty if it says nothing.
    pub status: String,
}

/// An event on a host, after which systemd must be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The state of one of our units may have changed.
    Changed(UnitName),
    /// A job of one of our units has ended.
    JobDone {
        /// The unit.
        unit: UnitName,
        /// The result of the job.
        result: JobResult,
    },
    /// Events may have been lost (the bus was restarted, systemd re-executed): ask about all units.
    Resync,
}

/// The error of a call, classified by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// systemd is unreachable (no bus, no answer in time). Retry.
    #[error("systemd can't be reached: {0}")]
    Unavailable(String),
    /// A unit that this one requires doesn't exist (yet): `NoSuchUnit`. Retry when a file is installed.
    #[error("{0}")]
    Missing(String),
    /// systemd or the host refuses this unit. Report it.
    #[error("{0}")]
    Refused(String),
    /// A file couldn't be written, read or removed. Report it, and retry later.
    #[error("{0}")]
    Io(String),
}

impl Error {
    /// Its class, for metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Missing(_) => "missing",
            Self::Refused(_) => "refused",
            Self::Io(_) => "io",
        }
    }
}

/// The outcomes of a call about many units, in the order of the request.
pub type Outcomes = Vec<(UnitName, Result<(), Error>)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_whether_it_is_known_or_not() {
        for word in ["", "active", "inactive", "failed", "maintenance", "refreshing"] {
            assert_eq!(ActiveState::from(word).as_str(), word);
            assert_eq!(serde_json::to_value(ActiveState::from(word.to_owned())).unwrap(), word);
        }
        assert_eq!(ActiveState::from("maintenance"), ActiveState::Other("maintenance".into()));
        assert_eq!(serde_json::to_string(&JobResult::from("skipped")).unwrap(), "\"skipped\"");
        assert_eq!(serde_json::from_str::<JobResult>("\"done\"").unwrap(), JobResult::Done);
    }

    #[test]
    fn up_is_whatever_is_not_known_to_be_down() {
        for (word, up) in
            [("active", true), ("deactivating", true), ("maintenance", true), ("failed", false), ("", false)]
        {
            assert_eq!((ActiveState::from(word).is_up(), ActiveState::from(word).is_down()), (up, !up), "{word:?}");
        }
        assert!(!LoadState::from("not-found").is_found() && LoadState::from("bad-setting").is_found());
    }
}
