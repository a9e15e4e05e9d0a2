//! Names of topics. They are stable: others build on them.

use serde_json::json;

/// The topics of one site.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    prefix: String,
    site: String,
}

impl Topics {
    pub fn new(prefix: Option<&str>, site: &str) -> Self {
        let prefix = prefix.map_or_else(|| format!("tapetum/{}", level(site)), str::to_owned);
        Self { prefix, site: site.to_owned() }
    }

    pub fn available(&self) -> String {
        format!("{}/available", self.prefix)
    }

    pub fn events(&self) -> String {
        format!("{}/events", self.prefix)
    }

    pub fn state(&self, camera: &str) -> String {
        format!("{}/{}/state", self.prefix, level(camera))
    }

    pub fn result(&self, camera: &str) -> String {
        format!("{}/{}/result", self.prefix, level(camera))
    }

    pub fn count(&self, camera: &str, label: &str) -> String {
        let label = match level(label).as_str() {
            // These are taken.
            taken @ ("state" | "result") => format!("{taken}_"),
            label => label.to_owned(),
        };
        format!("{}/{}/{label}", self.prefix, level(camera))
    }

    pub fn snapshot(&self, camera: &str, label: &str) -> String {
        format!("{}/snapshot", self.count(camera, label))
    }

    /// Topic and payload that make `label` on `camera` a binary sensor of Home Assistant
    /// (home-assistant.io/integrations/mqtt, discovery; home-assistant.io/integrations/binary_sensor.mqtt).
    pub fn discovery(&self, under: &str, camera: &str, label: &str) -> (String, String) {
        let device = format!("tapetum_{}_{}", id(&self.site), id(camera));
        // Not `_`, which both names may have: camera a_b with label c is not camera a with label b_c.
        let unique = format!("{device}/{}", id(label));
        let payload = json!({
            "name": label,
            "unique_id": unique,
            "state_topic": self.count(camera, label),
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
            "device_class": "occupancy",
            "availability_mode": "all",
            "availability": [
                { "topic": self.available() },
                {
                    "topic": self.state(camera),
                    "value_template": "{{ 'online' if value_json.online else 'offline' }}",
                },
            ],
            "device": {
                "identifiers": [device],
                "name": format!("{} {camera}", self.site),
                "manufacturer": "Tapetum",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
        });
        (format!("{under}/binary_sensor/{device}/{}/config", id(label)), payload.to_string())
    }
}

/// `name` as one level of a topic: what would end the level, be a wildcard or confuse a shell becomes `_`.
pub(super) fn level(name: &str) -> String {
    let keep = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let level: String = name.chars().map(|c| if keep(c) { c } else { '_' }).collect();
    if level.is_empty() { "_".to_owned() } else { level }
}

/// Home Assistant takes these characters in ids.
fn id(name: &str) -> String {
    level(name).chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Whether a configured prefix is one.
pub(super) fn valid(topic: &str) -> bool {
    let level = |level: &str| {
        !level.is_empty()
            && !level.contains(|c: char| "+#".contains(c) || c.is_control() || c.is_whitespace())
    };
    topic.len() < 200 && !topic.starts_with('$') && topic.split('/').all(level)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn cameras_and_labels_that_look_alike_have_topics_and_ids_of_their_own() {
        let topics = Topics::new(None, "a b");
        let mut seen = HashSet::new();
        for (camera, label) in
            [("a", "b_c"), ("a_b", "c"), ("a-b", "c"), ("a", "b"), ("a", "state"), ("a", "result")]
        {
            let (topic, payload) = topics.discovery("ha", camera, label);
            let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
            for own in [topic, payload["unique_id"].as_str().unwrap().to_owned(), topics.count(camera, label)]
            {
                assert!(seen.insert(own.clone()), "{own} twice");
            }
        }
        assert!(!seen.contains(&topics.state("a")) && !seen.contains(&topics.result("a")));
    }
}
