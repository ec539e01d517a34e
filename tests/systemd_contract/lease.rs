//! The contract about the host's lease: units with `OnDisconnect=stop` run only while systemd holds it, and it ends at
//! its deadlines without anybody's help.

use std::time::Duration;

use flotilla::systemd::{Deadlines, Systemd};
use tokio::time::{Instant, sleep, sleep_until};

use super::body::{SLEEP, Watch, all_ok, install, name, start, state};

const ENDS: &str = "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nOnDisconnect=stop\n";

/// It ignores the request to stop, and its commands after the stop take long as well.
const STUBBORN: &str = "[Service]\nExecStart=/bin/sh -c \"trap '' TERM; while :; do sleep 0.1; done\"\n\
                        ExecStopPost=/bin/sleep 1000\n[X-Fake]\nStopSec=1000\n[X-Fleet]\nOnDisconnect=stop\n";

/// It needs the unit that ends with the lease, and takes some time to stop.
const SLOW: &str = "[Unit]\nRequires=ends.service\nAfter=ends.service\n\
                    [Service]\nExecStart=/bin/sh -c \"trap '' TERM; while :; do sleep 0.1; done\"\n\
                    TimeoutStopSec=6\n[X-Fake]\nStopSec=6\n";

fn within(stop: u64, kill: u64) -> Option<Deadlines> {
    let after = |ms| Instant::now() + Duration::from_millis(ms);
    Some(Deadlines { stop: after(stop), kill: after(kill) })
}

async fn clean(systemd: &impl Systemd) {
    let units: Vec<_> = systemd.files().await.unwrap().into_keys().collect();
    systemd.stop(units.clone()).await;
    for unit in &units {
        let deadline = Instant::now() + Duration::from_secs(30);
        while systemd.units(vec![unit.clone()]).await.unwrap()[unit].active.is_up() {
            assert!(Instant::now() < deadline, "{unit} doesn't stop");
            sleep(Duration::from_millis(20)).await;
        }
    }
    all_ok("remove", &systemd.remove(units).await);
    systemd.hold_lease(false).await.unwrap();
    systemd.set_deadlines(None).await.unwrap();
    systemd.reload().await.unwrap();
}

/// Install these units, hold the lease until it ends soon, and wait until `unit` runs. Returns when it ends.
async fn run_until_the_lease_ends(systemd: &impl Systemd, units: &[(&str, &str)], unit: &str) -> Deadlines {
    install(systemd, units).await;
    let deadlines = within(700, 1700).unwrap();
    systemd.set_deadlines(Some(deadlines)).await.unwrap();
    systemd.hold_lease(true).await.unwrap();
    start(systemd, &[unit]).await;
    state(systemd, unit, "active/running").await;
    deadlines
}

pub(crate) async fn without_the_lease_nothing_that_ends_with_it_starts(systemd: impl Systemd) {
    let mut watch = Watch::begin(&systemd).await;
    install(&systemd, &[("ends.service", ENDS), ("stays.service", SLEEP)]).await;
    assert_eq!(systemd.holds_lease().await, Ok(false));
    start(&systemd, &["ends.service"]).await;
    assert_eq!(watch.jobs(1).await, [("ends.service".to_owned(), "dependency".to_owned())]);
    state(&systemd, "ends.service", "inactive/dead").await;
    systemd.set_deadlines(within(60_000, 70_000)).await.unwrap();
    assert_eq!(systemd.holds_lease().await, Ok(false), "deadlines alone don't hold it");
    systemd.hold_lease(true).await.unwrap();
    assert_eq!(systemd.holds_lease().await, Ok(true));
    start(&systemd, &["ends.service", "stays.service"]).await;
    state(&systemd, "ends.service", "active/running").await;
    systemd.hold_lease(false).await.unwrap();
    state(&systemd, "ends.service", "inactive/dead").await;
    state(&systemd, "stays.service", "active/running").await;
    // Another file, without the option: it isn't bound any more.
    install(&systemd, &[("ends.service", SLEEP)]).await;
    systemd.reload().await.unwrap();
    start(&systemd, &["ends.service"]).await;
    state(&systemd, "ends.service", "active/running").await;
    clean(&systemd).await;
}

pub(crate) async fn the_lease_ends_at_its_last_deadline(systemd: impl Systemd) {
    install(&systemd, &[("ends.service", ENDS), ("stays.service", SLEEP)]).await;
    systemd.set_deadlines(within(1000, 2000)).await.unwrap();
    systemd.hold_lease(true).await.unwrap();
    start(&systemd, &["ends.service", "stays.service"]).await;
    state(&systemd, "ends.service", "active/running").await;
    let mut last = within(0, 0).unwrap();
    for _ in 0..4 {
        sleep(Duration::from_millis(500)).await;
        last = within(1000, 2000).unwrap();
        systemd.set_deadlines(Some(last)).await.unwrap();
    }
    sleep_until(last.stop - Duration::from_millis(300)).await;
    state(&systemd, "ends.service", "active/running").await;
    assert_eq!(systemd.holds_lease().await, Ok(true));
    sleep_until(last.stop + Duration::from_millis(700)).await;
    state(&systemd, "ends.service", "inactive/dead").await;
    state(&systemd, "stays.service", "active/running").await;
    assert_eq!(systemd.holds_lease().await, Ok(false));
    // Deadlines that are renewed too late don't bring it back.
    systemd.set_deadlines(within(60_000, 70_000)).await.unwrap();
    assert_eq!(systemd.holds_lease().await, Ok(false));
    systemd.hold_lease(true).await.unwrap();
    start(&systemd, &["ends.service"]).await;
    state(&systemd, "ends.service", "active/running").await;
    // A deadline that has passed.
    let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
    let kill = Instant::now() + Duration::from_secs(2);
    systemd.set_deadlines(Some(Deadlines { stop: past, kill })).await.unwrap();
    state(&systemd, "ends.service", "inactive/dead").await;
    // No deadline.
    systemd.set_deadlines(within(1000, 1500)).await.unwrap();
    systemd.hold_lease(true).await.unwrap();
    start(&systemd, &["ends.service"]).await;
    systemd.set_deadlines(None).await.unwrap();
    sleep(Duration::from_millis(1700)).await;
    state(&systemd, "ends.service", "active/running").await;
    clean(&systemd).await;
}

pub(crate) async fn what_does_not_stop_with_the_lease_is_killed(systemd: impl Systemd) {
    let units = [("stubborn.service", STUBBORN)];
    let deadlines = run_until_the_lease_ends(&systemd, &units, "stubborn.service").await;
    sleep_until(deadlines.kill - Duration::from_millis(200)).await;
    state(&systemd, "stubborn.service", "deactivating/stop-sigterm").await;
    sleep_until(deadlines.kill + Duration::from_millis(1200)).await;
    assert_eq!(systemd.units(vec![name("stubborn.service")]).await.unwrap()[&name("stubborn.service")].sub, "failed");
    clean(&systemd).await;
}

/// Its stop waits for that of a unit that needs it, and stops slowly.
pub(crate) async fn what_waits_for_another_stop_when_the_lease_ends_is_killed(systemd: impl Systemd) {
    let units = [("ends.service", ENDS), ("slow.service", SLOW)];
    let deadlines = run_until_the_lease_ends(&systemd, &units, "slow.service").await;
    sleep_until(deadlines.kill - Duration::from_millis(200)).await;
    state(&systemd, "ends.service", "active/running").await;
    sleep_until(deadlines.kill + Duration::from_millis(1200)).await;
    let units = systemd.units(vec![name("ends.service"), name("slow.service")]).await.unwrap();
    assert_eq!(units[&name("ends.service")].sub, "failed");
    assert_eq!(units[&name("slow.service")].sub, "stop-sigterm", "it doesn't end with the lease");
    clean(&systemd).await;
}

/// Another adapter continues where the last one was: what it sets replaces what that one has set. `meanwhile` doesn't
/// change that.
pub(crate) async fn the_next_daemon_sets_the_deadlines(
    first: &impl Systemd,
    second: &impl Systemd,
    meanwhile: impl FnOnce(),
) {
    install(first, &[("ends.service", ENDS)]).await;
    first.set_deadlines(within(1500, 2000)).await.unwrap();
    first.hold_lease(true).await.unwrap();
    start(first, &["ends.service"]).await;
    let deadlines = within(3500, 5000).unwrap();
    second.set_deadlines(Some(deadlines)).await.unwrap();
    assert_eq!(second.holds_lease().await, Ok(true));
    meanwhile();
    sleep_until(deadlines.stop - Duration::from_millis(500)).await;
    state(second, "ends.service", "active/running").await;
    sleep_until(deadlines.stop + Duration::from_millis(700)).await;
    assert!(second.units(vec![name("ends.service")]).await.unwrap()[&name("ends.service")].active.is_down());
    clean(second).await;
}
