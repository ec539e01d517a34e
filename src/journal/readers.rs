//! The hosts that are read: a reader for each, and what it is told. Owns which readers there are; reads and prints
//! nothing.

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

/// Entries of one host that wait to be merged. A host whose entries aren't wanted yet stops reading.
const WAITING: usize = 256;

type Reading<'a> = Pin<Box<dyn Future<Output = (usize, End)> + 'a>>;

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name.
    pub(super) name: String,
    /// Its identity.
    pub(super) id: MachineId,
    /// Whether it can be reached, as far as anybody knows.
    pub(super) reached: bool,
    wanted: watch::Sender<Wanted>,
    /// Its reader runs.
    read: bool,
}

/// All of them.
pub(super) struct Readers<'a> {
    hosts: &'a remote::Hosts,
    query: &'a Query,
    clock: Clock,
    /// By number; numbers are never used again.
    pub(super) all: Vec<Host>,
    readings: FuturesUnordered<Reading<'a>>,
}

impl<'a> Readers<'a> {
    /// Those that `units` are on, with `begin` as asked. Nothing is read yet.
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

    /// `unit` is to be read on `machine` from `begin` on (ms since the epoch, or as asked). The number of the host, if
    /// it isn't read yet.
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

    /// `unit` has left the host, at `end` (ms since the epoch).
    pub(super) fn leave(&mut self, unit: &UnitName, id: &MachineId, end: u64) {
        if let Some(host) = self.all.iter().find(|host| host.id == *id) {
            host.wanted.send_modify(|wanted| {
                if let Some(span) = wanted.units.get_mut(unit.as_str()) {
                    span.end = span.end.or(Some(end));
                }
            });
        }
    }

    /// Read all hosts to the end of what there is, or with `live` for ever: what there is to begin with comes through
    /// the channels that are returned, one for each host.
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

    /// Read a host that came later.
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

    /// The next host whose reading ends; `None` when all have. Cancel-safe.
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
