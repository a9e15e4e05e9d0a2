//! The daemon as a process of its own: what is measured is what ships.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, ErrorKind, Result};

/// What the daemon says before its address.
const SEEN_AT: &str = "to be seen at ";
/// Until it says so, and for an answer.
const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(5);
/// A daemon that has not ended by then is killed.
const FAREWELL: Duration = Duration::from_secs(20);
/// Largest answer that is read.
const MOST: u64 = 16 << 20;

pub(super) struct Child {
    process: std::process::Child,
    address: String,
    log: PathBuf,
    agent: ureq::Agent,
}

/// How it ended.
pub(super) struct Stopped {
    pub took: Duration,
    pub status: ExitStatus,
    pub log: String,
}

impl Child {
    /// Starts `daemon` and waits until it listens. What it says goes to `log`.
    ///
    /// # Errors
    /// It is not there, or ends at once.
    pub fn start(daemon: &Path, config: &Path, log: &Path) -> Result<Self> {
        let failed = |what: String| Error::new(ErrorKind::Environment, what);
        let to = File::create(log).map_err(|e| failed(format!("{}: {e}", log.display())).caused_by(e))?;
        let mut command = Command::new(daemon);
        command.arg("--config").arg(config).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to).spawn().map_err(|e| {
            failed(format!("{}: cannot be started: {e}; --daemon names another", daemon.display()))
                .caused_by(e)
        })?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let mut child = Self { process, address: String::new(), log: log.to_owned(), agent };
        let until = Instant::now() + START;
        loop {
            let said = child.said();
            if let Some((_, rest)) = said.split_once(SEEN_AT)
                && let Some((address, _)) = rest.split_once(['\n', ','])
            {
                child.address = address.to_owned();
                return Ok(child);
            }
            if let Some(status) = child.ended() {
                return Err(failed(format!("the daemon ended at once ({status}): {}", last_lines(&said))));
            }
            if Instant::now() >= until {
                return Err(failed(format!("the daemon does not start: {}", last_lines(&said))));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn said(&self) -> String {
        let mut text = Vec::new();
        // The end of a long one: its last account is there.
        let end = |mut file: File| {
            let from = file.metadata()?.len().saturating_sub(MOST);
            file.seek(SeekFrom::Start(from))?;
            file.take(MOST).read_to_end(&mut text)
        };
        File::open(&self.log).and_then(end).ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Status code and body of an answer.
    ///
    /// # Errors
    /// There is none within five seconds.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let failed = |e: ureq::Error| Error::new(ErrorKind::Environment, format!("{path}: {e}"));
        let mut answer = self.agent.get(format!("http://{}{path}", self.address)).call().map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MOST).read_to_string().map_err(failed)?;
        Ok((status, body))
    }

    /// Tells it to stop, and waits.
    ///
    /// # Errors
    /// It has to be killed.
    pub fn stop(mut self) -> Result<Stopped> {
        let from = Instant::now();
        // The number of one that has ended may be another's by now.
        if self.ended().is_none() {
            terminate(&self.process);
        }
        loop {
            if let Some(status) = self.ended() {
                return Ok(Stopped { took: from.elapsed(), status, log: self.said() });
            }
            if from.elapsed() > FAREWELL {
                return Err(Error::new(ErrorKind::Environment, "the daemon does not stop, and was killed"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn terminate(process: &std::process::Child) {
    let Ok(pid) = i32::try_from(process.id()) else { return };
    // SAFETY: a plain system call on our own child, which has not been waited for.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}
