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
        let demo = demo();
        let text = format!(
            "[pipeline]\nname = '{name}'\nengine = 'tract'\n\n[model.classifier]\ncheckpoint = '{demo}/tf-cls.pt'\n\
             contract = '{demo}/tf-cls.contract.toml'\n\n[[stage]]\nname = 'state'\nkind = 'classify'\n\
             model = 'classifier'\nevery = {every}\n"
        );
        std::fs::write(self.path(file), text).unwrap();
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

    pub fn start(&self) -> Daemon {
        let log = self.path("log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tapetumd"))
            .arg("--config")
            .arg(self.path("site.toml"))
            .env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
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

fn demo() -> String {
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
        let (code, answer) = self.request("GET", path, "");
        (code, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// Status code and the whole answer. `headers` end with a line feed each.
    pub fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        let request = format!("{head}{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
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

    /// Tells it to stop; returns its log.
    pub fn stop(mut self) -> String {
        self.signal(libc::SIGTERM);
        let status = self.child.wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
