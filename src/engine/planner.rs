//! Where a leader computes. Owns the thread for it, so that long computations don't run on the thread that keeps leases
//! alive; must never decide what is computed.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;

type Job = Box<dyn FnOnce() + Send>;

/// Where one term of leadership computes.
pub(super) enum Planner {
    /// On a separate thread. The daemon's runtime has one thread, which also renews the leases of the host's presence
    /// and of leadership: they must not expire while a plan takes long.
    Thread {
        /// The thread ends when this is dropped and it has finished its last job. It doesn't delay the end of the
        /// process.
        jobs: mpsc::Sender<Job>,
        /// Closed when the thread has ended.
        ended: oneshot::Receiver<Infallible>,
    },
    /// On the caller's thread, in a simulation, which can be replayed only if no other thread takes part. Each
    /// computation then takes this long.
    Inline(Duration),
}

impl Planner {
    /// For one term; inline if the clock is simulated.
    ///
    /// # Panics
    /// If the system can't create a thread, as the runtime does for its file operations.
    pub(super) fn start(clock: Clock) -> Self {
        if let Some(takes) = clock.simulated_computing() {
            return Self::Inline(takes);
        }
        let (jobs, queue) = mpsc::channel::<Job>();
        let (alive, ended) = oneshot::channel();
        let work = move || {
            queue.into_iter().for_each(|job| job());
            drop(alive);
        };
        match thread::Builder::new().name("planner".into()).spawn(work) {
            Ok(_) => Self::Thread { jobs, ended },
            Err(error) => panic!("can't start a thread for the planner: {error}"),
        }
    }

    /// Do `work`. It is completed even if the caller stops waiting for the result.
    ///
    /// # Panics
    /// If `work` panics, with the same payload, so that the caller sees no difference.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let jobs = match self {
            Self::Thread { jobs, .. } => jobs,
            Self::Inline(takes) if takes.is_zero() => return work(),
            Self::Inline(takes) => {
                let done = work();
                tokio::time::sleep(*takes).await;
                return done;
            }
        };
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Nothing that `work` left half done is used again. Without a receiver the term of leadership is over.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        };
        // The thread lives as long as this planner, since no job ends it, so neither call can fail.
        let sent = jobs.send(Box::new(job));
        match answered.await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => panic!("the planner's thread has ended: {sent:?}"),
        }
    }

    /// Resolves when the last job is done and the thread has ended.
    pub(super) async fn end(self) {
        if let Self::Thread { jobs, ended } = self {
            drop(jobs);
            let _ = ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    fn planner() -> Planner {
        Planner::start(Clock::system())
    }

    #[tokio::test]
    async fn long_work_stops_no_timer() {
        let (planner, begin) = (planner(), Instant::now());
        let work = planner.run(|| thread::sleep(Duration::from_millis(500)));
        let mut ticks = 0;
        let ticking = async {
            loop {
                sleep(Duration::from_millis(10)).await;
                ticks += 1;
            }
        };
        tokio::select! {
            () = work => {}
            () = ticking => {}
        }
        assert!(begin.elapsed() >= Duration::from_millis(500));
        assert!(ticks >= 5, "{ticks} ticks in half a second of work");
    }

    #[tokio::test]
    async fn a_simulated_clock_computes_inline_and_another_on_one_thread() {
        let here = thread::current().id();
        let inline = Planner::start(Clock::simulated(0));
        assert_eq!(inline.run(|| thread::current().id()).await, here);
        inline.end().await;
        let planner = planner();
        let other = planner.run(|| thread::current().id()).await;
        assert_ne!(other, here);
        assert_eq!(planner.run(|| thread::current().id()).await, other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_computation_takes_the_time_that_it_is_given() {
        let (planner, begin) = (Planner::start(Clock::simulated(0).computing(Duration::from_secs(7))), Instant::now());
        assert_eq!(planner.run(|| 1 + 1).await, 2);
        assert_eq!(begin.elapsed(), Duration::from_secs(7));
    }

    /// As when leadership ends while it plans: the work is given up, and the thread ends with it.
    #[tokio::test]
    async fn the_thread_ends_with_its_last_job_and_not_before() {
        let (planner, done) = (planner(), Arc::new(AtomicBool::new(false)));
        let (go, wait) = mpsc::channel::<()>();
        let work = planner.run({
            let done = Arc::clone(&done);
            move || {
                let _ = wait.recv();
                done.store(true, Ordering::SeqCst);
            }
        });
        assert!(timeout(Duration::from_millis(20), work).await.is_err(), "it waits to be let go");
        let mut end = Box::pin(planner.end());
        assert!(timeout(Duration::from_millis(20), &mut end).await.is_err(), "the thread still works");
        drop(go);
        timeout(Duration::from_secs(60), end).await.unwrap();
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_is_the_callers() {
        let task = tokio::spawn(async { planner().run(|| panic!("no host is like that")).await });
        let panic = task.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"no host is like that"));
    }
}
