//! The effective configuration as the daemon itself prints it (`containerd config dump`, `crio config`).

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use toml_edit::Document;

use super::Dialect;
use super::entry::json;

/// An effective configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    values: Json,
}

impl Dump {
    /// Reads what the daemon printed.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn parse(text: &str) -> Result<Self, toml_edit::TomlError> {
        Ok(Self { values: json(Document::parse(text)?.as_item()) })
    }

    /// What CRI-O prints leaves out what is as by default, its built-in handler among it: this configuration with
    /// what `defaults`, the configuration without any file, adds.
    #[must_use]
    pub fn completed(mut self, defaults: &Self) -> Self {
        // Down to the keys of `[crio.runtime]` and its like; a table below, such as that of the handlers, is printed whole or not at all.
        complete(&mut self.values, &defaults.values, 2);
        self
    }

    /// The handlers that CRI would serve.
    #[must_use]
    pub fn handlers(&self) -> Map<String, Json> {
        let runtimes = self.runtimes_path().iter().try_fold(&self.values, |value, name| value.get(*name));
        runtimes.and_then(Json::as_object).cloned().unwrap_or_default()
    }

    /// The unix socket of the daemon's gRPC services.
    #[must_use]
    pub fn socket(&self) -> &str {
        const DEFAULT: &str = "/run/containerd/containerd.sock";
        const CRIO: &str = "/var/run/crio/crio.sock";
        // Configuration version 4 (containerd 2.3) made the server a plugin.
        let places = ["/grpc/address", "/plugins/io.containerd.server.v1.grpc/address", "/crio/api/listen"];
        let address = places.iter().find_map(|place| self.values.pointer(place)).and_then(Json::as_str);
        let default = if self.dialect() == Dialect::Crio { CRIO } else { DEFAULT };
        address.filter(|address| !address.is_empty()).unwrap_or(default)
    }

    /// Whether the file switches CRI off.
    #[must_use]
    pub fn disables_cri(&self) -> bool {
        let disabled = self.values.get("disabled_plugins").and_then(Json::as_array);
        disabled.is_some_and(|plugins| {
            let names = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
            plugins.iter().filter_map(Json::as_str).any(|plugin| names.contains(&plugin))
        })
    }

    /// Every key whose value differs from the other configuration's, except for the handlers named and for
    /// `imports`, in which older daemons list the very file that they were given.
    #[must_use]
    pub fn differences(&self, other: &Self, handlers: &[String]) -> Vec<String> {
        let (mut mine, mut theirs) = (self.values.clone(), other.values.clone());
        for (dump, values) in [(self, &mut mine), (other, &mut theirs)] {
            if let Json::Object(top) = values {
                top.remove("imports");
            }
            let runtimes = dump.runtimes_path().iter().try_fold(values, |value, name| value.get_mut(*name));
            if let Some(Json::Object(runtimes)) = runtimes {
                runtimes.retain(|name, _| !handlers.contains(name));
            }
        }
        let mut found = Vec::new();
        differ("", &mine, &theirs, &mut found);
        found
    }

    fn dialect(&self) -> Dialect {
        match self.values.get("version").and_then(Json::as_i64) {
            None if self.values.get("crio").is_some() => Dialect::Crio,
            None | Some(0 | 1) => Dialect::V1,
            Some(2) => Dialect::V2,
            Some(3) => Dialect::V3,
            Some(_) => Dialect::V4,
        }
    }

    fn runtimes_path(&self) -> &'static [&'static str] {
        self.dialect().runtimes()
    }
}

/// Whether a configuration file of containerd switches CRI off.
#[must_use]
pub fn disables_cri(text: &str) -> bool {
    Dump::parse(text).is_ok_and(|dump| dump.disables_cri())
}

fn complete(values: &mut Json, defaults: &Json, depth: usize) {
    let (Json::Object(values), Json::Object(defaults)) = (values, defaults) else { return };
    for (name, default) in defaults {
        match values.get_mut(name) {
            Some(value) if depth > 0 => complete(value, default, depth - 1),
            Some(_) => {}
            None => drop(values.insert(name.clone(), default.clone())),
        }
    }
}

fn differ(path: &str, mine: &Json, theirs: &Json, found: &mut Vec<String>) {
    let (Json::Object(mine), Json::Object(theirs)) = (mine, theirs) else {
        if mine != theirs {
            found.push(path.to_owned());
        }
        return;
    };
    let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (mine.get(name), theirs.get(name)) {
            (Some(mine), Some(theirs)) => differ(&path, mine, theirs, found),
            _ => found.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "version = 2\nimports = [\"/a\"]\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\na = 1\n";

    #[test]
    fn only_what_is_not_ours_counts_as_a_difference() {
        let before = Dump::parse(BEFORE).unwrap();
        let after = Dump::parse(
            "version = 2\nimports = [\"/b\"]\nroot = 1\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes]\nw.a = 1\nrunc.a = 2",
        )
        .unwrap();
        let runc = "plugins.io.containerd.grpc.v1.cri.containerd.runtimes.runc.a";
        assert_eq!(before.differences(&after, &["w".to_owned()]), [runc, "root"]);
        assert_eq!(before.differences(&before, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_lost_default_handler_is_a_difference() {
        let after =
            Dump::parse("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.w]\n").unwrap();
        let lost = Dump::parse(BEFORE).unwrap().differences(&after, &["w".to_owned()]);
        assert_eq!(lost, ["plugins.io.containerd.grpc.v1.cri.containerd.runtimes.runc"]);
    }

    #[test]
    fn what_crio_leaves_out_is_as_by_default_and_its_handlers_are_printed_all_or_not_at_all() {
        let defaults = "[crio]\nroot = 1\n[crio.runtime]\na = 1\nb = 1\n[crio.runtime.runtimes.crun]\nc = 1\nd = 1\n";
        let defaults = Dump::parse(defaults).unwrap();
        let completed = |printed: &str| Dump::parse(printed).unwrap().completed(&defaults);
        assert_eq!(completed("[crio]\n[crio.runtime]\n"), defaults);
        let other = completed("[crio]\n[crio.runtime]\na = 2\n[crio.runtime.runtimes.runc]\nc = 2\n");
        let expected = "[crio]\nroot = 1\n[crio.runtime]\na = 2\nb = 1\n[crio.runtime.runtimes.runc]\nc = 2\n";
        assert_eq!(other, Dump::parse(expected).unwrap());
    }

    #[test]
    fn the_socket_is_the_configured_one_or_the_default() {
        assert_eq!(Dump::parse("[grpc]\naddress = \"/x\"").unwrap().socket(), "/x");
        assert_eq!(Dump::default().socket(), "/run/containerd/containerd.sock");
    }
}
