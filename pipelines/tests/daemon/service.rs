//! What the service manager is told: a socket in its place.

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    delivered,
    site::{Daemon, Site},
    until,
};

const SOON: Duration = Duration::from_secs(60);

/// What came, with when.
#[derive(Clone)]
struct Manager(Arc<Mutex<Vec<(Instant, String)>>>);

impl Manager {
    fn listen(at: &Path) -> Self {
        let socket = UnixDatagram::bind(at).unwrap();
        let manager = Self(Arc::default());
        let heard = manager.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(n) = socket.recv(&mut bytes) {
                heard
                    .0
                    .lock()
                    .unwrap()
                    .push((Instant::now(), String::from_utf8_lossy(&bytes[..n]).into_owned()));
            }
        });
        manager
    }

    fn start(site: &Site, watchdog: Duration) -> (Self, Daemon) {
        let at = site.path("notify");
        let manager = Self::listen(&at);
        let usec = watchdog.as_micros().to_string();
        (manager, site.start_with(&[("NOTIFY_SOCKET", at.to_str().unwrap()), ("WATCHDOG_USEC", &usec)]))
    }

    /// Messages that say this, in their order, by their place among all.
    fn said(&self, what: &str) -> Vec<usize> {
        let all = self.0.lock().unwrap();
        all.iter()
            .enumerate()
            .filter(|(_, (_, m))| m.lines().any(|l| l.starts_with(what)))
            .map(|(at, _)| at)
            .collect()
    }

    fn since_watchdog(&self) -> Duration {
        let all = self.0.lock().unwrap();
        all.iter().rfind(|(_, m)| m.contains("WATCHDOG=1")).map_or(Duration::MAX, |(at, _)| at.elapsed())
    }
}

#[test]
fn it_is_ready_when_models_are_loaded_and_again_when_a_reload_is_really_over() {
    let site = Site::new();
    site.write(&["left"], "");
    let (manager, daemon) = Manager::start(&site, SOON);
    until(SOON, "ready", || manager.said("READY=1").len() == 1);
    assert_ne!(daemon.camera("left")["state"], "loading");
    assert!(manager.said("RELOADING=1").is_empty());
    until(SOON, "in words", || !manager.said("STATUS=1 of 1 cameras give frames").is_empty());
    site.pipeline("other.toml", "other", 2);
    site.change("left", "eyes.toml", "other.toml");
    let digest = daemon.camera("left")["digest"].clone();
    daemon.hang_up();
    until(SOON, "ready again", || manager.said("READY=1").len() == 2);
    assert_ne!(daemon.camera("left")["digest"], digest, "in force when it is said");
    let (reloading, ready) = (manager.said("RELOADING=1"), manager.said("READY=1"));
    assert_eq!((reloading.len(), manager.said("MONOTONIC_USEC=")), (1, reloading.clone()));
    assert!(ready[0] < reloading[0] && reloading[0] < ready[1], "{reloading:?} {ready:?}");
    // One that is refused is over, too, and the words say why.
    site.append("nonsense = 1\n");
    daemon.hang_up();
    until(SOON, "ready once more", || manager.said("READY=1").len() == 3);
    until(SOON, "why", || {
        let all = manager.0.lock().unwrap();
        all.iter().any(|(_, m)| m.contains("was refused:") && m.contains("nonsense"))
    });
    daemon.stop();
    assert_eq!(manager.said("STOPPING=1").len(), 1);
}

#[test]
fn a_dead_camera_is_not_a_hung_daemon_and_a_hung_executor_is() {
    let site = Site::new();
    site.write(&["left"], "");
    let lively = site.text();
    site.write(&[], "[camera.dead]\nsource = 'rtsp://127.0.0.1:1/'\npipeline = 'eyes.toml'\n");
    let (manager, daemon) = Manager::start(&site, Duration::from_secs(2));
    // Nothing has ever come, and signs of life go on: more than a watchdog's time long.
    let from = Instant::now();
    until(SOON, "ten signs of life", || manager.said("WATCHDOG=1").len() >= 10);
    assert!(from.elapsed() >= Duration::from_secs(8), "one a second: {:?}", from.elapsed());
    assert_eq!(daemon.get("/healthz").0, 200);

    std::fs::write(site.path("site.toml"), lively).unwrap();
    daemon.reload();
    daemon.until("frames come", || delivered(&daemon, "left") > 20);
    // The thread that delivers is held; everything else goes on.
    let Some(held) = Held::hold(daemon.pid(), "camera left") else { return };
    until(SOON, "no signs of life any more", || manager.since_watchdog() > Duration::from_secs(6));
    let (code, why) = daemon.get("/healthz");
    assert_eq!(code, 503, "{why}");
    assert!(why.contains("camera left: frames come, and none has got through for"), "{why}");
    drop(held);
    until(SOON, "signs of life", || manager.since_watchdog() < Duration::from_secs(2));
    daemon.until("it is alive", || daemon.get("/healthz").0 == 200);
    daemon.stop();
}

/// One thread of a process, held by a debugger's means.
struct Held(i32);

impl Held {
    /// None, and said, where the machine does not let us.
    fn hold(pid: i32, name: &str) -> Option<Self> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let of = |path: &Path| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let task = tasks.map(|task| task.unwrap().path()).find(|path| of(path).trim() == name).unwrap();
        let thread: i32 = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: plain system calls on a thread of our own child; no memory is handed over.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0) == 0 };
        if !seized {
            let why = std::io::Error::last_os_error();
            tapetum_parts::missing("ptrace", format!("a hung executor, no thread can be held: {why}"));
            return None;
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0) }, 0);
        // SAFETY: as above; the status is not asked for.
        assert_eq!(unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) }, thread);
        Some(Self(thread))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: as where it was seized; that thread did this too, as a test runs on one.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}
