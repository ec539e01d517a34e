//! What the reader of a host remembers across connections. Owns where a stream continues; opens none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::entry::Place;
use super::super::query::Start;
use super::{Span, Wanted};
use crate::api::wire::MachineRef;

/// The delay before another attempt to reach a host: at first, and at most.
const RECONNECT_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The state of a reader.
#[derive(Debug, Default)]
pub(in crate::journal) struct State {
    pub(super) machine: Option<MachineRef>,
    pub(super) units: BTreeMap<String, Track>,
    pub(super) phase: Phase,
    /// How far the host's clock is ahead of ours, in ms.
    pub(super) ahead: i64,
    /// Since when the host can't be reached, and whether that was reported.
    pub(super) lost: Option<(u64, bool)>,
    pub(super) delay: Option<Duration>,
    /// How often in a row journalctl has failed to begin at the position.
    pub(super) refused: u32,
}

impl State {
    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.delay.unwrap_or(RECONNECT_DELAY.0);
        self.delay = Some((2 * delay).min(RECONNECT_DELAY.1));
        delay
    }

    /// Apply what must be read now.
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

    /// Where to begin reading what the user requested: at its beginning, or where the last attempt ended.
    pub(super) fn start(&self) -> Start<'_> {
        let seen = self.units.values().filter_map(|track| track.seen.as_ref());
        seen.max_by(|a, b| a.order(b)).map_or(Start::AsAsked, |place| Start::At(&place.cursor))
    }

    pub(super) fn start_of_stream(&self) -> Start<'_> {
        match self.phase.stream_begins() {
            Some(place) if self.refused > 1 => Start::Since(place.realtime),
            Some(place) => Start::At(&place.cursor),
            // The journal was empty: all its entries are new.
            None => Start::Since(0),
        }
    }

    /// Convert our time (ms) to that host's clock (µs).
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

/// How far a host was read. A position is `None` if the journal had no entry.
#[derive(Debug)]
pub(super) enum Phase {
    /// What the user requested to begin with isn't completely read yet.
    Opening {
        /// The end of the journal when this began.
        end: Option<Place>,
    },
    /// New entries are followed.
    Following {
        /// The end of the journal when it was opened. Everything wanted before it was read.
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

    /// The position at which the stream begins; it delivers what follows.
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
    /// The last entry that was delivered.
    pub(super) seen: Option<Place>,
    /// Added, and not yet read up to the position of the stream.
    pub(super) fresh: bool,
}
