//! `render`: keeps a file up to date with what is announced. Owns when it is written: after changes, coalesced, and
//! only if the new version passes its check.

mod template;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::model::text::shell_word;

use super::file::{self, Candidate};
use super::notify::Notifier;
use super::service_watch::{self, Instances, Live, until};
use super::{Api, args, shell};

/// How long to wait for the first list of services before `--once` fails, or before an existing file is considered
/// sufficient.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// How soon a failed write or reload is retried, at first and at most. `reconcile::Backoff` is made for a store that
/// must be found again within two seconds; a check may be expensive, and its failures rarely end that soon.
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
    // The first failure is final: with `--once` the caller wants to know it.
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
    let mut warned = String::new();
    let mut changed = true;
    loop {
        let now = live.borrow_and_update().clone();
        if now.heard {
            if changed || due(file.rewrite.as_ref()) {
                file.update(&now.instances).await;
            }
            // Before a reload: the program to reload may be waiting for this sidecar.
            ready.say_if(file.rewrite.is_none() || ready.old, || notifier.status(file.standing(&now)), notifier);
            // Even if the next version is invalid: the last valid one may not have been announced to its readers.
            if due(file.reload.as_ref()) {
                file.tell().await;
            }
            let trouble = file.trouble();
            if trouble != warned && !trouble.is_empty() {
                tracing::warn!("{trouble}");
            }
            warned = trouble;
        } else if ready.old && ready.begun.elapsed() >= FIRST_ANSWER_TIMEOUT {
            // An existing file is better than none for units that wait for this sidecar.
            ready.say_if(true, || {}, notifier);
        }
        notifier.status(file.standing(&now));
        let again = if now.heard {
            file.next()
        } else {
            Some(ready.begun + FIRST_ANSWER_TIMEOUT).filter(|_| ready.old && !ready.said)
        };
        tokio::select! {
            heard = live.changed() => {
                heard.context("the watch of the services has ended")?;
                changed = true;
                sleep(file.options.debounce).await;
            }
            _ = hangup.recv() => {
                changed = true;
                tracing::info!("reading the template again");
            }
            () = until(again) => changed = false,
        }
    }
}

/// Whether systemd was notified, and may be notified before the file is written.
struct Readiness {
    said: bool,
    /// The file existed before.
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

/// The file, and what remains to be done for it.
struct Rendered {
    options: args::Render,
    /// Pending if the file isn't up to date.
    rewrite: Option<Task>,
    /// Pending if the file has changed and the reload command hasn't succeeded since.
    reload: Option<Task>,
}

/// Something to be done until it succeeds.
#[derive(Debug, Clone)]
struct Task {
    at: Instant,
    wait: Duration,
    /// The last failure; empty before the first attempt.
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
        // An earlier process may have ended before the reload for its file.
        let reload = (options.reload.is_some() && options.out.exists()).then(Task::new);
        Self { options, rewrite: None, reload }
    }

    /// Bring the file up to date. If this fails the file stays as it was, and is written later.
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

    /// Write the file if its content changes; returns whether it does.
    async fn write(&self, instances: &Instances) -> Result<bool, String> {
        let args::Render { out, template, service, check, timeout, mode, .. } = &self.options;
        let text = template::render(template, service, instances)?;
        if fs::read(out).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(false);
        }
        let candidate =
            Candidate::write(out, text.as_bytes(), *mode).map_err(|error| format!("a new version of it: {error}"))?;
        if let Some(check) = check {
            let command = check.replace("{}", &shell_word(&candidate.path().to_string_lossy()));
            shell::run(&command, *timeout).await.map_err(|why| format!("its check fails: {why}"))?;
        }
        candidate.place().map_err(|error| format!("{}: {error}", out.display()))?;
        tracing::info!("{} is written", out.display());
        Ok(true)
    }

    /// Run the reload command, if it is due.
    async fn tell(&mut self) {
        let (Some(command), Some(task)) = (&self.options.reload, self.reload.take()) else { return };
        if let Err(why) = shell::run(command, self.options.timeout).await {
            self.reload = Some(task.failed(format!("the reload fails: {why}")));
        }
    }

    /// When the next retry is due.
    fn next(&self) -> Option<Instant> {
        [&self.rewrite, &self.reload].into_iter().flatten().map(|task| task.at).min()
    }

    /// The failures, if there are any.
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

    /// `/etc/haproxy/haproxy.cfg is up to date: 7 instances of 3 services`, or the failures.
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
            "waiting for the list of services".into()
        };
        if let Some(trouble) = &live.trouble {
            line.push_str(&format!("; {trouble}"));
        }
        line
    }
}

/// The file's name, for messages of templates.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
