//! Settings of the whole cluster. Owns the table of them: a setting is a field of [`Settings`] and a row of [`ALL`].
//! What a setting does, the module that heeds it decides.

use serde::{Deserialize, Serialize};

use super::resources::percent;
use super::windows::Windows;

/// What was set (`cluster`; written by the API). What wasn't has its default. Later versions may add fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// `overcommit-memory`, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit_memory: Option<u32>,
    /// `overcommit-cpu`, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit_cpu: Option<u32>,
    /// `placement`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Order>,
    /// `reboot-slots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_slots: Option<u32>,
    /// `reboot-windows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_windows: Option<Windows>,
}

/// In which order the hosts are tried that fit a unit with `Memory=` or `CPU=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The one first of which the least is taken.
    #[default]
    Spread,
    /// The one first of which the most is taken.
    Pack,
}

/// What is taken of a host may be so much of what it has, in percent, unless it is set otherwise. Not more than it has:
/// what units declare is kept from others then, and whoever wants more units than that says so.
const OVERCOMMIT: u32 = 100;

/// The largest percentage.
const MOST: u64 = 10_000;

/// How many hosts of a group may reboot at once, unless it is set otherwise.
const SLOTS: u32 = 1;

/// The largest number of them.
const MOST_SLOTS: u32 = 500;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// What it can be.
    pub values: &'static str,
    /// What it is if it isn't set.
    pub default: &'static str,
    /// What it may be, to complete it. A setting that can be anything has none.
    pub words: &'static [&'static str],
    /// What was set, as it is written; `None` if nothing was.
    pub get: fn(&Settings) -> Option<String>,
    /// Set it, or (`None`) set it no longer.
    pub put: fn(&mut Settings, Option<&str>) -> Result<(), Wrong>,
}

/// Why a setting can't have a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It is none of its [`values`](Setting::values).
    Other,
    /// For this reason, which is a sentence.
    Because(String),
}

/// All settings, by name.
pub const ALL: [Setting; 5] = [
    Setting {
        name: "overcommit-cpu",
        help: "how much of the CPU of a host units may take with CPU=",
        values: "a percentage of what it has, from 1% to 10000%",
        default: "100%",
        words: &[],
        get: |settings| settings.overcommit_cpu.map(in_percent),
        put: |settings, text| set(&mut settings.overcommit_cpu, text, share),
    },
    Setting {
        name: "overcommit-memory",
        help: "how much of the memory of a host units may take with Memory=",
        values: "a percentage of what it has, from 1% to 10000%",
        default: "100%",
        words: &[],
        get: |settings| settings.overcommit_memory.map(in_percent),
        put: |settings, text| set(&mut settings.overcommit_memory, text, share),
    },
    Setting {
        name: "placement",
        help: "whether units with Memory= or CPU= go to the host of which the least is taken, or the most",
        values: "spread or pack",
        default: "spread",
        words: &["spread", "pack"],
        get: |settings| settings.placement.map(|order| order.as_str().to_owned()),
        put: |settings, text| set(&mut settings.placement, text, Order::parse),
    },
    Setting {
        name: "reboot-slots",
        help: "how many hosts of a group may reboot at once",
        values: "a number, from 0 (none may) to 500",
        default: "1",
        words: &[],
        get: |settings| settings.reboot_slots.map(|slots| slots.to_string()),
        put: |settings, text| set(&mut settings.reboot_slots, text, slots),
    },
    Setting {
        name: "reboot-windows",
        help: "when programs may begin to reboot their hosts (FleetLock); people may always",
        values: "`always`, or times such as `Sat,Sun 01:00/2h`, or `Mon..Fri 03:30/30min Europe/Berlin; Sun 01:00/6h`",
        default: "always",
        words: &["always"],
        get: |settings| settings.reboot_windows.as_ref().map(ToString::to_string),
        put: |settings, text| {
            let windows: Option<Windows> = text.map(str::parse).transpose().map_err(Wrong::Because)?;
            windows.iter().try_for_each(Windows::check_zones).map_err(Wrong::Because)?;
            settings.reboot_windows = windows;
            Ok(())
        },
    },
];

impl Setting {
    /// The setting of this name.
    ///
    /// # Errors
    /// That there is none.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        ALL.iter().find(|setting| setting.name == name).ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|setting| setting.name).collect();
            format!("there is no setting `{name}`; there are {}", known.join(", "))
        })
    }

    /// Set it, or (`None`) set it no longer.
    ///
    /// # Errors
    /// What it can be.
    pub fn change(&self, settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
        let explain = |wrong| match wrong {
            Wrong::Other => format!("`{}={}`: must be {}", self.name, value.unwrap_or_default(), self.values),
            Wrong::Because(why) => format!("`{}={}`: {why}", self.name, value.unwrap_or_default()),
        };
        (self.put)(settings, value).map_err(explain)
    }

    /// What it is: what was set, or its default.
    #[must_use]
    pub fn value(&self, settings: &Settings) -> String {
        (self.get)(settings).unwrap_or_else(|| self.default.to_owned())
    }
}

impl Settings {
    /// Whether nothing was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `overcommit-memory`, in percent.
    #[must_use]
    pub fn overcommit_memory(&self) -> u32 {
        self.overcommit_memory.unwrap_or(OVERCOMMIT)
    }

    /// `overcommit-cpu`, in percent.
    #[must_use]
    pub fn overcommit_cpu(&self) -> u32 {
        self.overcommit_cpu.unwrap_or(OVERCOMMIT)
    }

    /// `placement`.
    #[must_use]
    pub fn order(&self) -> Order {
        self.placement.unwrap_or_default()
    }

    /// `reboot-slots`.
    #[must_use]
    pub fn reboot_slots(&self) -> usize {
        usize::try_from(self.reboot_slots.unwrap_or(SLOTS)).unwrap_or(usize::MAX)
    }

    /// `reboot-windows`: why programs may not begin to reboot hosts at `now`, in ms since the epoch.
    #[must_use]
    pub fn reboots_closed(&self, now: u64) -> Option<String> {
        self.reboot_windows.as_ref().and_then(|windows| windows.closed(now))
    }
}

impl Order {
    fn as_str(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Pack => "pack",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Spread, Self::Pack].into_iter().find(|order| order.as_str() == text)
    }
}

/// Change one field.
fn set<T>(field: &mut Option<T>, text: Option<&str>, parse: fn(&str) -> Option<T>) -> Result<(), Wrong> {
    *field = text.map(|text| parse(text).ok_or(Wrong::Other)).transpose()?;
    Ok(())
}

fn in_percent(number: u32) -> String {
    format!("{number}%")
}

fn share(text: &str) -> Option<u32> {
    percent(text).filter(|share| (1..=MOST).contains(share) && !text.contains('.')).and_then(|it| it.try_into().ok())
}

fn slots(text: &str) -> Option<u32> {
    text.parse().ok().filter(|slots| *slots <= MOST_SLOTS && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(settings: &mut Settings, name: &str, value: Option<&str>) -> Result<(), String> {
        Setting::named(name)?.change(settings, value)
    }

    #[test]
    fn what_is_set_is_read_back_and_unset_again() {
        let mut settings = Settings::default();
        for (name, value) in [
            ("overcommit-memory", "150%"),
            ("overcommit-cpu", "10000%"),
            ("placement", "pack"),
            ("reboot-slots", "0"),
            ("reboot-windows", "Sat,Sun 01:00/2h"),
        ] {
            let setting = Setting::named(name).unwrap();
            assert_eq!((setting.get)(&settings), None);
            change(&mut settings, name, Some(value)).unwrap();
            assert_eq!(setting.value(&settings), value);
        }
        assert_eq!((settings.overcommit_memory(), settings.overcommit_cpu()), (150, 10_000));
        assert_eq!((settings.order(), settings.reboot_slots()), (Order::Pack, 0));
        assert!(settings.reboots_closed(0).is_some(), "1970-01-01 was a Thursday");
        for setting in &ALL {
            setting.change(&mut settings, None).unwrap();
        }
        assert!(settings.is_empty());
    }

    /// The row says the same as the value that is heeded.
    #[test]
    fn a_default_is_what_it_is_when_it_is_set() {
        for setting in &ALL {
            let mut settings = Settings::default();
            assert_eq!(setting.value(&settings), setting.default);
            setting.change(&mut settings, Some(setting.default)).unwrap();
            assert_eq!((setting.get)(&settings).as_deref(), Some(setting.default));
            let plain = Settings::default();
            let heeded = |it: &Settings| {
                (it.overcommit_memory(), it.overcommit_cpu(), it.order(), it.reboot_slots(), it.reboots_closed(0))
            };
            assert_eq!(heeded(&settings), heeded(&plain), "{}", setting.name);
            assert!(setting.words.is_empty() || setting.words.contains(&setting.default));
        }
        assert!(ALL.windows(2).all(|rows| rows[0].name < rows[1].name));
    }

    #[test]
    fn what_a_setting_can_not_be_changes_nothing() {
        let mut settings = Settings::default();
        for bad in ["0%", "10001%", "1.5%", "100", "", "%"] {
            let refusal = change(&mut settings, "overcommit-cpu", Some(bad)).unwrap_err();
            let must = "must be a percentage of what it has, from 1% to 10000%";
            assert_eq!(refusal, format!("`overcommit-cpu={bad}`: {must}"));
        }
        let refusal = change(&mut settings, "placement", Some("random")).unwrap_err();
        assert_eq!(refusal, "`placement=random`: must be spread or pack");
        for bad in ["501", "-1", "+1", "", "many"] {
            let refusal = change(&mut settings, "reboot-slots", Some(bad)).unwrap_err();
            assert_eq!(refusal, format!("`reboot-slots={bad}`: must be a number, from 0 (none may) to 500"));
        }
        let refusal = change(&mut settings, "reboot-windows", Some("Sat 25:00/1h")).unwrap_err();
        assert_eq!(refusal, "`reboot-windows=Sat 25:00/1h`: hours are 00 to 23");
        let refusal = change(&mut settings, "reboot-windows", Some("01:00/1h Atlantis")).unwrap_err();
        let unknown = "there is no time zone `Atlantis`; write one such as Europe/Berlin";
        assert_eq!(refusal, format!("`reboot-windows=01:00/1h Atlantis`: {unknown}"));
        let known = "there are overcommit-cpu, overcommit-memory, placement, reboot-slots, reboot-windows";
        assert_eq!(change(&mut settings, "x", None).unwrap_err(), format!("there is no setting `x`; {known}"));
        assert!(settings.is_empty());
    }
}
