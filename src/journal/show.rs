//! Shows many journals as one, to their end or followed for ever. Owns what is printed when, and the messages about
//! hosts and units; `render` formats entries and `merge` orders them.

use std::pin::pin;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::cluster::{self, Seen};
use super::entry::JournalEntry;
use super::handover::{Begin, Handover};
use super::merge::{Complete, HOLD, Live, Tail};
use super::places::{Change, Places};
use super::query::Query;
use super::reader::{End, ReaderEvent};
use super::readers::Readers;
use super::render::{self, Style, Widths, label};
use super::{Error, Output, Source, Units};
use crate::api::wire::WatchLine;
use crate::clock::Clock;
use crate::model::name::MachineId;

/// Items of hosts that wait to be merged. When this many wait, the hosts wait too.
const WAITING: usize = 1024;
/// How much text is printed at once, in bytes.
const CHUNK: usize = 32 * 1024;
/// Exit statuses for SIGINT and SIGTERM, as in shells.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;
/// Exit status if a host can't be reached, as in `ssh`.
const UNREACHABLE: u8 = 255;

/// Show all entries. Returns the exit status: 0, 1 if a pattern matched nothing, or that of the first host that failed.
pub(super) async fn list<O: Output>(source: &Source<'_>, query: &Query, units: &Units, out: &O) -> Result<u8, Error> {
    let mut show = Show::new(source, query, units, out);
    let receivers = show.readers.begin(None);
    show.listing(receivers, None).await?;
    show.flush(true);
    // As journalctl and grep(1).
    let nothing = query.grep.is_some() && !show.shown;
    Ok(if show.status == 0 { u8::from(nothing) } else { show.status })
}

/// Show the last entries and follow. Returns the exit status, including that for a signal.
pub(super) async fn follow<O: Output>(source: &Source<'_>, query: &Query, units: &Units, out: &O) -> Result<u8, Error> {
    let mut show = Show::new(source, query, units, out);
    let (live, events) = mpsc::channel(WAITING);
    let receivers = show.readers.begin(Some(&live));
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    tokio::select! {
        done = async {
            show.listing(receivers, Some(&live)).await?;
            show.flush(true);
            show.follow(&units.patterns, &live, events).await
        } => done?,
        _ = interrupts.recv() => show.status = INTERRUPTED,
        _ = terminations.recv() => show.status = TERMINATED,
    }
    // Entries that are still held were read already.
    show.print_ready(Duration::ZERO);
    show.flush(true);
    Ok(show.status)
}

struct Show<'a, O> {
    source: &'a Source<'a>,
    out: &'a O,
    readers: Readers<'a>,
    places: Places,
    handover: Handover,
    style: Style,
    lines: Option<usize>,
    clock: Clock,
    merge: Live<(usize, Box<JournalEntry>)>,
    /// Text that isn't printed yet.
    text: String,
    /// Whether there was an entry.
    shown: bool,
    /// The first exit status other than 0.
    status: u8,
}

impl<'a, O: Output> Show<'a, O> {
    fn new(source: &'a Source<'a>, query: &'a Query, units: &Units, out: &'a O) -> Self {
        let clock = Clock::system();
        let zone = TimeZone::system();
        let mut places = Places::default();
        units.units.iter().for_each(|unit| places.start(unit));
        let today = render::day(clock.now_ms() * 1000, &zone);
        let style = Style {
            format: query.format,
            alone: units.one,
            colours: out.has_colours(),
            zone,
            today,
            widths: Widths::default(),
        };
        let mut show = Self {
            source,
            out,
            readers: Readers::new(source.hosts, query, &units.units),
            places,
            handover: Handover::default(),
            style,
            lines: query.lines,
            clock,
            merge: Live::new(),
            text: String::new(),
            shown: false,
            status: 0,
        };
        units.units.iter().for_each(|unit| show.widen(unit.name.as_str()));
        show
    }

    /// Show what there is to begin with: all hosts by time, limited to the last lines.
    async fn listing(
        &mut self,
        receivers: Vec<mpsc::Receiver<(u64, (usize, ReaderEvent))>>,
        live: Option<&mpsc::Sender<(usize, ReaderEvent)>>,
    ) -> Result<(), Error> {
        let mut merge = Complete::new(receivers);
        let mut tail = self.lines.map(Tail::new);
        let mut reading = true;
        loop {
            // Both branches are cancel-safe.
            tokio::select! {
                item = merge.next() => match (item, &mut tail) {
                    (None, _) => break,
                    (Some((host, ReaderEvent::Entry(entry))), Some(tail)) => tail.push((host, entry)),
                    (Some((host, event)), _) => self.print(host, event),
                },
                ended = self.readers.ended(), if reading => match ended {
                    Some((host, end)) => self.ended(host, end, live.is_some())?,
                    None => reading = false,
                },
            }
            if self.out.is_closed() {
                return Ok(());
            }
        }
        for (host, entry) in tail.into_iter().flat_map(Tail::into_iter) {
            self.print(host, ReaderEvent::Entry(entry));
        }
        // Wait for the results of the readers.
        while live.is_none()
            && let Some((host, end)) = self.readers.ended().await
        {
            self.ended(host, end, false)?;
        }
        Ok(())
    }

    /// Follow until the reader of the output is gone.
    async fn follow(
        &mut self,
        patterns: &[String],
        live: &mpsc::Sender<(usize, ReaderEvent)>,
        mut events: mpsc::Receiver<(usize, ReaderEvent)>,
    ) -> Result<(), Error> {
        let (sender, mut cluster) = mpsc::channel(WAITING);
        let mut watching = pin!(cluster::follow(self.source.client, patterns, sender));
        let out = self.out;
        let mut closed = pin!(out.closed());
        while !out.is_closed() {
            let hold = if self.readers.all.len() > 1 { HOLD } else { Duration::ZERO };
            let due = self.merge.due(hold).into_iter().chain(self.handover.due()).min();
            // Cancel-safe: channels and `Readers::ended` keep their items; `watching` and `closed` are polled again.
            tokio::select! {
                one = events.recv() => {
                    let mut next = one;
                    let now = Instant::now();
                    while let Some((host, what)) = next {
                        match what {
                            ReaderEvent::Entry(entry) => {
                                let (unit, at) = (entry.unit.clone(), entry.place.realtime);
                                self.handover.hear(now, &unit, entry.down);
                                self.merge.push(now, host, &unit, at, (host, entry));
                            }
                            what => self.print(host, what),
                        }
                        next = events.try_recv().ok();
                    }
                }
                error = &mut watching => return Err(Error::Api(error)),
                Some(seen) = cluster.recv() => self.see(seen, live).await,
                Some((host, end)) = self.readers.ended() => self.ended(host, end, true)?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = &mut closed => break,
            }
            for begin in self.handover.ready(Instant::now()) {
                self.begin(&begin, live);
            }
            self.print_ready(hold);
            self.flush(true);
        }
        Ok(())
    }

    fn print_ready(&mut self, hold: Duration) {
        for (host, entry) in self.merge.ready(Instant::now(), hold) {
            self.print(host, ReaderEvent::Entry(entry));
        }
    }

    fn print(&mut self, host: usize, event: ReaderEvent) {
        let name = &self.readers.all[host].name;
        match event {
            ReaderEvent::Entry(entry) => {
                if entry.place.realtime >= self.style.today + 86_400_000_000 {
                    self.style.today = render::day(self.clock.now_ms() * 1000, &self.style.zone);
                }
                self.shown = true;
                self.style.render(name, &entry, &mut self.text);
                self.flush(false);
            }
            ReaderEvent::Lost(since, why) => {
                let since = render::clock(since, &self.style.zone);
                let line = format!("{name} is unreachable since {since} ({why})");
                self.readers.all[host].reached = false;
                let (within, all) = self.places.count(|id| self.readers.reaches(id));
                self.note(&format!("{line}; still following {within} of {all} units"));
            }
            ReaderEvent::Back => {
                let line = format!("{name} is back");
                self.readers.all[host].reached = true;
                self.note(&line);
            }
            ReaderEvent::Message(what) => {
                let line = format!("{name}: {what}");
                self.flush(true);
                self.out.message(&line);
            }
        }
    }

    fn ended(&mut self, host: usize, end: End, follows: bool) -> Result<(), Error> {
        let name = self.readers.all[host].name.clone();
        let (status, line) = match end {
            End::Done | End::ReceiverGone => return Ok(()),
            End::Refused(status, why) => (status, format!("{name}: {why}")),
            End::Unreachable(why) => (UNREACHABLE, format!("{name} can't be reached: {why}")),
        };
        if self.status == 0 {
            self.status = status;
        }
        if follows {
            // If journalctl refuses an option on one host it will on the others.
            self.flush(true);
            return Err(Error::Refused { status: self.status, line });
        }
        self.note(&line);
        Ok(())
    }

    /// Handle what the cluster reports.
    async fn see(&mut self, line: Seen, live: &mpsc::Sender<(usize, ReaderEvent)>) {
        let changes = match line {
            Seen::Line(WatchLine::Unit(unit)) => self.places.see(&unit),
            Seen::Line(WatchLine::Removed(name)) => self.places.gone(&name),
            Seen::Line(WatchLine::Synced(_)) => self.places.synced(),
            Seen::Line(WatchLine::Leaving(_) | WatchLine::Error(_)) => Vec::new(),
            Seen::Begun => {
                self.places.watch();
                Vec::new()
            }
            Seen::Note(note) => vec![Change::Note(note)],
        };
        let ends = changes.iter().any(|change| matches!(change, Change::End(..)));
        let present = if ends { self.present().await } else { Vec::new() };
        let now = self.clock.now_ms();
        for change in changes {
            match change {
                Change::Note(note) => self.note(&note),
                Change::Begin(unit, machine, from) => {
                    let begin = Begin { unit, machine, since: now };
                    match from {
                        Some(from) if self.readers.reaches(&from) => self.handover.wait(Instant::now(), begin),
                        _ => self.begin(&begin, live),
                    }
                }
                // A host that is dead to the cluster may still run the unit, and has more entries when it comes back.
                Change::End(unit, id) if present.contains(&id) => {
                    if let Some(begin) = self.handover.take(&unit, &id) {
                        self.begin(&begin, live);
                    }
                    self.readers.leave(&unit, &id, now);
                }
                Change::End(..) => {}
            }
        }
    }

    fn begin(&mut self, Begin { unit, machine, since }: &Begin, live: &mpsc::Sender<(usize, ReaderEvent)>) {
        if let Some(number) = self.readers.want(unit, machine, Some(*since)) {
            self.readers.read(number, None, Some(live));
        }
        self.widen(unit.as_str());
    }

    async fn present(&self) -> Vec<MachineId> {
        let machines = self.source.client.machines().await;
        machines.map(|list| list.machines.into_iter().map(|machine| machine.id).collect()).unwrap_or_default()
    }

    fn widen(&mut self, unit: &str) {
        let widths = &mut self.style.widths;
        widths.unit = widths.unit.max(label(unit).chars().count());
        let hosts = self.readers.all.iter().map(|host| host.name.chars().count());
        widths.host = widths.host.max(hosts.max().unwrap_or(0));
    }

    fn note(&mut self, line: &str) {
        self.flush(true);
        self.out.message(&format!("-- {line}"));
    }

    fn flush(&mut self, now: bool) {
        if !self.text.is_empty() && (now || self.text.len() >= CHUNK) {
            self.out.stdout(self.text.as_bytes());
            self.text.clear();
        }
    }
}
