//! A site in a folder of its own, and its daemon.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Site(tempfile::TempDir);

impl Site {
    pub fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.pipeline("eyes.toml", "eyes", 1);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A pipeline that classifies with the demo's network.
    pub fn pipeline(&self, file: &str, name: &str, every: u32) {
        self.pipeline_with(file, name, every, &format!("{}/tf-cls.pt", demo()));
    }

    /// As [`Site::pipeline`], with other weights.
    pub fn pipeline_of(&self, file: &str, weights: &str) {
        self.pipeline_with(file, "eyes", 1, weights);
    }

    fn pipeline_with(&self, file: &str, name: &str, every: u32, weights: &str) {
        let demo = demo();
        let text = format!(
            "[pipeline]\nname = '{name}'\nengine = 'tract'\n\n[model.classifier]\ncheckpoint = '{weights}'\n\
             contract = '{demo}/tf-cls.contract.toml'\n\n[[stage]]\nname = 'state'\nkind = 'classify'\n\
             model = 'classifier'\nevery = {every}\n"
        );
        std::fs::write(self.path(file), text).unwrap();
    }

    /// Weights of this site alone.
    pub fn copy_of_weights(&self) -> String {
        std::fs::copy(format!("{}/tf-cls.pt", demo()), self.path("weights.pt")).unwrap();
        "weights.pt".to_owned()
    }

    /// Puts weights that were made up in their place.
    pub fn other_weights(&self) {
        let made = self.path("made.safetensors");
        let made = Command::new(env!("CARGO_BIN_EXE_tapetum"))
            .args(["init", "tfcls", "--seed", "5", "--output"])
            .arg(&made)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::rename(self.path("made.safetensors"), self.path("weights.pt")).unwrap();
    }

    /// A pipeline that is sound until its model is loaded.
    pub fn broken_pipeline(&self, file: &str) {
        let demo = demo();
        std::fs::write(self.path("broken.pt"), "no checkpoint").unwrap();
        let text = format!(
            "[pipeline]\nname = 'broken'\nengine = 'tract'\n\n[model.classifier]\ncheckpoint = 'broken.pt'\n\
             contract = '{demo}/tf-cls.contract.toml'\n\n[[stage]]\nname = 'state'\nkind = 'classify'\n\
             model = 'classifier'\n"
        );
        std::fs::write(self.path(file), text).unwrap();
    }

    /// `site.toml` with cameras that play the demo clip, and `more`.
    pub fn write(&self, cameras: &[&str], more: &str) {
        let demo = demo();
        let mut text = String::from(
            "[site]\nname = 'test'\nstate = 'state'\n\n[http]\nlisten = '127.0.0.1:0'\n\n[[output]]\nkind = 'sqlite'\n",
        );
        for camera in cameras {
            text += &format!(
                "\n[camera.{camera}]\nsource = 'loop:{demo}/dev_a.mp4'\npipeline = 'eyes.toml'\nmax_fps = 10\n\
                 events = {{ labels = ['clear', 'broken'], min_score = 0.5, min_frames = 2 }}\n"
            );
        }
        std::fs::write(self.path("site.toml"), text + "\n" + more).unwrap();
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.path("site.toml")).unwrap()
    }

    /// Says something else in `site.toml`.
    #[track_caller]
    pub fn replace(&self, from: &str, to: &str) {
        let text = self.text();
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        std::fs::write(self.path("site.toml"), text.replacen(from, to, 1)).unwrap();
    }

    pub fn append(&self, more: &str) {
        let text = std::fs::read_to_string(self.path("site.toml")).unwrap();
        std::fs::write(self.path("site.toml"), text + more).unwrap();
    }

    /// Gives a camera another pipeline.
    pub fn change(&self, camera: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("site.toml")).unwrap();
        let at = text.find(&format!("[camera.{camera}]")).unwrap();
        let (before, after) = text.split_at(at);
        std::fs::write(self.path("site.toml"), before.to_owned() + &after.replacen(from, to, 1)).unwrap();
    }

    pub fn check(&self, program: &str) -> Output {
        let config = self.path("site.toml");
        let mut command = Command::new(program);
        match Path::new(program).ends_with("tapetumd") {
            true => command.arg("--check").arg("--config").arg(config),
            false => command.arg("check").arg(config),
        };
        command.output().unwrap()
    }

    fn command(&self, log: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapetumd"));
        command
            .arg("--config")
            .arg(self.path("site.toml"))
            .env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(log).unwrap());
        command
    }

    /// A start that is refused: exit code and what was said.
    pub fn start_refused(&self) -> (i32, String) {
        let log = self.path("refused.log");
        let status = self.command(&log).status().unwrap();
        (status.code().unwrap(), std::fs::read_to_string(log).unwrap())
    }

    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// With these in its environment.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = self.path("log");
        let mut child = self.command(&log).envs(environment.iter().copied()).spawn().unwrap();
        let from = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = text.split_once("to be seen at ") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("it ended at once ({status}):\n{text}");
            }
            assert!(from.elapsed() < PATIENCE, "it does not start:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        };
        Daemon { child, address, log }
    }
}

/// The folder of the demo.
pub fn demo() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").display().to_string()
}

pub struct Daemon {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Daemon {
    /// Status code and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let (code, _, body) = self.answer("GET", path, "");
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    /// As [`Daemon::get`], of what is no text.
    pub fn get_bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let (code, _, body) = self.answer("GET", path, "");
        (code, body)
    }

    /// Status code and the whole answer. `headers` end with a line feed each.
    pub fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let (code, head, body) = self.answer(method, path, headers);
        (code, head + "\r\n\r\n" + &String::from_utf8_lossy(&body))
    }

    fn answer(&self, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        let request = format!("{head}{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let body = answer.get(end + 4..).unwrap_or_default().to_vec();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
    }

    pub fn json(&self, path: &str) -> Value {
        let (code, body) = self.get(path);
        assert_eq!(code, 200, "{path}: {body}");
        let from = body.find(['{', '[']).unwrap();
        let mut values = serde_json::Deserializer::from_str(&body[from..]).into_iter::<Value>();
        values.next().unwrap().unwrap()
    }

    pub fn status(&self) -> Value {
        self.json("/api/v1/status")
    }

    /// Null if there is no such camera.
    pub fn camera(&self, name: &str) -> Value {
        let status = self.status();
        let cameras = status["cameras"].as_array().unwrap();
        cameras.iter().find(|camera| camera["name"] == name).cloned().unwrap_or_default()
    }

    /// Has the configuration taken in; returns its status when that is over.
    pub fn reload(&self) -> Value {
        let before = self.status()["config"]["last_reload"].clone();
        self.hang_up();
        self.until("the reload is over", || {
            let config = &self.status()["config"];
            config["last_reload"] != before && config["reloading"] == false
        });
        self.status()["config"].clone()
    }

    pub fn output(&self, name: &str) -> Value {
        let status = self.status();
        let outputs = status["outputs"].as_array().unwrap();
        outputs.iter().find(|output| output["name"] == name).cloned().unwrap_or_default()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    #[track_caller]
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        self.wait(what, done, || format!("{:#}", self.status()));
    }

    /// As [`Daemon::until`], where nobody but who has the token is told the status.
    pub fn settled(&self, what: &str, done: impl Fn() -> bool) {
        self.wait(what, done, String::new);
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool, status: impl Fn() -> String) {
        let from = Instant::now();
        while !done() {
            assert!(
                from.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}\n{}\n{}",
                self.log(),
                status()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on our own child, which has not been waited for.
        let sent = unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), signal) };
        assert_eq!(sent, 0);
    }

    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Ends it without a word.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop; returns its log.
    pub fn stop(self) -> String {
        self.stop_timed().0
    }

    /// As [`Daemon::stop`], with how long it took.
    pub fn stop_timed(mut self) -> (String, Duration) {
        let from = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.child.wait().unwrap();
        let took = from.elapsed();
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        (log, took)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
