//! The language of scenarios: each line is a command, whose output is added to the transcript. Owns the syntax; the
//! commands are carried out by `world`.
//!
//! ```text
//! machines add 20                the hosts n1 to n20; their daemons start
//! machine add n1 zone=a          a host with metadata; its daemon starts
//! machine add n1 @memory=1024    a host with so many MiB
//! hardware n1 @memory=512 reserve_memory=100M
//!                                its next daemon finds this hardware, and this in its configuration
//! machine clone n1 n2            a host with the machine id of n1; its daemon starts
//! file web.service … EOF         a unit file, for the commands that follow
//! submit|load|start NAME…        request this state of the units, with their files, as one batch;
//!                                {a,b}@{1,2}.service names four
//! stop|unload NAME…              launched → loaded, → inactive
//! restart NAME…                  stop and start them in place
//! replace NAME…                  submit another file, with the same desired state
//! destroy NAME…
//! scale web@.service 5           this set has so many members
//! rollout web@.service promote   ask this of its rollout: pause, resume, promote or retry
//! dies-after 2 scale NAME COUNT  the daemon that carries this request out dies after two of its transactions
//! crash|boot n1                  the power fails; it returns
//! cut|join n1…                   the network fails; it returns
//! mute|deafen n1                 what it sends to the store doesn't arrive; what the store sends doesn't, until `join`
//! planning 5s                    each computation of the leaders that start from now on takes so long
//! freeze|thaw n1                 its daemon is suspended; it continues
//! clock n1 3600s|-3600s|0s        its clock is set: it is ahead by so much, behind, right
//! forget n1…                     a person says that these hosts are really gone
//! cordon|uncordon n1…            no new unit is placed there; it is placed there again
//! set SETTING=VALUE…, unset SETTING…
//!                                a person changes settings of the cluster
//! drain n1… [OPTION…]            units leave these hosts: parallel=3, deadline=60, globals, force
//! move web.service… [OPTION…]    these units go to other hosts: to=n3, force
//! rebalance [3]                  units go to hosts that are better for them, with so many moves at most
//! undrain n1… [restore]          they needn't any more; restore: those that have left come back
//! reboot n1… [force]             these hosts reboot, one after the other; force: without units that fit nowhere else
//! reboot-cancel n1               it is to reboot no longer
//! reboots 60s                    let so much time pass, in which the hosts reboot that have asked their systemd for it
//! pre-reboot n1                  a program on it asks whether it may reboot it, and is told
//! steady-state n1                a program on it says that it is back
//! kill-daemon|stop-daemon|start-daemon n1
//! format n1 1|2                  its next daemon is of a version that reads and writes formats up to this one
//! fail n1 web.service            its process dies
//! sicken|cure n1 web.service      it no longer answers to its probes there; it answers again
//! systemctl n1 start|stop NAME   a person starts or stops it there
//! package n1 add|remove NAME     the host has a unit of this name from a package; it no longer has
//! signals n1 lost|heard          systemd's signals don't reach the daemon; they reach it again
//! bus n1 down|up                 systemd doesn't answer; it answers again
//! answer n1 CALL lost|never      the next install, remove, reload, start, stop or reset-failed takes effect, and the
//!                                call fails; or the daemon waits for its answer forever
//! slow n1 1s                     each call to its systemd takes so long
//! disk n1 full|free              nothing can be written to its disk; it can be written again
//! watches n1 stall|go            no change of the store reaches the daemon, although its requests reach the store;
//!                                changes reach it again
//! unreadable n1 KEYS             the daemon can't read keys that begin with this, nor watch them; without KEYS, it can
//!                                read all again
//! late-commit n1 5s              the daemon's next commit is carried out this much later
//! shut-down n1 [bus-lost]        the system shuts down; with bus-lost, its bus fails a second later
//! store down|up, compact
//! backup, restore [goes-on]      the store is saved; it is restored, and its revisions are used again or not
//! accept n1…                     a person makes these hosts run only what the store has
//! forge n1 web.service           somebody else reports for this host that it has removed the unit as it was told
//! forge n1 web.service KIND       somebody writes other wrong records (`forge`) past the daemons
//! unforge                        what was there before is restored, unless somebody has replaced it
//! metadata n1 zone=b|zone=       set dynamic metadata; remove it
//! wait 10s, settle               let time pass; wait until nothing has happened for a while
//! show units|sets|machines|schedule|reports|files|disk|keys|log, show explain NAME
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use flotilla::model::name::UnitName;
use flotilla::model::resources::bytes;
use flotilla::model::rollout::Request;
use flotilla::model::unit::Desired;
use flotilla::registry::maintenance::Options;
use flotilla::registry::moves::Request as MoveRequest;
use flotilla::registry::units::Intent;
use flotilla::store::embedded::{Counter, History};
use tokio::time::sleep;

use super::forge::KINDS;
use super::line::Cut;
use super::log::Log;
use super::marks::Reached;
use super::probe::{Answer, Call};
use super::rollouts;
use super::show;
use super::world::{World, destroy, have, restart, scale};

/// How long nothing must happen until a script continues.
const QUIET: Duration = Duration::from_secs(3);

/// The time limit for that.
const LIMIT: Duration = Duration::from_secs(120);

/// The transcript of `script`, and the marks that it has reached.
///
/// # Errors
/// An invalid line, or a violation.
pub(crate) fn run(script: &str) -> Result<(String, Reached), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(1, History::default());
        let _log = tracing::subscriber::set_default(Log(world.journal.clone()));
        let mut player = Player { world, files: BTreeMap::new(), shown: 0 };
        let mut transcript = String::new();
        let mut lines = script.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                writeln!(transcript, "{line}").unwrap();
                continue;
            }
            writeln!(transcript, "> {line}").unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let printed = if let ["file", name] = words[..] {
                let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "EOF").collect();
                player.files.insert(name.parse().unwrap(), body.join("\n") + "\n");
                String::new()
            } else {
                player.command(&words).await.map_err(|error| format!("line {}: {line}: {error}", number + 1))?
            };
            transcript.push_str(&printed);
            player.world.judge.look();
            player.world.look_after_daemons();
            if let Some(report) = player.world.journal.report() {
                return Err(format!("line {}: {line}\n{report}", number + 1));
            }
        }
        Ok((transcript, player.world.journal.reached()))
    })
}

struct Player {
    world: World,
    files: BTreeMap<UnitName, String>,
    /// The number of lines of the journal that were shown or skipped.
    shown: usize,
}

impl Player {
    async fn command(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["machines", "add", number] => {
                for number in 1..=number.parse().map_err(|_| "not a number")? {
                    let host = self.world.add_host(&format!("n{number}"), number, &[], None);
                    self.world.start_daemon(host);
                }
            }
            ["machine", "add", name, metadata @ ..] => {
                let pairs: Vec<(&str, &str)> = metadata.iter().filter_map(|pair| pair.split_once('=')).collect();
                let number = u32::try_from(self.world.hosts.len() + 1).unwrap();
                let (builtin, pairs): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(key, _)| key.starts_with('@'));
                let host = self.world.add_host(name, number, &pairs, None);
                self.world.hosts[host].builtin = builtin.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
                self.world.start_daemon(host);
            }
            ["hardware", name, pairs @ ..] => {
                let host = self.host(name)?;
                for (key, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
                    match key {
                        "reserve_memory" => {
                            self.world.hosts[host].reserved.memory = bytes(value).ok_or("not a size")?
                        }
                        _ => drop(self.world.hosts[host].builtin.insert(key.into(), value.into())),
                    }
                }
            }
            ["set", pairs @ ..] => {
                let wish = |pair: &&str| pair.split_once('=').map(|(name, value)| (name.into(), Some(value.into())));
                self.world.change_settings(&pairs.iter().filter_map(wish).collect::<Vec<_>>()).await?;
            }
            ["unset", names @ ..] => {
                let wishes: Vec<_> = names.iter().map(|name| ((*name).into(), None)).collect();
                self.world.change_settings(&wishes).await?;
            }
            ["machine", "clone", original, name] => {
                let number = u32::try_from(self.host(original)? + 1).unwrap();
                let host = self.world.add_host(name, number, &[], None);
                self.world.start_daemon(host);
            }
            ["submit", units @ ..] => return self.ask(units, Some(Desired::Inactive)).await,
            ["load", units @ ..] => return self.ask(units, Some(Desired::Loaded)).await,
            ["start", units @ ..] => return self.ask(units, Some(Desired::Launched)).await,
            ["replace", units @ ..] => return self.ask(units, None).await,
            ["stop", units @ ..] => return self.change(units, Desired::Loaded).await,
            ["unload", units @ ..] => return self.change(units, Desired::Inactive).await,
            ["restart", units @ ..] => {
                let intents: Vec<_> = units.iter().map(|unit| restart(&unit.parse().unwrap())).collect();
                return Ok(refusal(self.world.ask(&intents).await.err()));
            }
            ["destroy", units @ ..] => {
                let intents: Vec<_> = units.iter().map(|unit| destroy(&unit.parse().unwrap())).collect();
                return Ok(refusal(self.world.ask(&intents).await.err()));
            }
            ["scale", unit, count] => {
                return Ok(refusal(self.world.ask(&[scaled(unit, count)?]).await.err()));
            }
            ["rollout", unit, what] => {
                let what = match *what {
                    "pause" => Request::Pause,
                    "resume" => Request::Resume,
                    "promote" => Request::Promote,
                    "retry" => Request::Retry,
                    _ => return Err("no such request".into()),
                };
                let unit = unit.parse().map_err(|error| format!("{error}"))?;
                self.world.ask_of_rollout(&unit, what).await?;
            }
            ["dies-after", commits, "scale", unit, count] => {
                let commits = commits.parse().map_err(|_| "not a number")?;
                let asked = self.world.ask_a_dying_daemon(commits, &[scaled(unit, count)?]).await;
                return Ok(refusal(asked.err()));
            }
            ["crash", name] => self.world.power_off(self.host(name)?).await,
            ["boot", name] => self.world.power_on(self.host(name)?),
            [verb @ ("cut" | "join"), names @ ..] => {
                for name in names {
                    self.world.cut(self.host(name)?, if *verb == "cut" { Cut::Both } else { Cut::No }, true);
                }
            }
            ["mute", name] => self.world.cut(self.host(name)?, Cut::Requests, true),
            ["deafen", name] => self.world.cut(self.host(name)?, Cut::Answers, true),
            ["planning", time] => self.world.slow_planning(seconds(time)?),
            ["package", name, verb @ ("add" | "remove"), unit] => {
                let unit = unit.parse().map_err(|error| format!("{error}"))?;
                self.world.package(self.host(name)?, &unit, *verb == "add");
            }
            ["freeze", name] => self.world.freeze(self.host(name)?),
            ["thaw", name] => self.world.thaw(self.host(name)?),
            ["clock", name, ahead] => {
                let (sign, by) = ahead.strip_prefix('-').map_or((1, *ahead), |by| (-1, by));
                let by = i64::try_from(seconds(by)?.as_millis()).map_err(|_| "not a time")?;
                self.world.set_clock(self.host(name)?, sign * by);
            }
            ["forget", names @ ..] => {
                for name in names {
                    self.world.forget(self.host(name)?).await?;
                }
            }
            [verb @ ("cordon" | "uncordon"), names @ ..] => {
                for name in names {
                    self.world.cordon(self.host(name)?, *verb == "cordon").await?;
                }
            }
            ["drain", words @ ..] => {
                let mut options =
                    Options { parallel: 10, deadline: 3600, globals: false, force: false, why: "kernel".into() };
                let mut hosts = Vec::new();
                for word in words {
                    let number = |text: &str| text.parse().map_err(|_| "not a number");
                    match word.split_once('=') {
                        Some(("parallel", text)) => options.parallel = number(text)?,
                        Some(("deadline", text)) => options.deadline = number(text)?.into(),
                        Some(_) => return Err("no such option".into()),
                        None if *word == "globals" => options.globals = true,
                        None if *word == "force" => options.force = true,
                        None => hosts.push(self.host(word)?),
                    }
                }
                self.world.drain(&hosts, Some(options)).await?;
            }
            ["move", words @ ..] => {
                let (mut units, mut to, mut force) = (BTreeSet::new(), None, false);
                for word in words {
                    match word.split_once('=') {
                        Some(("to", name)) => to = Some(self.world.hosts[self.host(name)?].id.clone()),
                        Some(_) => return Err("no such option".into()),
                        None if *word == "force" => force = true,
                        None => drop(units.insert(word.parse().map_err(|_| "no unit's name")?)),
                    }
                }
                self.world.move_units(MoveRequest { units, to, force, ..MoveRequest::default() }).await?;
            }
            ["rebalance", limit @ ..] => {
                let limit = limit.first().map_or(Ok(10), |limit| limit.parse()).map_err(|_| "no number")?;
                self.world.rebalance(limit).await?;
            }
            ["undrain", names @ .., "restore"] => {
                let hosts: Vec<usize> = names.iter().map(|name| self.host(name)).collect::<Result<_, _>>()?;
                self.world.bring_back(&hosts, 10).await?;
            }
            ["undrain", names @ ..] => {
                let hosts: Vec<usize> = names.iter().map(|name| self.host(name)).collect::<Result<_, _>>()?;
                self.world.drain(&hosts, None).await?;
            }
            ["reboot", words @ ..] => {
                let force = words.last() == Some(&"force");
                let names = words.iter().filter(|word| **word != "force");
                let hosts: Vec<usize> = names.map(|name| self.host(name)).collect::<Result<_, _>>()?;
                return Ok(refusal(self.world.ask_reboots(&hosts, force).await.err()));
            }
            ["reboot-cancel", name] => self.world.cancel_reboot(self.host(name)?).await?,
            ["reboots", time] => {
                let end = self.world.journal.now() + seconds(time)?;
                while self.world.journal.now() < end {
                    sleep(Duration::from_secs(1)).await;
                    self.world.carry_out_reboots().await;
                }
            }
            ["pre-reboot", name] => {
                let host = self.host(name)?;
                return Ok(match self.world.program_asks(host, false).await {
                    Ok(answer) => format!("  {}\n", self.world.told(&answer)),
                    Err(error) => refusal(Some(error)),
                });
            }
            ["steady-state", name] => {
                let host = self.host(name)?;
                return Ok(refusal(self.world.program_is_steady(host).await.err()));
            }
            ["kill-daemon", name] => self.world.kill_daemon(self.host(name)?).await,
            ["stop-daemon", name] => self.world.stop_daemon(self.host(name)?).await,
            ["start-daemon", name] => self.world.start_daemon(self.host(name)?),
            ["format", name, format] => {
                let host = self.host(name)?;
                self.world.hosts[host].format = format.parse().map_err(|_| "not a format")?;
            }
            ["fail", name, unit] => {
                let host = self.host(name)?;
                if !self.world.hosts[host].fake.crash(&unit.parse().unwrap()) {
                    return Err("it doesn't run there".into());
                }
            }
            [verb @ ("sicken" | "cure"), name, unit] => {
                let unit = unit.parse().map_err(|error| format!("{error}"))?;
                self.world.hosts[self.host(name)?].answers.sicken(&unit, *verb == "sicken");
            }
            ["systemctl", name, verb @ ("start" | "stop"), unit] => {
                let unit = unit.parse().map_err(|error| format!("{error}"))?;
                self.world.by_hand(self.host(name)?, &unit, *verb == "start");
            }
            ["signals", name, "lost"] => self.world.hosts[self.host(name)?].fake.lose_signals(true),
            ["signals", name, "heard"] => self.world.hosts[self.host(name)?].fake.lose_signals(false),
            ["bus", name, "down"] => self.world.hosts[self.host(name)?].fake.go_down(),
            ["bus", name, "up"] => self.world.hosts[self.host(name)?].fake.come_up(),
            ["answer", name, call, answer] => {
                let answer = match *answer {
                    "lost" => Answer::Lost,
                    "never" => Answer::Never,
                    _ => return Err("lost or never?".into()),
                };
                self.world.hosts[self.host(name)?].probe.set_next(call_named(call)?, answer);
            }
            ["slow", name, time] => self.world.slow_systemd(self.host(name)?, seconds(time)?),
            ["watches", name, "stall"] => self.world.hosts[self.host(name)?].line.stall_watches(true),
            ["watches", name, "go"] => self.world.hosts[self.host(name)?].line.stall_watches(false),
            ["unreadable", name] => self.world.hosts[self.host(name)?].line.unreadable(None),
            ["unreadable", name, keys] => {
                self.world.hosts[self.host(name)?].line.unreadable(Some((*keys).into()));
            }
            ["late-commit", name, by] => self.world.hosts[self.host(name)?].line.delay_next_commit(seconds(by)?),
            ["disk", name, "full"] => self.world.hosts[self.host(name)?].fake.fill_disk(true),
            ["disk", name, "free"] => self.world.hosts[self.host(name)?].fake.fill_disk(false),
            ["shut-down", name] => self.world.shut_down(self.host(name)?, false).await,
            ["shut-down", name, "bus-lost"] => self.world.shut_down(self.host(name)?, true).await,
            ["store", "down"] => self.world.store(true),
            ["store", "up"] => self.world.store(false),
            ["compact"] => self.world.compact().await,
            ["backup"] => self.world.back_up(),
            ["restore"] => self.world.restore(Counter::GoesBack).await,
            ["restore", "goes-on"] => self.world.restore(Counter::GoesOn).await,
            ["accept", names @ ..] => {
                for name in names {
                    self.world.accept(self.host(name)?).await;
                }
            }
            ["metadata", name, pair] => {
                let (key, value) = pair.split_once('=').ok_or("not key=value")?;
                let value = Some(value).filter(|value| !value.is_empty());
                let host = self.host(name)?;
                self.world.set_metadata(host, key, value).await.map_err(|error| error.to_string())?;
            }
            ["forge", name, unit] => {
                let unit = unit.parse().map_err(|error| format!("{error}"))?;
                self.world.forge(self.host(name)?, &unit).await.map_err(|error| error.to_string())?;
            }
            ["forge", name, unit, kind] => {
                let unit = unit.parse().map_err(|error| format!("{error}"))?;
                let (_, kind) = KINDS.iter().find(|(name, _)| name == kind).ok_or("no such kind")?;
                self.world.forge_record(*kind, self.host(name)?, &unit).await;
            }
            ["unforge"] => self.world.remove_forged().await,
            ["wait", time] => sleep(seconds(time)?).await,
            ["settle"] => {
                let mut settled = self.world.settle(QUIET, LIMIT).await;
                while settled && self.world.has_jobs() {
                    settled = self.world.settle(QUIET, LIMIT).await;
                }
                if !settled {
                    return Err("it doesn't".into());
                }
                let cluster = self.world.judge.cluster();
                rollouts::torn(&cluster).for_each(|what| self.world.journal.violate(format!("settled, and {what}")));
            }
            ["show", "units"] => return Ok(show::units(&self.world)),
            ["show", "sets"] => return Ok(show::sets(&self.world)),
            ["show", "machines"] => return Ok(show::machines(&self.world)),
            ["show", "disk"] => return Ok(show::disk(&self.world)),
            ["show", "files"] => return Ok(show::files(&self.world)),
            ["show", "reports"] => return Ok(show::reports(&self.world)),
            ["show", "keys"] => return Ok(show::report_keys(&self.world).await),
            ["show", "schedule"] => return Ok(show::schedule(&self.world)),
            ["show", "explain", unit] => return Ok(show::explain(&self.world, &unit.parse().unwrap())),
            ["show", "log"] => {
                let lines = self.world.journal.lines();
                let text = show::log(&self.world, &lines[self.shown..]);
                self.shown = lines.len();
                return Ok(text);
            }
            _ => return Err("no such command".into()),
        }
        Ok(String::new())
    }

    fn host(&self, name: &str) -> Result<usize, String> {
        self.world.hosts.iter().position(|host| host.name == name).ok_or_else(|| format!("no host {name}"))
    }

    /// Send a request with the files of the units, as the command line does.
    async fn ask(&self, units: &[&str], desired: Option<Desired>) -> Result<String, String> {
        let mut intents = Vec::new();
        for unit in units.iter().flat_map(|unit| expanded(unit)) {
            let name: UnitName = unit.parse().map_err(|error| format!("{error}"))?;
            let file = self.files.get(&name).or_else(|| self.files.get(&name.template()?));
            let desired = desired.filter(|desired| *desired != Desired::Inactive || self.is_new(&name));
            intents.push(have(&name, file.map(String::as_str), desired));
        }
        Ok(refusal(self.world.ask(&intents).await.err()))
    }

    async fn change(&self, units: &[&str], desired: Desired) -> Result<String, String> {
        let intents: Vec<_> = units.iter().map(|unit| have(&unit.parse().unwrap(), None, Some(desired))).collect();
        Ok(refusal(self.world.ask(&intents).await.err()))
    }

    fn is_new(&self, name: &UnitName) -> bool {
        !self.world.judge.cluster().units.contains_key(name)
    }
}

/// What a shell makes of `{web,log}@{1,2}.service`.
fn expanded(unit: &str) -> Vec<String> {
    let choices = unit.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (choices, after))) = choices else { return vec![unit.to_owned()] };
    choices.split(',').flat_map(|choice| expanded(&format!("{before}{choice}{after}"))).collect()
}

fn scaled(unit: &str, count: &str) -> Result<Intent, String> {
    let unit = unit.parse().map_err(|error| format!("{error}"))?;
    Ok(scale(&unit, count.parse().map_err(|_| "not a number")?))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    number.map(Duration::from_secs_f64).ok_or_else(|| format!("{text} is not a time"))
}

fn call_named(name: &str) -> Result<Call, String> {
    Ok(match name {
        "install" => Call::Install,
        "remove" => Call::Remove,
        "reload" => Call::Reload,
        "start" => Call::Start,
        "stop" => Call::Stop,
        "reset-failed" => Call::ResetFailed,
        _ => return Err(format!("no call {name}")),
    })
}

/// The error that a user gets. It is part of a scenario, not a failure of it.
fn refusal(error: Option<String>) -> String {
    error.map_or_else(String::new, |error| format!("refused: {error}\n"))
}
