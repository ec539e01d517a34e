//! The host's presence: a lease, and the machine key bound to it. Owns which host may claim a machine id.

use std::fmt;
use std::time::Duration;

use crate::model::format::Format;
use crate::model::machine::{Machine, SYSTEMD};
use crate::model::revision::Revision;
use crate::reconcile::{Backoff, Outage};
use crate::registry::commit::hosts;
use crate::registry::keys::Key;
use crate::registry::{decode, point, unchanged};
use crate::store::lease::Lease;
use crate::store::{Error, Guard, LeaseId, Store};
use crate::systemd::{self, Systemd};

use super::publish::OtherKeys;
use super::{Agent, Cause, Status};

/// The file that records the lease, so that a restarted daemon adopts it and its reports stay.
const LEASE_FILE: &str = "lease";

/// What the first word of that file begins with, since format 2 of the store.
const FORMAT: &str = "format-";

/// The content of that file: `format-<format> <lease> <machine id> <TTL in ms>`.
///
/// Daemons that write format 1 of the store begin with the lease, and the oldest don't write the TTL, which is then
/// assumed to be the current one. They can't read a file that begins with a format, and take a new lease. That is
/// intended: a daemon must not adopt the lease of a newer one. It doesn't know the keys of all reports that are bound
/// to that lease, so these would remain for as long as it renews the lease.
#[derive(Debug, PartialEq, Eq)]
struct Noted {
    format: Format,
    id: LeaseId,
    machine: String,
    ttl: Option<Duration>,
}

impl Noted {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().peekable();
        let format = words.next_if(|word| word.starts_with(FORMAT)).map(|word| word[FORMAT.len()..].parse().ok());
        Some(Self {
            format: format.unwrap_or(Some(Format::FIRST))?,
            id: LeaseId(words.next()?.parse().ok()?),
            machine: words.next()?.into(),
            ttl: words.next().and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
        })
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.format > Format::FIRST {
            write!(f, "{FORMAT}{} ", self.format)?;
        }
        write!(f, "{} {}", self.id.0, self.machine)?;
        self.ttl.map_or(Ok(()), |ttl| write!(f, " {}", ttl.as_millis()))
    }
}

/// systemd's version without what its distribution adds: `252` of `252.39-1~deb12u1`.
fn major(version: &str) -> String {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.chars().take_while(char::is_ascii_digit).collect()
}

/// Why a host can't register now.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Store(#[from] Error),
    /// A host that can't run units must not be assigned any.
    #[error("{0}")]
    Systemd(#[from] systemd::Error),
    #[error(
        "another live host has the machine id {id}: {theirs}, and this is {ours}; give one of them its own \
         (`rm /etc/machine-id && systemd-machine-id-setup`) and restart it"
    )]
    Duplicate { id: String, theirs: String, ours: String },
}

impl Refusal {
    fn cause(&self) -> Cause {
        match self {
            Self::Store(_) => Cause::Store,
            Self::Systemd(_) => Cause::Systemd,
            Self::Duplicate { .. } => Cause::Duplicate,
        }
    }
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Register the host, retrying without limit, and return the lease to which its key is bound.
    pub(super) async fn register(&mut self) -> Lease<S> {
        let mut backoff = Backoff::new(self.options.ttl, self.options.machine.id.as_str());
        let mut outage = Outage::new("the cluster", self.options.clock);
        loop {
            self.heartbeat.beat();
            match self.claim().await {
                Ok(lease) => {
                    outage.works();
                    let machine = &self.options.machine;
                    tracing::info!(machine = %machine.id, ip = machine.ip, "registered");
                    self.status.send_replace(Status::Present {
                        units: self.state.count(),
                        settled: false,
                        unreachable: None,
                    });
                    return lease;
                }
                Err(refusal) => {
                    outage.failed(&refusal);
                    self.status.send_replace(Status::Away { why: refusal.to_string(), cause: refusal.cause() });
                    backoff.wait().await;
                }
            }
        }
    }

    async fn claim(&mut self) -> Result<Lease<S>, Refusal> {
        self.answers().await?;
        let version = major(&self.host.version().await?);
        self.options.machine.builtin.insert(SYSTEMD.into(), version);
        self.read_format().await?;
        let noted = self.noted_lease().await?;
        // The claim to the id is checked first: a refused host must not keep a lease alive.
        let (guard, since) = self.guard(noted.as_ref().map(|noted| noted.id)).await?;
        let lease = self.lease(noted).await?;
        // What is still to come was written while the clock was ahead.
        let now = self.options.clock.now_ms();
        self.options.machine.since = since.map_or(now, |since| since.min(now));
        self.write(&lease, guard).await?;
        Ok(lease)
    }

    /// Check that systemd answers. Any unit will do; the root slice always exists.
    pub(super) async fn answers(&self) -> Result<(), systemd::Error> {
        self.host.units("-.slice".parse().into_iter().collect()).await.map(drop)
    }

    /// The condition on which this host may write its key: the key doesn't exist, belongs to this host according to its
    /// lease or its hostname and address, or is bound to no lease, as no daemon writes it. If it belongs to this host,
    /// also the time since when the host has been registered.
    async fn guard(&self, known: Option<LeaseId>) -> Result<(Guard, Option<u64>), Refusal> {
        let machine = &self.options.machine;
        let key = Key::Machine(machine.id.clone());
        let name = key.to_string();
        let (_, Some(held)) = point(&self.store, &name, None).await? else {
            return Ok((unchanged(&key, None), None));
        };
        let record = decode::<Machine>(&held).ok();
        let is_ours = |record: &Machine| (&record.hostname, &record.ip) == (&machine.hostname, &machine.ip);
        if held.lease.is_some()
            && held.lease != known
            && let Some(other) = record.as_ref().filter(|record| !is_ours(record))
        {
            let show = |m: &Machine| format!("{} ({})", m.hostname, m.ip);
            let (theirs, ours) = (show(other), show(machine));
            return Err(Refusal::Duplicate { id: machine.id.to_string(), theirs, ours });
        }
        let ours = record.filter(|record| is_ours(record) || (held.lease.is_some() && held.lease == known));
        Ok((Guard::Unchanged(name, held.revision), ours.map(|ours| ours.since)))
    }

    /// Write the host's key, bound to `lease`. A host that comes back takes its key over at once; the old lease then
    /// expires without effect. The new revision of the key invalidates every request that this daemon or an earlier one
    /// sent under an older revision.
    async fn write(&mut self, lease: &Lease<S>, guard: Guard) -> Result<(), Error> {
        self.claimed = None;
        let machine = &self.options.machine;
        self.claimed = Some(hosts::register(&self.store, machine, lease.id(), guard).await?);
        Ok(())
    }

    /// The revision of the host's key as this daemon wrote it, which guards its reports. After a report with an unknown
    /// outcome the key is written again, so that the report can't be committed late and overwrite a newer one.
    pub(super) async fn claimed(&mut self, lease: &Lease<S>) -> Result<Revision, Error> {
        if self.claimed.is_none() {
            let (guard, _) = self.guard(Some(lease.id())).await.map_err(|refusal| match refusal {
                Refusal::Store(error) => error,
                // Registering again reports this error until it is resolved.
                _ => Error::Conflict,
            })?;
            tracing::debug!("the host's key is written again, so that no earlier report can take effect");
            self.write(lease, guard).await?;
        }
        self.claimed.ok_or(Error::Conflict)
    }

    /// The lease that the previous daemon recorded. If it was for another machine id it is revoked: that machine no
    /// longer exists and must not appear alive.
    async fn noted_lease(&self) -> Result<Option<Noted>, Error> {
        let Some(text) = self.host.read_boot_file(LEASE_FILE).await.ok().flatten() else { return Ok(None) };
        let Some(noted) = Noted::parse(&text) else { return Ok(None) };
        if noted.machine == self.options.machine.id.as_str() {
            return Ok(Some(noted));
        }
        self.store.revoke(noted.id).await?;
        Ok(None)
    }

    /// The recorded lease if it is still alive, else a new one. A store can't change a lease's TTL: if the TTL was
    /// reconfigured, the old lease expires by itself after everything was bound to the new one.
    async fn lease(&mut self, noted: Option<Noted>) -> Result<Lease<S>, Error> {
        let (ttl, format) = (self.options.ttl, self.options.machine.format);
        let fits = |noted: &&Noted| noted.format <= format && noted.ttl.is_none_or(|noted| noted == ttl);
        let adopted = match noted.as_ref().filter(fits) {
            Some(noted) => match Lease::adopt(&self.store, noted.id, ttl).await {
                Err(Error::LeaseLost) => {
                    tracing::debug!(lease = noted.id.0, "the lease of the previous daemon has ended");
                    None
                }
                adopted => {
                    tracing::debug!(lease = noted.id.0, "adopted the lease of the previous daemon");
                    Some(adopted?)
                }
            },
            None => None,
        };
        // With a lease that isn't continued because it doesn't fit, the reports under it may live for a long time yet.
        let may_live = adopted.is_some() || noted.as_ref().is_some_and(|noted| !fits(&noted));
        self.other_keys = if may_live { OtherKeys::unknown() } else { OtherKeys::None };
        self.unlisted = may_live;
        let lease = match adopted {
            Some(lease) => lease,
            None => Lease::grant(&self.store, ttl).await?,
        };
        let machine = self.options.machine.id.to_string();
        let note = Noted { format, id: lease.id(), machine, ttl: Some(ttl) };
        if noted.as_ref() != Some(&note)
            && let Err(error) = self.host.write_boot_file(LEASE_FILE, &note.to_string()).await
        {
            // Not worth refusing to register: a restarted daemon recognizes its key by hostname and address.
            tracing::warn!(%error, "the lease could not be saved; after a restart, fleetd will use a new one");
        }
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_with_the_lease_is_read_as_every_version_wrote_it() {
        let noted = |format: &str, ttl: Option<u64>| Noted {
            format: format.parse().unwrap(),
            id: LeaseId(77),
            machine: "m".into(),
            ttl: ttl.map(Duration::from_millis),
        };
        for (text, expected) in [
            ("77 m", noted("1", None)),
            ("77 m 10000", noted("1", Some(10_000))),
            ("format-2 77 m 10000", noted("2", Some(10_000))),
            ("format-3 77 m 10000 more", noted("3", Some(10_000))),
        ] {
            assert_eq!(Noted::parse(text).as_ref(), Some(&expected), "{text}");
            assert!(text.starts_with(&expected.to_string()), "{text}: {expected}");
        }
        for damaged in ["", "77", "x m", "format-2", "format-x 77 m"] {
            assert_eq!(Noted::parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_version_is_its_first_number() {
        for (version, expected) in [("252.39-1~deb12u1", "252"), ("v260~rc1", "260"), ("257", "257"), ("", "")] {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    /// Before format 2 the first word was the lease.
    #[test]
    fn an_older_daemon_cannot_adopt_the_lease() {
        let note = Noted { format: Format::CURRENT, id: LeaseId(77), machine: "m".into(), ttl: None }.to_string();
        assert!(note.split_whitespace().next().is_some_and(|word| word.parse::<i64>().is_err()), "{note}");
    }
}
