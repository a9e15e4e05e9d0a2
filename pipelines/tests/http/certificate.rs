//! A certificate that signs itself, written by hand: DER is small where only one certificate is needed.

use base64::Engine;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};

/// In DER and, for the server's files, in PEM.
pub struct Certificate {
    pub der: Vec<u8>,
    pub cert_pem: String,
    pub key_pem: String,
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        n @ 0..128 => out.push(n as u8),
        n @ 128..256 => out.extend([0x81, n as u8]),
        n => {
            out.push(0x82);
            out.extend((n as u16).to_be_bytes());
        }
    }
    out.extend(content);
    out
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// For `localhost` and 127.0.0.1, valid from 2020 to 2049.
pub fn make() -> Certificate {
    let (sequence, set) = (0x30, 0x31);
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).unwrap();
    let ecdsa_with_sha256 = tlv(sequence, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    let p256 = [
        &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1][..],
        &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
    ];
    let name = tlv(
        sequence,
        &[&tlv(set, &[&tlv(sequence, &[&[0x06, 3, 0x55, 4, 3], &tlv(0x0c, &[b"localhost"])])])],
    );
    let validity = tlv(sequence, &[&tlv(0x17, &[b"200101000000Z"]), &tlv(0x17, &[b"491231235959Z"])]);
    let point = tlv(0x03, &[&[0], pair.public_key().as_ref()]);
    let public = tlv(sequence, &[&tlv(sequence, &p256), &point]);
    let names = tlv(sequence, &[&tlv(0x82, &[b"localhost"]), &tlv(0x87, &[&[127, 0, 0, 1]])]);
    let alternative = tlv(sequence, &[&[0x06, 3, 0x55, 0x1d, 0x11], &tlv(0x04, &[&names])]);
    let extensions = tlv(0xa3, &[&tlv(sequence, &[&alternative])]);
    let version = tlv(0xa0, &[&[0x02, 1, 2]]);
    let serial = [0x02, 1, 1];
    let body = tlv(
        sequence,
        &[&version, &serial, &ecdsa_with_sha256, &name, &validity, &name, &public, &extensions],
    );
    let signature = pair.sign(&random, &body).unwrap();
    let signature = tlv(0x03, &[&[0], signature.as_ref()]);
    let der = tlv(sequence, &[&body, &ecdsa_with_sha256, &signature]);
    Certificate { cert_pem: pem("CERTIFICATE", &der), key_pem: pem("PRIVATE KEY", key.as_ref()), der }
}
