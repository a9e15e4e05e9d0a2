//! Certificates for outgoing connections.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tapetum_runtime::{Error, ErrorKind, Result};

/// Where Debian and its kin keep the authorities that the system trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates in the PEM file `path`.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |e: rustls::pki_types::pem::Error| unreadable(path, "certificates", &e);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(bad)?
        .collect::<std::result::Result<_, _>>()
        .map_err(bad)?;
    if found.is_empty() {
        return Err(Error::bad_file(format!("{}: no certificate in it", path.display())));
    }
    Ok(found)
}

/// Authorities in `ca`, or those of the system.
pub(super) fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>> {
    certificates(ca.unwrap_or(Path::new(SYSTEM)))
}

/// TLS to servers that `ca` (or the system) trusts; `client`: files of the certificate and key that we show.
pub(super) fn client(ca: Option<&Path>, client: Option<(&Path, &Path)>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // The system's list may hold some that are too old to be read.
    let (used, _) = roots.add_parsable_certificates(authorities(ca)?);
    if used == 0 {
        let path = ca.unwrap_or(Path::new(SYSTEM));
        return Err(Error::bad_file(format!("{}: no certificate that can be used", path.display())));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal(format!("TLS: {e}")))?
        .with_root_certificates(roots);
    match client {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, "a private key", &e))?;
            config
                .with_client_auth_cert(chain, private)
                .map_err(|e| Error::bad_file(format!("{}: {e}", certificate.display())))
        }
    }
}

#[cold]
fn unreadable(path: &Path, what: &str, e: &rustls::pki_types::pem::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{}: cannot read {what}: {e}", path.display()))
}
