//! TLS to PostgreSQL: sslmode and its files, and the channel binding of SCRAM.
//!
//! In: the TLS wishes of database_url. Out: a rustls configuration. It must stay true that a
//! certificate is left unchecked only where that was spelled out (`no-verify`), or where the link
//! may fall back to plain text anyway (`prefer`).

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5912;

use crate::config::{SslMode, Tls};
use crate::error::{Error, Result};

/// Builds the rustls configuration; reads the files now, so that a wrong path is said at start.
pub(super) fn client_config(tls: &Tls) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::definite("cannot set up TLS").because(error))?;
    let builder = match tls.mode {
        SslMode::VerifyFull => builder.with_root_certificates(roots(tls)?),
        SslMode::VerifyCa => {
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), provider)
                    .build()
                    .map_err(|error| Error::definite("cannot set up TLS").because(error))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unnamed { inner: Some(inner) }))
        }
        SslMode::Disable | SslMode::Prefer | SslMode::NoVerify => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unnamed { inner: None }))
        }
    };
    match (&tls.client_cert, &tls.client_key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                Error::usage(format!("database_url: cannot read sslkey {}: {error}", key.display()))
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                Error::usage("database_url: sslcert and sslkey do not fit").because(error)
            })
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::usage("database_url: sslcert and sslkey go together, one is missing")),
    }
}

fn certificates(path: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::usage(format!("database_url: cannot read {parameter} {}: {error}", path.display()))
    };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|error| unreadable(&error))?
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| unreadable(&error))?;
    if found.is_empty() { Err(unreadable(&"no certificate in it")) } else { Ok(found) }
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if let Some(path) = tls.root_cert.as_deref().filter(|path| *path != Path::new("system")) {
        for certificate in certificates(path, "sslrootcert")? {
            store.add(certificate).map_err(|error| {
                Error::usage(format!("database_url: sslrootcert {}: {error}", path.display()))
            })?;
        }
        return Ok(store);
    }
    // A machine's store often holds a few certificates that rustls cannot read; the rest is used.
    let native = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(native.certs);
    if store.is_empty() {
        return Err(Error::definite("this machine has no trusted certificate authorities")
            .hint("install ca-certificates, or name a file with sslrootcert in database_url"));
    }
    Ok(store)
}

/// Checks the chain without the host name (`verify-ca`), or nothing (`no-verify`, `prefer`).
/// The handshake's signatures are always checked.
#[derive(Debug)]
struct Unnamed {
    inner: Option<Arc<WebPkiServerVerifier>>,
}

impl Unnamed {
    fn schemes() -> rustls::crypto::WebPkiSupportedAlgorithms {
        rustls::crypto::ring::default_provider().signature_verification_algorithms
    }
}

impl ServerCertVerifier for Unnamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &Self::schemes())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &Self::schemes())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes().supported_schemes()
    }
}

/// The `tls-server-end-point` binding of a server certificate (RFC 5929 section 4.1): its digest by
/// the hash of its own signature, SHA-256 where that would be MD5 or SHA-1. `None` where the
/// algorithm names no single hash (Ed25519): then there is nothing to bind to.
pub(super) fn end_point_binding(certificate: &[u8]) -> Option<Vec<u8>> {
    let oid = Certificate::from_der(certificate).ok()?.signature_algorithm.oid;
    match oid {
        rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => Some(Sha256::digest(certificate).to_vec()),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => {
            Some(Sha384::digest(certificate).to_vec())
        }
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}
