//! Reads and follows the journal of one host with journalctl over connections that may break. Guarantees that each
//! entry is delivered once and in the journal's order; knows nothing about other hosts.
//!
//! A host is opened once: this finds the end of its journal and reads what the user requested to begin with. From there
//! on the journal is followed. When a stream ends, for whatever reason, another one begins at the last entry, and
//! entries that were delivered before are recognized by their position. A unit that is added later is first read up to
//! now by itself; then the stream begins again with all units.

mod command;
mod state;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::entry::{JournalEntry, Place};
use super::query::{NOW, Query, Start};
use crate::api::wire::MachineRef;
use crate::clock::Clock;
use crate::remote::{Error, Running};
use command::Command;
use state::Phase;
pub(super) use state::State;

/// A shorter outage isn't reported.
const REPORT_OUTAGE_AFTER: Duration = Duration::from_secs(1);
/// How long the initial listing waits for an unreachable host, in ms, before it continues without it.
const MAX_LISTING_WAIT_MS: u64 = 3_000;
/// How often a host is tried that isn't followed.
const MAX_LIST_ATTEMPTS: u32 = 5;
/// Entries within this time before a unit's arrival and after its departure still count, in ms: fleetctl learns of both
/// with a delay, and journald writes entries with a delay.
const SLACK_MS: u64 = 2_000;

/// What must be read from one host.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The host with its last known address.
    pub(super) machine: MachineRef,
    /// The units.
    pub(super) units: BTreeMap<String, Span>,
}

/// The time during which a unit is on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The begin, in ms since the epoch by this machine's clock; `None` for what the user requested.
    pub(super) begin: Option<u64>,
    /// The end.
    pub(super) end: Option<u64>,
}

/// What a reader delivers.
#[derive(Debug)]
pub(super) enum ReaderEvent {
    /// An entry.
    Entry(Box<JournalEntry>),
    /// The host can't be reached: since when (ms since the epoch), and why.
    Lost(u64, String),
    /// The host can be reached again.
    Back,
    /// A line of journalctl's stderr.
    Message(String),
}

/// Why reading a host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The end was reached. Never while following, since more may come.
    Done,
    /// journalctl failed: its exit status, and why.
    Refused(u8, String),
    /// The host can't be reached, and why.
    Unreachable(String),
    /// The receiver is gone.
    ReceiverGone,
}

/// The purpose of a request that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Everything; nothing follows.
    All,
    /// The end of the journal, the host's time, and the entries before the stream.
    Opening,
    /// Entries before the position of the stream.
    CatchUp,
}

/// Why a request failed.
#[derive(Debug)]
enum Trouble {
    /// Worth another attempt.
    Broken(String),
    /// Not worth another attempt.
    Refused(u8, String),
    ReceiverGone,
}

/// The channel for entries, with their time.
pub(super) type Listing = mpsc::Sender<(u64, (usize, ReaderEvent))>;

/// The reader of one host.
pub(super) struct Reader<'a, R> {
    /// Runs a command on a host.
    pub(super) run: R,
    pub(super) query: &'a Query,
    pub(super) clock: Clock,
    pub(super) host: usize,
    pub(super) wanted: watch::Receiver<Wanted>,
    /// For the initial listing.
    pub(super) listing: Option<Listing>,
    /// For what follows.
    pub(super) live: Option<mpsc::Sender<(usize, ReaderEvent)>>,
    pub(super) state: State,
}

impl<R> Reader<'_, R>
where
    R: AsyncFn(&MachineRef, &[String]) -> Result<Running, Error>,
{
    /// Read everything to its end.
    pub(super) async fn list(mut self) -> End {
        self.state.update(self.wanted.borrow_and_update().clone());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let argv = self.query.read(self.state.start(), self.state.units.keys().map(String::as_str));
            match self.read(&argv, Purpose::All).await {
                Ok(()) => return End::Done,
                Err(Trouble::Broken(why)) if attempt >= MAX_LIST_ATTEMPTS => return End::Unreachable(why),
                Err(Trouble::Broken(_)) => {
                    sleep(self.state.next_delay()).await;
                }
                Err(Trouble::Refused(code, why)) => return End::Refused(code, why),
                Err(Trouble::ReceiverGone) => return End::ReceiverGone,
            }
        }
    }

    /// Read everything, then follow. While no unit is on the host there is no connection, but what was delivered is
    /// remembered: a unit may come back.
    pub(super) async fn follow(mut self) -> End {
        loop {
            self.state.update(self.wanted.borrow_and_update().clone());
            match self.session().await {
                Ok(true) => {
                    if self.wanted.changed().await.is_err() {
                        return End::ReceiverGone;
                    }
                }
                Ok(false) => {}
                Err(Trouble::Broken(why)) => {
                    if self.lose(&why).await.is_err() {
                        return End::ReceiverGone;
                    }
                }
                Err(Trouble::Refused(code, why)) => return End::Refused(code, why),
                Err(Trouble::ReceiverGone) => return End::ReceiverGone,
            }
        }
    }

    /// Use one connection; returns whether everything was read.
    async fn session(&mut self) -> Result<bool, Trouble> {
        if self.state.phase.is_opening() {
            self.open().await?;
        }
        self.listing = None;
        self.catch_up().await?;
        if self.over() {
            return self.drain().await.map(|()| true);
        }
        self.stream().await
    }

    /// Find the end of the journal and the host's time, and read what the user requested to begin with.
    async fn open(&mut self) -> Result<(), Trouble> {
        let asked: Vec<String> = self.state.names_of(|track| track.span.begin.is_none());
        let argv = self.query.open(self.state.start(), asked.iter().map(String::as_str));
        self.state.phase = Phase::default();
        self.read(&argv, Purpose::Opening).await?;
        let end_at_open = self.state.phase.stream_begins().cloned();
        self.state.phase = Phase::Following { last: end_at_open.clone(), end_at_open };
        for name in asked {
            self.state.track(&name).fresh = false;
        }
        Ok(())
    }

    /// Read the entries of units that were added later, up to the position of the stream.
    async fn catch_up(&mut self) -> Result<(), Trouble> {
        let fresh = self.state.names_of(|track| track.fresh);
        let begins = self.state.units.values().filter(|track| track.fresh).filter_map(|track| track.span.begin);
        if let Some(begin) = begins.min() {
            let since = Start::Since(self.state.to_host_clock(begin.saturating_sub(SLACK_MS)));
            let argv = self.query.read(since, fresh.iter().map(String::as_str));
            self.read(&argv, Purpose::CatchUp).await?;
        }
        for name in fresh {
            self.state.track(&name).fresh = false;
        }
        Ok(())
    }

    /// Read everything up to now, from a host that isn't followed any longer.
    async fn drain(&mut self) -> Result<(), Trouble> {
        let argv = self.query.read(self.state.start_of_stream(), self.state.units.keys().map(String::as_str));
        self.read(&argv, Purpose::All).await
    }

    /// Deliver all that `argv` writes, to its end; if a stream follows, only what precedes it.
    async fn read(&mut self, argv: &[String], purpose: Purpose) -> Result<(), Trouble> {
        let mut command = self.begin(argv).await?;
        let mut head = purpose == Purpose::Opening;
        loop {
            match command.next().await {
                Some(line) if head && line.ends_with(NOW.as_bytes()) => {
                    self.state.ahead = self.ahead_of_us(&line);
                    head = false;
                }
                Some(line) if head => {
                    if let Some(end) = Place::parse(&line) {
                        self.state.phase = Phase::Opening { end: Some(end) };
                    }
                }
                Some(line) => self.deliver(&line, purpose != Purpose::All).await?,
                None => break,
            }
        }
        match command.end().await {
            Ok(code) if code == 0 || self.query.is_no_match(code, command.said().is_empty()) => {
                for line in command.take_said() {
                    self.tell(ReaderEvent::Message(line)).await?;
                }
                Ok(())
            }
            // Statuses of broken connections and of signals, as in shells and ssh.
            Ok(code) if code >= 128 => Err(Trouble::Broken(command.why(code))),
            Ok(code) => Err(Trouble::Refused(code, command.why(code))),
            Err(why) => Err(Trouble::Broken(why)),
        }
    }

    /// Deliver all that arrives, until the stream breaks, a unit is added (`false`) or everything was read (`true`).
    async fn stream(&mut self) -> Result<bool, Trouble> {
        let argv = self.query.follow(self.state.start_of_stream());
        let mut command = self.begin(&argv).await?;
        let mut came = false;
        loop {
            let over = self.time_left();
            // Cancel-safe: a command keeps a partially read line.
            tokio::select! {
                line = command.next() => match line {
                    Some(line) => {
                        came = true;
                        (self.state.delay, self.state.refused) = (None, 0);
                        self.deliver(&line, false).await?;
                    }
                    None => break,
                },
                changed = self.wanted.changed() => {
                    changed.map_err(|_| Trouble::ReceiverGone)?;
                    self.state.update(self.wanted.borrow_and_update().clone());
                    if self.state.units.values().any(|track| track.fresh) {
                        return Ok(false);
                    }
                }
                () = sleep(over.unwrap_or(Duration::MAX)), if over.is_some() => return Ok(false),
            }
        }
        let why = match command.end().await {
            Ok(code) => {
                // Its start position may not exist any more.
                self.state.refused += u32::from(!came && code != 0 && code < 128);
                command.why(code)
            }
            Err(why) => why,
        };
        Err(Trouble::Broken(why))
    }

    async fn begin(&mut self, argv: &[String]) -> Result<Command, Trouble> {
        let machine = self.state.machine.clone().ok_or(Trouble::ReceiverGone)?;
        let waited_for = self.listing.is_some() && self.live.is_some();
        let ran = {
            let mut run = pin!((self.run)(&machine, argv));
            tokio::select! {
                ran = &mut run => ran,
                () = sleep(Duration::from_millis(MAX_LISTING_WAIT_MS)), if waited_for => {
                    // The other hosts continue without it. It isn't aborted: the user may be typing a passphrase.
                    self.listing = None;
                    run.await
                }
            }
        };
        let running = ran.map_err(|error| Trouble::Broken(error.summary()))?;
        if let Some((_, true)) = self.state.lost.take() {
            self.tell(ReaderEvent::Back).await?;
        }
        Ok(Command::new(running))
    }

    async fn deliver(&mut self, line: &[u8], then_stream: bool) -> Result<(), Trouble> {
        // journalctl's own remarks, such as `-- No entries --`.
        if line.is_empty() || line.starts_with(b"-- ") {
            return Ok(());
        }
        let units = &self.state.units;
        let (place, entry) = match JournalEntry::parse(line, self.query.is_raw(), |unit| units.contains_key(unit)) {
            Ok(parsed) => parsed,
            Err(error) => return self.tell(ReaderEvent::Message(error.to_string())).await,
        };
        // journalctl may miss entries that are being written while it filters by unit (see `Query::follow`). The stream
        // delivers them.
        if then_stream && self.state.phase.stream_begins().is_none_or(|from| place.order(from).is_gt()) {
            return Ok(());
        }
        if let Some(entry) = entry.filter(|entry| self.admits(entry)) {
            let unit = entry.unit.clone();
            self.tell(ReaderEvent::Entry(Box::new(entry))).await?;
            self.state.track(&unit).seen = Some(place.clone());
        }
        let all_caught_up = self.state.units.values().all(|track| !track.fresh);
        if let Phase::Following { last, .. } = &mut self.state.phase
            && all_caught_up
        {
            *last = Some(place);
        }
        Ok(())
    }

    /// Whether `entry` is wanted and hasn't been delivered before.
    fn admits(&self, entry: &JournalEntry) -> bool {
        let Some(track) = self.state.units.get(&entry.unit) else { return false };
        let after = |place: &Place| !entry.place.order(place).is_lt() && entry.place.cursor != place.cursor;
        let not_read_at_open = match &self.state.phase {
            Phase::Opening { .. } => true,
            Phase::Following { end_at_open, .. } => end_at_open.as_ref().is_none_or(after),
        };
        let (begin, end) = (track.span.begin, track.span.end);
        self.query.admits(entry.priority)
            && track.seen.as_ref().is_none_or(after)
            && (track.fresh || not_read_at_open)
            && begin
                .is_none_or(|begin| entry.place.realtime >= self.state.to_host_clock(begin.saturating_sub(SLACK_MS)))
            && end.is_none_or(|end| entry.place.realtime <= self.state.to_host_clock(end + SLACK_MS))
    }

    async fn tell(&mut self, event: ReaderEvent) -> Result<(), Trouble> {
        let at = if let ReaderEvent::Entry(entry) = &event { entry.place.realtime } else { 0 };
        if let Some(listing) = &self.listing {
            return listing.send((at, (self.host, event))).await.map_err(|_| Trouble::ReceiverGone);
        }
        match &self.live {
            Some(live) => live.send((self.host, event)).await.map_err(|_| Trouble::ReceiverGone),
            None => Err(Trouble::ReceiverGone),
        }
    }

    /// Report the host as lost, if the outage lasts, and wait before the next attempt.
    async fn lose(&mut self, why: &str) -> Result<(), Trouble> {
        let now = self.clock.now_ms();
        let (since, reported) = *self.state.lost.get_or_insert((now, false));
        let report_after = u64::try_from(REPORT_OUTAGE_AFTER.as_millis()).unwrap_or(u64::MAX);
        if now >= since + MAX_LISTING_WAIT_MS {
            // The other hosts continue without it.
            self.listing = None;
        }
        if !reported && now >= since + report_after && self.listing.is_none() {
            self.state.lost = Some((since, true));
            self.tell(ReaderEvent::Lost(since, why.to_owned())).await?;
        }
        let delay = self.state.next_delay();
        tokio::select! {
            () = sleep(delay) => Ok(()),
            changed = self.wanted.changed() => changed.map_err(|_| Trouble::ReceiverGone),
        }
    }

    /// Whether nothing more must be read from the host.
    fn over(&self) -> bool {
        self.time_left() == Some(Duration::ZERO)
    }

    /// How long the host must still be read; `None` for ever.
    fn time_left(&self) -> Option<Duration> {
        let ends = self.state.units.values().map(|track| track.span.end).collect::<Option<Vec<u64>>>()?;
        let end = ends.into_iter().max().unwrap_or(0) + SLACK_MS;
        Some(Duration::from_millis(end.saturating_sub(self.clock.now_ms())))
    }

    fn ahead_of_us(&self, line: &[u8]) -> i64 {
        let digits: String = String::from_utf8_lossy(line).chars().take_while(char::is_ascii_digit).collect();
        let there = digits.parse::<u64>().ok().map(|ns| ns / 1_000_000);
        // Without GNU date's `%N` the number is implausible; the clocks are then assumed to agree.
        let plausible = there.filter(|ms| *ms > 1_000_000_000_000);
        plausible.map_or(0, |there| there.cast_signed() - self.clock.now_ms().cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    use tokio::task::JoinHandle;

    use super::*;
    use crate::journal::entry::tests::line;
    use crate::remote::{Hosts, Stdin};
    use crate::ssh::Settings;

    /// Longer than anything in these tests takes.
    const HANG: Duration = Duration::from_secs(30);

    /// Replaces journalctl on a host.
    const JOURNALCTL: &str = include_str!("../../tests/support/journalctl");

    /// A host with a journal, whose readers come and go.
    struct Fake {
        dir: tempfile::TempDir,
        query: &'static Query,
        wanted: watch::Sender<Wanted>,
        events: mpsc::Receiver<(usize, ReaderEvent)>,
        live: mpsc::Sender<(usize, ReaderEvent)>,
        reading: Option<JoinHandle<End>>,
    }

    impl Fake {
        fn new(query: Query, units: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("journalctl");
            std::fs::write(&program, JOURNALCTL).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::write(dir.path().join("journal"), "").unwrap();
            let machine = std::fs::read_to_string("/etc/machine-id").unwrap();
            let machine = MachineRef { id: machine.trim().parse().unwrap(), ip: String::new(), hostname: "n1".into() };
            let span = Span { begin: None, end: None };
            let units = units.iter().map(|unit| ((*unit).to_owned(), span)).collect();
            let (wanted, _) = watch::channel(Wanted { machine, units });
            let (live, events) = mpsc::channel(4);
            let query = Box::leak(Box::new(query));
            Self { dir, query, wanted, events, live, reading: None }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn append(&self, name: &str, lines: &[String]) {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
            file.write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes()).unwrap();
        }

        /// Entries `numbers` of `unit`, logged now.
        fn say(&self, unit: &str, numbers: std::ops::Range<u64>) {
            self.say_at(Clock::system().now_ms(), unit, numbers);
        }

        /// Entries `numbers` of `unit`, logged at this time, in ms.
        fn say_at(&self, time: u64, unit: &str, numbers: std::ops::Range<u64>) {
            let entry = |number| line(unit, number, time * 1000 + number, &format!("{unit} {number}"));
            self.append("journal", &numbers.map(entry).collect::<Vec<_>>());
        }

        fn asked(&self) -> Vec<String> {
            let asked = std::fs::read_to_string(self.path("journal.asked")).unwrap_or_default();
            asked.lines().map(str::to_owned).collect()
        }

        /// Wait until the requests so far satisfy `condition`.
        async fn until_asked(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
            let all = async {
                while !condition(&self.asked()) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            let waited = tokio::time::timeout(HANG, all).await;
            assert!(waited.is_ok(), "waited for {what}, and journalctl was asked {:#?}", self.asked());
        }

        /// The process that follows the journal, once it has begun.
        async fn stream(&self) -> String {
            let begun = async {
                loop {
                    match std::fs::read_to_string(self.path("journal.pid")) {
                        Ok(pid) => return pid,
                        Err(_) => sleep(Duration::from_millis(5)).await,
                    }
                }
            };
            let waited = tokio::time::timeout(HANG, begun).await;
            waited.unwrap_or_else(|_| panic!("waited for a stream, and journalctl was asked {:#?}", self.asked()))
        }

        fn start(&mut self, listing: Option<Listing>) {
            let dir = self.dir.path().to_owned();
            let reader = Reader {
                run: run_in(dir),
                query: self.query,
                clock: Clock::system(),
                host: 0,
                wanted: self.wanted.subscribe(),
                listing,
                live: Some(self.live.clone()),
                state: State::default(),
            };
            self.reading = Some(tokio::task::spawn_local(reader.follow()));
        }

        async fn next(&mut self) -> ReaderEvent {
            let event = tokio::time::timeout(HANG, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("nothing came, and journalctl was asked {:#?}", self.asked()));
            event.unwrap().1
        }

        /// The next entries, which must be these.
        async fn expect(&mut self, unit: &str, numbers: std::ops::Range<u64>) {
            for number in numbers {
                match self.next().await {
                    ReaderEvent::Entry(entry) => assert_eq!(entry.message, format!("{unit} {number}")),
                    other => panic!("{other:?} instead of {unit} {number}"),
                }
            }
        }

        fn want(&self, unit: &str, span: Span) {
            self.wanted.send_modify(|wanted| {
                wanted.units.insert(unit.into(), span);
            });
        }
    }

    fn ten() -> Query {
        Query { lines: Some(10), ..Query::default() }
    }

    /// Hosts of which only this one can be reached.
    fn here() -> Hosts {
        let settings = Settings {
            me: "me".into(),
            user: None,
            port: None,
            identities: Vec::new(),
            timeout: HANG,
            known_hosts: None,
            strict: None,
            agent: None,
            home: "/".into(),
        };
        Hosts::new(settings, Vec::new(), |_| ())
    }

    fn run_in(dir: PathBuf) -> impl AsyncFn(&MachineRef, &[String]) -> Result<Running, Error> {
        let hosts = here();
        async move |machine: &MachineRef, argv: &[String]| {
            if dir.join("away").exists() {
                return Err(Error::unreachable("no route to host"));
            }
            let path = format!("PATH={}:/usr/bin:/bin", dir.display());
            let journal = format!("JOURNAL={}", dir.join("journal").display());
            let argv: Vec<String> = ["env".into(), path, journal].into_iter().chain(argv.iter().cloned()).collect();
            hosts.run(machine, &argv, Stdin::Nothing).await
        }
    }

    fn local(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn whatever_breaks_each_entry_comes_once() {
        local(async {
            let mut host = Fake::new(Query::default(), &["a.service"]);
            host.say("a.service", 1..40);
            host.say("other.service", 40..45);
            // The opening dies after its first entry (in the anchor's run, then in the listing), and the stream
            // repeatedly.
            host.append("journal.faults", &["", "3", "", "7", "0", "1", "2", "5", "1", "0", "9"].map(String::from));
            host.start(None);
            host.expect("a.service", 1..40).await;
            for first in (50..130).step_by(8) {
                host.say("a.service", first..first + 8);
                host.expect("a.service", first..first + 8).await;
            }
            assert!(host.asked().len() > 11, "{:?}", host.asked());
        });
    }

    #[test]
    fn a_host_that_has_said_nothing_yet_loses_nothing_either() {
        local(async {
            let mut host = Fake::new(Query { lines: Some(0), ..Query::default() }, &["a.service"]);
            host.say("a.service", 1..20);
            // The stream dies before its first entry, more than once.
            host.append("journal.faults", &["", "", "0", "0", "1"].map(String::from));
            host.start(None);
            host.until_asked("a second stream", |asked| asked.len() >= 3).await;
            host.say("a.service", 20..60);
            host.expect("a.service", 20..60).await;
        });
    }

    #[test]
    fn a_rebooted_host_with_a_new_journal_goes_on() {
        local(async {
            let mut host = Fake::new(ten(), &["a.service"]);
            host.say("a.service", 1..4);
            host.start(None);
            host.expect("a.service", 1..4).await;
            let stream = host.stream().await;
            std::fs::write(host.path("away"), "").unwrap();
            let away = std::fs::read_to_string(host.path("journal")).unwrap();
            let killed = std::process::Command::new("kill").args(["-9", &stream]).status().unwrap();
            assert!(killed.success());
            let ReaderEvent::Lost(_, why) = host.next().await else { panic!("it is lost") };
            assert_eq!(why, "no route to host");
            // Numbers begin again, in another sequence and boot.
            host.say("a.service", 1..3);
            let now = std::fs::read_to_string(host.path("journal")).unwrap();
            let fresh = now.strip_prefix(&away).unwrap().replace("s=a;", "s=new;").replace(";b=b;", ";b=new;");
            std::fs::write(host.path("journal"), fresh).unwrap();
            std::fs::remove_file(host.path("away")).unwrap();
            assert!(matches!(host.next().await, ReaderEvent::Back));
            host.expect("a.service", 1..3).await;
        });
    }

    #[test]
    fn a_unit_that_comes_later_has_all_since_it_came_and_the_others_lose_nothing() {
        local(async {
            let mut host = Fake::new(ten(), &["a.service"]);
            host.start(None);
            let began = Clock::system().now_ms();
            // From its last time here, long ago.
            let old = line("b.service", 1, (began - 60_000) * 1000, "long ago");
            host.append("journal", &[old]);
            host.say("b.service", 2..5);
            host.say("a.service", 5..9);
            host.expect("a.service", 5..9).await;
            host.want("b.service", Span { begin: Some(began), end: None });
            host.expect("b.service", 2..5).await;
            host.say("a.service", 10..14);
            host.say("b.service", 14..17);
            host.expect("a.service", 10..14).await;
            host.expect("b.service", 14..17).await;
        });
    }

    #[test]
    fn a_unit_that_has_left_is_read_to_its_end() {
        local(async {
            let mut host = Fake::new(ten(), &["a.service"]);
            host.say("a.service", 1..3);
            host.start(None);
            host.expect("a.service", 1..3).await;
            let end = Clock::system().now_ms();
            host.want("a.service", Span { begin: None, end: Some(end) });
            host.say_at(end, "a.service", 3..6);
            host.expect("a.service", 3..6).await;
            let late = Clock::system().now_ms() + SLACK_MS + 1_000;
            host.append("journal", &[line("a.service", 7, late * 1000, "of somebody else's start")]);
            let last_read = |asked: &[String]| asked.last().is_some_and(|asked| !asked.contains("--follow"));
            host.until_asked("the last read", last_read).await;
            let asked = host.asked().len();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!((host.asked().len(), host.events.try_recv().is_err()), (asked, true), "nobody asks it any more");
            // It comes back, and another one arrives, while nothing else is read from the host.
            let again = late + SLACK_MS + 1_000;
            host.want("a.service", Span { begin: Some(again), end: None });
            host.want("b.service", Span { begin: Some(again), end: None });
            host.append("journal", &[line("a.service", 8, again * 1000, "a.service 8")]);
            host.append("journal", &[line("b.service", 9, again * 1000, "b.service 9")]);
            host.expect("a.service", 8..9).await;
            host.expect("b.service", 9..10).await;
        });
    }

    #[test]
    fn a_pattern_that_nothing_matches_yet_is_waited_for() {
        local(async {
            let mut host = Fake::new(Query { grep: Some("service".into()), ..ten() }, &["a.service"]);
            // journalctl's response to it, for the initial listing and for a unit that arrives.
            host.append("journal.faults", &["", "none", "", "none"].map(String::from));
            host.start(None);
            let stream = |asked: &[String]| asked.last().is_some_and(|asked| asked.contains("--follow"));
            host.until_asked("a stream", stream).await;
            host.want("b.service", Span { begin: Some(Clock::system().now_ms()), end: None });
            host.say("a.service", 1..3);
            host.expect("a.service", 1..3).await;
            host.say("b.service", 3..5);
            host.expect("b.service", 3..5).await;
        });
    }

    #[test]
    fn what_journalctl_refuses_is_not_tried_again() {
        local(async {
            let mut host = Fake::new(ten(), &["a.service"]);
            host.append("journal.faults", &["".into(), "refuse".into()]);
            host.start(None);
            let end = host.reading.take().unwrap().await.unwrap();
            assert_eq!(end, End::Refused(1, "cannot do that".into()));
        });
    }

    #[test]
    fn a_place_that_is_refused_is_found_by_its_time() {
        local(async {
            let mut host = Fake::new(ten(), &["a.service"]);
            host.say("a.service", 1..3);
            host.append("journal.faults", &["", "", "refuse", "refuse"].map(String::from));
            host.start(None);
            host.expect("a.service", 1..3).await;
            let by_time = |asked: &[String]| asked.last().is_some_and(|asked| asked.contains("--since=@"));
            host.until_asked("a stream that begins at a time", by_time).await;
            host.say("a.service", 3..6);
            host.expect("a.service", 3..6).await;
        });
    }

    #[test]
    fn one_that_cannot_be_reached_holds_nobody_up() {
        local(async {
            let mut host = Fake::new(ten(), &["a.service"]);
            std::fs::write(host.path("away"), "").unwrap();
            let (listing, mut listed) = mpsc::channel(4);
            host.start(Some(listing));
            assert!(tokio::time::timeout(HANG, listed.recv()).await.expect("it gives up").is_none());
            let ReaderEvent::Lost(..) = host.next().await else { panic!("it is lost") };
            host.say("a.service", 1..3);
            std::fs::remove_file(host.path("away")).unwrap();
            assert!(matches!(host.next().await, ReaderEvent::Back));
            host.expect("a.service", 1..3).await;
        });
    }

    #[test]
    fn the_clock_of_a_host_is_taken_into_account() {
        let query = ten();
        let (wanted, receiver) = watch::channel(Wanted {
            machine: MachineRef { id: "a".repeat(32).parse().unwrap(), ip: String::new(), hostname: String::new() },
            units: BTreeMap::new(),
        });
        let reader = Reader {
            run: run_in(Path::new("/").into()),
            query: &query,
            clock: Clock::system(),
            host: 0,
            wanted: receiver,
            listing: None,
            live: None,
            state: State::default(),
        };
        let now = Clock::system().now_ms();
        let ahead = reader.ahead_of_us(format!("{}123456{NOW}", now + 90_000).as_bytes());
        assert!((85_000..=90_000).contains(&ahead), "{ahead}");
        assert_eq!(reader.ahead_of_us(format!("1795255501%N{NOW}").as_bytes()), 0);
        drop(wanted);
    }
}
