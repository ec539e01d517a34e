//! What the reader of a host remembers from one connection to the next. Owns where a stream goes on; opens none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::entry::Place;
use super::super::query::Start;
use super::{Span, Wanted};
use crate::api::wire::MachineRef;

/// Before another attempt to reach a host: at first, and at most.
const RECONNECT_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the reader remembers.
#[derive(Debug, Default)]
pub(in crate::journal) struct State {
    pub(super) machine: Option<MachineRef>,
    pub(super) units: BTreeMap<String, Track>,
    pub(super) phase: Phase,
    /// By how many ms that host's clock is ahead of ours.
    pub(super) ahead: i64,
    /// Since when it can't be reached, and whether that has been said.
    pub(super) lost: Option<(u64, bool)>,
    pub(super) delay: Option<Duration>,
    /// How often in a row journalctl has refused to begin where it should.
    pub(super) refused: u32,
}

impl State {
    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.delay.unwrap_or(RECONNECT_DELAY.0);
        self.delay = Some((2 * delay).min(RECONNECT_DELAY.1));
        delay
    }

    /// Takes in what is wanted now.
    pub(super) fn update(&mut self, wanted: Wanted) {
        for (name, span) in wanted.units {
            let again = |track: &Track| track.span.begin != span.begin && track.span.end.is_some();
            match self.units.get_mut(&name) {
                Some(track) if !again(track) => track.span.end = span.end,
                Some(track) => (track.span, track.fresh) = (span, true),
                None => {
                    self.units.insert(name, Track { span, seen: None, fresh: true });
                }
            }
        }
        self.machine = Some(wanted.machine);
    }

    /// Where to begin with what the user asked for: there, or where the last attempt came to.
    pub(super) fn start(&self) -> Start<'_> {
        let seen = self.units.values().filter_map(|track| track.seen.as_ref());
        seen.max_by(|a, b| a.order(b)).map_or(Start::AsAsked, |place| Start::At(&place.cursor))
    }

    pub(super) fn start_of_stream(&self) -> Start<'_> {
        match self.phase.stream_begins() {
            Some(place) if self.refused > 1 => Start::Since(place.realtime),
            Some(place) => Start::At(&place.cursor),
            // The journal was empty: all there is has come since.
            None => Start::Since(0),
        }
    }

    /// A time of ours (ms) by that host's clock (µs).
    pub(super) fn to_host_clock(&self, ms: u64) -> u64 {
        ms.saturating_add_signed(self.ahead).saturating_mul(1000)
    }

    pub(super) fn names_of(&self, which: impl Fn(&Track) -> bool) -> Vec<String> {
        self.units.iter().filter(|(_, track)| which(track)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn track(&mut self, name: &str) -> &mut Track {
        let new = || Track { span: Span { begin: None, end: None }, seen: None, fresh: false };
        self.units.entry(name.to_owned()).or_insert_with(new)
    }
}

/// How far a host has been read. A place is `None` while the journal has no entry.
#[derive(Debug)]
pub(super) enum Phase {
    /// What the user asked to begin with isn't read to its end yet.
    Opening {
        /// Where the journal ended when that began.
        end: Option<Place>,
    },
    /// What comes then is followed.
    Following {
        /// Where the journal ended when it was opened. What is wanted of before that has been read.
        end_at_open: Option<Place>,
        /// The last entry read.
        last: Option<Place>,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Opening { end: None }
    }
}

impl Phase {
    pub(super) fn is_opening(&self) -> bool {
        matches!(self, Self::Opening { .. })
    }

    /// The place that the stream begins at: it has what comes after.
    pub(super) fn stream_begins(&self) -> Option<&Place> {
        match self {
            Self::Opening { end } => end.as_ref(),
            Self::Following { last, .. } => last.as_ref(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) span: Span,
    /// The last entry that was handed on.
    pub(super) seen: Option<Place>,
    /// It has been read up to where the stream begins.
    pub(super) fresh: bool,
}
