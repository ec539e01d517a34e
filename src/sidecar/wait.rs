//! `wait`: ends when enough instances of a service are announced. Owns which of them count, and what is said meanwhile;
//! must never announce anything, nor tell systemd that a unit is ready: it also runs as an `ExecStartPre=`, when the
//! unit itself has yet to start.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::args;
use super::notify::Notifier;
use super::service_watch::{self, Live, until};
use crate::model::service::ServiceName;

/// Carry out `wait`.
///
/// # Errors
/// It waits no longer: the time is over, or it is told to stop.
pub(super) async fn run(api: Api, options: args::Wait, stop: CancellationToken) -> Result<()> {
    let args::Wait { service, min, timeout } = options;
    let mut live = service_watch::follow(&api, std::slice::from_ref(&service));
    let (notifier, deadline) = (Notifier::new(), timeout.map(|timeout| Instant::now() + timeout));
    loop {
        let wait = Wait::of(&live.borrow_and_update(), &service, min as usize);
        if wait.is_over() {
            tracing::info!("{}", wait.seen());
            return Ok(());
        }
        notifier.status(wait.to_string());
        tokio::select! {
            changed = live.changed() => changed?,
            () = until(deadline) => bail!("{}", wait.given_up(timeout.unwrap_or_default())),
            () = stop.cancelled() => bail!("stopped while {wait}"),
        }
    }
}

/// What is waited for, and what was announced so far.
#[derive(Debug, PartialEq, Eq)]
struct Wait {
    service: ServiceName,
    min: usize,
    /// The instances that get connections.
    up: usize,
    /// Those with weight 0.
    held: usize,
    /// Whether the API has ever said what is announced.
    heard: bool,
    /// Why it can't be asked at present.
    trouble: Option<String>,
}

impl Wait {
    fn of(live: &Live, service: &ServiceName, min: usize) -> Self {
        let count = |is: fn(u16) -> bool| {
            let instances = live.instances.iter().filter(|((of, _), _)| of == service);
            instances.filter(|(_, instance)| is(instance.is.weight)).count()
        };
        let (up, held) = (count(|weight| weight > 0), count(|weight| weight == 0));
        let (service, trouble) = (service.clone(), live.trouble.clone());
        Self { service, min, up, held, heard: live.heard, trouble }
    }

    fn is_over(&self) -> bool {
        self.up >= self.min
    }

    /// `web: 1 instance is announced`.
    fn seen(&self) -> String {
        if !self.heard {
            return format!("{}: nothing is known of it yet", self.service);
        }
        let announced = match self.up {
            0 => "no instance is announced".to_owned(),
            1 => "1 instance is announced".to_owned(),
            up => format!("{up} instances are announced"),
        };
        let held = if self.held > 0 { format!(", and {} with weight 0", self.held) } else { String::new() };
        format!("{}: {announced}{held}", self.service)
    }

    fn given_up(&self, after: Duration) -> String {
        let trouble = self.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{}, and {} needed; not waited longer than {after:?}{trouble}", self.seen(), are(self.min))
    }
}

/// `waiting for 2 instances of web; web: 1 instance is announced`.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instances = if self.min == 1 { "an instance".to_owned() } else { format!("{} instances", self.min) };
        write!(f, "waiting for {instances} of {}; {}", self.service, self.seen())?;
        self.trouble.as_ref().map_or(Ok(()), |why| write!(f, "; {why}"))
    }
}

fn are(number: usize) -> String {
    if number == 1 { "1 is".into() } else { format!("{number} are") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::wire::services::InstanceView;
    use crate::model::service::{Instance, InstanceName};

    /// What is known when these instances are announced, with these weights.
    fn live(weights: &[(&str, u16)]) -> Live {
        let instance = |(at, (service, weight)): (usize, &(&str, u16))| {
            let is = Instance { weight: *weight, ..Instance::new("10.0.0.1", 1) };
            let name: (ServiceName, InstanceName) = (service.parse().unwrap(), format!("i{at}").parse().unwrap());
            let (service, instance) = name.clone();
            (name, Arc::new(InstanceView { service, instance, is }))
        };
        let instances = Arc::new(weights.iter().enumerate().map(instance).collect());
        Live { instances, heard: true, trouble: None }
    }

    fn wait(live: &Live, min: usize) -> Wait {
        Wait::of(live, &"web".parse().unwrap(), min)
    }

    #[test]
    fn instances_that_get_connections_count() {
        for (weights, min, over, seen) in [
            (&[][..], 1, false, "web: no instance is announced"),
            (&[("web", 1)], 1, true, "web: 1 instance is announced"),
            (&[("web", 1)], 2, false, "web: 1 instance is announced"),
            (&[("web", 1), ("web", 256)], 2, true, "web: 2 instances are announced"),
            (&[("web", 0)], 1, false, "web: no instance is announced, and 1 with weight 0"),
            (&[("web", 0), ("web", 5), ("db", 1)], 2, false, "web: 1 instance is announced, and 1 with weight 0"),
        ] {
            let wait = wait(&live(weights), min);
            assert_eq!((wait.is_over(), wait.seen().as_str()), (over, seen), "{weights:?}");
        }
    }

    #[test]
    fn what_is_waited_for_is_said_and_what_was_seen() {
        let one = wait(&live(&[]), 1);
        assert_eq!(one.to_string(), "waiting for an instance of web; web: no instance is announced");
        let after = Duration::from_secs(30);
        assert_eq!(one.given_up(after), "web: no instance is announced, and 1 is needed; not waited longer than 30s");
        let trouble = Some("can't reach fleetd at /run/fleet.sock".to_owned());
        let lost = wait(&Live { trouble: trouble.clone(), ..live(&[("web", 1)]) }, 2);
        let shown =
            "waiting for 2 instances of web; web: 1 instance is announced; can't reach fleetd at /run/fleet.sock";
        assert_eq!(lost.to_string(), shown);
        let never = wait(&Live { trouble, ..Live::default() }, 2);
        assert!(!never.is_over());
        let expected = "web: nothing is known of it yet, and 2 are needed; not waited longer than 30s: \
                        can't reach fleetd at /run/fleet.sock";
        assert_eq!(never.given_up(after), expected);
    }
}
