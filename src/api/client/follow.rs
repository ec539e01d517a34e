//! Follows a watch: reopens it when it breaks, with exponential backoff, and reports when everything was received
//! again. The only such loop; the meaning of a line is up to its user.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use super::{Client, ClientError, Watch};
use crate::api::wire::services::ServiceLine;
use crate::api::wire::{ErrorDetail, RolloutLine, WatchLine};

/// Wait before the first attempt after a failure; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A shorter outage isn't reported to a person: a restart of `fleetd` takes less.
const QUIET: Duration = Duration::from_secs(1);

/// A line of a watch.
pub trait Line: DeserializeOwned {
    /// Whether everything up to now has been received.
    fn is_synced(&self) -> bool;
    /// The reason if the stream ends with this line.
    fn error(&self) -> Option<&str>;
}

/// All watches end the first list, and themselves, in the same way.
macro_rules! lines {
    ($($line:ty),*) => {$(
        impl Line for $line {
            fn is_synced(&self) -> bool {
                matches!(self, Self::Synced(_))
            }

            fn error(&self) -> Option<&str> {
                if let Self::Error(why) = self { Some(why) } else { None }
            }
        }
    )*};
}

lines!(WatchLine, ServiceLine, RolloutLine);

/// For whom a watch is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A person, to whom an outage is reported once, when it has lasted a second, and for whom an answer that won't
    /// change ends it: a refusal (4xx), or one that can't be decoded.
    APerson,
    /// A daemon, which logs an outage at once, again for each new reason, and never gives up.
    ADaemon,
}

/// What is delivered.
#[derive(Debug)]
pub enum News<L> {
    /// A new stream is open: everything is sent again, up to the next line that [`Line::is_synced`].
    Begun,
    /// A line; never one with an error.
    Line(L),
    /// The stream has ended. The last lines are all that is known until [`News::Begun`].
    Broken,
    /// `fleetd` or its store is unreachable, with the reason.
    Lost(ClientError),
    /// After [`News::Lost`]: everything has been received again.
    Back,
}

/// A watch that is followed.
pub struct Follow<'a, L> {
    client: &'a Client,
    path: String,
    whom: For,
    connection: Connection<'a, L>,
    wait: Duration,
    /// Since when there has been no complete stream, and what was reported about it.
    lost: Option<(Instant, Option<String>)>,
    queue: VecDeque<News<L>>,
}

/// Kept here and not on the stack, so that a caller that stops waiting loses nothing.
enum Connection<'a, L> {
    Pausing(Instant),
    Opening(BoxFuture<'a, Result<Watch<L>, ClientError>>),
    Open(Watch<L>),
}

impl<'a, L: Line + 'a> Follow<'a, L> {
    pub(super) fn new(client: &'a Client, path: String, whom: For) -> Self {
        let connection = Connection::Pausing(Instant::now());
        Self { client, path, whom, connection, wait: FIRST_WAIT, lost: None, queue: VecDeque::new() }
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// Only for a person: [`ClientError::Api`] below 500, and [`ClientError::Protocol`].
    pub async fn next(&mut self) -> Result<News<L>, ClientError> {
        loop {
            if let Some(news) = self.queue.pop_front() {
                return Ok(news);
            }
            match &mut self.connection {
                Connection::Pausing(until) => {
                    sleep_until(*until).await;
                    let (client, path) = (self.client, self.path.clone());
                    self.connection = Connection::Opening(Box::pin(async move { client.open(&path).await }));
                }
                Connection::Opening(opening) => match opening.await {
                    Ok(watch) => {
                        self.connection = Connection::Open(watch);
                        return Ok(News::Begun);
                    }
                    Err(error) => self.fail(error)?,
                },
                Connection::Open(watch) => match watch.next().await {
                    Ok(line) => {
                        if let Some(why) = line.error() {
                            let message = why.to_owned();
                            self.reopen(ClientError::Api(ErrorDetail { code: 503, message, problems: Vec::new() }))?;
                        } else {
                            self.note(&line);
                            return Ok(News::Line(line));
                        }
                    }
                    Err(error) => self.reopen(error)?,
                },
            }
        }
    }

    /// Abandon the open stream because of `error`, and open another after a while.
    ///
    /// # Errors
    /// As [`Follow::next`].
    pub fn reopen(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.queue.push_back(News::Broken);
        self.fail(error)
    }

    /// A stream that has sent everything works.
    fn note(&mut self, line: &L) {
        if line.is_synced() {
            self.wait = FIRST_WAIT;
            if let Some((_, Some(_))) = self.lost.take() {
                self.queue.push_back(News::Back);
            }
        }
    }

    fn fail(&mut self, error: ClientError) -> Result<(), ClientError> {
        // 5xx: fleetd answers and its store doesn't, which is temporary as well.
        let lasts = match &error {
            ClientError::Api(detail) => detail.code < 500,
            ClientError::Protocol(_) => true,
            ClientError::Unreachable(_) | ClientError::Partly { .. } => false,
        };
        if lasts && self.whom == For::APerson {
            return Err(error);
        }
        let now = Instant::now();
        let (since, said) = self.lost.get_or_insert((now, None));
        let text = error.to_string();
        let news = match (self.whom, &said) {
            (For::APerson, said) => said.is_none() && now >= *since + QUIET,
            (For::ADaemon, said) => said.as_ref() != Some(&text),
        };
        if news {
            *said = Some(text);
            self.queue.push_back(News::Lost(error));
        }
        self.connection = Connection::Pausing(now + self.wait);
        self.wait = (2 * self.wait).min(LONGEST_WAIT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::revision::Revision;

    fn refused(code: u16, message: &str) -> ClientError {
        ClientError::Api(ErrorDetail { code, message: message.into(), problems: Vec::new() })
    }

    /// What is said about failures, each a second and a half after the one before.
    async fn said(follow: &mut Follow<'_, WatchLine>, failures: &[&str]) -> Vec<String> {
        let mut said = Vec::new();
        for failure in failures {
            follow.fail(refused(503, failure)).unwrap();
            said.extend(follow.queue.drain(..).map(|news| match news {
                News::Lost(error) => error.to_string(),
                other => format!("{other:?}"),
            }));
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        said
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_hears_once_of_an_outage_that_lasts_and_a_daemon_of_each_reason() {
        let client = Client::new(Vec::new(), Duration::from_secs(1));
        let failures = ["a", "a", "b", "b", "a"];
        for (whom, expected) in [(For::APerson, vec!["a"]), (For::ADaemon, vec!["a", "b", "a"])] {
            let mut follow = client.follow(&[], None, whom);
            assert_eq!(said(&mut follow, &failures[..1]).await.len(), usize::from(whom == For::ADaemon), "{whom:?}");
            follow.lost = None;
            assert_eq!(said(&mut follow, &failures).await, expected, "{whom:?}");
            follow.note(&WatchLine::Synced(Revision(1)));
            assert!(matches!(follow.queue.pop_front(), Some(News::Back)), "{whom:?}");
            follow.note(&WatchLine::Synced(Revision(2)));
            assert!(follow.queue.is_empty(), "it was back already");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_wont_change_ends_it_for_a_person_only() {
        let client = Client::new(Vec::new(), Duration::from_secs(1));
        let refusals = || [refused(400, "no"), ClientError::Protocol("what?".into())];
        for refusal in refusals() {
            assert!(client.follow(&[], None, For::APerson).reopen(refusal).is_err());
        }
        for refusal in refusals() {
            assert!(client.follow(&[], None, For::ADaemon).reopen(refusal).is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_between_attempts_grow_and_begin_anew_after_a_whole_picture() {
        let client = Client::new(Vec::new(), Duration::from_secs(1));
        let mut follow = client.follow(&[], None, For::ADaemon);
        let mut waits = Vec::new();
        for attempt in 0..8 {
            if attempt == 7 {
                follow.note(&WatchLine::Synced(Revision(1)));
            }
            follow.fail(refused(503, "a")).unwrap();
            let Connection::Pausing(until) = follow.connection else { panic!("it pauses after a failure") };
            waits.push((until - Instant::now()).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000, 100]);
    }
}
