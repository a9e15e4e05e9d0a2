//! What is to be said besides events, where only the last word counts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{MqttSpec, topics::Topics};
use crate::site::{
    message::{CameraNews, Event, FrameResult, Phase},
    output::{Place, tally::Tally},
};

/// States, counts, the newest results and pictures. Bounded by cameras and labels.
pub(super) struct Live {
    topics: Topics,
    media: PathBuf,
    snapshots: bool,
    discovery: Option<String>,
    /// Least time between two results of a camera; none: no results.
    every: Option<Duration>,
    /// By topic: payload, and whether the broker must be told.
    retained: BTreeMap<String, (Arc<str>, bool)>,
    /// Cameras whose state was told, and cameras with the labels that are counted.
    stated: BTreeSet<String>,
    counted: BTreeSet<(String, String)>,
    /// By camera and label, the event and revision that was counted last.
    last: HashMap<(String, String), (String, u32)>,
    results: HashMap<String, Newest>,
    /// By topic: the picture's file.
    pictures: BTreeMap<String, PathBuf>,
}

struct Newest {
    /// When the last one was taken.
    at: Instant,
    unsent: Option<Arc<FrameResult>>,
}

impl Live {
    pub fn new(spec: &MqttSpec, place: &Place, topics: Topics) -> Self {
        let mut live = Self {
            topics,
            media: place.media.clone(),
            snapshots: spec.snapshots,
            discovery: spec.discovery.clone(),
            every: (spec.results_per_s > 0.0).then(|| Duration::from_secs_f32(1.0 / spec.results_per_s)),
            retained: BTreeMap::new(),
            stated: BTreeSet::new(),
            counted: BTreeSet::new(),
            last: HashMap::new(),
            results: HashMap::new(),
            pictures: BTreeMap::new(),
        };
        live.cameras(&place.cameras);
        live
    }

    /// These are the cameras from now on. What the broker keeps of others and of labels that are counted no more is taken back.
    pub fn cameras(&mut self, cameras: &[(String, Vec<String>)]) {
        let counts = |camera: &str, label: &String| {
            cameras
                .iter()
                .any(|(name, labels)| name == camera && (labels.is_empty() || labels.contains(label)))
        };
        let gone: Vec<_> =
            self.counted.iter().filter(|(camera, label)| !counts(camera, label)).cloned().collect();
        for (camera, label) in gone {
            self.retain(self.topics.count(&camera, &label), "");
            if self.snapshots {
                self.retain(self.topics.snapshot(&camera, &label), "");
            }
            if let Some(under) = self.discovery.clone() {
                self.retain(self.topics.discovery(&under, &camera, &label).0, "");
            }
            self.counted.remove(&(camera, label));
        }
        let gone: Vec<_> =
            self.stated.iter().filter(|name| !cameras.iter().any(|(n, _)| n == *name)).cloned().collect();
        for camera in gone {
            self.retain(self.topics.state(&camera), "");
            self.stated.remove(&camera);
        }
        for (camera, labels) in cameras {
            for label in labels.iter().filter(|label| !self.counts(camera, label)).collect::<Vec<_>>() {
                // What an earlier run may have left on the broker does not hold: nothing is seen yet.
                self.count(camera, label, 0);
            }
        }
    }

    fn counts(&self, camera: &str, label: &str) -> bool {
        self.counted.contains(&(camera.to_owned(), label.to_owned()))
    }

    pub fn event(&mut self, event: &Event) {
        // What comes late, as the journal was full, does not undo what is known.
        let of = (event.camera.clone(), event.label.clone());
        let late = |(id, revision): &(String, u32)| *id == event.id && *revision > event.revision;
        if self.last.get(&of).is_some_and(late) {
            return;
        }
        self.last.insert(of, (event.id.clone(), event.revision));
        let count = if event.phase == Phase::End { 0 } else { event.most };
        self.count(&event.camera, &event.label, count);
        if let Some(snapshot) = event.snapshot.as_ref().filter(|_| self.snapshots) {
            let topic = self.topics.snapshot(&event.camera, &event.label);
            self.pictures.insert(topic, self.media.join(snapshot));
        }
    }

    pub fn camera(&mut self, news: &CameraNews) {
        if let Ok(json) = serde_json::to_string(news) {
            self.stated.insert(news.camera.clone());
            self.retain(self.topics.state(&news.camera), &json);
        }
    }

    pub fn result(&mut self, result: &Arc<FrameResult>, now: Instant, tally: &Tally) {
        let Some(every) = self.every else { return };
        let topic = self.topics.result(&result.camera);
        match self.results.get_mut(&topic) {
            Some(newest) if now.saturating_duration_since(newest.at) < every => {
                tally.dropped("result rate", 1)
            }
            Some(newest) => {
                newest.at = now;
                tally.dropped("result stale", u64::from(newest.unsent.replace(Arc::clone(result)).is_some()));
            }
            None => {
                let newest = Newest { at: now, unsent: Some(Arc::clone(result)) };
                self.results.insert(topic, newest);
            }
        }
    }

    fn count(&mut self, camera: &str, label: &str, count: usize) {
        let topic = self.topics.count(camera, label);
        if self.counted.insert((camera.to_owned(), label.to_owned()))
            && let Some(under) = &self.discovery
        {
            let (topic, payload) = self.topics.discovery(under, camera, label);
            self.retain(topic, &payload);
        }
        self.retain(topic, &count.to_string());
    }

    fn retain(&mut self, topic: String, payload: &str) {
        let entry = self.retained.entry(topic).or_insert_with(|| ("".into(), true));
        if &*entry.0 != payload {
            *entry = (payload.into(), true);
        }
    }

    /// A new connection: the broker may have forgotten everything.
    pub fn tell_all(&mut self) {
        self.retained.values_mut().for_each(|(_, due)| *due = true);
    }

    /// Something retained that the broker must be told; it is taken as told then.
    pub fn next_retained(&mut self) -> Option<(String, Arc<str>)> {
        let (topic, (payload, due)) = self.retained.iter_mut().find(|(_, (_, due))| *due)?;
        *due = false;
        Some((topic.clone(), Arc::clone(payload)))
    }

    pub fn next_result(&mut self) -> Option<(String, Arc<FrameResult>)> {
        self.results.iter_mut().find_map(|(topic, newest)| Some((topic.clone(), newest.unsent.take()?)))
    }

    pub fn next_picture(&mut self) -> Option<(String, PathBuf)> {
        self.pictures.pop_first()
    }
}
