//! Templates: their variables, and how strictly they are evaluated. The language is Jinja, as implemented by minijinja.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, merge_maps};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use crate::api::wire::services::InstanceView;
use crate::model::service::ServiceName;
use crate::sidecar::service_watch::Instances;

/// Render the template in `path` for `instances`. The `asked` services exist even if they have no instances.
///
/// # Errors
/// The error in the template, with its line.
pub(super) fn render(path: &Path, asked: &[ServiceName], instances: &Instances) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
    let mut services: BTreeMap<String, Vec<Value>> = asked.iter().map(|name| (name.to_string(), Vec::new())).collect();
    for ((service, _), view) in instances {
        services.entry(service.to_string()).or_default().push(value_of(view));
    }
    let services: BTreeMap<String, Value> = services.into_iter().map(|(name, all)| (name, all.into())).collect();
    // In the API's order.
    let list: Vec<Value> = services
        .iter()
        .map(|(name, all)| Value::from_pairs([("name", Value::from(name)), ("instances", all.clone())]))
        .collect();

    let mut environment = Environment::new();
    // A misspelt name must not become an empty word in a configuration file.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    environment.add_function("instances", move |name: &str| {
        services.get(name).cloned().unwrap_or_else(|| Vec::<Value>::new().into())
    });
    environment.add_test("port", |value: &Value| {
        value.to_string().parse::<u16>().is_ok_and(|port| port > 0 && port.to_string() == value.to_string())
    });
    environment.add_test("word", |value: &Value| is_word(&value.to_string()));
    let rendered = environment.render_named_str(&super::name(path), &text, context! { services => list });
    rendered.map_err(|error| error.to_string())
}

/// Whether the text can be put between single quotes in a configuration file and is always read as one word.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "'\"\\`".contains(c))
}

/// An instance as in the API's responses. Missing fields are empty, so that templates can use them.
fn value_of(view: &InstanceView) -> Value {
    let nothing = [("unit", Value::from("")), ("machine", "".into()), ("hostname", "".into())];
    let nothing =
        Value::from_pairs(nothing.into_iter().chain([("metadata", Value::from(BTreeMap::<String, String>::new()))]));
    merge_maps([nothing, Value::from(Serde(view))])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::service::Instance;

    fn instances() -> Instances {
        let one = |service: &str, name: &str, port: u16| {
            let is = Instance {
                unit: "web@1.service".parse().ok(),
                hostname: "n1".into(),
                metadata: [("host".to_owned(), "a<b>.example".to_owned())].into(),
                ..Instance::new("10.88.0.11", port)
            };
            let view = InstanceView { service: service.parse().unwrap(), instance: name.parse().unwrap(), is };
            ((view.service.clone(), view.instance.clone()), Arc::new(view))
        };
        [one("web", "b", 2), one("web", "a", 1), one("db", "x", 3)].into()
    }

    fn said(template: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.cfg");
        fs::write(&path, template).unwrap();
        render(&path, &["asked".parse().unwrap()], &instances())
    }

    #[test]
    fn services_are_told_in_order() {
        let template = "{% for service in services -%}\n{{ service.name }}:\n\
            {% for i in service.instances -%}\n  {{ i.instance }} {{ i.address }}:{{ i.port }} {{ i.metadata.host }} \
            {{ i.unit }}\n{% endfor %}{% endfor %}end\n";
        let line = |name: &str, port: u16| format!("{name} 10.88.0.11:{port} a<b>.example web@1.service\n");
        let expected = format!("asked:\ndb:\n{}web:\n{}{}end\n", line("x", 3), line("a", 1), line("b", 2));
        assert_eq!(said(template), Ok(expected));
    }

    #[test]
    fn a_service_that_nobody_announces_has_no_instances() {
        assert_eq!(said("{{ instances('none') | length }}{{ instances('web') | length }}"), Ok("02".into()));
        assert_eq!(
            said("{% for s in services %}{{ s.name }}{{ s.instances | length }} {% endfor %}"),
            Ok("asked0 db1 web2 ".into())
        );
    }

    #[test]
    fn mistakes_are_found() {
        for (template, why) in [
            ("a\n{{ instances('web')[0].adress }}", "is undefined (in x.cfg:2)"),
            ("{% for i in typo %}{% endfor %}", "is undefined (in x.cfg:1)"),
            ("{% for %}", "syntax error"),
            ("{{ i | nofilter }}", "nofilter"),
        ] {
            let error = said(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
        assert!(
            render(Path::new("/nowhere/x"), &[], &Instances::new()).unwrap_err().starts_with("can't read /nowhere/x")
        );
    }

    #[test]
    fn what_an_instance_doesnt_say_is_empty() {
        let mut all = instances();
        for view in all.values_mut() {
            let view = Arc::make_mut(view);
            (view.is.unit, view.is.metadata, view.is.hostname) = (None, BTreeMap::new(), String::new());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(
            &path,
            "{% for i in instances('db') %}[{{ i.unit }}{{ i.machine }}{{ i.hostname }}{{ i.metadata.http is defined \
             }}]{% endfor %}",
        )
        .unwrap();
        assert_eq!(render(&path, &[], &all).unwrap(), "[False]");
        let template = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/units/balancer/haproxy.cfg.j2"));
        assert!(!render(template, &[], &all).unwrap().contains("backend"), "no service was requested");
    }

    /// The template as it is shipped.
    #[test]
    fn the_balancers_template_renders() {
        let template = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/units/balancer/haproxy.cfg.j2"));
        let mut all = instances();
        for (at, view) in all.values_mut().enumerate() {
            let view = Arc::make_mut(view);
            view.is.metadata = match (view.service.as_str(), at) {
                ("db", _) => [("tcp".to_owned(), "5432".to_owned())].into(),
                _ => [("http", "80"), ("host", "shop.example, www.shop.example"), ("check", "/health")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            };
        }
        let text = render(template, &[], &all).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        for expected in [
            "frontend http-80",
            "use_backend web if { hdr(host),field(1,:) -m str -i 'shop.example' }",
            "use_backend web if { hdr(host),field(1,:) -m str -i 'www.shop.example' }",
            "frontend tcp-5432",
            "default_backend db",
            "backend web",
            "option httpchk GET '/health'",
            "server a 10.88.0.11:1 check weight 1",
            "server b 10.88.0.11:2 check weight 1",
            "backend db",
            "server x 10.88.0.11:3 check weight 1",
        ] {
            assert!(lines.contains(&expected), "{expected}\n{text}");
        }
        let none = render(template, &[], &Instances::new()).unwrap();
        assert!(none.contains("frontend status") && !none.contains("backend web"), "{none}");
    }

    /// Instances with invalid values are left out; the others are balanced nevertheless.
    #[test]
    fn the_balancers_template_leaves_nonsense_out() {
        let template = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/units/balancer/haproxy.cfg.j2"));
        let cases: [(&str, &[(&str, &str)]); 11] = [
            ("a", &[("http", "80"), ("host", "a.example, b c"), ("check", "/x y")]),
            ("b", &[("http", "abc\nglobal")]),
            ("c", &[("http", "99999"), ("tcp", "")]),
            ("d", &[("tcp", "80")]),
            ("e", &[("tcp", "9000")]),
            ("f", &[("tcp", "9000")]),
            ("g", &[("tcp", "9001"), ("http", "81")]),
            ("h", &[("http", "80"), ("host", "it's\"\n")]),
            ("i", &[("http", "080")]),
            ("j", &[("http", "8404")]),
            ("k", &[("tcp", "8404")]),
        ];
        let mut all = Instances::new();
        let one = instances().into_values().next().unwrap();
        for (service, metadata) in cases {
            let mut view = InstanceView::clone(&one);
            view.service = service.parse().unwrap();
            view.is.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            all.insert((view.service.clone(), view.instance.clone()), Arc::new(view));
        }
        let text = render(template, &[], &all).unwrap();
        let starts = |word: &str| -> Vec<&str> {
            let lines = text.lines().map(str::trim).filter_map(|line| line.strip_prefix(word));
            lines.map(str::trim).collect()
        };
        assert_eq!(starts("frontend"), ["status", "http-80", "http-81", "tcp-9000"], "{text}");
        assert_eq!(starts("backend"), ["a", "e", "g", "h", "j"], "{text}");
        assert_eq!(starts("use_backend"), ["a if { hdr(host),field(1,:) -m str -i 'a.example' }"], "{text}");
        assert_eq!(starts("default_backend"), ["g", "e"], "{text}");
        assert!(!text.contains("httpchk"), "{text}");
        for comment in [
            "# b, x: http=\"abc\\nglobal\" is no port, left out",
            "# c, x: http=\"99999\" is no port, left out",
            "# c, x: tcp=\"\" is no port, left out",
            "# d: tcp=80 left out, that port is for HTTP",
            "# f: tcp=9000 left out, that port is taken",
            "# g: tcp=9001 left out, it has http= too",
            "# i, x: http=\"080\" is no port, left out",
            "# j, x: http=8404 left out, that port is taken",
            "# k: tcp=8404 left out, that port is taken",
        ] {
            assert!(text.lines().any(|line| line == comment), "{comment}\n{text}");
        }
    }
}
