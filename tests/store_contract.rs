//! The store's contract: the same tests for every adapter, and tests of the promises of a single one.
//!
//! `src/store.rs` describes the contract; each promise has a test here. In memory, and with simulated members of an
//! etcd cluster, the clock is paused, so waiting costs no time; on disk and with etcd time is real. Every wait has a
//! limit, and its failure names what it waited for.

#[path = "store_contract/commits.rs"]
mod commits;
#[path = "store_contract/durable.rs"]
mod durable_only;
#[path = "store_contract/cluster.rs"]
mod etcd_only;
#[path = "store_contract/leases.rs"]
mod leases;
#[path = "store_contract/memory.rs"]
mod memory_only;
#[path = "support/port.rs"]
mod port;
#[path = "store_contract/ranges.rs"]
mod ranges;
#[path = "store_contract/server.rs"]
mod server;
#[allow(dead_code, reason = "other tests cause faults")]
#[path = "support/members/mod.rs"]
mod simulated;
#[path = "store_contract/support.rs"]
mod support;
#[path = "store_contract/watches.rs"]
mod watches;

/// Each test with each adapter.
macro_rules! contract {
    ($($topic:ident: $($body:ident),+;)+) => {
        mod in_memory {
            use crate::support::{Backend, Memory};
            $($(
                #[tokio::test(start_paused = true)]
                async fn $body() {
                    crate::$topic::$body(&Memory::start().await).await;
                }
            )+)+
        }
        mod on_disk {
            use crate::support::{Backend, Disk};
            $($(
                #[tokio::test]
                async fn $body() {
                    crate::$topic::$body(&Disk::start().await).await;
                }
            )+)+
        }
        mod with_simulated_etcd {
            use crate::support::{Backend, Members};
            $($(
                #[tokio::test(start_paused = true)]
                async fn $body() {
                    crate::$topic::$body(&Members::start().await).await;
                }
            )+)+
        }
        mod with_etcd {
            use crate::server::Single;
            use crate::support::Backend;
            $($(
                #[tokio::test]
                async fn $body() {
                    crate::$topic::$body(&Single::start().await).await;
                }
            )+)+
        }
    };
}

contract! {
    commits: guards_decide, a_commit_is_all_or_nothing, revisions_grow_by_one, what_can_never_be_done_is_refused,
        large_values_are_kept, racing_commits_have_one_winner;
    ranges: pages_are_one_revision, ranges_are_in_byte_order, large_ranges_are_cut, the_past_can_be_read,
        the_compacted_past_can_not;
    watches: a_watch_from_the_past, a_watch_from_the_future, a_revision_is_one_batch, a_watch_sees_its_prefix_only,
        a_watch_goes_on_where_another_ended, a_compacted_watch_ends, an_idle_watch_survives_compaction,
        a_slow_watch_misses_nothing, a_dropped_watch_harms_nobody;
    leases: expiry_deletes_in_one_revision, keep_alive_keeps_alive, rebinding, revoking,
        a_dead_lease_binds_nothing, a_lease_keeps_itself_alive, a_lease_is_adopted, a_lost_lease_says_so;
}
