//! The hosts that are read: a reader for each, and what it must read. Owns which readers exist; reads and prints
//! nothing itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use super::query::Query;
use super::reader::{End, Listing, Reader, ReaderEvent, Span, State, Wanted};
use crate::api::wire::{MachineRef, UnitView};
use crate::clock::Clock;
use crate::model::name::{MachineId, UnitName};
use crate::remote::{self, Stdin};

/// Entries of one host that wait to be merged. When this many wait, the host isn't read any further.
const WAITING: usize = 256;

type Reading<'a> = Pin<Box<dyn Future<Output = (usize, End)> + 'a>>;

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name.
    pub(super) name: String,
    /// Its identity.
    pub(super) id: MachineId,
    /// Whether it can be reached, as far as known.
    pub(super) reached: bool,
    wanted: watch::Sender<Wanted>,
    /// Whether its reader runs.
    read: bool,
}

/// All hosts.
pub(super) struct Readers<'a> {
    hosts: &'a remote::Hosts,
    query: &'a Query,
    clock: Clock,
    /// By number; numbers are never reused.
    pub(super) all: Vec<Host>,
    readings: FuturesUnordered<Reading<'a>>,
}

impl<'a> Readers<'a> {
    /// The hosts of `units`, to be read as the user requested. Nothing is read yet.
    pub(super) fn new(hosts: &'a remote::Hosts, query: &'a Query, units: &[UnitView]) -> Self {
        let mut readers =
            Self { hosts, query, clock: Clock::system(), all: Vec::new(), readings: FuturesUnordered::new() };
        for unit in units {
            for machine in super::places::hosts(unit).into_values() {
                readers.want(&unit.name, &machine, None);
            }
        }
        readers
    }

    /// Read `unit` on `machine` from `begin` on (ms since the epoch; `None` as the user requested). Returns the number
    /// of the host if it has no reader yet.
    pub(super) fn want(&mut self, unit: &UnitName, machine: &MachineRef, begin: Option<u64>) -> Option<usize> {
        let number = match self.all.iter().position(|host| host.id == machine.id) {
            Some(number) => number,
            None => {
                let (wanted, _) = watch::channel(Wanted { machine: machine.clone(), units: BTreeMap::new() });
                let (name, id) = (machine.name(), machine.id.clone());
                self.all.push(Host { name, id, reached: true, wanted, read: false });
                self.all.len() - 1
            }
        };
        let host = &mut self.all[number];
        host.wanted.send_modify(|wanted| {
            if !machine.ip.is_empty() {
                wanted.machine = machine.clone();
            }
            let span = wanted.units.entry(unit.to_string()).or_insert(Span { begin, end: None });
            if span.end.is_some() {
                *span = Span { begin, end: None };
            }
        });
        (!host.read).then_some(number)
    }

    /// `unit` has left the host at `end` (ms since the epoch).
    pub(super) fn leave(&mut self, unit: &UnitName, id: &MachineId, end: u64) {
        if let Some(host) = self.all.iter().find(|host| host.id == *id) {
            host.wanted.send_modify(|wanted| {
                if let Some(span) = wanted.units.get_mut(unit.as_str()) {
                    span.end = span.end.or(Some(end));
                }
            });
        }
    }

    /// Read all hosts to their end, or with `live` for ever. Initial entries arrive through the returned channels, one
    /// for each host.
    pub(super) fn begin(
        &mut self,
        live: Option<&mpsc::Sender<(usize, ReaderEvent)>>,
    ) -> Vec<mpsc::Receiver<(u64, (usize, ReaderEvent))>> {
        let mut receivers = Vec::new();
        for number in 0..self.all.len() {
            let (listing, receiver) = mpsc::channel(WAITING);
            receivers.push(receiver);
            self.read(number, Some(listing), live);
        }
        receivers
    }

    /// Read a host that was added later.
    pub(super) fn read(
        &mut self,
        number: usize,
        listing: Option<Listing>,
        live: Option<&mpsc::Sender<(usize, ReaderEvent)>>,
    ) {
        self.all[number].read = true;
        let hosts = self.hosts;
        let run = async move |machine: &MachineRef, argv: &[String]| hosts.run(machine, argv, Stdin::Nothing).await;
        let follows = live.is_some();
        let reader = Reader {
            run,
            query: self.query,
            clock: self.clock,
            host: number,
            wanted: self.all[number].wanted.subscribe(),
            listing,
            live: live.cloned(),
            state: State::default(),
        };
        self.readings.push(Box::pin(async move {
            let end = if follows { reader.follow().await } else { reader.list().await };
            (number, end)
        }));
    }

    /// The next host whose reader ends; `None` when all have. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Option<(usize, End)> {
        let (number, end) = self.readings.next().await?;
        self.all[number].read = false;
        Some((number, end))
    }

    /// Whether `id` can be reached.
    pub(super) fn reaches(&self, id: &MachineId) -> bool {
        self.all.iter().any(|host| host.id == *id && host.reached)
    }
}
