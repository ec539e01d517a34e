//! `fleet-sidecar render`: when the file is written, checked and reloaded.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use crate::harness::{Host, Sidecar, until};

const TEMPLATE: &str =
    "{% for i in instances('web') %}server {{ i.instance }} {{ i.address }}:{{ i.port }}\n{% endfor %}";

/// A host, a template, and the path of the file.
struct Desk {
    host: Host,
    template: PathBuf,
    out: PathBuf,
}

impl Desk {
    async fn new() -> Self {
        let host = Host::new().await;
        let (template, out) = (host.dir.path().join("web.cfg.j2"), host.dir.path().join("web.cfg"));
        std::fs::write(&template, TEMPLATE).unwrap();
        Self { host, template, out }
    }

    fn render(&self, more: &[&str]) -> Sidecar {
        let base = ["render", self.template.to_str().unwrap(), self.out.to_str().unwrap(), "--service", "web"];
        self.host.sidecar(&[&base, more].concat())
    }

    fn text(&self) -> Option<String> {
        std::fs::read_to_string(&self.out).ok()
    }

    async fn until(&self, expected: &str) {
        until(&format!("the file to be {expected:?}"), async || {
            let text = self.text();
            (text.as_deref() == Some(expected), format!("{text:?}"))
        })
        .await;
    }

    /// Nothing is left beside the file.
    fn is_tidy(&self) -> bool {
        let names = std::fs::read_dir(self.host.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        !names.into_iter().any(|name| name.to_string_lossy().ends_with(".new"))
    }

    /// A file that commands write to, and how many lines it has.
    fn marks(&self, name: &str) -> (String, impl Fn() -> usize + use<>) {
        let path = self.host.dir.path().join(name);
        let shown = format!("'{}'", path.display());
        (shown, move || std::fs::read_to_string(&path).unwrap_or_default().lines().count())
    }
}

#[tokio::test]
async fn the_file_follows_what_is_announced() {
    let desk = Desk::new().await;
    let log = desk.host.dir.path().join("reloads");
    let reload = format!("cat '{}' >> '{}'; echo . >> '{}'", desk.out.display(), log.display(), log.display());
    let sidecar = desk.render(&["--reload", &reload, "--debounce", "0.05", "--mode", "640"]);
    sidecar.ready().await;
    assert_eq!(desk.text().as_deref(), Some(""));
    sidecar.says("web.cfg is up to date: 0 instances of 0 services").await;
    desk.host.announce("web", "a", 1).await;
    desk.until("server a 127.0.0.1:1\n").await;
    desk.host.announce("web", "b", 2).await;
    desk.until("server a 127.0.0.1:1\nserver b 127.0.0.1:2\n").await;
    desk.host.withdraw("web", "a").await;
    desk.until("server b 127.0.0.1:2\n").await;
    until("four reloads, each after its file", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let expected =
            ".\nserver a 127.0.0.1:1\n.\nserver a 127.0.0.1:1\nserver b 127.0.0.1:2\n.\nserver b 127.0.0.1:2\n.\n";
        (text == expected, text)
    })
    .await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&desk.out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
    // Changes of other services, and changes that leave the file the same, cause no reload.
    desk.host.announce("db", "a", 1).await;
    sidecar.signal(Signal::HUP);
    sidecar.logs("reading the template again").await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(std::fs::read_to_string(&log).unwrap().matches(".\n").count(), 4);
    assert!(desk.is_tidy());
}

#[tokio::test]
async fn a_file_that_fails_its_check_never_takes_its_place() {
    let desk = Desk::new().await;
    desk.host.announce("web", "a", 1).await;
    let check = "! grep -n ':666$' {} >&2";
    let sidecar = desk.render(&["--check", check, "--debounce", "0.05"]);
    sidecar.ready().await;
    let good = "server a 127.0.0.1:1\n";
    assert_eq!(desk.text().as_deref(), Some(good));
    desk.host.announce("web", "b", 666).await;
    sidecar.says("web.cfg is kept: its check fails: exit status: 1: 2:server b 127.0.0.1:666").await;
    assert_eq!(desk.text().as_deref(), Some(good));
    assert!(desk.is_tidy());
    desk.host.announce("web", "b", 667).await;
    desk.until("server a 127.0.0.1:1\nserver b 127.0.0.1:667\n").await;
    sidecar.says("is up to date: 2 instances").await;
}

#[tokio::test]
async fn a_broken_template_never_takes_the_files_place() {
    let desk = Desk::new().await;
    std::fs::write(&desk.out, "good\n").unwrap();
    std::fs::write(&desk.template, "{{ instances('web')[0].adress }}").unwrap();
    desk.host.announce("web", "a", 1).await;
    let sidecar = desk.render(&[]);
    // There is a good file of an earlier run, so the units that wait for the sidecar may start.
    sidecar.ready().await;
    sidecar.says("web.cfg is kept: undefined value").await;
    assert_eq!(desk.text().as_deref(), Some("good\n"));
    std::fs::write(&desk.template, TEMPLATE).unwrap();
    sidecar.signal(Signal::HUP);
    desk.until("server a 127.0.0.1:1\n").await;
}

#[tokio::test]
async fn without_a_good_file_it_isnt_ready() {
    let desk = Desk::new().await;
    std::fs::write(&desk.template, "{% if %}").unwrap();
    let sidecar = desk.render(&[]);
    sidecar.says("web.cfg can't be written: syntax error").await;
    assert!(!sidecar.is_ready() && desk.text().is_none());
}

#[tokio::test]
async fn a_reload_that_fails_is_tried_again() {
    let desk = Desk::new().await;
    let mark = desk.host.dir.path().join("mark");
    let reload = format!("test -e '{}' || {{ echo not now; false; }}", mark.display());
    let sidecar = desk.render(&["--reload", &reload]);
    sidecar.ready().await;
    sidecar.says("is up to date, but the reload fails: exit status: 1: not now").await;
    std::fs::write(&mark, "").unwrap();
    sidecar.says("is up to date: 0 instances").await;
}

#[tokio::test]
async fn without_the_api_the_file_stays() {
    let mut desk = Desk::new().await;
    desk.host.announce("web", "a", 1).await;
    let sidecar = desk.render(&["--debounce", "0.05"]);
    sidecar.ready().await;
    let good = "server a 127.0.0.1:1\n";
    desk.host.api_down().await;
    sidecar.says("is up to date: 1 instance of 1 service; can't reach fleetd").await;
    assert_eq!(desk.text().as_deref(), Some(good));
    desk.host.api_up().await;
    desk.host.announce("web", "b", 2).await;
    desk.until("server a 127.0.0.1:1\nserver b 127.0.0.1:2\n").await;

    // Started again without the API, the file that was written before is sufficient.
    drop(sidecar);
    desk.host.api_down().await;
    let sidecar = desk.render(&[]);
    sidecar.says("waiting for the list of services; can't reach fleetd").await;
    assert!(!sidecar.is_ready());
    sidecar.ready().await;
    assert_eq!(desk.text().as_deref(), Some("server a 127.0.0.1:1\nserver b 127.0.0.1:2\n"));
}

#[tokio::test]
async fn once_is_once() {
    let mut desk = Desk::new().await;
    desk.host.announce("web", "a", 1).await;
    let mut good = desk.render(&["--once"]);
    assert!(good.end().await.success(), "{}", good.log());
    assert_eq!(desk.text().as_deref(), Some("server a 127.0.0.1:1\n"));
    desk.host.announce("web", "b", 2).await;
    let mut bad = desk.render(&["--once", "--check", "cat {} >/dev/null; echo no >&2; false"]);
    assert!(!bad.end().await.success());
    bad.logs("web.cfg is kept: its check fails: exit status: 1: no").await;
    desk.host.api_down().await;
    let mut deaf = desk.render(&["--once"]);
    assert!(!deaf.end().await.success());
    deaf.logs("no such socket; nothing was written").await;
    assert_eq!(desk.text().as_deref(), Some("server a 127.0.0.1:1\n"));
    let mut odd = desk.render(&["--check", "true"]);
    assert!(!odd.end().await.success());
    odd.logs("--check must name the file that it checks").await;
}

#[tokio::test]
async fn a_file_that_fails_while_a_reload_is_due_is_tried_with_pauses_and_the_reload_too() {
    let desk = Desk::new().await;
    let (checks, checked) = desk.marks("checks");
    let (reloads, reloaded) = desk.marks("reloads");
    let mark = desk.host.dir.path().join("mark");
    let check = format!("echo >> {checks}; ! grep -q ':666$' {{}}");
    let reload = format!("echo >> {reloads}; test -e '{}'", mark.display());
    let sidecar = desk.render(&["--check", &check, "--reload", &reload, "--debounce", "0.05"]);
    sidecar.ready().await;
    sidecar.says("the reload fails").await;
    desk.host.announce("web", "a", 666).await;
    sidecar.says("web.cfg is kept: its check fails").await;
    let before = checked();
    sleep(Duration::from_secs(4)).await;
    assert!(checked() - before <= 4, "{} checks in four seconds", checked() - before);
    sidecar.says("its check fails: exit status: 1; the reload fails: exit status: 1").await;
    // The reload for the last good file must run, even if the next version is invalid.
    let before = reloaded();
    until("another reload", async || (reloaded() > before, sidecar.log())).await;
    std::fs::write(&mark, "").unwrap();
    until("the reload to be done", async || (!sidecar.status().contains("reload"), sidecar.status())).await;
    sidecar.says("web.cfg is kept: its check fails").await;
}

#[tokio::test]
async fn a_file_that_could_not_be_written_is_tried_again() {
    let desk = Desk::new().await;
    let mark = desk.host.dir.path().join("mark");
    let check = format!("cat {{}} >/dev/null; test -e '{}'", mark.display());
    let sidecar = desk.render(&["--check", &check]);
    sidecar.says("web.cfg can't be written: its check fails").await;
    // Nothing is announced or withdrawn.
    std::fs::write(&mark, "").unwrap();
    sidecar.ready().await;
    assert_eq!(desk.text().as_deref(), Some(""));
}

#[tokio::test]
async fn a_reload_isnt_lost_with_the_process() {
    let desk = Desk::new().await;
    let mark = desk.host.dir.path().join("mark");
    let (reloads, reloaded) = desk.marks("reloads");
    let reload = format!("test -e '{}' && echo >> {reloads}", mark.display());
    let mut sidecar = desk.render(&["--reload", &reload]);
    sidecar.says("is up to date, but the reload fails").await;
    assert!(sidecar.terminate().await.success());
    std::fs::write(&mark, "").unwrap();
    let mut sidecar = desk.render(&["--reload", &reload]);
    sidecar.says("is up to date: 0 instances").await;
    until("a reload", async || (reloaded() == 1, sidecar.log())).await;
    sidecar.terminate().await;
    let mut once = desk.render(&["--once", "--reload", &reload]);
    assert!(once.end().await.success(), "{}", once.log());
    assert_eq!(reloaded(), 2);
}

#[tokio::test]
async fn when_stopped_nothing_is_left() {
    for once in [&["--once"][..], &[]] {
        let desk = Desk::new().await;
        let (begun, checks) = desk.marks("begun");
        let (ended, late) = desk.marks("ended");
        let check = format!("cat {{}} >/dev/null; (echo >> {begun}; sleep 2; echo >> {ended}) & wait");
        let mut sidecar = desk.render(&[&["--check", &check], once].concat());
        until("the check to begin", async || (checks() == 1, sidecar.log())).await;
        let begun = tokio::time::Instant::now();
        let status = sidecar.terminate().await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(status.code(), Some(if once.is_empty() { 0 } else { 1 }), "{}", sidecar.log());
        assert!(desk.is_tidy() && desk.text().is_none());
        sleep(Duration::from_secs(3)).await;
        assert_eq!(late(), 0, "what the check had started goes with it");
    }
}
