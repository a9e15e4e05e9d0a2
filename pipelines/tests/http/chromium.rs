//! The live page in Chromium, driven by ChromeDriver, with the server on real sockets and frames that tell what they are: the grey of
//! a picture and the place of its box follow from its number. Screenshots are left in the target folder.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use base64::Engine;
use serde_json::{Value, json};
use tapetum::site::http::HttpSpec;
use tapetum_parts::there;

use super::{
    made::{self, Made},
    wire::request,
};

/// A ChromeDriver and its port; `None` where it ended at once.
fn driver() -> std::io::Result<Option<(Child, u16)>> {
    let mut driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn()?;
    for line in BufReader::new(driver.stdout.take().unwrap()).lines() {
        if let Some(rest) = line?.split("successfully on port ").nth(1) {
            return Ok(Some((driver, rest.trim_end_matches('.').parse().unwrap())));
        }
    }
    driver.wait()?;
    Ok(None)
}

/// A browser. Ends when it is dropped.
struct Chromium {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// `None`, said by name, where ChromeDriver is not there.
    fn start(phone: bool) -> Option<Self> {
        // Another program may take the port that it chose before it binds it: then it ends, and is started again.
        let started = (0..5).find_map(|_| match there("chromium", driver()) {
            Some(started) => started.map(Some),
            None => Some(None),
        });
        let (driver, port) = started.expect("chromedriver starts")?;
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut options = json!({ "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
            "--hide-scrollbars", "--window-size=1280,900", data,
        ] });
        if phone {
            options["mobileEmulation"] =
                json!({ "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 2.0, "touch": true } });
        }
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let mut browser = Self {
            driver,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            _profile: profile,
        };
        let session = browser.command("POST", "", json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = format!("/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn command(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/session{}{path}", self.session);
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let answer =
            request(self.address, method, &path, &["Content-Type: application/json"], body.as_bytes());
        let value = answer.json()["value"].take();
        assert_eq!(answer.status, 200, "{path}: {value}");
        value
    }

    fn open(&self, url: &str) {
        self.command("POST", "/url", json!({ "url": url }));
    }

    /// What the body of a function returns.
    fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Until a condition holds.
    fn until(&self, condition: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.run(&format!("return Boolean({condition})")) != true {
            if Instant::now() > until {
                self.shoot("failed");
                panic!("never: {condition}\n{}", self.run("return document.body.innerText"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn press(&self, key: &str) {
        let keys = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.command(
            "POST",
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] }),
        );
    }

    fn click(&self, selector: &str) {
        let found = self.command("POST", "/element", json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.command("POST", &format!("/element/{id}/click"), json!({}));
    }

    fn shoot(&self, name: &str) {
        let picture = self.command("GET", "/screenshot", Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png")), bytes)
            .unwrap();
    }

    fn media(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let params = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.command("POST", "/goog/cdp/execute", params);
    }

    /// What the browser complained about since the last call: our policy, our scripts.
    fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", json!({ "type": "browser" }));
        let lines = log.as_array().unwrap().iter().filter(|line| line["level"] == "SEVERE");
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", "", Value::Null);
        }
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

/// Shows frames of the first camera until it is dropped.
struct Feed {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    fn of(made: &Arc<Made>) -> Self {
        let (over, live) = (Arc::new(AtomicBool::new(false)), made.lives["front gate"].clone());
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let mut seq = 0;
            while !ends.load(Ordering::SeqCst) {
                if live.watched() {
                    live.show(made::frame(seq));
                }
                seq += 1;
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

const GATE: &str = "document.querySelector('[data-camera=\"front gate\"] canvas')";

/// Holds what is on the canvas against the number that the page gives it.
fn picture_and_box_belong_together(browser: &Chromium) -> u64 {
    let seen = browser.run(&format!(
        "const canvas = {GATE}; const context = canvas.getContext('2d'); const fine = canvas.width / 640;
         const pixel = (x, y) => [...context.getImageData(x * fine, y * fine, 1, 1).data];
         const row = context.getImageData(0, 200 * fine, canvas.width, 1).data;
         const ink = [];
         for (let x = 0; x < canvas.width; x++) if (row[4 * x] - row[4 * x + 2] > 50) ink.push(x / fine);
         return {{ seq: Number(canvas.dataset.seq), fine, ratio: canvas.width / canvas.height, grey: pixel(30, 320),
                   road: pixel(600, 330), left: ink[0], right: ink[ink.length - 1] + 1 / fine, ink: ink.length / fine,
                   scale: Math.max(640 / canvas.clientWidth, 0.25) }}"
    ));
    let number = |name: &str| seen[name].as_f64().unwrap_or(f64::NAN);
    let (seq, scale) = (seen["seq"].as_u64().unwrap(), number("scale"));
    assert!(
        [1.0, 2.0, 3.0].contains(&number("fine")) && (number("ratio") - 640.0 / 360.0).abs() < 1e-9,
        "{seen}"
    );
    let near = |got: f64, want: f64, by: f64| (got - want).abs() <= by;
    assert!(near(seen["grey"][0].as_f64().unwrap(), f64::from(made::grey(seq)), 3.0), "{seen}");
    // The lines' outer edges; a line is two pixels of the page wide.
    let left = made::left(seq) as f64;
    assert!(
        near(number("left"), left - scale, 1.5) && near(number("right"), left + 80.0 + scale, 1.5),
        "{seen}"
    );
    assert!(number("ink") <= 4.0 * scale + 4.0, "two lines and nothing else: {seen}");
    let road = |base: f64| base * 140.0 / 255.0 + f64::from(made::grey(seq)) * 115.0 / 255.0;
    for (channel, base) in [86.0, 180.0, 233.0].into_iter().enumerate() {
        assert!(near(seen["road"][channel].as_f64().unwrap(), road(base), 4.0), "{seen}");
    }
    seq
}

#[test]
fn the_wall_shows_boxes_on_their_own_frames_and_says_what_is_wrong() {
    let made = Made::new();
    let (serving, address) = made.serve();
    let Some(browser) = Chromium::start(false) else { return };
    let feed = Feed::of(&made);
    browser.open(&format!("http://{address}/"));
    browser.until(&format!("{GATE}?.dataset.seq"));
    let until = Instant::now() + Duration::from_secs(30);
    let mut seen = vec![picture_and_box_belong_together(&browser)];
    while seen.len() < 15 {
        assert!(Instant::now() < until, "pictures go on: {seen:?}");
        seen.push(picture_and_box_belong_together(&browser));
        seen.dedup();
    }
    assert!(seen.is_sorted(), "{seen:?}");
    let yard = browser
        .run("const t = document.querySelector('[data-camera=yard]'); return [t.dataset.state, t.innerText]");
    let words = yard[1].as_str().unwrap();
    assert_eq!(yard[0], "waiting");
    for part in ["Waiting", "connection refused by 10.0.0.8:554", "next try in 12 s"] {
        assert!(words.contains(part), "{words}");
    }
    let text = browser.run("return document.body.innerText");
    for part in [
        "Harbour",
        "1 of 2 cameras streaming",
        "broker 10.0.0.2:1883: connection refused",
        "too hot: nvme 81 °C",
        "FastestDet",
    ] {
        assert!(text.as_str().unwrap().contains(part), "{part}: {text}");
    }
    browser.shoot("wall-light");
    browser.media("dark");
    browser.shoot("wall-dark");
    assert_eq!(browser.complaints(), [""; 0]);

    // A server that comes back is found again, without a hand on the page.
    serving.stop();
    browser.until("!document.getElementById('lost').hidden");
    let lost = browser.run("return document.body.innerText");
    assert!(lost.as_str().unwrap().contains("No connection to the server. What you see is old."), "{lost}");
    browser.shoot("lost");
    let (serving, _) = made.serve_as(HttpSpec { listen: vec![address], ..HttpSpec::default() });
    browser.until("document.getElementById('lost').hidden");
    let last = seen.last().unwrap();
    browser.until(&format!(
        "Number({GATE}.dataset.seq) > {last} && document.getElementById('health').innerText.includes('Ready')"
    ));
    picture_and_box_belong_together(&browser);
    drop(feed);
    made.status.lock().unwrap().not_ready = vec!["camera \"yard\": models are loading".into()];
    browser.until("document.getElementById('health').innerText.includes('Not ready: camera \"yard\": models are loading')");
    drop(browser);
    serving.stop();
}

#[test]
fn keys_alone_reach_everything() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let Some(browser) = Chromium::start(false) else { return };
    let _feed = Feed::of(&made);
    browser.open(&format!("http://{address}/"));
    browser.until(&format!("{GATE}?.dataset.seq"));
    let (tab, enter, escape, right) = ("\u{e004}", "\u{e007}", "\u{e00c}", "\u{e014}");
    browser.press(tab);
    let label = browser.run("return document.activeElement.getAttribute('aria-label')");
    assert_eq!(label, "front gate, Streaming: enlarge");
    browser.press(enter);
    browser.until(
        "document.querySelector('[data-camera=yard]').hidden && !document.getElementById('camera').hidden",
    );
    browser.until(&format!("{GATE}.clientWidth > 700"));
    let until = Instant::now() + Duration::from_secs(10);
    while !made.lives["front gate"].watched() || made.lives["yard"].watched() {
        assert!(Instant::now() < until, "only what is shown is looked at");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = picture_and_box_belong_together(&browser);
    browser.until(&format!("Number({GATE}.dataset.seq) > {before}"));
    let told = browser.run("return document.getElementById('camera').innerText");
    for part in [
        "detect",
        "ort:cpu/fp32",
        "not ort:cuda: no device was found",
        "1,000 captured",
        "6 stale",
        "2 detect",
        "reconnects: 3",
    ] {
        assert!(told.as_str().unwrap().contains(part), "{part}: {told}");
    }
    browser.shoot("large");
    browser.press(right);
    browser.until("!document.querySelector('[data-camera=yard]').hidden && document.querySelector('[data-camera=\"front gate\"]').hidden");
    browser.press(escape);
    browser.until("document.querySelectorAll('.tile:not([hidden])').length === 2 && document.getElementById('camera').hidden");
    let before = browser.run(&format!("return Number({GATE}.dataset.seq)"));
    browser.until(&format!("Number({GATE}.dataset.seq) > {before}"));
    browser.run("document.querySelector('.row button').click()");
    browser.until("document.querySelector('.row').innerText.includes('Checked and taken on')");
    assert_eq!(made.reloads.load(Ordering::SeqCst), 1);
    // A configuration that was refused is told at the top, with what is wrong with it.
    assert_eq!(browser.run("return document.getElementById('refused').checkVisibility()"), false);
    {
        let config = &mut made.status.lock().unwrap().config;
        config.reload_error = Some("site.toml:3:1: unknown key \"camra\"".to_owned());
        config.last_reload = Some(SystemTime::now());
    }
    browser.until(
        "document.getElementById('refused').checkVisibility() && document.getElementById('refused').innerText.includes('camra')",
    );
    browser.shoot("refused");
    made.status.lock().unwrap().config.reload_error = None;
    browser.until("!document.getElementById('refused').checkVisibility()");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_phone_shows_it_all_in_its_width() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let Some(browser) = Chromium::start(true) else { return };
    let _feed = Feed::of(&made);
    browser.open(&format!("http://{address}/"));
    browser.until(&format!("{GATE}?.dataset.seq"));
    let fits = || {
        let width = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(width, json!([390, 390]), "nothing to scroll sideways");
    };
    fits();
    picture_and_box_belong_together(&browser);
    browser.shoot("phone-wall");
    browser.click("[data-camera=\"front gate\"] .picture");
    browser.until(
        "document.querySelector('[data-camera=yard]').hidden && !document.getElementById('camera').hidden",
    );
    fits();
    picture_and_box_belong_together(&browser);
    browser.shoot("phone-large");
    browser.run("document.querySelector('#camera table').scrollIntoView()");
    browser.media("dark");
    browser.shoot("phone-tables");
    let small = browser.run(
        "return [...document.querySelectorAll('button, #back a')].filter((e) => e.offsetParent && e.offsetHeight < 43).map((e) => e.innerText)",
    );
    assert_eq!(small, json!([]), "large enough for a finger");
    browser.run("history.back()");
    browser.until("document.querySelectorAll('.tile:not([hidden])').length === 2");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn events_show_their_picture_and_play_their_recording() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    for phone in [false, true] {
        let Some(browser) = Chromium::start(phone) else { return };
        browser.open(&format!("http://{address}/"));
        browser.until("document.querySelectorAll('.event').length === 3");
        browser.until("document.querySelector('.event img')?.naturalWidth === 32");
        let told =
            browser.run("return [...document.querySelectorAll('.event')].map((event) => event.innerText)");
        for (at, parts) in [
            (0, ["person 91 %", "front gate", "4.0 s long", "recorded"]),
            (1, ["person", "yard", "no picture", "91"]),
        ] {
            let words = told[at].as_str().unwrap();
            assert!(parts.iter().all(|part| words.contains(part)), "{words}");
        }
        browser.run("document.getElementById('events').scrollIntoView()");
        browser.shoot(if phone { "phone-events" } else { "events" });
        browser.click(".event .still");
        // It is the recording, muxed here and decoded by the browser: its size, its length, and pictures that move on.
        browser.until("document.querySelector('#clip video')?.readyState >= 2");
        let video = browser.run(
            "const v = document.querySelector('#clip video'); return [v.videoWidth, v.videoHeight, v.duration, v.error === null]",
        );
        let mut source =
            tapetum::source::open(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/dev_a.mp4")).unwrap();
        let (info, mut frame, mut last) =
            (source.info().clone(), tapetum_runtime::Frame::default(), Duration::ZERO);
        while let Ok(tapetum::source::Next::Frame) = source.next(&mut frame) {
            last = frame.pts;
        }
        let (width, height) = info.size.unwrap();
        assert_eq!((&video[0], &video[1], &video[3]), (&json!(width), &json!(height), &json!(true)));
        let apart =
            (video[2].as_f64().unwrap() - last.as_secs_f64() - info.interval.unwrap().as_secs_f64()).abs();
        assert!(apart < 0.1, "{video} for {last:?}");
        browser.until("document.querySelector('#clip video').currentTime > 0.5");
        // To another place, which takes a range of the file.
        browser.run("document.querySelector('#clip video').currentTime = document.querySelector('#clip video').duration / 2");
        browser.until("!document.querySelector('#clip video').seeking && document.querySelector('#clip video').readyState >= 2");
        browser.shoot(if phone { "phone-clip" } else { "clip" });
        let width = browser.run("return document.documentElement.scrollWidth <= innerWidth");
        assert_eq!(width, true, "nothing to scroll sideways");
        browser.press("\u{e00c}");
        browser.until("!document.getElementById('clip').open && !document.querySelector('#clip video')");
        assert_eq!(browser.complaints(), [""; 0]);
        // One camera's alone.
        browser.run("location.hash = '#camera=yard'");
        browser.until("document.querySelectorAll('.event').length === 1");
    }
}

#[test]
fn a_browser_signs_in_and_out() {
    let made = Made::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), super::door::TOKEN).unwrap();
    let token = tapetum::site::http::TokenFrom::File(file.path().to_owned());
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let (_serving, address) = made.serve_as(HttpSpec { listen, token: Some(token), ..HttpSpec::default() });
    let Some(browser) = Chromium::start(true) else { return };
    let _feed = Feed::of(&made);
    let page = format!("http://localhost:{}/", address.port());
    browser.open(&page);
    browser.until("location.pathname === '/login'");
    browser.shoot("login");
    let sign_in = |token: &str| {
        browser.run(&format!("document.getElementById('token').value = '{token}'"));
        browser.click("button");
    };
    sign_in("wrong");
    browser.until("document.body.innerText.includes('That is not the token.')");
    sign_in(super::door::TOKEN);
    browser.until(&format!("{GATE}?.dataset.seq"));
    assert_eq!(browser.run("return document.cookie"), "", "out of the scripts' reach");
    browser.until("!document.getElementById('logout').hidden");
    browser.click("#logout button");
    browser.until("location.pathname === '/login'");
    browser.open(&page);
    browser.until("location.pathname === '/login'");
}
