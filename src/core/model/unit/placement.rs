//! Where a unit is placed, or why it is on no host: it waits for one, or it has run once and is done. Owns the forms of
//! the record. Must never decide where a unit belongs.

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::model::name::MachineId;
use crate::model::revision::Revision;
use crate::model::rule::Reasons;

use super::is_zero;

/// The host of a non-global unit, or why it has none (`placement/<unit>`; written by the engine). A global unit has a
/// placement only while it fits no host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub enum Placement {
    /// It is assigned to a host.
    On {
        /// The host.
        host: MachineId,
        /// Since when, ms since the epoch.
        since: u64,
        /// The host that a drain took it from. Versions that don't know the field ignore it, and lose it when they
        /// write the record: then it isn't brought back.
        from: Option<Box<Taken>>,
        /// Where it has failed, if the leader has moved it or started it again for that. Versions that don't know the
        /// field ignore it, and lose it when they write the record: then its tries are counted anew.
        tried: Option<Box<Tried>>,
        /// What the leader has made of the last request to move it. Versions that don't know the field ignore it, and
        /// lose it when they write the record.
        moved: Option<Box<Moved>>,
    },
    /// No host fits.
    Waiting {
        /// The reasons as a sentence: `2 of 3 hosts: conflict; 1 of 3 hosts: metadata`.
        why: String,
        /// The reasons for programs. `None` in records of versions that wrote only the sentence, and if a newer version
        /// counts an unknown rule.
        reasons: Option<Reasons>,
        /// The generation that its last host was told, if it was started again for a failure. Versions that don't know
        /// the field ignore it, and lose it when they write the record: then a host that had the unit before may be
        /// told an older generation, and asks systemd to start what runs there.
        tried: Option<Box<Tried>>,
        /// Since when, ms since the epoch.
        since: u64,
    },
    /// It has run to its end, and nobody has asked for it since: no host has it any longer (`RunOnce=`).
    Done {
        /// Where it ran, and what had been asked of it.
        done: Done,
        /// Since when, ms since the epoch.
        since: u64,
    },
}

/// That a drain took a unit from its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The host.
    pub host: MachineId,
    /// When that drain began, as a revision of the store.
    pub drain: Revision,
    /// The generation of the unit. With a greater one, somebody has asked for something else since.
    pub generation: Revision,
    /// The generation of the [restore](crate::model::maintenance::Restore) in which it stayed away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<Revision>,
}

/// What became of a unit that has failed (`Reschedule=`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The hosts on which it failed, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<MachineId>,
    /// How often it was moved or started again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub times: u32,
    /// The generation of the unit. With a greater one, somebody has asked for it since, and all of this is over.
    pub generation: Revision,
    /// The generation of its assignment since it was last started again on its host. Also another host is told no older
    /// one: the unit may come back to the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Revision>,
}

/// What the leader has made of a request to move a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moved {
    /// The generation of the [request](super::Move); of no meaning with a unit that only goes with another one.
    pub generation: Revision,
    /// The host that it goes to, while it has yet to leave this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MachineId>,
    /// Why it stays, if it does: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The run of a unit that has ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The host on which it ran.
    pub host: MachineId,
    /// The generation of the unit that ran. With a greater one, the unit is asked for again.
    pub generation: Revision,
}

impl Placement {
    /// What versions that don't know [`Self::Done`] show of it.
    pub const DONE: &str = "it has run once, and is done";

    /// The host, if the unit is assigned to one.
    #[must_use]
    pub fn host(&self) -> Option<&MachineId> {
        match self {
            Self::On { host, .. } => Some(host),
            Self::Waiting { .. } | Self::Done { .. } => None,
        }
    }

    /// The host that a drain took the unit from, and that it hasn't come back to.
    #[must_use]
    pub fn taken(&self) -> Option<&Taken> {
        match self {
            Self::On { from, .. } => from.as_deref(),
            Self::Waiting { .. } | Self::Done { .. } => None,
        }
    }

    /// What became of it after it had failed.
    #[must_use]
    pub fn tried(&self) -> Option<&Tried> {
        match self {
            Self::On { tried, .. } | Self::Waiting { tried, .. } => tried.as_deref(),
            Self::Done { .. } => None,
        }
    }

    /// What the leader has made of the last request to move the unit.
    #[must_use]
    pub fn moved(&self) -> Option<&Moved> {
        match self {
            Self::On { moved, .. } => moved.as_deref(),
            Self::Waiting { .. } | Self::Done { .. } => None,
        }
    }

    /// The host on which the unit has run to its end.
    #[must_use]
    pub fn done(&self) -> Option<&Done> {
        match self {
            Self::Done { done, .. } => Some(done),
            Self::On { .. } | Self::Waiting { .. } => None,
        }
    }
}

/// The record. A unit that is done waits, to versions that don't know that: they read the record, show its sentence,
/// and place the unit only if they can read its file, in which `RunOnce=` is an error to them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stored {
    On {
        host: MachineId,
        since: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Box<Taken>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tried: Option<Box<Tried>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved: Option<Box<Moved>>,
    },
    Waiting {
        why: String,
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_reasons")]
        reasons: Option<Reasons>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tried: Option<Box<Tried>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done: Option<Done>,
        since: u64,
    },
}

impl From<Stored> for Placement {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::On { host, since, from, tried, moved } => Self::On { host, since, from, tried, moved },
            Stored::Waiting { done: Some(done), since, .. } => Self::Done { done, since },
            Stored::Waiting { why, reasons, tried, since, done: None } => Self::Waiting { why, reasons, tried, since },
        }
    }
}

impl From<Placement> for Stored {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::On { host, since, from, tried, moved } => Self::On { host, since, from, tried, moved },
            Placement::Waiting { why, reasons, tried, since } => {
                Self::Waiting { why, reasons, tried, done: None, since }
            }
            Placement::Done { done, since } => {
                Self::Waiting { why: Placement::DONE.into(), reasons: None, tried: None, done: Some(done), since }
            }
        }
    }
}

/// Decodes the reasons if this version knows all of them; otherwise there are none, which isn't an error.
fn known_reasons<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reasons>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Known(Reasons),
        Unknown(IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Known(reasons) => Some(reasons),
        Lenient::Unknown(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::Rule;

    #[test]
    fn placements_of_older_and_newer_versions_are_read() {
        let read =
            |reasons: &str| match serde_json::from_str(&format!(r#"{{"waiting":{{"why":"w",{reasons}"since":1}}}}"#)) {
                Ok(Placement::Waiting { reasons, .. }) => reasons,
                other => panic!("{other:?}"),
            };
        assert_eq!(read(""), None);
        assert_eq!(read(r#""reasons":{"conflicts":2},"#), Some([(Rule::Conflicts, 2)].into()));
        assert_eq!(read(r#""reasons":{"phase-of-the-moon":2,"conflicts":1},"#), None);
        assert_eq!(read(r#""reasons":["anything"],"#), None);
    }

    /// A version without the reasons ignores the field and finds the sentence in its place. To one that doesn't know
    /// units that are done, such a unit waits.
    #[test]
    fn older_versions_read_what_is_written() {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Old {
            Waiting { why: String, since: u64 },
        }
        let read = |placement: &Placement| {
            let text = serde_json::to_string(placement).unwrap();
            assert_eq!(&serde_json::from_str::<Placement>(&text).unwrap(), placement);
            let Old::Waiting { why, since } = serde_json::from_str(&text).unwrap();
            (text, why, since)
        };
        let reasons = Some([(Rule::MachineId, 1)].into());
        let tried = Tried { hosts: vec![], times: 0, generation: Revision(2), again: Some(Revision(7)) };
        let tried = Some(Box::new(tried));
        let (text, why, since) = read(&Placement::Waiting { why: "w".into(), reasons, tried, since: 1 });
        let expected = concat!(
            r#"{"waiting":{"why":"w","reasons":{"machine-id":1},"#,
            r#""tried":{"generation":2,"again":7},"since":1}}"#,
        );
        assert_eq!(text, expected);
        assert_eq!((why.as_str(), since), ("w", 1));
        let host: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let done = Done { host, generation: Revision(7) };
        let (text, why, since) = read(&Placement::Done { done, since: 5 });
        let expected = concat!(
            r#"{"waiting":{"why":"it has run once, and is done","#,
            r#""done":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","generation":7},"since":5}}"#,
        );
        assert_eq!((text.as_str(), why.as_str(), since), (expected, Placement::DONE, 5));
    }
}
