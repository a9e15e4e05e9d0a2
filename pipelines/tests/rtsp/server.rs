//! GStreamer's RTSP server, where it is installed.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tapetum_parts::missing;

use crate::clip;

pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts the server with further arguments. `None`, which is said, where it is not installed.
    pub fn start(more: &[&str]) -> Option<Self> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/rtsp_server.py");
        let child = Command::new(script)
            .arg("--clip")
            .arg(clip("dev_b"))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let why = match child {
            Ok(mut child) => {
                let mut line = String::new();
                let out = child.stdout.take().unwrap();
                BufReader::new(out).read_line(&mut line).unwrap();
                match line.strip_prefix("ready ").and_then(|port| port.trim().parse().ok()) {
                    Some(port) => return Some(Self { child, port }),
                    None => {
                        let output = child.wait_with_output().unwrap();
                        String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
                    }
                }
            }
            Err(e) => e.to_string(),
        };
        missing("rtsp", format!("no RTSP server of GStreamer: {why}"));
        None
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
