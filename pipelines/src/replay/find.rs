//! Where an event's recording is.

use std::path::{Path, PathBuf};

use tapetum_runtime::{Error, Result};

use crate::{
    recording::format::{SUMMARY, Summary},
    site::{config::SiteFile, event::id, stored_event},
};

/// The folder of the recording that shows `event`: that folder itself, or an event's id in the site of the file `site`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`]: there is no such folder or event, or the event has no recording (any more).
pub fn find(event: &str, site: &Path) -> Result<PathBuf> {
    let folder = PathBuf::from(event);
    if folder.join(SUMMARY).is_file() {
        return Ok(folder);
    }
    if id::time(event).is_none() {
        let what =
            format!("{event}: neither the folder of a recording (with {SUMMARY}) nor the id of an event");
        return Err(Error::config(what));
    }
    let file = SiteFile::read(site).map_err(|e| e.at("to find the event (--site FILE)"))?;
    let media = &file.media.dir;
    let cameras = || std::fs::read_dir(media).into_iter().flatten().flatten().map(|camera| camera.path());
    // Begun for this event, as most are.
    if let Some(own) = cameras().map(|camera| camera.join(event)).find(|own| own.join(SUMMARY).is_file()) {
        return Ok(own);
    }
    if let Ok(Some(known)) = stored_event(&file, event) {
        return match known.recording.map(|place| media.join(place)) {
            Some(place) if place.join(SUMMARY).is_file() => Ok(place),
            Some(place) => Err(Error::config(format!(
                "event {event}: its recording is not there: {} is not complete yet, could not be written, or had to go",
                place.display()
            ))),
            None => Err(Error::config(format!("event {event}: nothing was recorded of it"))),
        };
    }
    // Of a site without a store: the recording that was begun for another event says which it shows, too.
    let folders = cameras().flat_map(|camera| std::fs::read_dir(camera).into_iter().flatten().flatten());
    for folder in folders.map(|folder| folder.path()) {
        let summary = std::fs::read(folder.join(SUMMARY)).ok();
        let summary = summary.and_then(|text| serde_json::from_slice::<Summary>(&text).ok());
        if summary.is_some_and(|summary| summary.events.iter().any(|shown| shown.id == event)) {
            return Ok(folder);
        }
    }
    Err(Error::config(format!("event {event}: there is no recording of it in {}", media.display())))
}
