//! The HTTP API v1, request by request.

use serde_json::{Value, json};

use super::ground::{Ground, PAGE, SOON, options};
use crate::harness::eventually;

super::cases![
    both_bases_answer_and_name_the_server,
    empty_lists_are_empty_objects,
    keys_are_sorted_and_empty_ones_left_out,
    paths_that_arent_there_are_404_and_roots_405,
    other_methods_are_405_and_say_which_are_there,
    machines_have_id_address_and_metadata,
    patch_changes_metadata_given_plainly_or_wrapped,
    patch_sets_metadata_of_hosts_that_are_yet_to_come,
    patch_names_what_is_wrong_with_it,
    units_are_listed_by_name,
    a_page_is_as_long_as_token_limit_and_the_last_has_no_token,
    bad_page_tokens_are_refused_in_fleets_words,
    put_wants_json_and_says_so,
    put_creates_with_201_and_changes_with_204,
    put_of_other_options_replaces_and_wants_inactive,
    put_of_other_options_is_checked_too,
    put_refuses_what_doesnt_fit_in_fleets_words,
    a_desired_state_is_one_of_three,
    a_template_cant_be_activated,
    options_without_a_value_come_and_go,
    delete_is_204_then_404,
    states_can_be_filtered_by_unit_and_machine,
    states_are_cut_into_pages_after_they_are_filtered,
    the_state_of_an_unknown_unit_is_404,
    current_state_follows_desired_state,
    a_unit_put_over_the_api_is_the_command_lines_too,
    discovery_describes_the_api,
    metrics_have_fleets_names_and_all_of_them_count,
];

fn both_bases_answer_and_name_the_server(g: &Ground) {
    g.have("a.service", "inactive");
    let v1 = g.get("/units/a.service");
    assert_eq!(g.get("//v1-alpha/units/a.service").body, v1.body);
    assert!(v1.headers.contains("server: fleetd/") && v1.headers.contains("content-type: application/json"), "{v1:?}");
}

fn empty_lists_are_empty_objects(g: &Ground) {
    for path in ["/units", "/state", "/state?unitName=nothing.service"] {
        let answer = g.get(path);
        assert_eq!((answer.status, answer.body.trim()), (200, "{}"), "{path}");
    }
}

fn keys_are_sorted_and_empty_ones_left_out(g: &Ground) {
    g.have("a.service", "inactive");
    let wanted = concat!(
        r#"{"units":[{"currentState":"inactive","desiredState":"inactive","name":"a.service","#,
        r#""options":[{"name":"ExecStart","section":"Service","value":"/bin/sleep 10000"}]}]}"#
    );
    assert_eq!(g.get("/units").body.trim(), wanted);
}

fn paths_that_arent_there_are_404_and_roots_405(g: &Ground) {
    for path in ["//", "", "//fleet/v1", "//v1-alpha"] {
        assert_eq!(g.get(path).status, 405, "{path}");
    }
    for path in ["//fleet", "//fleet/v3/units", "/units/", "/units/a.service/b", "/machines/x", "/nothing", "/state/"] {
        assert_eq!(g.get(path).error().0, 404, "{path}");
    }
}

fn other_methods_are_405_and_say_which_are_there(g: &Ground) {
    let said = |method: &str, path: &str| g.http(method, path, &["Content-Type: application/json"], Some("{}")).error();
    assert_eq!(said("POST", "/units"), (405, "only GET supported against this resource".into()));
    assert_eq!(said("PUT", "/machines"), (405, "only GET and PATCH supported against this resource".into()));
    assert_eq!(said("DELETE", "/state").0, 405);
    assert_eq!(said("POST", "/units/a.service").0, 405);
}

fn machines_have_id_address_and_metadata(g: &Ground) {
    let answer = g.get("/machines");
    let machine = |rank: usize, zone: &str| {
        let metadata = json!({ "rank": rank.to_string(), "zone": zone });
        json!({ "id": g.id(rank), "metadata": metadata, "primaryIP": format!("10.0.0.{rank}") })
    };
    assert_eq!(answer.json(), json!({ "machines": [machine(1, "a"), machine(2, "a"), machine(3, "b")] }));
    assert!(answer.body.starts_with(&format!(r#"{{"machines":[{{"id":"{}","metadata":{{"#, g.id(1))), "{answer:?}");
}

fn patch(g: &Ground, rank: usize, op: &str, key: &str, value: &Value) -> super::ground::Answer {
    let body = json!([{ "op": op, "path": format!("/{}/metadata/{key}", g.id(rank)), "value": value }]);
    g.http("PATCH", "/machines", &[], Some(&body.to_string()))
}

/// fleet's documentation showed a string, but its server required an object.
fn patch_changes_metadata_given_plainly_or_wrapped(g: &Ground) {
    let metadata = || g.get("/machines").json()["machines"][0]["metadata"].clone();
    assert_eq!(patch(g, 1, "add", "disk", &json!({ "value": "ssd" })).status, 204);
    assert_eq!(metadata()["disk"], "ssd");
    assert_eq!(patch(g, 1, "replace", "disk", &json!("hdd")).status, 204);
    assert_eq!(metadata()["disk"], "hdd");
    assert!(g.fleetctl("list-machines --no-legend --fields=metadata").ok().starts_with("disk=hdd,rank=1,zone=a\n"));
    assert_eq!(patch(g, 1, "remove", "disk", &Value::Null).status, 204);
    assert_eq!(metadata(), json!({ "rank": "1", "zone": "a" }));
    // Metadata set through the API take precedence over the host's own, and `remove` hides those too.
    assert_eq!(patch(g, 1, "remove", "zone", &Value::Null).status, 204);
    assert_eq!(metadata(), json!({ "rank": "1" }));
    assert_eq!(patch(g, 1, "replace", "zone", &json!("a")).status, 204);
}

fn patch_sets_metadata_of_hosts_that_are_yet_to_come(g: &Ground) {
    let path = format!("/{}/metadata/disk", "f".repeat(32));
    let body = json!([{ "op": "add", "path": path, "value": "ssd" }]).to_string();
    assert_eq!(g.http("PATCH", "/machines", &[], Some(&body)).status, 204);
    assert_eq!(g.get("/machines").json()["machines"].as_array().unwrap().len(), 3);
}

fn patch_names_what_is_wrong_with_it(g: &Ground) {
    let said = |body: Value| g.http("PATCH", "/machines", &[], Some(&body.to_string())).error();
    let path = format!("/{}/metadata/x", g.id(1));
    let op = "invalid op: expect add, remove, or replace";
    assert_eq!(said(json!([{ "op": "test", "path": path, "value": "1" }])), (400, op.into()));
    for bad in ["", "/x", "/metadata/x", &format!("/{}/metadata/", g.id(1)), &format!("/{}/metadata/a b", g.id(1))] {
        let body = json!([{ "op": "add", "path": bad, "value": "1" }]);
        assert_eq!(said(body), (400, "machine metadata path invalid".into()), "{bad}");
    }
    let value = "invalid value: add and replace require a value";
    assert_eq!(said(json!([{ "op": "add", "path": path }])), (400, value.into()));
    assert_eq!(said(json!({})).0, 400);
    for no_value in [json!(1), json!({ "other": "1" })] {
        let (status, message) = said(json!([{ "op": "add", "path": path, "value": no_value }]));
        assert!(status == 400 && message.contains("`value` must be a string, or {\"value\": \"…\"}"), "{message}");
    }
}

fn units_are_listed_by_name(g: &Ground) {
    for unit in ["b.service", "a@2.service", "a@10.service"] {
        g.have(unit, "inactive");
    }
    let list = g.get("/units").json();
    let names: Vec<&str> =
        list["units"].as_array().unwrap().iter().map(|unit| unit["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a@10.service", "a@2.service", "b.service"]);
}

/// In fleet, a full last page had a token for an empty one.
fn a_page_is_as_long_as_token_limit_and_the_last_has_no_token(g: &Ground) {
    for index in 0..2 * PAGE {
        g.have(&format!("u{index}.service"), "inactive");
    }
    let first = g.get("/units").json();
    assert_eq!((first["units"].as_array().unwrap().len(), &first["nextPageToken"]), (PAGE, &json!("AwACAA==")));
    let second = g.get("/units?nextPageToken=AwACAA==").json();
    assert_eq!(second["units"].as_array().unwrap().len(), PAGE);
    assert_eq!((&second["nextPageToken"], &second["units"][0]["name"]), (&Value::Null, &json!("u3.service")));
    assert_eq!(g.get("/units?nextPageToken=AwAJAA==").body.trim(), "{}", "beyond the end is an empty page");
}

fn bad_page_tokens_are_refused_in_fleets_words(g: &Ground) {
    let said = |query: &str| g.get(&format!("/units?{query}")).error();
    assert_eq!(said("nextPageToken=BAACAA=="), (400, format!("token limit must be {PAGE}")));
    assert_eq!(said("nextPageToken=AwAAAA=="), (400, "token page must be greater than zero".into()));
    assert_eq!(said("nextPageToken=AwACAA==&nextPageToken=AwACAA=="), (400, "too many values for page token".into()));
    assert_eq!(said("nextPageToken=nonsense").0, 400);
}

fn put_wants_json_and_says_so(g: &Ground) {
    let said = |headers: &[&str], body: &str| g.http("PUT", "/units/a.service", headers, Some(body)).error();
    assert_eq!(said(&["Content-Type:"], "{}"), (415, "expected 1 Content-Type, got 0".into()));
    let twice = ["Content-Type: application/json", "Content-Type: application/json"];
    assert_eq!(said(&twice, "{}"), (415, "expected 1 Content-Type, got 2".into()));
    let plain = (415, "only acceptable Content-Type is application/json".to_owned());
    assert_eq!(said(&["Content-Type: text/plain"], "{}"), plain);
    let (status, message) = said(&["Content-Type: application/json; charset=utf-8"], "{nonsense");
    assert!(status == 400 && message.starts_with("unable to decode body: "), "{message}");
}

fn put_creates_with_201_and_changes_with_204(g: &Ground) {
    let unit = json!({ "name": "a.service", "desiredState": "inactive", "options": options(&[]) });
    let created = g.put("a.service", &unit);
    assert_eq!((created.status, created.body.as_str()), (201, ""));
    assert_eq!(g.put("a.service", &unit).status, 204, "the same again");
    let changed = g.put("a.service", &json!({ "desiredState": "launched" }));
    assert_eq!((changed.status, changed.body.as_str()), (204, ""));
    g.until_ranks("a.service", &[1]);
    let needs = (409, "must provide DesiredState to update existing unit".to_owned());
    assert_eq!(g.put("a.service", &json!({})).error(), needs);
    assert_eq!(g.put("a.service", &json!({ "options": options(&[]) })).error(), needs);
}

fn put_of_other_options_replaces_and_wants_inactive(g: &Ground) {
    g.have("a.service", "launched");
    g.until_ranks("a.service", &[1]);
    let other = json!({ "options": options(&[("MachineMetadata", "rank=2")]) });
    assert_eq!(g.put("a.service", &other).status, 201);
    assert_eq!(g.get("/units/a.service").json()["desiredState"], "inactive");
    g.until_ranks("a.service", &[]);
}

/// fleet checked only units that were new.
fn put_of_other_options_is_checked_too(g: &Ground) {
    g.have("a.service", "inactive");
    let bad = json!({ "options": options(&[("Global", "true"), ("MachineOf", "b.service")]) });
    assert_eq!(g.put("a.service", &bad).error(), (400, "Global cannot be used with Peers".into()));
}

fn put_refuses_what_doesnt_fit_in_fleets_words(g: &Ground) {
    let missing = (409, "unit does not exist and options field empty".to_owned());
    assert_eq!(g.put("a.service", &json!({ "desiredState": "launched" })).error(), missing);
    assert_eq!(g.put("a.service", &json!({ "desiredState": "launched", "options": [] })).error(), missing);
    let differs = r#"name in URL "a.service" differs from unit name in request body "b.service""#;
    let body = json!({ "name": "b.service", "options": options(&[]) });
    assert_eq!(g.put("a.service", &body).error(), (400, differs.into()));
}

/// fleet stored any text, and then the unit was missing in all lists.
fn a_desired_state_is_one_of_three(g: &Ground) {
    let bad = |body: &Value| {
        let (status, message) = g.put("a.service", body).error();
        assert!(status == 400 && message.contains("`foo` is no desired state"), "{message}");
    };
    bad(&json!({ "desiredState": "foo", "options": options(&[]) }));
    g.have("a.service", "inactive");
    bad(&json!({ "desiredState": "foo" }));
    assert_eq!(g.get("/units/a.service").json()["desiredState"], "inactive");
}

/// fleet refused it for an existing template, but not for a new one.
fn a_template_cant_be_activated(g: &Ground) {
    let refused = (400, "cannot activate template \"x@.service\"".to_owned());
    assert_eq!(g.put("x@.service", &json!({ "desiredState": "launched", "options": options(&[]) })).error(), refused);
    g.have("x@.service", "inactive");
    assert_eq!(g.put("x@.service", &json!({ "desiredState": "loaded" })).error(), refused);
}

/// Go's clients omit empty values.
fn options_without_a_value_come_and_go(g: &Ground) {
    let emptied = json!([
        { "section": "Service", "name": "ExecStart" },
        { "section": "Service", "name": "ExecStart", "value": "/bin/sleep 10000" },
    ]);
    assert_eq!(g.put("a.service", &json!({ "desiredState": "inactive", "options": emptied })).status, 201);
    assert_eq!(g.get("/units/a.service").json()["options"], emptied);
}

fn delete_is_204_then_404(g: &Ground) {
    g.have("a.service", "launched");
    let delete = || g.http("DELETE", "/units/a.service", &[], None);
    let first = delete();
    assert_eq!((first.status, first.body.as_str()), (204, ""));
    assert_eq!(delete().error(), (404, "unit does not exist".into()));
    assert_eq!(g.get("/units/a.service").error(), (404, "unit does not exist".into()));
}

fn states_can_be_filtered_by_unit_and_machine(g: &Ground) {
    let all = json!({ "desiredState": "launched", "options": options(&[("Global", "true")]) });
    assert_eq!(g.put("all.service", &all).status, 201);
    g.have("a.service", "launched");
    eventually(SOON, "four states", || {
        let (all, a) = (g.ranks("all.service").len(), g.ranks("a.service").len());
        if (all, a) == (3, 1) { Ok(()) } else { Err(format!("{all} {a}")) }
    });
    let count = |query: &str| g.get(&format!("/state?{query}")).json()["states"].as_array().map_or(0, Vec::len);
    let (id, other) = (g.id(1), g.id(3));
    eventually(SOON, "all states reported", || {
        let counts = [
            count("unitName=all.service"),
            count(&format!("machineID={other}")),
            count(&format!("unitName=a.service&machineID={other}")),
            count(&format!("machineID={id}&unitName=all.service")),
        ];
        if counts == [3, 1, 0, 1] { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    let state = g.get("/state/a.service").json();
    let expected = json!({
        "hash": state["hash"], "machineID": id, "name": "a.service",
        "systemdActiveState": "active", "systemdLoadState": "loaded",
        "systemdSubState": "running",
    });
    assert_eq!((&state, state["hash"].as_str().unwrap().len()), (&expected, 40));
}

fn states_are_cut_into_pages_after_they_are_filtered(g: &Ground) {
    let all = json!({ "desiredState": "launched", "options": options(&[("Global", "true")]) });
    assert_eq!(g.put("all.service", &all).status, 201);
    g.have("a.service", "launched");
    g.have("b.service", "launched");
    eventually(SOON, "five states", || {
        let (first, second) = (g.get("/state").json(), g.get("/state?nextPageToken=AwACAA==").json());
        let names = |page: &Value| -> Vec<String> {
            let states = page["states"].as_array().into_iter().flatten();
            states.map(|state| state["name"].as_str().unwrap().to_owned()).collect()
        };
        let there = names(&first) == ["a.service", "all.service", "all.service"]
            && first["nextPageToken"] == "AwACAA=="
            && names(&second) == ["all.service", "b.service"]
            && second["nextPageToken"].is_null();
        if there { Ok(()) } else { Err(format!("{first} {second}")) }
    });
    let filtered = g.get("/state?unitName=all.service").json();
    assert_eq!((filtered["states"].as_array().unwrap().len(), &filtered["nextPageToken"]), (PAGE, &Value::Null));
}

/// fleet closed the connection without an answer.
fn the_state_of_an_unknown_unit_is_404(g: &Ground) {
    assert_eq!(g.get("/state/nothing.service").error().0, 404);
    g.have("a.service", "inactive");
    assert_eq!(g.get("/state/a.service").error().0, 404, "no host reports it");
}

fn current_state_follows_desired_state(g: &Ground) {
    g.have("a.service", "inactive");
    for (desired, machine) in [
        ("loaded", json!(g.id(1))),
        ("launched", json!(g.id(1))),
        ("loaded", json!(g.id(1))),
        ("inactive", Value::Null),
    ] {
        assert_eq!(g.put("a.service", &json!({ "desiredState": desired })).status, 204);
        eventually(SOON, desired, || {
            let unit = g.get("/units/a.service").json();
            let there = unit["currentState"] == desired && unit["machineID"] == machine;
            if there { Ok(()) } else { Err(unit.to_string()) }
        });
    }
}

fn a_unit_put_over_the_api_is_the_command_lines_too(g: &Ground) {
    g.have("a.service", "inactive");
    assert_eq!(g.fleetctl("cat a.service").ok(), "[Service]\nExecStart=/bin/sleep 10000\n");
    assert!(g.fleetctl("start a.service").ok().starts_with("Unit a.service launched on "));
    g.file("a.service", "[Service]\nExecStart=/bin/sleep 10000");
    let ran = g.fleetctl("submit --replace a.service");
    assert_eq!(ran.ok(), "Found same Unit(a.service) in Registry, nothing to do\n");
}

fn discovery_describes_the_api(g: &Ground) {
    let document = g.get("//discovery").json();
    assert_eq!((&document["kind"], &document["rootUrl"]), (&json!("discovery#restDescription"), &json!("$ENDPOINT/")));
    for schema in ["Machine", "MachinePage", "Unit", "UnitPage", "UnitOption", "UnitState", "UnitStatePage"] {
        assert!(document["schemas"][schema].is_object(), "{schema}");
    }
    let answer = g.http("POST", "//discovery", &[], Some(""));
    assert_eq!(answer.error(), (400, "only HTTP GET supported against this resource".into()));
}

/// fleet documented nine and registered five; one counted healthy units as failures.
fn metrics_have_fleets_names_and_all_of_them_count(g: &Ground) {
    g.have("a.service", "launched");
    g.until_ranks("a.service", &[1]);
    let mut total = 0.0;
    for rank in 1..=3 {
        let url = "http://fleet/metrics";
        let text = g.lab.run(g.host(rank), &["curl", "-sS", "--unix-socket", "/run/fleet.sock", url]).ok();
        for name in [
            "fleet_engine_leader_start_time",
            "fleet_engine_task_count_total{",
            "fleet_engine_task_failure_count_total{",
            "fleet_engine_reconcile_count_total",
            "fleet_engine_reconcile_duration_second_count",
            "fleet_engine_reconcile_failure_count_total{",
            "fleet_registry_operation_count_total{",
            "fleet_registry_operation_failed_count_total{",
            "fleet_registry_operation_duration_second_count{",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
        }
        let scheduled =
            text.lines().find_map(|line| line.strip_prefix("fleet_engine_task_count_total{type=\"schedule\"} "));
        total += scheduled.unwrap().parse::<f64>().unwrap();
        for healthy in ["fleet_engine_task_failure_count_total{", "fleet_engine_reconcile_failure_count_total{"] {
            let failures = text.lines().filter(|line| line.starts_with(healthy));
            assert!(failures.clone().count() > 0 && failures.clone().all(|line| line.ends_with(" 0")), "{text}");
        }
    }
    assert!(total >= 1.0, "the leader has placed a.service");
}
