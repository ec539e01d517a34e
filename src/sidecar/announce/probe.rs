//! Whether the check of an instance passes. Owns when it is made; the room `probe` makes it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Stand;
use crate::model::health::Verdict;
use crate::model::probe::{HTTP, Probe, Target, words};
use crate::probe::{self, Endpoint};
use crate::sidecar::{args, shell};

/// The interval until it is up for the first time, since others wait for it.
const EAGER: Duration = Duration::from_millis(250);

/// Check `target` until the receiver is dropped.
pub(super) fn follow(check: Probe, target: (String, u16), options: &args::Announce) -> watch::Receiver<Stand> {
    let first = Stand::down(format!("waiting for its check ({check})"));
    let (tell, stand) = watch::channel(first);
    let (interval, limit) = (options.interval, options.timeout);
    let (mut verdict, rise, fall) = (Verdict::new(false), options.rise, options.fall);
    tokio::spawn(async move {
        let mut began = false;
        while !tell.is_closed() {
            let next = Instant::now() + if began { interval } else { interval.min(EAGER) };
            let answer = make(&check, &target, limit).await;
            if verdict.take(answer.is_ok(), rise, fall) {
                began = true;
                let why = match &answer {
                    Ok(()) => String::new(),
                    Err(why) => format!("its check ({check}) fails: {why}"),
                };
                tracing::info!("{}", if why.is_empty() { "its check passes" } else { &why });
                tell.send_replace(if verdict.up { Stand::up() } else { Stand::down(why) });
            } else if let (false, Err(why)) = (began, &answer) {
                let why = format!("its check ({check}) fails: {why}");
                tell.send_if_modified(|stand| std::mem::replace(&mut stand.why, why.clone()) != why);
            }
            sleep_until(next).await;
        }
    });
    stand
}

async fn make(check: &Probe, (address, port): &(String, u16), limit: Duration) -> Result<(), String> {
    // The check itself may not say where that is.
    let at = |endpoint: Endpoint| move |why: String| format!("{endpoint}: {why}");
    match check {
        Probe::Tcp(target) => {
            let endpoint = Endpoint::of(target, address, *port);
            probe::tcp(&endpoint, limit).await.map_err(at(endpoint))
        }
        Probe::Http { target, path } => {
            let endpoint = endpoint(target, address, *port);
            probe::http(&endpoint, path, limit).await.map_err(at(endpoint))
        }
        Probe::Exec(command) => shell::run_program(&words(command)?, limit).await,
        Probe::Shell(command) => shell::run(command, limit).await,
    }
}

/// A host that is named without a port is asked at that of HTTP.
fn endpoint(target: &Target, address: &str, port: u16) -> Endpoint {
    let port = if target.host.is_some() { HTTP } else { port };
    Endpoint::of(target, address, port)
}
