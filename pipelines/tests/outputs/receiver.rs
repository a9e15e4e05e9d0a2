//! Who events are posted to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

/// What the receiver does with the nth request.
pub type Plan = Box<dyn Fn(usize) -> Answer + Send>;

#[derive(Clone, Copy)]
pub enum Answer {
    Status(u16),
    /// 200, but so much later.
    Slow(Duration),
    HangUp,
    Silence,
}

/// Listens until the process ends.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    /// `ID/REVISION` and body of each event that it said 200 to, in order, as often as it came.
    taken: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
    /// The head of the last request.
    head: Arc<Mutex<String>>,
}

impl Receiver {
    pub fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver =
            Self { port: listener.local_addr().unwrap().port(), taken: Arc::default(), head: Arc::default() };
        let theirs = receiver.clone();
        std::thread::spawn(move || {
            let mut requests = 0;
            let mut silent = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = BufReader::new(stream);
                while let Some((key, body, head)) = request(&mut stream) {
                    *theirs.head.lock().unwrap() = head;
                    let answer = plan(requests);
                    requests += 1;
                    let status = match answer {
                        Answer::Status(status) => status,
                        Answer::Slow(time) => {
                            std::thread::sleep(time);
                            200
                        }
                        Answer::HangUp => break,
                        Answer::Silence => {
                            silent.push(stream.get_ref().try_clone());
                            break;
                        }
                    };
                    if status == 200 {
                        theirs.taken.lock().unwrap().push((key, body));
                    }
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    stream.get_mut().write_all(answer.as_bytes()).ok();
                }
            }
        });
        receiver
    }

    pub fn taken(&self) -> Vec<(String, serde_json::Value)> {
        self.taken.lock().unwrap().clone()
    }

    /// Keys of what was taken.
    pub fn keys(&self) -> Vec<String> {
        self.taken().into_iter().map(|(key, _)| key).collect()
    }

    pub fn head(&self) -> String {
        self.head.lock().unwrap().clone()
    }
}

/// Key, body and head of a request; none at the end.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, serde_json::Value, String)> {
    let mut head = String::new();
    while stream.read_line(&mut head).ok()? > 0 && !head.ends_with("\r\n\r\n") {}
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
        Some(line.split_once(": ")?.1.to_owned())
    };
    let mut body = vec![0; field("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let key = field("idempotency-key")?;
    assert_eq!(key, format!("{}/{}", body["id"].as_str().unwrap(), body["revision"]));
    Some((key, body, head))
}
