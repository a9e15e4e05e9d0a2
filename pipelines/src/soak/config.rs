//! The site as it is run: the user's, but with a state folder and an address of its own, so that a daemon that runs beside it
//! is left in peace; and, for an overload, with faster loops.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf, absolute},
};

use tapetum_runtime::{Error, Result};
use toml::{Table, Value};

use crate::{
    site::config::{SiteFile, named::OF_SITE},
    source,
};

/// What a source begins with that may be played faster.
const LOOP: &str = "loop:";

/// The text of `site` with `state` as its state folder. With `rates`, cameras play their loops at so many frames per second,
/// and none is cut off by `max_fps`.
///
/// # Errors
/// The file cannot be read; a camera of `rates` is no loop.
pub(super) fn derived(site: &Path, state: &Path, rates: Option<&BTreeMap<String, f64>>) -> Result<String> {
    let text = std::fs::read_to_string(site)
        .map_err(|e| Error::config(format!("{}: {e}", site.display())).caused_by(e))?;
    let mut root: Table = text.parse().map_err(|_| Error::config(format!("{}: no TOML", site.display())))?;
    let folder = site.parent().unwrap_or(Path::new(""));
    let place = |path: &str| absolute(folder.join(path)).unwrap_or_else(|_| folder.join(path));
    if let Some(Value::Table(head)) = root.get_mut("site") {
        head.insert("state".to_owned(), shown(state));
    }
    let listen = Table::from_iter([("listen".to_owned(), Value::from("127.0.0.1:0"))]);
    root.insert("http".to_owned(), Value::Table(listen));
    let Some(Value::Table(cameras)) = root.get_mut("camera") else {
        return Err(Error::config(format!("{}: it names no camera", site.display())));
    };
    for (name, camera) in cameras.iter_mut() {
        let Value::Table(camera) = camera else { continue };
        anchor(camera, &place);
        let Some(rate) = rates.and_then(|rates| rates.get(name)) else { continue };
        let source = camera.get("source").and_then(Value::as_str).unwrap_or_default();
        let source = at_rate(name, source, *rate)?;
        camera.insert("source".to_owned(), Value::from(source));
        camera.remove("max_fps");
    }
    if let Some(Value::Array(outputs)) = root.get_mut("output") {
        outputs.iter_mut().filter_map(Value::as_table_mut).for_each(|output| apart(output, &place));
    }
    if let Some(Value::Table(media)) = root.get_mut("media") {
        media.remove("dir");
    }
    toml::to_string(&root).map_err(|e| Error::internal(format!("the site cannot be written: {e}")))
}

/// Files that are named relative to the site's folder are found from another one.
fn anchor(table: &mut Table, place: &dyn Fn(&str) -> PathBuf) {
    for key in OF_SITE {
        if let Some(path) = table.get(*key).and_then(Value::as_str).map(place) {
            table.insert((*key).to_owned(), shown(&path));
        }
    }
}

/// An output that shares nothing with that of a daemon which runs the site: neither its files nor its name at a broker, by which
/// each would end the other's connection.
fn apart(output: &mut Table, place: &dyn Fn(&str) -> PathBuf) {
    anchor(output, place);
    if output.get("kind").and_then(Value::as_str) == Some("mqtt") {
        output.insert("client_id".to_owned(), Value::from(format!("tapetum-soak-{}", std::process::id())));
    }
    for key in ["file", "dir"] {
        if let Some(name) = output.get(key).and_then(Value::as_str).map(Path::new).filter(|p| p.is_absolute())
        {
            // Below the state folder; still another one for each.
            let name: String = name.display().to_string().replace('/', "_");
            output.insert(key.to_owned(), Value::from(name));
        }
    }
}

fn shown(path: &Path) -> Value {
    Value::from(path.display().to_string())
}

fn at_rate(camera: &str, source: &str, fps: f64) -> Result<String> {
    if !source.starts_with(LOOP) {
        let what = format!(
            "camera {camera}: only a source that begins with {LOOP:?} can be asked for more frames than it gives; leave out \
             --overload, or take loops"
        );
        return Err(Error::config(what));
    }
    let name = match source.rsplit_once('?') {
        Some((name, query)) if query.starts_with("fps=") && !query.contains('&') => name,
        _ => source,
    };
    // A loop takes rates from 0.001 to 1000.
    Ok(format!("{name}?fps={:.3}", fps.clamp(0.001, 1000.0)))
}

/// How many frames per second each loop of `site` is asked for, before `max_fps`; none for sources that decide it themselves.
///
/// # Errors
/// A loop that cannot be opened.
pub(super) fn own_rates(site: &SiteFile) -> Result<BTreeMap<String, f64>> {
    let mut rates = BTreeMap::new();
    for camera in site.cameras.iter().filter(|camera| camera.source.starts_with(LOOP)) {
        let opened = source::open(&camera.source).map_err(|e| e.at(format!("camera {}", camera.name)))?;
        if let Some(interval) = opened.info().interval.filter(|interval| !interval.is_zero()) {
            rates.insert(camera.name.clone(), interval.as_secs_f64().recip());
        }
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "
        [site]
        name = 'yard'
        state = 'theirs'
        [http]
        listen = '0.0.0.0:443'
        token_file = 'token'
        [camera.gate]
        source = 'loop:a.mp4?fps=5'
        pipeline = 'people.toml'
        max_fps = 4
        [media]
        dir = '/var/films'
        [[output]]
        kind = 'mqtt'
        host = 'broker'
        password_file = 'people.toml'
        [[output]]
        kind = 'sqlite'
        file = '/var/site.sqlite'
        [camera.road]
        source = 'rtsp://10.0.0.1/'
        pipeline = '/etc/people.toml'
    ";

    fn derive(rates: Option<&BTreeMap<String, f64>>) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site.toml");
        std::fs::write(&site, SITE).unwrap();
        let text = derived(&site, Path::new("/tmp/ours"), rates)?;
        let pipeline = folder.path().join("people.toml").display().to_string();
        Ok(text.replace(&pipeline, "BESIDE").parse().unwrap())
    }

    #[test]
    fn state_and_address_are_its_own_and_the_rest_is_the_sites() {
        let site = derive(None).unwrap();
        assert_eq!(site["site"]["state"].as_str(), Some("/tmp/ours"));
        assert_eq!(site["http"].as_table().unwrap().len(), 1);
        assert_eq!(site["http"]["listen"].as_str(), Some("127.0.0.1:0"));
        let gate = &site["camera"]["gate"];
        assert_eq!(gate["pipeline"].as_str(), Some("BESIDE"), "it is read from another folder");
        assert_eq!(
            (gate["source"].as_str(), gate["max_fps"].as_integer()),
            (Some("loop:a.mp4?fps=5"), Some(4))
        );
        let outputs = site["output"].as_array().unwrap();
        assert_eq!(outputs[0]["password_file"].as_str(), Some("BESIDE"));
        assert!(outputs[0]["client_id"].as_str().unwrap().starts_with("tapetum-soak-"));
        assert_eq!(outputs[1]["file"].as_str(), Some("_var_site.sqlite"));
        assert!(site["media"].get("dir").is_none());
        assert_eq!(site["camera"]["road"]["pipeline"].as_str(), Some("/etc/people.toml"));
    }

    #[test]
    fn loops_are_played_faster_and_cameras_are_not() {
        let site = derive(Some(&[("gate".to_owned(), 33.25)].into())).unwrap();
        let gate = &site["camera"]["gate"];
        assert_eq!(gate["source"].as_str(), Some("loop:a.mp4?fps=33.250"));
        assert!(gate.get("max_fps").is_none());
        let e = derive(Some(&[("road".to_owned(), 9.0)].into())).unwrap_err();
        assert!(e.to_string().contains("camera road: only a source"), "{e}");
    }
}
