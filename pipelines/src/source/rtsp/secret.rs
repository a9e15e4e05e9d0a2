//! What must not be seen: passwords in addresses, and in what servers and libraries say of them.

use url::Url;

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Parts of names whose values are hidden, in a path or query.
const SECRET_NAMES: [&str; 8] = ["pass", "pwd", "token", "secret", "auth", "key", "user", "sig"];

/// Words that are taken out of every message.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn add(&mut self, secret: impl Into<String>) {
        let secret = secret.into();
        if !secret.is_empty() && !self.0.contains(&secret) {
            self.0.push(secret);
        }
        // The longest first: a short one may be a part of it.
        self.0.sort_by_key(|s| std::cmp::Reverse(s.len()));
    }

    /// `text` as one line that can be shown: its first paragraph, without secrets and control characters.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = text.split("\n\n").next().unwrap_or_default();
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        if let Some((end, _)) = text.char_indices().nth(MOST_CHARS) {
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

/// Longest message of a server that is passed on.
const MOST_CHARS: usize = 300;

/// How an address is shown: no user information, and hidden values where a name in the path or query sounds secret. What
/// was hidden is added to `secrets`.
pub(super) fn shown(url: &Url, secrets: &mut Secrets) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let rest = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    // A password that holds a slash or a question mark as it is ends up here, before an @; and if it holds an @ before that, a part
    // of it is taken for the host.
    if rest.contains('@') {
        secrets.add(rest);
        secrets.add(format!("{host}{port}"));
        return "rtsp://…".to_owned();
    }
    format!("rtsp://{host}{port}{}", hide(&rest, secrets))
}

/// Hides the values of `name=value` whose name sounds secret. A value goes up to `&`, `/`, `?` or `;`.
fn hide(text: &str, secrets: &mut Secrets) -> String {
    let mut out = String::new();
    for part in text.split_inclusive(['&', '/', '?', ';']) {
        let (body, end) = match part.char_indices().next_back() {
            Some((at, c)) if "&/?;".contains(c) => part.split_at(at),
            _ => (part, ""),
        };
        match body.split_once('=') {
            Some((name, value)) if SECRET_NAMES.iter().any(|s| name.to_lowercase().contains(s)) => {
                secrets.add(value);
                out.push_str(&format!("{name}={HIDDEN}"));
            }
            _ => out.push_str(body),
        }
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(address: &str) -> String {
        shown(&Url::parse(address).unwrap(), &mut Secrets::default())
    }

    #[test]
    fn an_address_is_shown_without_what_is_secret_in_it() {
        assert_eq!(seen("rtsp://me:hush@10.0.0.9:8554/cam/1"), "rtsp://10.0.0.9:8554/cam/1");
        assert_eq!(
            seen("rtsp://h/live?channel=1&password=hush&x=2"),
            "rtsp://h/live?channel=1&password=***&x=2"
        );
        assert_eq!(seen("rtsp://h/user=a_password=hush_channel=1?real"), "rtsp://h/user=***?real");
        assert_eq!(seen("rtsp://h/a/Token=hush/b"), "rtsp://h/a/Token=***/b");
        assert_eq!(seen("rtsp://me:7/hush@cam/1"), "rtsp://…");
        assert_eq!(seen("rtsp://me:hu@sh/7@cam/1"), "rtsp://…");
    }

    #[test]
    fn a_message_is_one_short_line_without_secrets() {
        let mut secrets = Secrets::default();
        ["hush", "hush!hush", ""].iter().for_each(|s| secrets.add(*s));
        let text = "401 for hush!hush\r\nand hush\n\nconn: hush";
        assert_eq!(secrets.scrub(text), "401 for ***  and ***");
        assert_eq!(secrets.scrub(&"é".repeat(5000)).chars().count(), MOST_CHARS + 1);
    }
}
