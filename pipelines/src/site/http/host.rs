//! What browsers say of themselves: `Host`, `Origin`, `Cookie`. Parsed by hand, so fuzzed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `name` is a host name, or an IP address without brackets and port.
pub(super) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && (name.parse::<Ipv6Addr>().is_ok() || name.split('.').all(label))
}

/// Host and port of a `Host` header: `name`, `name:80`, `[::1]:80`. The host without brackets.
pub fn authority(header: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match header.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let (host, rest) = header.split_at(header.find(':').unwrap_or(header.len()));
            (is_name(host) && !host.contains(':')).then_some((host, rest))?
        }
    };
    match rest.strip_prefix(':') {
        None => rest.is_empty().then_some((host, None)),
        Some(port) => {
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            Some((host, Some(digits.then(|| port.parse().ok())??)))
        }
    }
}

/// Whether a browser that was told `host` is talking to this machine's own loopback address.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.octets()[0] == Ipv4Addr::LOCALHOST.octets()[0],
        Ok(IpAddr::V6(ip)) => ip == Ipv6Addr::LOCALHOST,
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether `origin` (`https://name:port`) is what was called by `host`. A port that is not written is the scheme's.
pub fn same_origin(origin: &str, host: &str) -> bool {
    let (rest, port) = if let Some(rest) = origin.strip_prefix("http://") {
        (rest, 80)
    } else if let Some(rest) = origin.strip_prefix("https://") {
        (rest, 443)
    } else {
        return false;
    };
    match (authority(rest), authority(host)) {
        (Some((a, ap)), Some((b, bp))) => {
            a.eq_ignore_ascii_case(b) && ap.unwrap_or(port) == bp.unwrap_or(port)
        }
        _ => false,
    }
}

/// The value of cookie `name` in a `Cookie` header.
pub fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').find_map(|pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (header, want) in [
            ("localhost", Some(("localhost", None))),
            ("box.local:8740", Some(("box.local", Some(8740)))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("[::1]", Some(("::1", None))),
            ("", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]80", None),
            ("a:", None),
            ("a:+1", None),
            ("a:65536", None),
            ("a/b", None),
            ("a@b", None),
            ("a b", None),
            ("ä", None),
        ] {
            assert_eq!(authority(header), want, "{header:?}");
        }
    }

    #[test]
    fn only_loopback_names_are_loopback() {
        assert!(["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"].into_iter().all(is_loopback));
        let others =
            ["evil.example", "localhost.evil.example", "0.0.0.0", "128.0.0.1", "::", "127.0.0.1.nip.io"];
        assert!(!others.into_iter().any(is_loopback));
    }

    #[test]
    fn origins() {
        for (origin, host, same) in [
            ("http://localhost:8740", "localhost:8740", true),
            ("http://LOCALHOST:8740", "localhost:8740", true),
            ("http://localhost", "localhost:80", true),
            ("https://box", "box", true),
            ("https://box:443", "box", true),
            ("https://[::1]:8", "[::1]:8", true),
            ("http://localhost:8741", "localhost:8740", false),
            ("http://evil.example", "localhost:8740", false),
            ("null", "localhost:8740", false),
            ("", "", false),
            ("file://", "localhost", false),
            ("http://localhost:8740.evil.example", "localhost:8740", false),
        ] {
            assert_eq!(same_origin(origin, host), same, "{origin} {host}");
        }
    }

    #[test]
    fn cookies() {
        assert_eq!(cookie("a=1; b=2;c=3", "b"), Some("2"));
        assert_eq!(cookie("a=1; b=2;c=3", "c"), Some("3"));
        assert_eq!(cookie("ab=1", "b"), None);
        assert_eq!(cookie("", "b"), None);
        assert_eq!(cookie("b=x=y", "b"), Some("x=y"));
    }
}
