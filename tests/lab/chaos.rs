//! Chaos: faults of hosts, daemons, networks and the store, alone and two at a time. `tests/lab/chaos` plays them, and
//! judges what the units wrote about themselves; for longer, it is run by hand.

use std::path::Path;
use std::process::Command;

use crate::harness::Lab;
use crate::upgrade::older_programs;

#[test]
fn three_minutes_of_faults_lose_no_unit_and_restart_none_without_a_cause() {
    let name = format!("chaos{}", std::process::id());
    let mut chaos = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/chaos"));
    chaos.args(["--minutes", "3", "--seed", "116", "--name", &name, "--bin", &Lab::binaries()]);
    match older_programs() {
        Ok(directory) => _ = chaos.args(["--older", &directory]),
        Err(why) => eprintln!("no daemon is downgraded: {why}"),
    }
    let output = chaos.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), text(&output.stdout));
}
