//! `fleet-sidecar ambassador`: balancing, held connections, limits, and how dead peers are detected.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Backend, Caller, Host, PATIENCE, Sidecar, ask, until};
use crate::port::Port;

async fn ambassador(host: &Host, more: &[&str]) -> (Sidecar, u16) {
    let port = Port::reserve();
    let sidecar = host.sidecar(&[&["ambassador", "web", "--listen", &port.number.to_string()], more].concat());
    sidecar.logs("listening on").await;
    (sidecar, port.number)
}

/// An ambassador with one backend, and a connection through it.
struct Line {
    host: Host,
    sidecar: Sidecar,
    port: u16,
    /// It would refuse what comes without it.
    _listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn connected() -> Line {
    let host = Host::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    host.announce("web", "a", listener.local_addr().unwrap().port()).await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.ready().await;
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (server, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    Line { host, sidecar, port, _listener: listener, client, server }
}

/// Wait until only `expected` answers.
async fn until_answered(port: u16, expected: &str) {
    until(&format!("`{expected}` to answer"), async || {
        let answer = ask(port).await;
        (answer.as_deref().ok() == Some(expected), format!("{answer:?}"))
    })
    .await;
}

#[tokio::test]
async fn it_is_ready_with_the_first_backend_and_takes_turns() {
    let host = Host::new().await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.says("waiting for web to be announced").await;
    assert!(!sidecar.is_ready());
    let (a, b) = (Backend::new("a").await, Backend::new("b").await);
    host.announce_as("web", "a", a.port, 2).await;
    sidecar.ready().await;
    assert_eq!(ask(port).await.unwrap(), "a");
    host.announce_as("web", "b", b.port, 1).await;
    sidecar.says("2 instances of web take connections").await;
    let mut answers = String::new();
    for _ in 0..9 {
        answers += &ask(port).await.unwrap();
    }
    assert_eq!((answers.matches('a').count(), answers.matches('b').count()), (6, 3), "{answers}");
}

#[tokio::test]
async fn least_connections_are_counted() {
    let host = Host::new().await;
    let (a, b) = (Backend::new("a").await, Backend::new("b").await);
    host.announce("web", "a", a.port).await;
    host.announce("web", "b", b.port).await;
    let (sidecar, port) = ambassador(&host, &["--balance", "least-connections"]).await;
    sidecar.ready().await;
    sidecar.says("2 instances").await;
    let mut first = Caller::new(port).await;
    let busy = first.ask("x").await.unwrap();
    for _ in 0..3 {
        let answer = ask(port).await.unwrap();
        assert_ne!(busy, format!("{answer} x"));
        // A connection counts until both sides have ended it.
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_refused_connect_goes_to_the_next_backend() {
    let host = Host::new().await;
    let (dead, b) = (Port::reserve(), Backend::new("b").await);
    host.announce("web", "a", dead.number).await;
    host.announce("web", "b", b.port).await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.ready().await;
    for _ in 0..6 {
        assert_eq!(ask(port).await.unwrap(), "b");
    }
    sidecar.says("1 of 2 instances of web take connections").await;
    let _a = Backend::on("a", dead.address()).await;
    until_answered(port, "a").await;
    sidecar.logs("can be reached again").await;
}

#[tokio::test]
async fn connections_are_held_while_nobody_is_up() {
    let host = Host::new().await;
    let (sidecar, port) = ambassador(&host, &["--hold", "15", "--hold-max", "2"]).await;
    let mut held = [Caller::new(port).await, Caller::new(port).await];
    sidecar.says("2 open, 2 held").await;
    assert!(ask(port).await.is_err(), "there is room for two");
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    for caller in &mut held {
        assert_eq!(caller.ask("x").await.unwrap(), "a x");
    }

    // It is withdrawn, and announced at another address: a move.
    host.withdraw("web", "a").await;
    sidecar.says("waiting for web to be announced").await;
    let waiting = tokio::spawn(ask(port));
    sidecar.says("1 held").await;
    let b = Backend::new("b").await;
    host.announce("web", "a", b.port).await;
    assert_eq!(waiting.await.unwrap().unwrap(), "b");
    for caller in &mut held {
        assert_eq!(caller.ask("y").await.unwrap(), "a y", "what was open goes on");
    }
}

#[tokio::test]
async fn nobody_is_held_for_ever() {
    let host = Host::new().await;
    let (_sidecar, port) = ambassador(&host, &["--hold", "0.5"]).await;
    let begun = Instant::now();
    let mut caller = Caller::new(port).await;
    let end = caller.ask("x").await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset, "it must not look like an empty answer");
    assert!(begun.elapsed() >= Duration::from_millis(450));
}

#[tokio::test]
async fn who_waits_no_longer_gives_up_its_place() {
    let host = Host::new().await;
    let (sidecar, port) = ambassador(&host, &["--hold", "600", "--hold-max", "1"]).await;
    let silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    sidecar.says("1 open, 1 held").await;
    drop(silent);
    sidecar.says("0 open").await;

    let mut asking = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    asking.write_all(b"x\n").await.unwrap();
    sidecar.says("1 open, 1 held").await;
    asking.set_zero_linger().unwrap();
    drop(asking);
    sidecar.says("0 open").await;

    // It sends its last line, closes its direction, and waits for the answer.
    let mut last = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    last.write_all(b"x\n").await.unwrap();
    last.shutdown().await.unwrap();
    sidecar.says("1 open, 1 held").await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    let mut answer = String::new();
    timeout(PATIENCE, last.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, "a x\na bye\n");
}

#[tokio::test]
async fn a_socket_unit_hands_it_its_sockets() {
    let host = Host::new().await;
    let (first, second) = (Port::reserve(), Port::reserve());
    let (one, two) = (first.number, second.number);
    let sidecar = host.activated(&[one, two], &["ambassador", "web"]);
    sidecar.logs(&format!("Listening on 127.0.0.1:{two}")).await;
    // The first connection starts the ambassador, and is forwarded.
    let mut first = Caller::new(two).await;
    sidecar.logs(&format!("listening on 127.0.0.1:{one}, 127.0.0.1:{two} for web")).await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    sidecar.ready().await;
    assert_eq!(first.ask("x").await.unwrap(), "a x");
    assert_eq!(ask(one).await.unwrap(), "a");
}

#[tokio::test]
async fn without_a_socket_it_says_what_to_do() {
    let host = Host::new().await;
    let mut sidecar = host.sidecar(&["ambassador", "web"]);
    assert!(!sidecar.end().await.success());
    sidecar.logs("no address to listen on: use --listen PORT, or start it from a socket unit").await;
}

#[tokio::test]
async fn a_drained_instance_gets_nothing_new() {
    let host = Host::new().await;
    let (a, b) = (Backend::new("a").await, Backend::new("b").await);
    host.announce("web", "a", a.port).await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.ready().await;
    let mut open = Caller::new(port).await;
    assert_eq!(open.ask("1").await.unwrap(), "a 1");
    host.announce("web", "b", b.port).await;
    host.announce_as("web", "a", a.port, 0).await;
    sidecar.says("1 of 2 instances").await;
    for _ in 0..4 {
        assert_eq!(ask(port).await.unwrap(), "b");
    }
    assert_eq!(open.ask("2").await.unwrap(), "a 2");
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other() {
    let host = Host::new().await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.ready().await;
    let mut caller = Caller::new(port).await;
    assert_eq!(caller.ask("x").await.unwrap(), "a x");
    assert_eq!(caller.finish().await, "a bye\n");
    sidecar.says("0 open").await;
}

#[tokio::test]
async fn without_the_api_everything_goes_on() {
    let mut host = Host::new().await;
    let (a, b) = (Backend::new("a").await, Backend::new("b").await);
    host.announce("web", "a", a.port).await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.ready().await;
    let mut open = Caller::new(port).await;
    assert_eq!(open.ask("1").await.unwrap(), "a 1");
    host.api_down().await;
    sidecar.says("can't reach fleetd at").await;
    assert_eq!(open.ask("2").await.unwrap(), "a 2");
    assert_eq!(ask(port).await.unwrap(), "a");
    host.api_up().await;
    sidecar.logs("fleetd answers again").await;
    until("the trouble to be over", async || (!sidecar.status().contains("can't"), sidecar.status())).await;
    host.announce("web", "b", b.port).await;
    until_answered(port, "b").await;
    assert_eq!(open.ask("3").await.unwrap(), "a 3");
}

/// All leases expire while the API is unreachable: consumers keep the last known instances until these are announced
/// again.
#[tokio::test]
async fn announcements_that_ended_in_an_outage_are_believed_for_a_while() {
    let mut host = Host::new().await;
    let a = Backend::new("a").await;
    let number = a.port.to_string();
    let announcer = host.sidecar(&["announce", "web", "--port", &number, "--ttl", "3"]);
    announcer.ready().await;
    let (sidecar, port) = ambassador(&host, &["--hold", "0"]).await;
    sidecar.ready().await;
    host.api_down().await;
    until("the lease to end", async || (host.announced().await.is_empty(), format!("{:?}", host.announced().await)))
        .await;
    host.api_up().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(ask(port).await.unwrap(), "a", "{}", sidecar.log());
        sleep(Duration::from_millis(20)).await;
    }
    drop(announcer);
    until("it to be believed no longer", async || (sidecar.status().starts_with("waiting"), sidecar.status())).await;
}

#[tokio::test]
async fn variables_are_written_before_it_is_ready() {
    let host = Host::new().await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    let file = host.dir.path().join("web.env");
    let sidecar = host.sidecar(&["ambassador", "web", "--listen", "127.0.0.1:0", "--env", file.to_str().unwrap()]);
    sidecar.ready().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let port = text.strip_prefix("WEB_HOST=127.0.0.1\nWEB_PORT=").unwrap().trim().parse().unwrap();
    assert_eq!(ask(port).await.unwrap(), "a");
}

#[tokio::test]
async fn when_stopped_open_connections_finish() {
    let host = Host::new().await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    let (mut sidecar, port) = ambassador(&host, &["--drain", "15"]).await;
    sidecar.ready().await;
    let mut open = Caller::new(port).await;
    assert_eq!(open.ask("1").await.unwrap(), "a 1");
    sidecar.signal(rustix::process::Signal::TERM);
    until("the port to be closed", async || (TcpStream::connect(("127.0.0.1", port)).await.is_err(), sidecar.log()))
        .await;
    assert_eq!(open.ask("2").await.unwrap(), "a 2");
    assert_eq!(open.finish().await, "a bye\n");
    assert!(sidecar.end().await.success());
}

#[tokio::test]
async fn much_is_passed_on_unchanged_and_no_more_than_the_reader_takes() {
    let line = connected().await;
    let (mut client, mut server) = (line.client, line.server);

    // The server reads nothing: the client must block, and the ambassador must not read everything.
    let before = line.sidecar.memory();
    let data: Vec<u8> = (0..64 * 1024 * 1024u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), client.write(&data[sent..])).await {
        sent += written.unwrap();
    }
    assert!(
        sent < data.len() && line.sidecar.memory() < before + 4096,
        "{sent} bytes, {} KiB",
        line.sidecar.memory() - before
    );

    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let all = async {
        tokio::try_join!(
            async {
                client_write.write_all(&data[sent..]).await?;
                client_write.shutdown().await
            },
            async { server_read.read_to_end(&mut there).await.map(drop) },
            async {
                server_write.write_all(&data[..10_000_000]).await?;
                server_write.shutdown().await
            },
            async { client_read.read_to_end(&mut back).await.map(drop) },
        )
    };
    timeout(PATIENCE * 3, all).await.expect("all of it arrives").unwrap();
    assert!(there == data && back == data[..10_000_000]);
}

/// Send until no more data is accepted.
async fn stuff(client: &mut TcpStream) -> u64 {
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), client.write(&[b'x'; 64 * 1024])).await {
        sent += u64::try_from(written.unwrap()).unwrap();
    }
    sent
}

#[tokio::test]
async fn a_backend_that_reads_nothing_for_a_while_keeps_its_connections() {
    let line = connected().await;
    let (mut client, mut server) = (line.client, line.server);
    // A connection whose instance is withdrawn meanwhile has a shorter timeout.
    let leaving = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let left_port = leaving.local_addr().unwrap().port();
    line.host.announce("web", "a", left_port).await;
    line.sidecar.logs(&format!("a is at 127.0.0.1 port {left_port}")).await;
    let mut caller = TcpStream::connect(("127.0.0.1", line.port)).await.unwrap();
    let (mut left, _) = timeout(PATIENCE, leaving.accept()).await.expect("a connection").unwrap();
    line.host.withdraw("web", "a").await;
    line.sidecar.says("waiting for web to be announced").await;

    let (sent, called) = (stuff(&mut client).await, stuff(&mut caller).await);
    sleep(Duration::from_secs(14)).await;
    for (mut client, server, sent) in [(client, &mut server, sent), (caller, &mut left, called)] {
        let mut read = Vec::new();
        let both = async { tokio::try_join!(client.shutdown(), server.read_to_end(&mut read)) };
        timeout(PATIENCE, both).await.expect("it goes on").unwrap();
        assert_eq!(u64::try_from(read.len()).unwrap(), sent);
    }
}

#[tokio::test]
async fn an_answer_outlives_its_server() {
    let line = connected().await;
    let (mut client, mut server) = (line.client, line.server);
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = Vec::new();
    timeout(PATIENCE, server.read_to_end(&mut asked)).await.expect("a question").unwrap();
    let sent = stuff(&mut server).await;
    // Both directions of the server's connection end before the client has read anything, and the ambassador checks the
    // connection meanwhile.
    let rest = tokio::spawn(async move { server.shutdown().await });
    sleep(Duration::from_secs(4)).await;
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("all of it").unwrap();
    assert_eq!(u64::try_from(answer.len()).unwrap(), sent);
    rest.await.unwrap().unwrap();
}

/// A server that answers one line and then, after `pause` seconds, behaves like a host without power: its sockets drop
/// every packet.
fn dying(dir: &std::path::Path, port: u16, pause: &str) -> tokio::process::Child {
    let script = "import ctypes, socket, struct, sys, time\n\
        listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
        while True:\n    \
            stream = listener.accept()[0]\n    \
            if stream.recv(9): break\n\
        stream.sendall(b'ok')\n\
        time.sleep(float(sys.argv[2]))\n\
        drop = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0))\n\
        stream.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HP', 1, ctypes.addressof(drop)))\n\
        print('dead', flush=True)\n\
        time.sleep(600)\n";
    let path = dir.join(format!("dying.{port}"));
    std::fs::write(&path, script).unwrap();
    let mut python = tokio::process::Command::new("python3");
    let python = python.arg(path).args([&port.to_string(), pause]).stdout(std::process::Stdio::piped());
    python.kill_on_drop(true).spawn().unwrap()
}

#[tokio::test]
async fn a_backend_without_a_sign_of_life_is_given_up() {
    // Whether its instance stays announced, and whether its window is closed when it dies.
    for (stays, stuffed, most) in [(true, false, 16), (false, false, 7), (false, true, 20)] {
        let host = Host::new().await;
        let reserved = Port::reserve();
        let dead = reserved.number;
        let mut python = dying(host.dir.path(), dead, if stuffed { "1.5" } else { "0" });
        until("it to listen", async || (TcpStream::connect(("127.0.0.1", dead)).await.is_ok(), String::new())).await;
        host.announce("web", "a", dead).await;
        let (sidecar, port) = ambassador(&host, &[]).await;
        sidecar.ready().await;
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(b"x").await.unwrap();
        timeout(PATIENCE, client.read_exact(&mut [0; 2])).await.expect("an answer").unwrap();
        if !stays {
            host.withdraw("web", "a").await;
            sidecar.says("waiting for web to be announced").await;
        }
        if stuffed {
            stuff(&mut client).await;
        }
        let mut out = tokio::io::BufReader::new(python.stdout.take().unwrap());
        let mut line = String::new();
        timeout(PATIENCE, tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line)).await.expect("its end").unwrap();
        let begun = Instant::now();
        if !stuffed {
            client.write_all(b"more").await.unwrap();
        }
        let end = timeout(Duration::from_secs(most), client.read(&mut [0; 8])).await;
        let error = end.unwrap_or_else(|_| panic!("given up within {most} s: {stays} {stuffed}")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(begun.elapsed() > Duration::from_secs(if stays { 8 } else { 2 }), "{:?}", begun.elapsed());
        sidecar.says("0 open").await;
    }
}

#[tokio::test]
async fn clients_are_asked_whether_they_are_still_there() {
    let host = Host::new().await;
    let (sidecar, port) = ambassador(&host, &["--hold", "600"]).await;
    // As /proc/net/tcp shows it: which timer runs on the ambassador's side of connections. 2 is keep-alive's. The table
    // is read in parts: a line may be missing while other connections come and go.
    let timers = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mine = format!(":{port:04X}");
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mine = fields.filter(|fields| fields[1].ends_with(&mine) && fields[3] == "01");
        mine.map(|fields| fields[5][..2].to_owned()).collect::<Vec<_>>()
    };
    let mut caller = Caller::new(port).await;
    sidecar.says("1 open, 1 held").await;
    until("a timer while it is held", async || (timers() == ["02"], format!("{:?}", timers()))).await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    assert_eq!(caller.ask("x").await.unwrap(), "a x");
    until("a timer while it is idle", async || (timers() == ["02"], format!("{:?}", timers()))).await;
}

#[tokio::test]
async fn a_reset_is_passed_on() {
    let line = connected().await;
    let (mut client, mut server) = (line.client, line.server);
    // A connection that is reset before data was sent is retried; this one is in use.
    server.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, client.read(&mut [0; 8])).await.expect("a byte").unwrap(), 1);
    server.set_zero_linger().unwrap();
    drop(server);
    let error = timeout(PATIENCE, client.read(&mut [0; 8])).await.expect("an end").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    const MANY: usize = 1500;
    let (soft, hard) = (rustix::process::getrlimit(rustix::process::Resource::Nofile).current, 8192);
    if soft.is_some_and(|soft| soft < hard) {
        let limit = rustix::process::Rlimit { current: Some(hard), maximum: Some(hard) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    }
    let host = Host::new().await;
    let a = Backend::new("a").await;
    host.announce("web", "a", a.port).await;
    let (sidecar, port) = ambassador(&host, &[]).await;
    sidecar.ready().await;
    assert_eq!(ask(port).await.unwrap(), "a");
    let before = sidecar.memory();
    let mut callers = Vec::new();
    for _ in 0..MANY {
        let mut caller = Caller::new(port).await;
        assert_eq!(caller.ask("x").await.unwrap(), "a x");
        callers.push(caller);
    }
    sidecar.says(&format!("{MANY} open")).await;
    let each = (sidecar.memory() - before) * 1024 / u64::try_from(MANY).unwrap();
    assert!(each < 4096, "{each} bytes for an idle connection");
}
