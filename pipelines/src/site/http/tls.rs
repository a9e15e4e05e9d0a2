//! TLS from a certificate and a key in PEM.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tapetum_runtime::{Error, ErrorKind, Result};
use tokio_rustls::TlsAcceptor;

use super::spec::TlsFiles;

/// # Errors
/// `Environment` if a file cannot be read, `InvalidConfig` if they are no certificate and key that belong together.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&read("tls_cert", &files.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|e| bad("tls_cert", &files.cert, e))?;
    let key = PrivateKeyDer::from_pem_slice(&read("tls_key", &files.key)?)
        .map_err(|e| bad("tls_key", &files.key, e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal(format!("TLS: {e}")))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| bad("tls_cert", &files.cert, e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| {
        Error::new(ErrorKind::Environment, format!("{key} {}: {e}", path.display())).caused_by(e)
    })
}

fn bad(key: &str, path: &Path, why: impl std::fmt::Display) -> Error {
    Error::config(format!("{key} {}: {why}", path.display()))
}
