//! `/fleet/v2/services`, from the point of view of a client.

use std::time::Duration;

use flotilla::api::client::{By, ClientError, For, News};
use flotilla::api::wire::services::{Announce, InstanceRef, ServiceLine};
use flotilla::store::{Range, Store as _};

use crate::harness::{Host, named};

fn announce(port: u16, owner: &str) -> Announce {
    Announce {
        address: "10.88.0.11".into(),
        port,
        weight: 1,
        unit: None,
        metadata: [].into(),
        owner: owner.into(),
        ttl: 60,
        lease: None,
    }
}

fn code(error: &ClientError) -> u16 {
    match error {
        ClientError::Api(detail) => detail.code,
        other => panic!("{other}"),
    }
}

/// The store's revision now.
async fn revision(host: &Host) -> u64 {
    host.store.range(Range { limit: 1, ..Range::default() }).await.unwrap().revision.0
}

#[tokio::test]
async fn announcements_are_made_renewed_changed_and_withdrawn() {
    let host = Host::new().await;
    let (client, web) = (host.client(), named("web", "one"));
    let first = client.announce(&web, &announce(80, "me")).await.unwrap();
    assert_eq!(first.ttl, 60);
    let before = revision(&host).await;
    assert_eq!(client.keep_alive(&web, &first.lease).await.unwrap(), first);
    let again = Announce { lease: Some(first.lease.clone()), ..announce(80, "me") };
    assert_eq!(client.announce(&web, &again).await.unwrap(), first, "the same again");
    assert_eq!(revision(&host).await, before, "renewing writes nothing");

    let since = client.service(&web.service).await.unwrap().instances[0].is.since;
    let moved = Announce { lease: Some(first.lease.clone()), ..announce(81, "me") };
    assert_eq!(client.announce(&web, &moved).await.unwrap().lease, first.lease, "the lease stays");
    let is = &client.service(&web.service).await.unwrap().instances[0].is;
    assert_eq!((is.port, is.since), (81, since));

    let longer = Announce { ttl: 90, ..moved };
    let second = client.announce(&web, &longer).await.unwrap();
    assert!(second.ttl == 90 && second.lease != first.lease, "another TTL is another lease");
    assert_eq!(code(&client.keep_alive(&web, &first.lease).await.unwrap_err()), 404);
    assert_eq!(code(&client.withdraw(&web, By::Lease(&first.lease)).await.unwrap_err()), 409);
    client.withdraw(&web, By::Lease(&second.lease)).await.unwrap();
    assert_eq!(code(&client.withdraw(&web, By::Lease(&second.lease)).await.unwrap_err()), 404);
    let error = client.service(&web.service).await.unwrap_err();
    assert_eq!((code(&error), error.to_string().as_str()), (404, "no instance of `web` is announced"));
}

#[tokio::test]
async fn only_its_owner_goes_on_with_an_announcement() {
    let host = Host::new().await;
    let (client, web) = (host.client(), named("web", "one"));
    let first = client.announce(&web, &announce(80, "me")).await.unwrap();
    let error = client.announce(&web, &announce(81, "you")).await.unwrap_err();
    assert_eq!(code(&error), 409);
    assert!(
        error.to_string().starts_with("one of service `web` is announced by somebody else: 10.88.0.11 port 80 on n1\n"),
        "{error}"
    );
    assert_eq!(code(&client.withdraw(&web, By::Owner("you")).await.unwrap_err()), 409);

    let second = client.announce(&web, &announce(80, "me")).await.unwrap();
    assert_ne!(second.lease, first.lease);
    assert_eq!(code(&client.keep_alive(&web, &first.lease).await.unwrap_err()), 404, "the one before learns of it");
    client.withdraw(&web, By::Owner("me")).await.unwrap();

    // Without an owner, an announcement can't be taken over.
    client.announce(&web, &announce(80, "")).await.unwrap();
    assert_eq!(code(&client.announce(&web, &announce(80, "")).await.unwrap_err()), 409);
}

#[tokio::test]
async fn only_what_is_announced_is_renewed() {
    let host = Host::new().await;
    let (client, one, two) = (host.client(), named("web", "one"), named("web", "two"));
    let lease = client.announce(&one, &announce(80, "me")).await.unwrap().lease;
    assert_eq!(code(&client.keep_alive(&two, &lease).await.unwrap_err()), 404, "never announced");
    client.announce(&two, &announce(81, "you")).await.unwrap();
    assert_eq!(code(&client.keep_alive(&two, &lease).await.unwrap_err()), 404, "announced with another lease");
    // A live lease to which no key is bound.
    let idle = host.store.grant(std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(code(&client.keep_alive(&one, &idle.0.to_string()).await.unwrap_err()), 404);
    client.keep_alive(&one, &lease).await.unwrap();
}

#[tokio::test]
async fn everything_wrong_with_an_announcement_is_said() {
    let host = Host::new().await;
    let client = host.client();
    let bad = Announce { address: "http://x".into(), port: 0, weight: 300, ttl: 1, ..announce(0, "") };
    let error = client.announce(&named("web", "one"), &bad).await.unwrap_err();
    assert_eq!(code(&error), 400);
    assert_eq!(error.to_string().lines().count(), 4, "{error}");
    assert!(host.announced().await.is_empty());
}

#[tokio::test]
async fn services_are_listed_by_pattern() {
    let host = Host::new().await;
    let client = host.client();
    for (service, instance, port) in [("web", "b", 2), ("db", "a", 1), ("web", "a", 1), ("web-2", "a", 1)] {
        host.announce(service, instance, port).await;
    }
    let listed = async |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let list = client.services(&patterns).await.unwrap();
        let one = |service: &flotilla::api::wire::services::ServiceView| {
            let names: Vec<_> = service.instances.iter().map(|view| view.instance.as_str()).collect();
            format!("{}:{}", service.name, names.join(","))
        };
        list.services.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]).await, ["db:a", "web:a,b", "web-2:a"]);
    assert_eq!(listed(&["web"]).await, ["web:a,b"]);
    assert_eq!(listed(&["web*", "x"]).await, ["web:a,b", "web-2:a"]);
    assert_eq!(listed(&["nothing"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn changes_are_a_stream() {
    let host = Host::new().await;
    host.announce("web", "a", 1).await;
    host.announce("db", "a", 1).await;
    let client = host.client();
    let mut stream = client.follow_services(&["web".into()], For::ADaemon);
    assert!(matches!(stream.next().await, Ok(News::Begun)));
    let mut next = async || match tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap() {
        News::Line(ServiceLine::Instance(view)) => format!("+{}/{} {}", view.service, view.instance, view.is.port),
        News::Line(ServiceLine::Gone(InstanceRef { service, instance })) => format!("-{service}/{instance}"),
        News::Line(ServiceLine::Synced(_)) => "synced".into(),
        other => format!("{other:?}"),
    };
    assert_eq!((next().await, next().await), ("+web/a 1".into(), "synced".into()));
    host.announce("db", "b", 1).await;
    host.announce("web", "b", 2).await;
    assert_eq!(next().await, "+web/b 2");
    // The same owner announces the same again: consumers see no change.
    host.announce("web", "b", 2).await;
    host.withdraw("web", "a").await;
    assert_eq!(next().await, "-web/a");
}
