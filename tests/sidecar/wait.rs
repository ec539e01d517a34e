//! `fleet-sidecar wait`: what it waits for, what it says meanwhile, and how it ends.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use crate::harness::{Host, Sidecar};

/// It ended well, and told systemd nothing that only the unit itself may tell.
async fn is_done(sidecar: &mut Sidecar) {
    assert!(sidecar.end().await.success(), "{}", sidecar.log());
    assert!(!sidecar.is_ready(), "the unit has yet to start");
}

#[tokio::test]
async fn it_ends_when_an_instance_is_announced() {
    let host = Host::new().await;
    let mut sidecar = host.sidecar(&["wait", "web"]);
    sidecar.says("waiting for an instance of web; web: no instance is announced").await;
    host.announce("db", "a", 1).await;
    // It gets no connections, so it doesn't count.
    host.announce_as("web", "a", 1, 0).await;
    sidecar.says("web: no instance is announced, and 1 with weight 0").await;
    host.announce("web", "b", 2).await;
    is_done(&mut sidecar).await;
    sidecar.logs("web: 1 instance is announced, and 1 with weight 0").await;
    // What is announced already isn't waited for.
    is_done(&mut host.sidecar(&["wait", "web", "--timeout", "20"])).await;
}

#[tokio::test]
async fn an_instance_that_was_withdrawn_meanwhile_counts_no_longer() {
    let host = Host::new().await;
    let mut sidecar = host.sidecar(&["wait", "web", "--min", "2"]);
    host.announce("web", "a", 1).await;
    sidecar.says("waiting for 2 instances of web; web: 1 instance is announced").await;
    host.withdraw("web", "a").await;
    sidecar.says("web: no instance is announced").await;
    host.announce("web", "b", 2).await;
    sidecar.says("web: 1 instance is announced").await;
    host.announce("web", "a", 1).await;
    is_done(&mut sidecar).await;
}

#[tokio::test]
async fn a_timeout_ends_it_with_what_it_saw() {
    let host = Host::new().await;
    host.announce("web", "a", 1).await;
    let mut sidecar = host.sidecar(&["wait", "web", "--min", "2", "--timeout", "0.5"]);
    assert_eq!(sidecar.end().await.code(), Some(1));
    sidecar.logs("fleet-sidecar: web: 1 instance is announced, and 2 are needed; not waited longer than 500ms").await;
    for wrong in [&["wait", "web", "--min", "0"][..], &["wait", "web", "--timeout", "0"], &["wait"]] {
        assert_eq!(host.sidecar(wrong).end().await.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn an_outage_is_waited_for_like_an_instance() {
    let mut host = Host::new().await;
    host.api_down().await;
    let mut sidecar = host.sidecar(&["wait", "web"]);
    sidecar.says("web: nothing is known of it yet; can't reach fleetd at ").await;
    host.api_up().await;
    sidecar.says("waiting for an instance of web; web: no instance is announced").await;
    host.api_down().await;
    sidecar.says("web: no instance is announced; can't reach fleetd at ").await;
    host.api_up().await;
    host.announce("web", "a", 1).await;
    is_done(&mut sidecar).await;
    host.api_down().await;
    let mut sidecar = host.sidecar(&["wait", "web", "--timeout", "0.5"]);
    assert_eq!(sidecar.end().await.code(), Some(1));
    sidecar.logs("web: nothing is known of it yet, and 1 is needed; not waited longer than 500ms: can't reach").await;
}

/// `fleet-sidecar wait web && start` must not start anything then.
#[tokio::test]
async fn to_be_stopped_is_no_success() {
    let host = Host::new().await;
    let mut sidecar = host.sidecar(&["wait", "web"]);
    sidecar.says("waiting for an instance of web").await;
    sleep(Duration::from_millis(100)).await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.end().await.code(), Some(1));
    sidecar.logs("fleet-sidecar: stopped while waiting for an instance of web").await;
}
