//! The members and what is between them: who leads, what each has applied, which proposals wait, when leases end.
//!
//! Owns the rules by which three members agree, simplified: the history exists once, and a member has applied a part of
//! it; a leader commits while a majority hears it; what it couldn't commit is kept or lost by its successor. Renewals
//! are confirmed by the leader, as in etcd since 3.4.31 and 3.5.13.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flotilla::store::MemberState;
use flotilla::store::etcd::client::{Fault, Message, Outcome};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::history::{History, Proposal};
use super::random::Random;

/// How long a leader without a majority, and a follower without a leader, take to notice it.
const ELECTION: Duration = Duration::from_secs(1);

/// Messages that a member keeps for a slow watch; beyond that, the watch reads the history later.
const BUFFERED: usize = 8;

/// A member.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    /// How often it was started. A connection belongs to one start.
    pub(crate) boot: u64,
    /// Members of different groups don't hear each other.
    pub(crate) group: usize,
    /// How much later than others it applies what was committed.
    pub(crate) lag: Duration,
    pub(crate) applied: u64,
    /// The leader that it knows.
    pub(crate) view: Option<usize>,
    /// Since when it doesn't hear a leader.
    pub(crate) deaf: Option<Instant>,
}

impl Node {
    fn works(&self) -> bool {
        self.up && !self.frozen
    }
}

/// A watch at a member, as the member sees it.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) node: usize,
    pub(crate) begin: Vec<u8>,
    pub(crate) end: Vec<u8>,
    pub(crate) next: u64,
    pub(crate) queue: VecDeque<Message>,
}

type Answer = oneshot::Sender<Result<Outcome, Fault>>;

/// A lease whose time was up: at this moment, its keys were deleted.
pub(crate) type OnExpiry = Box<dyn FnMut(i64) + Send>;

pub(crate) struct World {
    /// The id of the cluster.
    pub(crate) id: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) history: History,
    pub(crate) leader: Option<usize>,
    /// Since when the leader has no majority.
    weak: Option<Instant>,
    /// When the next leader is elected.
    election: Option<Instant>,
    /// The longest election beyond the time to notice that there is no leader.
    pub(crate) longest_election: Duration,
    /// When each revision was committed.
    committed: Vec<(Instant, u64)>,
    /// What a leader without a majority was asked to commit.
    pending: Vec<(Proposal, Answer)>,
    deadlines: BTreeMap<i64, Instant>,
    pub(crate) followers: BTreeMap<u64, Follower>,
    pub(crate) last_id: i64,
    /// The connections that are cut: client and member.
    pub(crate) cuts: BTreeSet<(usize, usize)>,
    /// The probability, per mille, that a connection breaks with a request.
    pub(crate) breaks: u64,
    /// How much longer each answer takes.
    pub(crate) answers_after: Duration,
    pub(crate) random: Random,
    pub(crate) on_expiry: Option<OnExpiry>,
}

impl World {
    pub(crate) fn new(size: usize, mut random: Random) -> Self {
        let leader = usize::try_from(random.within(0..=size as u64 - 1)).ok();
        let node = || Node {
            up: true,
            frozen: false,
            boot: 1,
            group: 0,
            lag: Duration::ZERO,
            applied: 1,
            view: leader,
            deaf: None,
        };
        Self {
            id: random.next(),
            nodes: (0..size).map(|_| node()).collect(),
            history: History::new(),
            leader,
            weak: None,
            election: None,
            longest_election: Duration::from_secs(1),
            committed: Vec::new(),
            pending: Vec::new(),
            deadlines: BTreeMap::new(),
            followers: BTreeMap::new(),
            last_id: 0,
            cuts: BTreeSet::new(),
            breaks: 0,
            answers_after: Duration::ZERO,
            random,
            on_expiry: None,
        }
    }

    /// What a member says about itself.
    pub(crate) fn describe(&self, node: usize) -> MemberState {
        let id = |node: usize| node as u64 + 1;
        let leader = self.nodes[node].view.map_or(0, id);
        MemberState { id: id(node), version: "3.5.16".into(), leader, ..MemberState::default() }
    }

    pub(crate) fn new_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// Whether two members hear each other.
    pub(crate) fn hear(&self, one: usize, other: usize) -> bool {
        let (a, b) = (&self.nodes[one], &self.nodes[other]);
        a.works() && b.works() && a.group == b.group
    }

    fn majority(&self, node: usize) -> bool {
        (0..self.nodes.len()).filter(|other| self.hear(node, *other)).count() > self.nodes.len() / 2
    }

    /// The leader, if it can commit and this member hears it.
    pub(crate) fn led(&self, node: usize) -> Option<usize> {
        self.leader.filter(|leader| self.hear(node, *leader) && self.majority(*leader))
    }

    /// What a member passes on to the leader that it knows: committed at once, or when a leader can.
    pub(crate) fn propose(&mut self, node: usize, proposal: Proposal, answer: Answer) {
        if self.led(node).is_some() {
            // The member may have been killed meanwhile.
            let _ = answer.send(self.commit(&proposal));
        } else if self.nodes[node].view.is_some_and(|leader| self.leader == Some(leader) && self.hear(node, leader)) {
            self.pending.push((proposal, answer));
        }
        // Otherwise the message to the leader is lost.
    }

    fn commit(&mut self, proposal: &Proposal) -> Result<Outcome, Fault> {
        let outcome = self.history.apply(proposal)?;
        match proposal {
            Proposal::Grant(id, ttl) => drop(self.deadlines.insert(*id, Instant::now() + seconds(*ttl))),
            Proposal::Revoke(id) => drop(self.deadlines.remove(id)),
            Proposal::Txn(_) => {}
        }
        self.committed.push((Instant::now(), self.history.revision));
        self.replicate();
        Ok(outcome)
    }

    /// Renew a lease; its TTL in seconds if it exists.
    pub(crate) fn renew(&mut self, lease: i64) -> Option<i64> {
        let ttl = self.history.leases.get(&lease)?.ttl;
        self.deadlines.insert(lease, Instant::now() + seconds(ttl));
        Some(ttl)
    }

    /// Members apply what they have heard, and pass it on to their watches.
    fn replicate(&mut self) {
        let now = Instant::now();
        for node in 0..self.nodes.len() {
            if self.led(node).is_none() {
                continue;
            }
            let lag = if self.leader == Some(node) { Duration::ZERO } else { self.nodes[node].lag };
            let known = self.committed.partition_point(|(at, _)| *at + lag <= now);
            let newest = known.checked_sub(1).map_or(0, |last| self.committed[last].1);
            self.nodes[node].applied = self.nodes[node].applied.max(newest);
        }
        let applied: Vec<u64> = self.nodes.iter().map(|node| node.applied).collect();
        for follower in self.followers.values_mut() {
            fill(&self.history, follower, applied[follower.node]);
        }
    }

    /// The next message of a watch.
    pub(crate) fn next_message(&mut self, id: u64) -> Option<Message> {
        let follower = self.followers.get_mut(&id)?;
        let message = follower.queue.pop_front();
        fill(&self.history, follower, self.nodes[follower.node].applied);
        message.or_else(|| follower.queue.pop_front())
    }

    pub(crate) fn compact(&mut self, revision: u64) {
        self.history.compacted = self.history.compacted.max(revision);
    }

    /// Begin with this history, as members do that were restored from a backup.
    pub(crate) fn restore(&mut self, history: History) {
        self.committed.clear();
        self.pending.clear();
        self.followers.clear();
        self.deadlines.clear();
        for node in &mut self.nodes {
            (node.boot, node.applied) = (node.boot + 1, history.revision);
        }
        self.history = history;
        // The election gives each lease its whole TTL.
        self.step_down();
    }

    /// Let time pass.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        match self.leader {
            Some(leader) if self.majority(leader) => {
                self.weak = None;
                for (proposal, answer) in std::mem::take(&mut self.pending) {
                    let _ = answer.send(self.commit(&proposal));
                }
                self.expire(now);
            }
            Some(_) if now - *self.weak.get_or_insert(now) >= ELECTION => self.step_down(),
            Some(_) => {}
            None => self.elect(now),
        }
        self.look(now);
        self.replicate();
    }

    /// The leader's term ends: what it was asked and couldn't commit may be lost.
    pub(crate) fn step_down(&mut self) {
        self.leader = None;
        self.weak = None;
        self.election = None;
    }

    fn elect(&mut self, now: Instant) {
        let able: Vec<usize> = (0..self.nodes.len()).filter(|node| self.majority(*node)).collect();
        if able.is_empty() {
            self.election = None;
            return;
        }
        let longest = u64::try_from(self.longest_election.as_millis()).unwrap_or(u64::MAX);
        let due = *self.election.get_or_insert_with(|| now + self.random.millis(50..=50.max(longest)));
        if now < due {
            return;
        }
        self.leader = Some(*self.random.pick(&able));
        self.election = None;
        // A new leader gives each lease its whole TTL.
        for (id, lease) in &self.history.leases {
            self.deadlines.insert(*id, now + seconds(lease.ttl));
        }
        for (proposal, answer) in std::mem::take(&mut self.pending) {
            if self.random.chance(500) {
                let _ = answer.send(self.commit(&proposal));
            }
        }
    }

    /// Which leader each member knows.
    fn look(&mut self, now: Instant) {
        for node in 0..self.nodes.len() {
            let heard = self.leader.filter(|leader| self.hear(node, *leader));
            let deaf = &mut self.nodes[node].deaf;
            if heard.is_some() {
                *deaf = None;
                self.nodes[node].view = heard;
            } else if now - *deaf.get_or_insert(now) >= ELECTION {
                self.nodes[node].view = None;
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        let due: Vec<i64> = self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            if self.commit(&Proposal::Revoke(id)).is_ok()
                && let Some(on_expiry) = &mut self.on_expiry
            {
                on_expiry(id);
            }
        }
    }
}

/// Pass on what the member has applied.
fn fill(history: &History, follower: &mut Follower, applied: u64) {
    if follower.next > applied || follower.queue.len() >= BUFFERED {
        return;
    }
    if follower.next < history.compacted {
        follower.queue.push_back(Message::Compacted);
        follower.next = u64::MAX;
        return;
    }
    let changes = history.changes(&follower.begin, &follower.end, follower.next, applied);
    follower.next = applied + 1;
    if !changes.is_empty() {
        follower.queue.push_back(Message::Changes(changes));
    }
}

pub(crate) fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}
