//! `contrib/sbom`: the bill of materials has every package of Cargo.lock, with its version, its licence and the hash of
//! its file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The name, version and checksum of each package from a registry.
type Packages = BTreeSet<(String, String, String)>;

/// Those in Cargo.lock. Each begins with `[[package]]`, and each of its values has a line of its own.
fn locked() -> Packages {
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
            Some(line.trim_end_matches('"').to_owned())
        };
        Some((value("name")?, value("version")?, value("checksum")?))
    });
    packages.collect()
}

#[test]
fn the_bill_of_materials_has_every_package_with_version_licence_and_hash() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/sbom");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bom: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let ours = &bom["metadata"]["component"];
    assert_eq!((&ours["name"], &ours["version"]), (&"flotilla".into(), &env!("CARGO_PKG_VERSION").into()));

    let components = bom["components"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed: Packages = components
        .iter()
        .map(|one| (text(&one["name"]), text(&one["version"]), text(&one["hashes"][0]["content"])))
        .collect();
    assert_eq!(listed, locked());
    for component in components {
        let licence = text(&component["licenses"][0]["expression"]);
        assert!(!licence.is_empty() && !licence.contains('/'), "{component}");
    }

    // What the programs contain, and what only tests and builds need.
    let scope = |name: &str| text(&components.iter().find(|one| one["name"] == name).unwrap()["scope"]);
    for (name, expected) in [
        ("tokio", "required"),
        ("zbus", "required"),
        ("openssl-src", "required"),
        ("tempfile", "excluded"),
        ("schemars", "excluded"),
        ("cc", "excluded"),
    ] {
        assert_eq!(scope(name), expected, "{name}");
    }
    let needs = bom["dependencies"].as_array().unwrap();
    assert_eq!(needs.len(), components.len() + 1, "each package says what it needs");
    let known: BTreeSet<String> = needs.iter().map(|one| text(&one["ref"])).collect();
    let needed = needs.iter().flat_map(|one| one["dependsOn"].as_array().unwrap()).map(text);
    assert_eq!(needed.filter(|one| !known.contains(one)).collect::<Vec<_>>(), [""; 0], "what is needed is listed");
}
