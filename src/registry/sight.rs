//! What a daemon still knows of its cluster while the store is unreachable. Owns these values only; they must never be
//! taken for the present state, and no decision depends on them.

use std::sync::Arc;

use super::records::leader::LeaderRecord;
use crate::model::cluster::Cluster;

/// What an engine knows.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The leader, as this host has seen it last.
    pub leader: Option<LeaderRecord>,
    /// The cluster; only on the leader's host, and only while the store is unreachable.
    pub cluster: Option<LastSeen>,
}

/// The cluster as it was seen last.
#[derive(Debug, Clone)]
pub struct LastSeen {
    /// The cluster. It may contain decisions of the leader that could no longer be committed.
    pub cluster: Arc<Cluster>,
    /// When it was found that the store no longer answers, in ms since the epoch.
    pub at: u64,
}
