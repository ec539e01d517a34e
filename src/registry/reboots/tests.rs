use super::*;
use crate::registry::{maintenance, point, put};
use crate::store::Op;
use crate::store::embedded::Embedded;

fn by(user: &str) -> Author {
    Author { uid: Some(1001), user: user.into(), ..Author::default() }
}

fn id(number: u8) -> MachineId {
    format!("{number:032x}").parse().unwrap()
}

fn options() -> Options {
    Options { parallel: 10, deadline: 60, force: false, why: "kernel".into() }
}

/// A store in which the hosts with these numbers are registered, in the boot `b`.
async fn registered(hosts: &[u8]) -> Reader<Embedded> {
    let store = Embedded::in_memory();
    for number in hosts {
        let mut machine = Machine::new(id(*number), "n");
        machine.boot_id = "b".into();
        let ops = vec![put(&Key::Machine(id(*number)), &machine, None)];
        store.commit(Txn { guards: vec![], ops }).await.unwrap();
    }
    Reader::new(store)
}

async fn asked(reader: &Reader<Embedded>, number: u8) -> Maintenance {
    let (_, kv) = point(reader.store(), &Key::Host(id(number)).to_string(), None).await.unwrap();
    kv.map(|kv| host::Records::read(&kv).unwrap()).unwrap_or_default()
}

/// Who has a slot, and who waits.
async fn shown(reader: &Reader<Embedded>) -> (Vec<u8>, Vec<u8>) {
    let number = |host: &MachineId| u8::from_str_radix(&host.as_str()[30..], 16).unwrap();
    let Some((_, found)) = all(reader).await.unwrap().into_iter().next() else { return (vec![], vec![]) };
    let holders = found.holders.iter().map(|holder| number(&holder.host)).collect();
    (holders, found.queue.iter().map(|request| number(&request.host)).collect())
}

async fn take_next(reader: &Reader<Embedded>, number: u8, slots: usize) -> bool {
    let claim = |all: &Reboots, began, revision| {
        let request = all.queued(&id(number))?.clone();
        let drain = request.drain(began, (9, revision));
        Some((Holder::of(request, 9), drain))
    };
    take(reader, (&Group::default(), &id(number)), (slots, claim)).await.unwrap().holder(&id(number)).is_some()
}

#[tokio::test]
async fn all_wait_in_the_order_of_the_request_or_none() {
    let reader = registered(&[1, 2, 3]).await;
    let ask = async |hosts: &[u8]| {
        let hosts: Vec<MachineId> = hosts.iter().map(|number| id(*number)).collect();
        ask(&reader, &hosts, &options(), &by("ci"), 5).await
    };
    assert_eq!(ask(&[3, 4]).await, Err(Refusal::Away(id(4))));
    assert_eq!(shown(&reader).await, (vec![], vec![]));
    assert_eq!(ask(&[3, 1, 3]).await, Ok([id(1), id(3)].into()));
    assert_eq!(shown(&reader).await, (vec![], vec![3, 1]));
    // Asked again, they keep their places.
    assert_eq!(ask(&[2, 1]).await, Ok([id(2)].into()));
    assert_eq!(shown(&reader).await, (vec![], vec![3, 1, 2]));
    let many: Vec<u8> = (1..=3).collect();
    assert_eq!(ask(&many).await, Ok([].into()));
}

#[tokio::test]
async fn a_slot_comes_with_a_drain_and_goes_when_the_host_is_back() {
    let reader = registered(&[1, 2]).await;
    ask(&reader, &[id(1), id(2)], &options(), &by("ci"), 5).await.unwrap();
    assert!(take_next(&reader, 1, 1).await);
    assert!(!take_next(&reader, 2, 1).await);
    assert_eq!(shown(&reader).await, (vec![1], vec![2]));
    let drain = asked(&reader, 1).await.drain.unwrap();
    assert_eq!((drain.to_string(), drain.reboot), ("drained by ci: reboot, kernel".into(), true));
    assert_eq!(asked(&reader, 2).await, Maintenance::default());
    let default = Group::default();
    bring_back(&reader, &default, &id(1)).await.unwrap();
    let back = asked(&reader, 1).await;
    assert_eq!((back.drain, back.restore.map(|restore| restore.drain)), (None, Some(drain.generation)));
    assert_eq!(shown(&reader).await, (vec![1], vec![2]));
    assert_eq!(release(&reader, &default, &id(1), false).await, Ok(true));
    assert_eq!(release(&reader, &default, &id(1), false).await, Ok(false));
    assert!(take_next(&reader, 2, 1).await);
    assert_eq!(shown(&reader).await, (vec![2], vec![]));
}

#[tokio::test]
async fn of_two_hosts_that_ask_at_once_one_gets_the_slot() {
    for _ in 0..50 {
        let reader = registered(&[1, 2]).await;
        ask(&reader, &[id(1), id(2)], &options(), &by("ci"), 5).await.unwrap();
        let both = tokio::join!(take_next(&reader, 1, 1), take_next(&reader, 2, 1));
        assert!(both.0 != both.1, "{both:?}");
        assert_eq!(shown(&reader).await.0.len(), 1);
    }
}

/// What a person has asked of the host stays, before and after.
#[tokio::test]
async fn a_drain_of_a_person_is_not_lifted() {
    let drain = |why: &str| {
        let (parallel, deadline, globals, force) = (10, 60, false, false);
        maintenance::Request::Drain(maintenance::Options { parallel, deadline, globals, force, why: why.into() })
    };
    for drained_first in [true, false] {
        let reader = registered(&[1]).await;
        let drained = async || maintenance::ask(&reader, &[id(1)].into(), &drain("disk"), &by("op"), 7).await.unwrap();
        if drained_first {
            drained().await;
        }
        ask(&reader, &[id(1)], &options(), &by("ci"), 5).await.unwrap();
        assert!(take_next(&reader, 1, 1).await);
        if !drained_first {
            drained().await;
        }
        bring_back(&reader, &Group::default(), &id(1)).await.unwrap();
        release(&reader, &Group::default(), &id(1), true).await.unwrap();
        let left = asked(&reader, 1).await.drain.unwrap();
        assert_eq!((left.to_string(), left.reboot), ("drained by op: disk".into(), false), "{drained_first}");
    }
}

#[tokio::test]
async fn who_no_longer_wants_to_reboot_gets_its_units_back() {
    let reader = registered(&[1, 2]).await;
    ask(&reader, &[id(1), id(2)], &options(), &by("ci"), 5).await.unwrap();
    take_next(&reader, 1, 1).await;
    for number in [1, 2] {
        assert_eq!(release(&reader, &Group::default(), &id(number), true).await, Ok(true));
    }
    let now = asked(&reader, 1).await;
    assert!(now.drain.is_none() && now.restore.is_some(), "{now:?}");
    assert_eq!(shown(&reader).await, (vec![], vec![]));
    assert_eq!(all(&reader).await.unwrap(), vec![]);
}

/// Nobody gets a slot while it isn't known who has one.
#[tokio::test]
async fn a_damaged_record_gives_no_slot_and_can_be_replaced() {
    let reader = registered(&[1]).await;
    let key = Key::Reboots(Group::default());
    let op = Op::Put { key: key.to_string(), value: "{".into(), lease: None };
    reader.store().commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
    let refused = ask(&reader, &[id(1)], &options(), &by("ci"), 5).await.unwrap_err();
    assert!(matches!(&refused, Refusal::Damaged(corrupt) if corrupt.key == "reboot/default"), "{refused:?}");
    assert_eq!(release(&reader, &Group::default(), &id(1), true).await, Ok(false));
    ask(&reader, &[id(1)], &options(), &by("ci"), 5).await.unwrap();
    assert_eq!(shown(&reader).await, (vec![], vec![1]));
}

#[tokio::test]
async fn why_it_does_not_go_on_is_noted_once() {
    let reader = registered(&[1]).await;
    ask(&reader, &[id(1)], &options(), &by("ci"), 5).await.unwrap();
    take_next(&reader, 1, 1).await;
    let revision = async || point(reader.store(), "reboot/default", None).await.unwrap().1.unwrap().revision;
    note(&reader, &Group::default(), &id(1), "no login manager").await.unwrap();
    let noted = revision().await;
    assert_eq!(all(&reader).await.unwrap()[0].1.holders[0].error, "no login manager");
    note(&reader, &Group::default(), &id(1), "no login manager").await.unwrap();
    assert_eq!(revision().await, noted);
}
