//! etcd servers for tests: started on free ports of the loopback, in a temporary folder, and killed with the test.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flotilla::store::etcd::{Etcd, Options};
use flotilla::store::{Range, Revision, Store};
use rustix::process::{Pid, Signal, kill_process};

use crate::port::Port;
use crate::support::{Backend, until};

/// One member of a cluster, running or not.
pub(crate) struct Member {
    name: String,
    client: Port,
    peer: Port,
    cluster: String,
    dir: PathBuf,
    child: Option<Child>,
}

impl Member {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.client.address())
    }

    pub(crate) fn address(&self) -> String {
        self.client.address().to_string()
    }

    pub(crate) fn start(&mut self) {
        let log = File::create(self.dir.join(format!("{}.log", self.name))).expect("a log file");
        let (client, peer) = (self.endpoint(), format!("http://{}", self.peer.address()));
        let child = Command::new("etcd")
            .args(["--name", &self.name, "--logger", "zap", "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster])
            .arg("--data-dir")
            .arg(self.dir.join(&self.name))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("etcd can't be started ({error}): install it (`apt-get install etcd-server`), these tests need it")
        }));
    }

    /// As a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freeze the process, and wait until all its threads are stopped, since a signal takes some time.
    pub(crate) async fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.as_ref().expect("a running member").id());
        until("etcd to be frozen", async || {
            let states: Vec<Option<char>> = std::fs::read_dir(&tasks)
                .expect("its threads")
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
                .map(|stat| stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()))
                .collect();
            (states.iter().all(|state| *state == Some('T')), format!("{states:?}"))
        })
        .await;
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running member");
        kill_process(Pid::from_child(child), signal).expect("a signal to our own child");
    }

    /// The reason, if it has ended by itself.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        let log = std::fs::read_to_string(self.dir.join(format!("{}.log", self.name))).unwrap_or_default();
        Some(format!("etcd ended with {status}: {log}"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Some members that know each other.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start(size: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let peers: Vec<_> = (0..size).map(|_| Port::reserve()).collect();
        let cluster: Vec<_> =
            peers.iter().enumerate().map(|(n, peer)| format!("m{n}=http://{}", peer.address())).collect();
        let members = peers.into_iter().enumerate().map(|(n, peer)| Member {
            name: format!("m{n}"),
            client: Port::reserve(),
            peer,
            cluster: cluster.join(","),
            dir: dir.path().to_owned(),
            child: None,
        });
        let mut cluster = Self { members: members.collect(), _dir: dir };
        cluster.members.iter_mut().for_each(Member::start);
        for n in 0..size {
            cluster.answers(n).await;
        }
        cluster
    }

    /// Wait until a member answers, by itself.
    pub(crate) async fn answers(&mut self, n: usize) {
        let member = &mut self.members[n];
        let options = Options { endpoints: vec![member.endpoint()], ..Options::default() };
        let store = Etcd::new(&options).expect("options that work");
        until("an etcd to answer", async || {
            if let Some(ended) = member.ended() {
                panic!("{ended}");
            }
            let answer = store.range(Range { limit: 1, ..Range::default() }).await;
            (answer.is_ok(), format!("{answer:?}"))
        })
        .await;
    }

    pub(crate) fn options(&self) -> Options {
        Options { endpoints: self.members.iter().map(Member::endpoint).collect(), ..Options::default() }
    }

    pub(crate) fn store(&self) -> Etcd {
        Etcd::new(&self.options()).expect("options that work")
    }

    /// Which member leads.
    pub(crate) async fn leader(&self) -> usize {
        for (n, member) in self.members.iter().enumerate() {
            let mut client = self.client(n).await;
            let status = client.status().await.unwrap_or_else(|error| panic!("{}: {error}", member.address()));
            if status.header().map(etcd_client::ResponseHeader::member_id) == Some(status.leader()) {
                return n;
            }
        }
        panic!("no member leads");
    }

    /// etcd's own client, for requests that the seam doesn't have.
    pub(crate) async fn client(&self, n: usize) -> etcd_client::Client {
        etcd_client::Client::connect([self.members[n].endpoint()], None).await.expect("a client")
    }
}

/// One server, and a store on it.
pub(crate) struct Single {
    pub cluster: Cluster,
    store: Etcd,
}

impl Backend for Single {
    type Store = Etcd;

    async fn start() -> Self {
        let cluster = Cluster::start(1).await;
        let store = cluster.store();
        Self { cluster, store }
    }

    fn store(&self) -> Etcd {
        self.store.clone()
    }

    async fn compact(&self, revision: Revision) {
        let revision = i64::try_from(revision.0).expect("a small number");
        self.cluster.client(0).await.compact(revision, None).await.expect("compaction");
    }
}

/// The longest times of a renewal, a read and a commit.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Worst(pub(crate) Duration);

impl Worst {
    pub(crate) fn note(&mut self, took: Duration) {
        self.0 = self.0.max(took);
    }
}
