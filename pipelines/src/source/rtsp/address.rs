//! `rtsp://` addresses and what may be said of a connection.

use std::{fmt, time::Duration};

use base64::Engine as _;
use tapetum_runtime::{Error, Result};
use url::Url;

use super::secret::{self, Secrets};

/// How the pictures travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Inside the RTSP connection: nothing is lost on the way.
    #[default]
    Tcp,
    /// In datagrams: no packet waits for one that was lost. For local networks; packets out of order count as lost.
    Udp,
}

/// A user name and a password. They are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// How a camera is connected to.
#[derive(Clone, Debug, PartialEq)]
pub struct RtspOptions {
    /// How the pictures travel.
    pub transport: Transport,
    /// For digest or basic authentication, whichever the camera asks for; those in the address go before them.
    pub credentials: Option<Credentials>,
    /// Longest time from the first packet to the camera until it says that it plays.
    pub connect: Duration,
    /// A camera that sends no whole picture for this long is lost.
    pub stall: Duration,
}

impl Default for RtspOptions {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            credentials: None,
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(5),
        }
    }
}

/// An address, taken apart.
pub(super) struct Address {
    /// Without user information and options: what the camera is sent.
    pub(super) url: Url,
    /// For people.
    pub(super) name: String,
    pub(super) options: RtspOptions,
    /// What must be in no message.
    pub(super) secrets: Secrets,
}

impl Address {
    /// Takes `rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH[?QUERY][#OPTIONS]` apart. The query is the camera's; `OPTIONS` are
    /// ours (`transport=udp&stall=5&connect=10`, in seconds) and go before `defaults`.
    ///
    /// # Errors
    /// No such address or option. The message repeats nothing of the address, for it may hold a password anywhere.
    pub(super) fn parse(spec: &str, defaults: &RtspOptions) -> Result<Self> {
        let wrong = |what: &str| {
            Error::config(format!(
                "an rtsp:// address: {what} (special characters in a password are written as %40 and the like)"
            ))
        };
        let mut url = Url::parse(spec).map_err(|e| wrong(&e.to_string()))?;
        if url.scheme() != "rtsp" || url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("it names no host"));
        }
        let mut options = defaults.clone();
        for pair in url.fragment().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            option(pair, &mut options).ok_or_else(|| {
                wrong("behind # are transport=tcp or udp, stall= and connect= from 0.1 to 3600 seconds")
            })?;
        }
        url.set_fragment(None);
        let mut secrets = Secrets::default();
        let (user, password) = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
        if !user.is_empty() || !password.is_empty() {
            // As written, too: that is how a message may repeat it.
            secrets.add(&*password);
            options.credentials = Some(Credentials { user: decoded(&user), password: decoded(&password) });
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            cleared.map_err(|()| wrong("it cannot hold a user name"))?;
        }
        if let Some(Credentials { user, password }) = &options.credentials {
            secrets.add(&**password);
            // A name of a letter or two would only make messages unreadable.
            if user.len() > 2 {
                secrets.add(&**user);
            }
            secrets.add(base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")));
        }
        let name = secret::shown(&url, &mut secrets);
        Ok(Self { url, name, options, secrets })
    }
}

/// Reads one `key=value`.
fn option(pair: &str, options: &mut RtspOptions) -> Option<()> {
    let seconds = |value: &str| {
        let seconds = value.parse().ok().filter(|s| (0.1..=3600.0).contains(s));
        seconds.map(Duration::from_secs_f64)
    };
    match pair.split_once('=')? {
        ("transport", "tcp") => options.transport = Transport::Tcp,
        ("transport", "udp") => options.transport = Transport::Udp,
        ("stall", value) => options.stall = seconds(value)?,
        ("connect", value) => options.connect = seconds(value)?,
        _ => return None,
    }
    Some(())
}

/// `%40` and the like as what they stand for. Bytes that are no UTF-8 become `�`.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|_| first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(spec: &str) -> Address {
        Address::parse(spec, &RtspOptions::default()).unwrap()
    }

    #[test]
    fn options_are_ours_and_the_query_is_the_cameras() {
        let address = parsed("rtsp://a%40b:p%23w%@cam:8554/live?transport=tcp&x=1#transport=udp&stall=2.5");
        assert_eq!(address.url.as_str(), "rtsp://cam:8554/live?transport=tcp&x=1");
        assert_eq!(address.options.transport, Transport::Udp);
        assert_eq!(address.options.stall, Duration::from_millis(2500));
        let credentials = Credentials { user: "a@b".to_owned(), password: "p#w%".to_owned() };
        assert_eq!(address.options.credentials, Some(credentials));
        assert_eq!(address.name, "rtsp://cam:8554/live?transport=tcp&x=1");
    }

    #[test]
    fn nothing_of_a_wrong_address_is_repeated() {
        for spec in [
            "rtsp://me:s3cr3t#x@cam/",
            "rtsp://me:12#s3cr3t@cam/",
            "rtsp://cam/#s3cr3t=1",
            "rtsp://cam/#stall=s3cr3t",
            "rtsp://me:s3cr3t@:99999/",
            "rtsp:s3cr3t",
            "rtsp:///s3cr3t",
        ] {
            let Err(e) = Address::parse(spec, &RtspOptions::default()) else { panic!("{spec}") };
            assert!(!format!("{e} {e:?}").contains("s3cr3t"), "{e:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_before_the_at_is_never_shown(
            user in "[a-z%:#?&/@=!]{0,12}",
            password in "[a-zA-Z0-9%:#?&/@=!\\u{80}-\\u{2ff}]{0,20}",
            host in "[a-z0-9.:\\[\\]%]{0,12}",
            rest in "[a-z0-9/?&=#%;]{0,40}",
        ) {
            // The marker stands for the part of the password that matters.
            let spec = format!("rtsp://{user}:{password}S3CR3T{password}@{host}/{rest}");
            let seen = match Address::parse(&spec, &RtspOptions::default()) {
                Ok(address) => address.secrets.scrub(&format!("{} {:?} {}", address.name, address.options, address.url)),
                Err(e) => format!("{e} {e:?}"),
            };
            proptest::prop_assert!(!seen.contains("S3CR3T"), "{}", seen);
        }
    }
}
