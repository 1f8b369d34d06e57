//! Which servers are trusted, by whatever protocol speaks TLS.
//!
//! The system's store counts, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name. A file or a folder
//! of the command line counts in its place, as for duplicity.

use crate::storage::{Error, ErrorKind, TlsSettings};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::CertificateResult;
use std::path::Path;
use std::sync::Arc;

/// Returns the settings of TLS.
///
/// # Errors
/// [`Error`] when no certificate can be read where the user says that they are.
pub fn config(settings: &TlsSettings) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| Error {
        operation: "prepare",
        place: "TLS".into(),
        kind: ErrorKind::Other,
        cause: error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    if settings.no_check {
        let anybody = Arc::new(Anybody(provider));
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth());
    }
    Ok(builder.with_root_certificates(roots(settings)?).with_no_client_auth())
}

fn roots(settings: &TlsSettings) -> Result<RootCertStore, Error> {
    let (file, folder) = (settings.ca_file.as_deref(), settings.ca_path.as_deref());
    let found = match (file, folder) {
        (None, None) => rustls_native_certs::load_native_certs(),
        _ => rustls_native_certs::load_certs_from_paths(file, folder),
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs.iter().cloned());
    match file.or(folder) {
        Some(place) if added == 0 => Err(none_in(place, &found)),
        _ => Ok(roots),
    }
}

fn none_in(place: &Path, found: &CertificateResult) -> Error {
    let cause = match found.errors.first() {
        Some(error) => error.to_string(),
        None => "there is no certificate in it".into(),
    };
    let place = place.display().to_string();
    Error { operation: "read certificates in", place, kind: ErrorKind::BadUrl, cause }
}

/// Takes any certificate, as `--ssl-no-check-certificate` asks.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
