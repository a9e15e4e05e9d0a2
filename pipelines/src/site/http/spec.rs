//! What the configuration says of the HTTP side.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use tapetum_runtime::{
    Error, Result,
    settings::{Reader, Table},
};

use super::host;

const EXAMPLE: &str = ", as in \"127.0.0.1:8740\" or \"[::1]:8740\"";

/// Where HTTP is served, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSpec {
    /// Addresses with their ports; port 0 takes a free one. `127.0.0.1:8740` if none is given.
    pub listen: Vec<SocketAddr>,
    /// Who has this may look and act; without it, everybody who reaches the address.
    pub token: Option<TokenFrom>,
    /// Without it, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Names besides the loopback ones by which browsers may call the server.
    pub hosts: Vec<String>,
}

/// Where the token is. It is never in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFrom {
    /// The text of a file that only the daemon's user and group may read.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A certificate with its chain, and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own certificate first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

impl Default for HttpSpec {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from(([127, 0, 0, 1], 8740))], token: None, tls: None, hosts: vec![] }
    }
}

impl HttpSpec {
    /// The keys of its table.
    pub const KEYS: &'static [&'static str] =
        &["listen", "token_file", "token_env", "tls_cert", "tls_key", "hosts"];

    /// Reads a table whose keys are [`HttpSpec::KEYS`]; files are not opened. `None` where something in it was wrong.
    pub fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        let mut spec = Self::default();
        let mut wrong: Vec<(usize, String)> = Vec::new();
        let listen = reader.words(table, "listen");
        let readable = listen.is_some() || !table.has("listen");
        if let Some(words) = listen {
            spec.listen.clear();
            for (at, word) in words {
                match word.parse() {
                    Ok(address) => spec.listen.push(address),
                    Err(_) => {
                        wrong.push((at, format!("listen {word:?} is not an IP address with a port{EXAMPLE}")))
                    }
                }
            }
        }
        let (file, variable) = (reader.string(table, "token_file"), reader.string(table, "token_env"));
        spec.token = match (file, variable) {
            (Some(_), Some(_)) => {
                wrong.push((table.place("token_env"), "token_file and token_env exclude each other".into()));
                None
            }
            (Some(file), None) => Some(TokenFrom::File(file.into())),
            (None, variable) => variable.map(TokenFrom::Env),
        };
        let (cert, key) = (reader.string(table, "tls_cert"), reader.string(table, "tls_key"));
        spec.tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.into(), key: key.into() }),
            (None, None) => None,
            (cert, _) => {
                let (there, missing) =
                    if cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
                wrong.push((table.place(there), format!("{there} needs {missing} beside it")));
                None
            }
        };
        for (at, name) in reader.words(table, "hosts").unwrap_or_default() {
            if host::is_name(&name) {
                spec.hosts.push(name.to_ascii_lowercase());
            } else {
                let what = format!("hosts: {name:?} is not a host name or IP address without a port");
                wrong.push((at, what));
            }
        }
        if wrong.is_empty()
            && let Err(rule) = spec.check()
        {
            wrong.push((table.place("listen"), rule.to_string()));
        }
        let sound = wrong.is_empty() && readable;
        wrong.into_iter().for_each(|(at, what)| reader.note(at, what));
        sound.then_some(spec)
    }

    /// As it is, with relative paths taken to be below `folder`.
    pub fn below(mut self, folder: &Path) -> Self {
        if let Some(TokenFrom::File(file)) = &mut self.token {
            *file = folder.join(&*file);
        }
        if let Some(tls) = &mut self.tls {
            (tls.cert, tls.key) = (folder.join(&tls.cert), folder.join(&tls.key));
        }
        self
    }

    /// Files that are read when it starts: token and certificates.
    pub fn files(&self) -> Vec<PathBuf> {
        let token = self.token.iter().filter_map(|token| match token {
            TokenFrom::File(path) => Some(path.clone()),
            TokenFrom::Env(_) => None,
        });
        token.chain(self.tls.iter().flat_map(|tls| [tls.cert.clone(), tls.key.clone()])).collect()
    }

    /// # Errors
    /// `InvalidConfig`: no address, or one that others reach without both a token and TLS.
    pub fn check(&self) -> Result<()> {
        if self.listen.is_empty() {
            return Err(Error::config("listen names no address"));
        }
        let Some(wide) = self.listen.iter().find(|address| !is_loopback(address.ip())) else { return Ok(()) };
        let missing = match (&self.token, &self.tls) {
            (Some(_), Some(_)) => return Ok(()),
            (None, Some(_)) => "a token (token_file or token_env)",
            (Some(_), None) => "TLS (tls_cert and tls_key)",
            (None, None) => "a token (token_file or token_env) and TLS (tls_cert and tls_key)",
        };
        Err(Error::config(format!(
            "listen {wide} can be reached from outside; this needs {missing}, or a loopback address such as 127.0.0.1"
        )))
    }

    /// Whether every address is for this machine only.
    pub(super) fn local(&self) -> bool {
        self.listen.iter().all(|address| is_loopback(address.ip()))
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HttpSpec> {
        let mut reader = Reader::new(text, "site.toml");
        let table = reader.parse(HttpSpec::KEYS);
        let spec = HttpSpec::read(&mut reader, &table);
        reader.finish()?;
        spec.ok_or_else(|| Error::internal("no mistake was noted, and nothing was read"))
    }

    #[test]
    fn loopback_is_the_default_and_needs_nothing() {
        assert_eq!(read("").unwrap(), HttpSpec::default());
        for address in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:8740", "[::ffff:127.0.0.1]:80"] {
            let spec = read(&format!("listen = {address:?}")).unwrap();
            assert_eq!(spec.listen, [address.parse().unwrap()]);
        }
        assert_eq!(read("listen = [\"127.0.0.1:1\", \"[::1]:1\"]").unwrap().listen.len(), 2);
    }

    #[test]
    fn wider_wants_a_token_and_tls() {
        for address in ["0.0.0.0:80", "[::]:80", "192.168.1.4:80", "[::ffff:10.0.0.1]:80"] {
            let listen = format!("listen = [\"127.0.0.1:80\", {address:?}]\n");
            let tls = "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n";
            let token = "token_env = \"TOKEN\"\n";
            for (more, missing) in
                [("", "a token (token_file or token_env) and TLS"), (tls, "a token"), (token, "TLS")]
            {
                let told = read(&format!("{listen}{more}")).unwrap_err().to_string();
                assert!(told.starts_with("site.toml:1:10: listen "), "{told}");
                assert!(told.contains(&format!("this needs {missing}")), "{told}");
            }
            assert!(read(&format!("{listen}{tls}{token}")).is_ok());
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "listen = \"localhost:80\"\ntoken_file = \"t\"\ntoken_env = \"T\"\ntls_cert = \"c\"\nhosts = [\"a b\"]\nhost = 1\n";
        let told = read(text).unwrap_err().to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 5, "{told}");
        for (line, what) in lines.iter().zip([
            "site.toml:1:10: listen \"localhost:80\" is not an IP address with a port",
            "site.toml:3:13: token_file and token_env exclude each other",
            "site.toml:4:12: tls_cert needs tls_key beside it",
            "site.toml:5:10: hosts: \"a b\" is not a host name",
            "site.toml:6:1: unknown key \"host\"",
        ]) {
            assert!(line.starts_with(what), "{line}\nwant {what}");
        }
    }
}
