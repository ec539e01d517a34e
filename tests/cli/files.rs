//! The commands about unit files: `verify`, against the real API and a `systemd-analyze` that says what it is told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::fake::{Ran, Script, fleetctl, run};
use super::real::Real;
use super::{N1, N2};

const GPU: &str = "[Unit]\nRequires=db.service\n[Service]\nExecStrat=/bin/true\n  [X-Fleet]\nMachineMetadata=gpu=yes\n";
const DB: &str = "[Service]\nExecStart=/bin/db\n[Install]\nWantedby=multi-user.target\n";

/// A `systemd-analyze` in `dir` that prints `lines`, with `DIR` for the folder of the files.
fn systemd(dir: &Path, lines: &str) {
    let program = dir.join("bin/systemd-analyze");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    let lines = lines.replace("DIR", &dir.display().to_string());
    std::fs::write(&program, format!("#!/bin/sh\n[ \"$1\" = verify ] && /bin/cat >&2 <<'END'\n{lines}END\nexit 1\n"))
        .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn verify(dir: &Path, args: &str) -> Ran {
    let mut command = fleetctl(dir);
    command.arg("verify").args(args.split(' ')).arg("--endpoint").arg(dir.join("fleet.sock"));
    command.env("PATH", dir.join("bin"));
    run(command)
}

#[test]
fn verify_says_what_we_systemd_and_the_cluster_find() {
    let real = Real::new();
    for host in [N1, N2] {
        real.host(host);
    }
    let dir = real.dir.path();
    std::fs::write(dir.join("gpu.service"), GPU).unwrap();
    std::fs::write(dir.join("db.service"), DB).unwrap();
    systemd(
        dir,
        "DIR/gpu.service:4: Unknown key 'ExecStrat' in section [Service], ignoring.\n\
         Unit gpu.service has a bad unit file setting.\n\
         /lib/systemd/system/other.service:3: Unknown section 'X'. Ignoring.\n\
         db.service: Command /bin/db is not executable: No such file or directory\n",
    );
    let Ran { code, out, err } = verify(dir, "gpu.service db typo.service");
    assert_eq!(
        out,
        "gpu.service:2: warning: Requires=db.service without MachineOf=db.service: it may be on another host \
         (cluster)\n\
         gpu.service:4: Unknown key 'ExecStrat' in section [Service], ignoring (systemd)\n\
         gpu.service:6: no host fits: n1, n1: no metadata gpu, wanted yes (cluster)\n\
         db.service:4: unknown option `Wantedby` in [Install]; there are Alias, WantedBy, RequiredBy, UpheldBy, Also, \
         DefaultInstance\n\
         db.service: warning: Command /bin/db is not executable: No such file or directory (systemd)\n\
         typo.service: no such file\n"
    );
    assert_eq!((code, err.as_str()), (Some(1), "4 errors, 2 warnings in 3 files\n"));
    let json = verify(dir, "gpu.service --output json").out;
    let findings: Value = serde_json::from_str(&json).unwrap();
    let of = |key: &str| findings.as_array().unwrap().iter().map(|finding| finding[key].clone()).collect::<Vec<_>>();
    assert_eq!((of("line"), of("column")), (vec![4.into(), 6.into()], vec![1.into(), 1.into()]));
    assert_eq!((of("source"), of("severity")), (vec!["systemd".into(), "cluster".into()], vec!["error".into(); 2]));
    real.expect("list-unit-files --no-legend", 0, "", "");
}

#[test]
fn verify_works_with_neither_systemd_nor_a_cluster() {
    let fake =
        super::fake::Fake::new(Script { refuse: Some((503, super::error(503, "etcd is away"))), ..Script::default() });
    let dir = fake.dir.path();
    fake.file("ok.service", super::OK).file("bad.service", "[Service\n");
    let Ran { code, out, err } = verify(dir, "ok.service");
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert_eq!(
        err,
        "not checked by systemd: there is no systemd-analyze here\n\
         not compared with the cluster: etcd is away\n\
         0 errors, 0 warnings in 1 file\n"
    );
    let Ran { code, out, .. } = verify(dir, "bad.service ok.service");
    assert_eq!(
        (code, out.as_str()),
        (Some(1), "bad.service:1: bad section header \"[Service\": it must be [Name], alone on its line\n")
    );
    assert_eq!(fake.run("verify").code, Some(2));
}
