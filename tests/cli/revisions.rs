//! The commands about the texts that units have and had, against the real API: `diff` of revisions, and `rollback`.

use serde_json::Value;

use super::fake::Ran;
use super::real::Real;

/// A unit file here.
fn write(real: &Real, name: &str, more: &str) {
    let text = format!("[Service]\nExecStart=/bin/true\n{more}");
    std::fs::write(real.dir.path().join(name), text).unwrap();
}

#[test]
fn revisions_are_compared_with_each_other_and_with_the_present_one() {
    let real = Real::new();
    for more in ["[X-Fleet]\nReplicas=2\n", "[X-Fleet]\nReplicas=3\n", "Environment=A=1\n[X-Fleet]\nReplicas=3\n"] {
        write(&real, "web@.service", more);
        real.run("submit --replace web@.service");
    }
    let sections = "\
--- cluster/web@.service, revision 1
+++ cluster/web@.service, revision 2
@@ -1,4 +1,4 @@
 [Service]
 ExecStart=/bin/true
 [X-Fleet]
-Replicas=2
+Replicas=3
";
    let said = "[X-Fleet] Replicas: 2 -> 3 (restarts nothing)\nweb@.service: from revision 1 to 2: restarts nothing \
                where it still fits, because only [X-...] sections differ\n";
    real.expect("diff web@ 1 2", 1, sections, said);
    let Ran { code, out, err } = real.run("diff web@ 2");
    let ends = out.ends_with(" ExecStart=/bin/true\n+Environment=A=1\n [X-Fleet]\n Replicas=3\n");
    assert!(code == Some(1) && ends && out.contains("+++ cluster/web@.service, revision 3\n"), "{out}");
    assert_eq!(err, "web@.service: from revision 2 to 3: restarts what runs\n");
    real.expect("diff web@ 3", 0, "", "");
    real.expect("diff web@ 3 3", 0, "", "");
    real.expect("diff web@ 4", 2, "", "web@.service: revision 4 does not exist; 1 to 3 are there\n");
    let json: Value = serde_json::from_str(&real.run("diff web@ 1 2 --output json").out).unwrap();
    let (one, option) = (&json[0], &json[0]["options"][0]);
    assert_eq!((&one["from"], &one["to"], &one["same"]), (&1.into(), &2.into(), &false.into()), "{json}");
    assert_eq!(
        (&option["option"], &option["before"][0], &option["after"][0]),
        (&"Replicas".into(), &"2".into(), &"3".into())
    );
    // A file here has the same lines.
    write(&real, "web@.service", "Environment=A=1\n[X-Fleet]\nReplicas=3\n[X-Health]\nRise=2\n");
    let Ran { err, .. } = real.run("diff web@.service");
    assert!(err.starts_with("[X-Health] Rise: not set -> 2 (restarts nothing)\n"), "{err}");
    let json: Value = serde_json::from_str(&real.run("diff web@.service --output json").out).unwrap();
    assert_eq!((&json[0]["options"][0]["section"], json[0].get("from")), (&"X-Health".into(), None));
    // Of a unit that was destroyed, two of them.
    real.run("destroy --no-block web@.service");
    real.expect("diff web@ 1 2", 1, sections, said);
    real.expect("diff web@ 1", 2, "", "web@.service has no present text: name two of its revisions\n");
}
