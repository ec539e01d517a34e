//! `announce`: announces an instance while its unit is active, its check passes, and this process lives. Owns when it
//! is announced, renewed and withdrawn; `unit` and `probe` decide whether it should be.

mod probe;
mod unit;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::notify::Notifier;
use super::{Api, RECONNECT_BACKOFF, REQUEST_TIMEOUT, args, brief};
use crate::api::client::{By, Client, ClientError};
use crate::api::wire::MachineView;
use crate::api::wire::services::{Announce, Announced, InstanceRef};
use crate::model::service::InstanceName;
use crate::reconcile::Backoff;

/// Every this many renewals the complete announcement is sent, which restores it if it was deleted without using the
/// API.
const WHOLE: u32 = 10;

/// How long a stopping sidecar tries to withdraw its announcement.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a unit and its check may take to come up before the obstacle is logged. Nearly all need a moment.
const GRACE: Duration = Duration::from_secs(2);

/// The verdict of a unit or a check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    up: bool,
    /// What it is waiting for, or why it isn't up.
    why: String,
    /// Whether it is to get no new connections although it is up, because its rollout only previews it.
    preview: bool,
}

impl Stand {
    fn up() -> Self {
        Self { up: true, why: String::new(), preview: false }
    }

    fn down(why: String) -> Self {
        Self { up: false, why, preview: false }
    }
}

/// Announce until `stop`.
pub(super) async fn run(api: Api, options: args::Announce, stop: CancellationToken) -> Result<()> {
    let notifier = Notifier::new();
    let client = api.client(REQUEST_TIMEOUT.min(Duration::from_secs(options.ttl.into()) / 3));
    let here = tokio::select! {
        here = here(&client, &notifier) => here?,
        () = stop.cancelled() => return Ok(()),
    };
    let (instance, announce) = wanted(&options, &here)?;
    let mut parts = Vec::new();
    if let Some(unit) = &options.unit {
        parts.push(unit::follow(&api, unit.clone(), here.id.clone()));
    }
    if let Some(check) = &options.check {
        let target = (announce.address.clone(), announce.port);
        parts.push(probe::follow(check.clone(), target, &options));
    }
    let keeper = Keeper {
        client,
        instance,
        announce,
        notifier,
        lease: None,
        doubtful: false,
        preview: false,
        ready: false,
        mute: Instant::now() + GRACE,
        logged: String::new(),
    };
    keeper.run(parts, options.drain, stop).await
}

/// This host, retrying until fleetd knows it.
async fn here(client: &Client, notifier: &Notifier) -> Result<MachineView> {
    let mut backoff = Backoff::new(RECONNECT_BACKOFF, &std::process::id().to_string());
    let mut logged = String::new();
    loop {
        let why = match client.machines().await {
            Ok(list) => {
                let Some(id) = list.here else {
                    bail!("this fleetd doesn't report which host it is on: it is older than this sidecar")
                };
                match list.machines.into_iter().find(|machine| machine.id == id) {
                    Some(machine) => return Ok(machine),
                    None => "this host isn't registered".into(),
                }
            }
            Err(error) => brief(&error),
        };
        if why != logged {
            tracing::warn!("{why}; retrying");
            notifier.status(format!("waiting for fleetd: {why}"));
            logged = why;
        }
        backoff.wait().await;
    }
}

/// The announcement to make.
fn wanted(options: &args::Announce, here: &MachineView) -> Result<(InstanceRef, Announce)> {
    let address = options.address.clone().unwrap_or_else(|| here.ip.clone());
    if address.is_empty() {
        bail!("this host has no address (see public_ip in fleet.conf); give one with --address");
    }
    let host = if here.hostname.is_empty() { here.id.short() } else { &here.hostname };
    let name = match &options.instance {
        Some(name) => name.clone(),
        None => InstanceName::of(options.unit.as_ref(), host, options.port).context("name it with --instance")?,
    };
    let whose = options.unit.as_ref().map_or_else(|| format!("{address}:{}", options.port), ToString::to_string);
    let announce = Announce {
        address,
        port: options.port,
        weight: options.weight,
        unit: options.unit.clone(),
        metadata: options.metadata.iter().cloned().collect(),
        // The same unit on the same host is the same owner, also after a crash.
        owner: format!("{}/{whose}", here.id),
        ttl: options.ttl,
        lease: None,
    };
    // Announcements that the API would always refuse are reported at once.
    let problems = announce.clone().instance(None, String::new(), 0).problems();
    if !problems.is_empty() {
        bail!(problems.join("\n"));
    }
    Ok((InstanceRef { service: options.service.clone(), instance: name }, announce))
}

/// Keeps one announcement alive.
struct Keeper {
    client: Client,
    instance: InstanceRef,
    announce: Announce,
    notifier: Notifier,
    lease: Option<Lease>,
    /// An announcement was sent and not answered, so it may exist.
    doubtful: bool,
    /// Whether the last announcement that was sent had weight 0 because of a preview.
    preview: bool,
    ready: bool,
    /// Before this time, the log doesn't mention why it isn't announced.
    mute: Instant,
    /// The reason that was logged last. If systemd ends the sidecar because it doesn't get ready, the log contains it.
    logged: String,
}

/// The lease of the announcement.
#[derive(Debug)]
struct Lease {
    id: String,
    ttl: Duration,
    /// When the last successful renewal was sent.
    asked: Instant,
    renewals: u32,
}

impl Keeper {
    async fn run(
        mut self,
        mut parts: Vec<watch::Receiver<Stand>>,
        drain: Duration,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut backoff = Backoff::new(RECONNECT_BACKOFF, &std::process::id().to_string());
        let mut warned = String::new();
        while !stop.is_cancelled() {
            let stands: Vec<Stand> = parts.iter_mut().map(|part| part.borrow_and_update().clone()).collect();
            let next = match self.step(&stands).await {
                Ok(next) => {
                    backoff.reset();
                    warned.clear();
                    next
                }
                Err(why) => {
                    if why != warned {
                        tracing::warn!("{why}");
                        warned.clone_from(&why);
                    }
                    self.notifier.status(self.standing(&why));
                    Some(Instant::now() + backoff.next_wait())
                }
            };
            let waiting = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = waiting => {}
                () = any_changed(&mut parts) => {}
            }
        }
        self.withdraw_and_drain(drain).await;
        Ok(())
    }

    /// Do what is due; returns when to look again if nothing changes before.
    async fn step(&mut self, stands: &[Stand]) -> Result<Option<Instant>, String> {
        if let Some(Stand { why, .. }) = stands.iter().find(|stand| !stand.up) {
            let withdrawn = self.withdraw().await?;
            self.notifier.status(format!("not announced: {why}"));
            if withdrawn {
                tracing::info!("withdrawn: {why}");
            } else if !self.ready && self.logged != *why {
                if Instant::now() < self.mute {
                    return Ok(Some(self.mute));
                }
                tracing::warn!("not announced yet: {why}");
                self.logged.clone_from(why);
            }
            return Ok(None);
        }
        let preview = stands.iter().any(|stand| stand.preview);
        let renews = self.preview == preview;
        if let Some(lease) = self.lease.as_ref().filter(|_| renews) {
            let due = lease.asked + lease.ttl / 3;
            if due > Instant::now() {
                return Ok(Some(due));
            }
        }
        self.preview = preview;
        self.keep(renews).await?;
        let lease = self.lease.as_ref();
        Ok(lease.map(|lease| lease.asked + lease.ttl / 3))
    }

    /// Announce, or renew if that is enough.
    async fn keep(&mut self, renews: bool) -> Result<(), String> {
        let asked = Instant::now();
        let renewals = self.lease.as_ref().map_or(0, |lease| lease.renewals + 1);
        if let Some(lease) = &self.lease
            && renews
            && !renewals.is_multiple_of(WHOLE)
        {
            match self.client.keep_alive(&self.instance, &lease.id).await {
                Ok(answer) => {
                    self.lease = Some(answer.at(asked, renewals));
                    return Ok(());
                }
                Err(ClientError::Api(error)) if error.code == 404 => {
                    tracing::warn!("the announcement has ended; announcing again");
                    self.lease = None;
                }
                Err(error) => return Err(brief(&error)),
            }
        }
        let held = self.lease.as_ref().map(|lease| lease.id.clone());
        let weight = if self.preview { 0 } else { self.announce.weight };
        let announce = Announce { lease: held, weight, ..self.announce.clone() };
        match self.client.announce(&self.instance, &announce).await {
            Ok(answer) => {
                if self.lease.is_none() {
                    let (InstanceRef { service, instance }, Announce { address, port, .. }) =
                        (&self.instance, &announce);
                    tracing::info!("{instance} of {service} is announced at {address} port {port}");
                }
                self.lease = Some(answer.at(asked, renewals));
                self.doubtful = false;
                self.notifier.status(self.standing(""));
                if !std::mem::replace(&mut self.ready, true) {
                    self.notifier.ready();
                }
                Ok(())
            }
            Err(error) => {
                match &error {
                    // It belongs to another owner now.
                    ClientError::Api(detail) if detail.code == 409 => self.lease = None,
                    ClientError::Api(detail) if detail.code < 500 => {}
                    _ => self.doubtful = true,
                }
                Err(brief(&error))
            }
        }
    }

    /// Withdraw the announcement if it exists or may exist; returns whether it did.
    async fn withdraw(&mut self) -> Result<bool, String> {
        let by = match &self.lease {
            Some(lease) => By::Lease(&lease.id),
            None if self.doubtful => By::Owner(&self.announce.owner),
            None => return Ok(false),
        };
        match self.client.withdraw(&self.instance, by).await {
            Ok(()) => {}
            // It has ended already, or belongs to another owner.
            Err(ClientError::Api(error)) if matches!(error.code, 404 | 409) => {}
            Err(error) => return Err(brief(&error)),
        }
        (self.lease, self.doubtful) = (None, false);
        Ok(true)
    }

    async fn withdraw_and_drain(&mut self, drain: Duration) {
        let begun = Instant::now();
        let mut backoff = Backoff::new(RECONNECT_BACKOFF, "");
        let withdrawn = loop {
            match tokio::time::timeout_at(begun + WITHDRAW_TIMEOUT, self.withdraw()).await {
                Ok(Ok(withdrawn)) => break withdrawn,
                Ok(Err(_)) if begun.elapsed() < WITHDRAW_TIMEOUT => backoff.wait().await,
                _ => {
                    let ttl = self.announce.ttl;
                    tracing::warn!("can't withdraw the announcement; it expires within {ttl} s");
                    break true;
                }
            }
        };
        if withdrawn && !drain.is_zero() {
            self.notifier.status("withdrawn; waiting for consumers to finish their requests");
            sleep(drain).await;
        }
    }

    /// `announced at 10.88.0.11 port 8080`, and the problem, if there is one.
    fn standing(&self, trouble: &str) -> String {
        let Announce { address, port, .. } = &self.announce;
        match &self.lease {
            Some(_) if trouble.is_empty() && self.preview => {
                format!("announced at {address} port {port} with weight 0: its rollout previews it")
            }
            Some(_) if trouble.is_empty() => format!("announced at {address} port {port}"),
            Some(lease) if lease.asked.elapsed() < lease.ttl => {
                format!("announced at {address} port {port}, but it can't be renewed: {trouble}")
            }
            Some(_) => format!("the announcement may have ended: {trouble}"),
            None => format!("not announced: {trouble}"),
        }
    }
}

impl Announced {
    fn at(self, asked: Instant, renewals: u32) -> Lease {
        Lease { id: self.lease, ttl: Duration::from_secs(self.ttl.max(1).into()), asked, renewals }
    }
}

/// Wait until one of `parts` has changed. One whose sender is gone keeps its value.
async fn any_changed(parts: &mut [watch::Receiver<Stand>]) {
    let changes = parts.iter_mut().map(|part| {
        Box::pin(async move {
            if part.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let changes: Vec<_> = changes.collect();
    if changes.is_empty() {
        std::future::pending::<()>().await;
    }
    futures_util::future::select_all(changes).await;
}
