//! systemd's view of a unit, as types. Owns the spelling of systemd's states; what to do about one is decided in
//! `plan`. Every type keeps a word it doesn't know (`Other`): systemd adds states, and reports pass them on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::UnitName;

/// An enum of systemd's words, each with its spelling, and `Other` for the rest.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// Any other word.
            Other(String),
        }

        impl $name {
            /// As systemd spells it.
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

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                match word {
                    $name::Other(word) => word,
                    known => known.as_str().into(),
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
    /// `LoadState`: what systemd made of the unit's file.
    #[derive(Default)]
    LoadState {
        /// systemd wasn't asked yet.
        #[default]
        Unknown = "",
        /// The file was read.
        Loaded = "loaded",
        /// There is no file.
        NotFound = "not-found",
        /// An option has a value that systemd refuses.
        BadSetting = "bad-setting",
        /// The file can't be read as a unit file.
        Error = "error",
        /// The unit is masked.
        Masked = "masked",
    }
}

words! {
    /// `ActiveState`.
    #[derive(Default)]
    ActiveState {
        /// systemd wasn't asked yet.
        #[default]
        Unknown = "",
        /// It runs, or a oneshot with `RemainAfterExit=` is through.
        Active = "active",
        /// It runs and reads its configuration again.
        Reloading = "reloading",
        /// It is stopped.
        Inactive = "inactive",
        /// It ended badly.
        Failed = "failed",
        /// It is being started, or waits for its automatic restart.
        Activating = "activating",
        /// It is being stopped.
        Deactivating = "deactivating",
    }
}

words! {
    /// How a job ended.
    JobResult {
        /// As asked.
        Done = "done",
        /// Another job took its place.
        Canceled = "canceled",
        /// The unit failed.
        Failed = "failed",
        /// A unit that it requires failed.
        Dependency = "dependency",
    }
}

words! {
    /// What a job is to achieve.
    JobKind {
        /// The unit is started.
        Start = "start",
        /// The unit is stopped.
        Stop = "stop",
    }
}

impl LoadState {
    /// Whether systemd knows a file of the unit, good or bad.
    #[must_use]
    pub fn is_found(&self) -> bool {
        !matches!(self, Self::Unknown | Self::NotFound)
    }
}

impl ActiveState {
    /// Whether nothing of the unit runs, as far as is known.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Unknown | Self::Inactive | Self::Failed)
    }

    /// Whether something of the unit runs, or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.is_down()
    }
}

/// What systemd says of one unit (`systemctl show`). The default is a unit that systemd wasn't asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// `LoadState`.
    pub load: LoadState,
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`: depends on the unit's type.
    pub sub: String,
    /// The kind of the job queued or running for it.
    pub job: Option<JobKind>,
}

impl UnitState {
    /// A stopped unit with this `LoadState`.
    #[must_use]
    pub fn stopped(load: LoadState) -> Self {
        Self { load, active: ActiveState::Inactive, sub: "dead".into(), job: None }
    }
}

/// Something happened on a host; ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The state of a unit of ours has (perhaps) changed.
    Changed(UnitName),
    /// A job of a unit of ours has ended.
    JobDone {
        /// Whose job.
        unit: UnitName,
        /// How it ended.
        result: JobResult,
    },
    /// Events may have been lost (the bus went away and came back, systemd re-executed): ask about everything.
    Resync,
}

/// What went wrong with a call, classed by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The manager can't be asked now (no bus, no answer in time). Try again.
    #[error("systemd can't be reached: {0}")]
    Unavailable(String),
    /// A unit that this one needs is not there (yet): `NoSuchUnit`. Try again when a file arrives.
    #[error("{0}")]
    Missing(String),
    /// systemd or the host refuses, for this unit. Report it.
    #[error("{0}")]
    Refused(String),
    /// A file could not be written, read or removed. Report it, try again later.
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

/// What a call about many units answers: each unit's own outcome, in the order asked.
pub type Outcomes = Vec<(UnitName, Result<(), Error>)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_whether_it_is_known_or_not() {
        for word in ["", "active", "inactive", "failed", "maintenance", "refreshing"] {
            assert_eq!(ActiveState::from(word).as_str(), word);
            assert_eq!(String::from(ActiveState::from(word.to_owned())), word);
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
