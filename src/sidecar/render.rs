//! `render`: a file that always says what is announced. Owns when it is written: after every change, once things are quiet for a moment, and never in
//! the place of a good one unless it is good itself.

mod template;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::live::{self, Instances, Live};
use super::voice::Voice;
use super::{Api, PATIENCE, args, file, shell};

/// How soon a reload that failed is tried again, at first and at most.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// Keep the file up to date until `stop`.
pub(super) async fn run(api: Api, options: args::Render, stop: CancellationToken) -> Result<()> {
    if options.check.as_ref().is_some_and(|check| !check.contains("{}")) {
        bail!("--check must name the file that it checks: write {{}} where its path belongs");
    }
    let live = live::follow(&api, &options.service);
    let mut file = Rendered { options, reload: None };
    if file.options.once {
        return once(&mut file, live).await;
    }
    let voice = Voice::new();
    let keeping = keep(&mut file, live, &voice);
    tokio::select! {
        kept = keeping => kept,
        () = stop.cancelled() => Ok(()),
    }
}

async fn once(file: &mut Rendered, mut live: watch::Receiver<Live>) -> Result<()> {
    // The first failure is one too many: whoever says `once` wants to know.
    let heard = timeout(PATIENCE, live.wait_for(|live| live.heard || live.trouble.is_some())).await;
    let heard = heard.context("fleetd doesn't answer")??.clone();
    if let (false, Some(trouble)) = (heard.heard, heard.trouble) {
        bail!("{trouble}; nothing was written");
    }
    file.update(&heard.instances).await.map_err(|why| anyhow!(why))?;
    file.reload().await.map_err(|why| anyhow!(why))
}

async fn keep(file: &mut Rendered, mut live: watch::Receiver<Live>, voice: &Voice) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ready = Readiness { said: false, old: file.options.out.exists(), begun: Instant::now() };
    let mut lament = String::new();
    loop {
        let now = live.borrow_and_update().clone();
        let mut trouble = String::new();
        if now.heard {
            let updated = file.update(&now.instances).await;
            // Before anything is reloaded: what is to be reloaded may be waiting for this.
            ready.say_if(updated.is_ok() || ready.old, || voice.status(file.standing(&now, "")), voice);
            trouble = match updated {
                Ok(()) => file.reload().await.err().unwrap_or_default(),
                Err(why) => why,
            };
            if trouble != lament && !trouble.is_empty() {
                tracing::warn!("{trouble}");
            }
            lament.clone_from(&trouble);
        } else if ready.old && ready.begun.elapsed() >= PATIENCE {
            // The file of before is better than none for whoever waits for it.
            ready.say_if(true, || {}, voice);
        }
        voice.status(file.standing(&now, &trouble));
        let again =
            file.reload.as_ref().map(|reload| reload.at).or_else(|| (!now.heard).then(|| ready.begun + PATIENCE));
        let again = again.filter(|at| *at > Instant::now() || now.heard);
        tokio::select! {
            changed = live.changed() => {
                changed.context("the list of services is followed no longer")?;
                sleep(file.options.debounce).await;
            }
            _ = hangup.recv() => tracing::info!("told to look again"),
            () = until(again) => {}
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
    fn say_if(&mut self, good: bool, status: impl FnOnce(), voice: &Voice) {
        if good && !std::mem::replace(&mut self.said, true) {
            status();
            voice.ready();
        }
    }
}

/// The file, and what is still to be done for it.
struct Rendered {
    options: args::Render,
    /// It has changed, and whoever reads it hasn't been told with success.
    reload: Option<Reload>,
}

#[derive(Debug, Clone, Copy)]
struct Reload {
    at: Instant,
    wait: Duration,
}

impl Rendered {
    /// Bring the file up to date. Without success it stays as it was.
    async fn update(&mut self, instances: &Instances) -> Result<(), String> {
        let args::Render { out, template, service, check, timeout, mode, .. } = &self.options;
        let kept = |why: String| match out.exists() {
            true => format!("the last good {} is kept: {why}", out.display()),
            false => format!("{} can't be written: {why}", out.display()),
        };
        let text = template::render(template, service, instances).map_err(kept)?;
        if fs::read(out).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        let candidate = file::candidate(out);
        let done = async {
            let name = candidate.display();
            file::write(&candidate, text.as_bytes(), *mode).map_err(|error| format!("{name}: {error}"))?;
            if let Some(check) = check {
                let command = check.replace("{}", &shell::quoted(&candidate.to_string_lossy()));
                let checked = shell::run(&command, *timeout).await;
                checked.map_err(|why| format!("its check fails: {why}"))?;
            }
            file::rename(&candidate, out).map_err(|error| format!("{}: {error}", out.display()))
        };
        if let Err(why) = done.await {
            let _ = fs::remove_file(&candidate);
            return Err(kept(why));
        }
        tracing::info!("{} is written", out.display());
        self.reload = self.options.reload.as_ref().map(|_| Reload { at: Instant::now(), wait: *RETRY.start() });
        Ok(())
    }

    /// Tell whoever reads the file, if that is due.
    async fn reload(&mut self) -> Result<(), String> {
        let (Some(command), Some(due)) = (&self.options.reload, self.reload) else { return Ok(()) };
        if due.at > Instant::now() {
            return Err(String::new());
        }
        match shell::run(command, self.options.timeout).await {
            Ok(()) => {
                self.reload = None;
                Ok(())
            }
            Err(why) => {
                self.reload = Some(Reload { at: Instant::now() + due.wait, wait: (due.wait * 2).min(*RETRY.end()) });
                Err(format!("{} is up to date, but the reload fails: {why}", self.options.out.display()))
            }
        }
    }

    /// `/etc/haproxy/haproxy.cfg is up to date: 7 instances of 3 services`, or what is wrong.
    fn standing(&self, live: &Live, trouble: &str) -> String {
        let mut line = if !trouble.is_empty() {
            trouble.to_owned()
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

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// For the messages of templates: the file's own name.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
