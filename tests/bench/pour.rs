//! The load generator and the server of `tests/bench/sidecar`. Owns the load and its timing; the benchmark chooses the
//! process under load and measures its cost. It uses only the standard library, so that one `rustc -O` builds it. It
//! uses blocking calls and threads, which cost the generator more than an event loop would, but the same for every
//! proxy.
//!
//! A connection begins with its kind. After `e`, each block of 64 bytes is sent back. After `b` and a length (8 bytes),
//! that many bytes are sent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 64;
const CHUNK: usize = 256 * 1024;
const STACK: usize = 64 * 1024;
/// The time limit of every operation.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args[at].parse::<u64>().expect("a number");
    let port = u16::try_from(number(2)).expect("a port");
    match args[1].as_str() {
        "serve" => serve(port),
        "bulk" => bulk(port, number(3)),
        "short" => short(port, number(3), number(4)),
        "paced" => paced(port, number(3), number(4), args[5] == "kept"),
        "idle" => idle(port, number(3)),
        other => panic!("no such load: {other}"),
    }
}

/// Serve until killed: a thread for each connection, and spare ones, so that a new connection needn't wait.
fn serve(port: u16) {
    let listener = Arc::new(TcpListener::bind(("127.0.0.1", port)).expect("can't listen"));
    // Threads that wait for a connection.
    let free = Arc::new(AtomicUsize::new(0));
    for _ in 0..8 {
        accept(&listener, &free);
    }
    println!("serving");
    loop {
        thread::park();
    }
}

fn accept(listener: &Arc<TcpListener>, free: &Arc<AtomicUsize>) {
    let (listener, free) = (Arc::clone(listener), Arc::clone(free));
    free.fetch_add(1, Ordering::SeqCst);
    let work = move || {
        while let Ok((stream, _)) = listener.accept() {
            if free.fetch_sub(1, Ordering::SeqCst) == 1 {
                accept(&listener, &free);
            }
            // The client has disconnected, as expected.
            let _ = answer(stream);
            if free.fetch_add(1, Ordering::SeqCst) > 64 {
                free.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(work).expect("no more threads");
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    if kind == *b"e" {
        let mut block = [0; BLOCK];
        loop {
            stream.read_exact(&mut block)?;
            stream.write_all(&block)?;
        }
    }
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let (mut left, chunk) = (u64::from_be_bytes(length), vec![7; CHUNK]);
    while left > 0 {
        let size = left.min(CHUNK as u64);
        stream.write_all(&chunk[..size as usize])?;
        left -= size;
    }
    Ok(())
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The first request of a connection, after its kind.
fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut first = [1; BLOCK + 1];
    first[0] = b'e';
    stream.write_all(&first)?;
    stream.read_exact(&mut [0; BLOCK])
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[2; BLOCK])?;
    stream.read_exact(&mut [0; BLOCK])
}

fn once(port: u16) -> std::io::Result<()> {
    greet(&mut connect(port)?)
}

/// Receive this many bytes over one connection; returns the seconds.
fn bulk(port: u16, bytes: u64) {
    let mut stream = connect(port).expect("can't connect");
    let begun = Instant::now();
    let request = [&b"b"[..], &bytes.to_be_bytes()].concat();
    stream.write_all(&request).expect("can't ask");
    let (mut taken, mut chunk) = (0, vec![0; CHUNK]);
    while taken < bytes {
        match stream.read(&mut chunk).expect("the stream broke") {
            0 => panic!("it ended after {taken} of {bytes} bytes"),
            read => taken += read as u64,
        }
    }
    println!("{{\"seconds\": {}}}", begun.elapsed().as_secs_f64());
}

/// Connections with one request each, from several threads, as fast as they are answered.
fn short(port: u16, count: u64, threads: u64) {
    let begun = Instant::now();
    let work = move || (0..count / threads).filter(|_| once(port).is_err()).count();
    let workers: Vec<_> = (0..threads).map(|_| thread::spawn(work)).collect();
    let failed: usize = workers.into_iter().map(|worker| worker.join().expect("a worker died")).sum();
    println!("{{\"seconds\": {}, \"failed\": {failed}}}", begun.elapsed().as_secs_f64());
}

/// Requests at a fixed rate, each timed from when it was due, so that a request which waits for another one counts as
/// late.
fn paced(port: u16, rate: u64, seconds: u64, kept: bool) {
    const WORKERS: u64 = 8;
    let times = Arc::new(Mutex::new(Vec::new()));
    let failed = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now() + Duration::from_millis(200);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (times, failed) = (Arc::clone(&times), Arc::clone(&failed));
            thread::spawn(move || {
                let mut mine = Vec::new();
                let mut open = kept.then(|| {
                    let mut stream = connect(port).expect("can't connect");
                    greet(&mut stream).expect("no answer");
                    stream
                });
                for turn in (worker..rate * seconds).step_by(WORKERS as usize) {
                    let due = begin + Duration::from_micros(turn * 1_000_000 / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let done = match &mut open {
                        Some(stream) => ask(stream),
                        None => once(port),
                    };
                    match done {
                        Ok(()) => mine.push(due.elapsed().as_secs_f64() * 1e6),
                        Err(_) => drop(failed.fetch_add(1, Ordering::SeqCst)),
                    }
                }
                times.lock().expect("a worker died").extend(mine);
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker died");
    }
    let mut times = times.lock().expect("a worker died").clone();
    times.sort_by(f64::total_cmp);
    assert!(!times.is_empty(), "no request was answered");
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let failed = failed.load(Ordering::SeqCst);
    println!("{{\"p50\": {}, \"p99\": {}, \"failed\": {failed}}}", at(0.5), at(0.99));
}

/// Idle connections, each of which was answered once; they stay open until standard input ends.
fn idle(port: u16, count: u64) {
    let open = |at| {
        let mut stream = connect(port).unwrap_or_else(|error| panic!("connection {at}: {error}"));
        greet(&mut stream).unwrap_or_else(|error| panic!("connection {at}: {error}"));
        stream
    };
    let streams: Vec<TcpStream> = (0..count).map(open).collect();
    println!("{{\"open\": {}}}", streams.len());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
