//! `render`: a file that always says what is announced. Owns when it is written: after every change, once things are
//! quiet for a moment, and never in the place of a good one unless it is good itself.

mod template;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::file::{self, Candidate};
use super::notify::Notifier;
use super::service_watch::{self, Instances, Live, until};
use super::{Api, args, shell};

/// How long to wait for the first list of services, before `--once` gives up or an old file counts as good enough.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// How soon what failed, be it the file or the reload, is tried again, at first and at most. `reconcile::Backoff` is
/// for a store that should be found again within two seconds; a check may cost much, and what it finds wrong is rarely
/// over so soon.
const RETRY_DELAY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// Keep the file up to date until `stop`.
pub(super) async fn run(api: Api, options: args::Render, stop: CancellationToken) -> Result<()> {
    if options.check.as_ref().is_some_and(|check| !check.contains("{}")) {
        bail!("--check must name the file that it checks: write {{}} where its path belongs");
    }
    file::sweep(&options.out);
    let live = service_watch::follow(&api, &options.service);
    let mut file = Rendered::new(options);
    if file.options.once {
        return tokio::select! {
            done = once(&mut file, live) => done,
            () = stop.cancelled() => bail!("stopped before it was done"),
        };
    }
    let notifier = Notifier::new();
    let keeping = keep(&mut file, live, &notifier);
    tokio::select! {
        kept = keeping => kept,
        () = stop.cancelled() => Ok(()),
    }
}

async fn once(file: &mut Rendered, mut live: watch::Receiver<Live>) -> Result<()> {
    // The first failure is one too many: whoever says `once` wants to know.
    let heard = timeout(FIRST_ANSWER_TIMEOUT, live.wait_for(|live| live.heard || live.trouble.is_some())).await;
    let heard = heard.context("fleetd doesn't answer")??.clone();
    if let (false, Some(trouble)) = (heard.heard, heard.trouble) {
        bail!("{trouble}; nothing was written");
    }
    file.update(&heard.instances).await;
    if file.rewrite.is_none() {
        file.tell().await;
    }
    match file.trouble() {
        trouble if trouble.is_empty() => Ok(()),
        trouble => Err(anyhow!(trouble)),
    }
}

async fn keep(file: &mut Rendered, mut live: watch::Receiver<Live>, notifier: &Notifier) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ready = Readiness { said: false, old: file.options.out.exists(), begun: Instant::now() };
    let mut lament = String::new();
    let mut changed = true;
    loop {
        let now = live.borrow_and_update().clone();
        if now.heard {
            if changed || due(file.rewrite.as_ref()) {
                file.update(&now.instances).await;
            }
            // Before anything is reloaded: what is to be reloaded may be waiting for this.
            ready.say_if(file.rewrite.is_none() || ready.old, || notifier.status(file.standing(&now)), notifier);
            // Also when the next version is no good: the last good one is still to be told about.
            if due(file.reload.as_ref()) {
                file.tell().await;
            }
            let trouble = file.trouble();
            if trouble != lament && !trouble.is_empty() {
                tracing::warn!("{trouble}");
            }
            lament = trouble;
        } else if ready.old && ready.begun.elapsed() >= FIRST_ANSWER_TIMEOUT {
            // The file of before is better than none for whoever waits for it.
            ready.say_if(true, || {}, notifier);
        }
        notifier.status(file.standing(&now));
        let again = if now.heard {
            file.next()
        } else {
            Some(ready.begun + FIRST_ANSWER_TIMEOUT).filter(|at| *at > Instant::now())
        };
        tokio::select! {
            heard = live.changed() => {
                heard.context("the list of services is followed no longer")?;
                changed = true;
                sleep(file.options.debounce).await;
            }
            _ = hangup.recv() => {
                changed = true;
                tracing::info!("told to look again");
            }
            () = until(again) => changed = false,
        }
    }
}

/// Whether systemd has been told, and may be told without a file of ours.
struct Readiness {
    said: bool,
    /// There was a file before.
    old: bool,
    begun: Instant,
}

impl Readiness {
    fn say_if(&mut self, good: bool, status: impl FnOnce(), notifier: &Notifier) {
        if good && !std::mem::replace(&mut self.said, true) {
            status();
            notifier.ready();
        }
    }
}

/// The file, and what is still to be done for it.
struct Rendered {
    options: args::Render,
    /// It isn't as it should be.
    rewrite: Option<Task>,
    /// It has changed, and whoever reads it hasn't been told with success.
    reload: Option<Task>,
}

/// Something to be done until it succeeds.
#[derive(Debug, Clone)]
struct Task {
    at: Instant,
    wait: Duration,
    /// Why it failed the last time; nothing, before the first.
    why: String,
}

impl Task {
    fn new() -> Self {
        Self { at: Instant::now(), wait: *RETRY_DELAY.start(), why: String::new() }
    }

    fn failed(self, why: String) -> Self {
        Self { at: Instant::now() + self.wait, wait: (self.wait * 2).min(*RETRY_DELAY.end()), why }
    }
}

fn due(task: Option<&Task>) -> bool {
    task.is_some_and(|task| task.at <= Instant::now())
}

impl Rendered {
    fn new(options: args::Render) -> Self {
        // Whoever reads a file of before may never have been told: a reload that was still to be done ended with its
        // process.
        let reload = (options.reload.is_some() && options.out.exists()).then(Task::new);
        Self { options, rewrite: None, reload }
    }

    /// Bring the file up to date. Without success it stays as it was, and is to be written later.
    async fn update(&mut self, instances: &Instances) {
        let task = self.rewrite.take();
        match self.write(instances).await {
            Ok(false) => {}
            Ok(true) => self.reload = self.options.reload.as_ref().map(|_| Task::new()),
            Err(why) => {
                let out = &self.options.out;
                let why = match out.exists() {
                    true => format!("the last good {} is kept: {why}", out.display()),
                    false => format!("{} can't be written: {why}", out.display()),
                };
                self.rewrite = Some(task.unwrap_or_else(Task::new).failed(why));
            }
        }
    }

    /// Write the file, if it is to be another one; whether it is.
    async fn write(&self, instances: &Instances) -> Result<bool, String> {
        let args::Render { out, template, service, check, timeout, mode, .. } = &self.options;
        let text = template::render(template, service, instances)?;
        if fs::read(out).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(false);
        }
        let candidate =
            Candidate::write(out, text.as_bytes(), *mode).map_err(|error| format!("a new version of it: {error}"))?;
        if let Some(check) = check {
            let command = check.replace("{}", &shell::quoted(&candidate.path().to_string_lossy()));
            shell::run(&command, *timeout).await.map_err(|why| format!("its check fails: {why}"))?;
        }
        candidate.place().map_err(|error| format!("{}: {error}", out.display()))?;
        tracing::info!("{} is written", out.display());
        Ok(true)
    }

    /// Tell whoever reads the file, if somebody is to be told.
    async fn tell(&mut self) {
        let (Some(command), Some(task)) = (&self.options.reload, self.reload.take()) else { return };
        if let Err(why) = shell::run(command, self.options.timeout).await {
            self.reload = Some(task.failed(format!("the reload fails: {why}")));
        }
    }

    /// When there is something to do, if nothing changes before.
    fn next(&self) -> Option<Instant> {
        [&self.rewrite, &self.reload].into_iter().flatten().map(|task| task.at).min()
    }

    /// What is wrong, if anything.
    fn trouble(&self) -> String {
        let why = |task: &Option<Task>| task.as_ref().map(|task| task.why.clone()).unwrap_or_default();
        match (why(&self.rewrite), why(&self.reload)) {
            (file, reload) if reload.is_empty() => file,
            (file, reload) if file.is_empty() => {
                format!("{} is up to date, but {reload}", self.options.out.display())
            }
            (file, reload) => format!("{file}; {reload}"),
        }
    }

    /// `/etc/haproxy/haproxy.cfg is up to date: 7 instances of 3 services`, or what is wrong.
    fn standing(&self, live: &Live) -> String {
        let trouble = self.trouble();
        let mut line = if !trouble.is_empty() {
            trouble
        } else if live.heard {
            let mut services: Vec<_> = live.instances.keys().map(|(service, _)| service).collect();
            services.dedup();
            let (instances, services) = (live.instances.len(), services.len());
            let of = if services == 1 { "service" } else { "services" };
            let what = if instances == 1 { "instance" } else { "instances" };
            format!("{} is up to date: {instances} {what} of {services} {of}", self.options.out.display())
        } else {
            "waiting for word of services".into()
        };
        if let Some(trouble) = &live.trouble {
            line.push_str(&format!("; {trouble}"));
        }
        line
    }
}

/// For the messages of templates: the file's own name.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
