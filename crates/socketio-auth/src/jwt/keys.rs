//! The keys that may have signed a token: given, or from a JWKS file (RFC 7517) that is read again when it changes.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, RwLock};
use ring::{hmac, signature};
use serde::Deserialize;
use tokio::time::Instant;

use super::spki;
use crate::Denied;

/// How a token is signed (RFC 7518, 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// As tokens and keys name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let all = [
            Self::HS256,
            Self::HS384,
            Self::HS512,
            Self::RS256,
            Self::RS384,
            Self::RS512,
            Self::PS256,
            Self::PS384,
            Self::PS512,
            Self::ES256,
            Self::ES384,
            Self::EdDSA,
        ];
        all.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::HS256 => Some(hmac::HMAC_SHA256),
            Self::HS384 => Some(hmac::HMAC_SHA384),
            Self::HS512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Self::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    /// Of keys that are one block of bytes.
    fn verification(self) -> Option<&'static dyn signature::VerificationAlgorithm> {
        match self {
            Self::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            Self::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
            Self::EdDSA => Some(&signature::ED25519),
            _ => self.rsa().map(|rsa| rsa as _),
        }
    }

    /// The length of a point, for keys on curves.
    fn point(self) -> Option<usize> {
        match self {
            Self::ES256 => Some(65),
            Self::ES384 => Some(97),
            Self::EdDSA => Some(32),
            _ => None,
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// A secret is too short for its algorithm: as long as the hash it should be (RFC 7518, 3.2).
    #[error("a secret for {} has at least {least} bytes", .algorithm.as_str())]
    ShortSecret {
        /// The algorithm.
        algorithm: Algorithm,
        /// What it needs, in bytes.
        least: usize,
    },
    /// A key does not suit the algorithm, or is none.
    #[error("no key for {}", .0.as_str())]
    NoKey(Algorithm),
    /// A JWKS cannot be read.
    #[error("no JWKS: {0}")]
    Jwks(String),
    /// A JWKS has no key that can be used.
    #[error("the JWKS has no key that can be used")]
    Empty,
    /// A hash is no SHA-256 in hexadecimal digits.
    #[error("no SHA-256 in hexadecimal digits")]
    Hash,
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

/// The keys that may have signed a token, each with the one algorithm it is for. Cloning shares them.
///
/// To rotate keys, add the new one to the set before the first token is signed with it, and take the old one out when its
/// last token has expired: [`replace`](Self::replace), or the file of [`jwks_file`](Self::jwks_file).
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    // Guards the pointer to the set; nothing is verified under it.
    keys: RwLock<Arc<[Key]>>,
    file: Option<File>,
}

struct File {
    path: PathBuf,
    // Guards when the file was looked at, and how old it was then.
    seen: Mutex<(Instant, Option<SystemTime>)>,
}

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Public(Vec<u8>),
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
}

/// How often a file is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// How often because of a key that nobody knows.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);
/// Larger files are not read.
const LARGEST: u64 = 1 << 20;
/// More keys are not kept.
const MOST: usize = 100;

impl Keys {
    /// One secret that is shared with the issuer.
    ///
    /// # Errors
    /// When it is shorter than the algorithm's hash, or the algorithm has no secrets.
    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<Self, InvalidKey> {
        Ok(Self::of(vec![Key { kid: None, algorithm, material: secret_of(algorithm, secret)? }], None))
    }

    /// One public key in PEM (`BEGIN PUBLIC KEY`) for this algorithm.
    ///
    /// # Errors
    /// When it is none for it.
    pub fn pem(algorithm: Algorithm, pem: &str) -> Result<Self, InvalidKey> {
        let key = spki::key_of(pem).ok_or(InvalidKey::NoKey(algorithm))?;
        // A point of the wrong curve has another length; an RSA key is longer than any point.
        let fits = algorithm.verification().is_some()
            && algorithm.point().map_or(key.len() > 200, |length| key.len() == length);
        if !fits {
            return Err(InvalidKey::NoKey(algorithm));
        }
        Ok(Self::of(vec![Key { kid: None, algorithm, material: Material::Public(key) }], None))
    }

    /// The keys of a JWKS (RFC 7517). Those for other purposes than signatures are left out, and those of kinds unknown here.
    ///
    /// A key without `alg` is for the usual algorithm of its kind: RS256, ES256, ES384 or EdDSA; a secret without one is for
    /// none.
    ///
    /// # Errors
    /// When it cannot be read, or no key is left.
    pub fn jwks(json: &str) -> Result<Self, InvalidKey> {
        Ok(Self::of(parse(json)?, None))
    }

    /// The keys of a JWKS file. It is looked at every minute, and when a token names a key that is not in it; one that cannot
    /// be read leaves the keys as they were, and a warning in the log.
    ///
    /// # Errors
    /// As [`jwks`](Self::jwks), and when the file cannot be read.
    pub fn jwks_file(path: impl Into<PathBuf>) -> Result<Self, InvalidKey> {
        let path = path.into();
        let (keys, age) = read(&path)?;
        Ok(Self::of(keys, Some(File { path, seen: Mutex::new((Instant::now(), age)) })))
    }

    fn of(keys: Vec<Key>, file: Option<File>) -> Self {
        Self(Arc::new(Shared { keys: RwLock::new(keys.into()), file }))
    }

    /// Other keys from now on: those of this JWKS, fetched by the application for example.
    ///
    /// # Errors
    /// As [`jwks`](Self::jwks); the keys are then as they were.
    pub fn replace(&self, jwks: &str) -> Result<(), InvalidKey> {
        let keys = parse(jwks)?;
        *self.0.keys.write() = keys.into();
        Ok(())
    }

    /// Checks a signature.
    pub(crate) fn verify(&self, alg: &str, kid: Option<&str>, signed: &[u8], tag: &[u8]) -> Result<(), Denied> {
        let algorithm = Algorithm::named(alg).ok_or(Denied::Algorithm)?;
        let keys = Arc::clone(&self.0.keys.read());
        // A token that names a key is for that key; a single key without a name is for every token.
        let mut fitting = keys.iter().filter(|key| match (kid, &key.kid) {
            (Some(kid), Some(own)) => kid == own,
            (Some(_), None) | (None, None) => keys.len() == 1,
            (None, Some(_)) => keys.len() == 1,
        });
        let key = fitting.next().ok_or(Denied::UnknownKey)?;
        if key.algorithm != algorithm {
            return Err(Denied::Algorithm);
        }
        key.verify(signed, tag).ok_or(Denied::Signature)
    }

    /// Reads the file again if it has changed and enough time has passed. Returns whether there are other keys.
    pub(crate) async fn look_at_file(&self, unknown: bool) -> bool {
        let Some(file) = &self.0.file else { return false };
        let before = {
            let mut seen = file.seen.lock();
            if seen.0.elapsed() < if unknown { AT_MOST_EVERY } else { EVERY } {
                return false;
            }
            seen.0 = Instant::now();
            seen.1
        };
        let path = file.path.clone();
        let read = tokio::task::spawn_blocking(move || match age_of(&path) {
            age if age.is_some() && age == before => None,
            _ => Some(read(&path)),
        });
        match read.await {
            Ok(Some(Ok((keys, age)))) => {
                *self.0.keys.write() = keys.into();
                file.seen.lock().1 = age;
                true
            }
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "a file of keys cannot be read; the keys stay as they were");
                false
            }
            Ok(None) | Err(_) => false,
        }
    }
}

impl Key {
    fn verify(&self, signed: &[u8], tag: &[u8]) -> Option<()> {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, tag).ok(),
            Material::Public(key) => {
                signature::UnparsedPublicKey::new(self.algorithm.verification()?, key).verify(signed, tag).ok()
            }
            Material::Rsa(n, e) => {
                signature::RsaPublicKeyComponents { n, e }.verify(self.algorithm.rsa()?, signed, tag).ok()
            }
        }
    }
}

fn secret_of(algorithm: Algorithm, secret: &[u8]) -> Result<Material, InvalidKey> {
    let hash = algorithm.hmac().ok_or(InvalidKey::NoKey(algorithm))?;
    let least = hash.digest_algorithm().output_len();
    if secret.len() < least {
        return Err(InvalidKey::ShortSecret { algorithm, least });
    }
    Ok(Material::Secret(hmac::Key::new(hash, secret)))
}

fn age_of(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|about| about.modified()).ok()
}

fn read(path: &Path) -> Result<(Vec<Key>, Option<SystemTime>), InvalidKey> {
    let failed = |error| InvalidKey::File { path: path.display().to_string(), error };
    // Before it is read: a change in between is then noticed the next time.
    let age = age_of(path);
    if fs::metadata(path).map_err(failed)?.len() > LARGEST {
        return Err(InvalidKey::Jwks("the file is too large".to_owned()));
    }
    Ok((parse(&fs::read_to_string(path).map_err(failed)?)?, age))
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

/// The members that matter; a key has those of its kind.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn parse(json: &str) -> Result<Vec<Key>, InvalidKey> {
    let jwks: Jwks = serde_json::from_str(json).map_err(|error| InvalidKey::Jwks(error.to_string()))?;
    let jwks = jwks.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<Key> = jwks.filter_map(Jwk::key).take(MOST).collect();
    if keys.is_empty() { Err(InvalidKey::Empty) } else { Ok(keys) }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        if self.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
        let usual = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Some(Algorithm::RS256),
            ("EC", Some("P-256")) => Some(Algorithm::ES256),
            ("EC", Some("P-384")) => Some(Algorithm::ES384),
            ("OKP", Some("Ed25519")) => Some(Algorithm::EdDSA),
            _ => None,
        };
        let algorithm = match &self.alg {
            Some(name) => Algorithm::named(name)?,
            None => usual?,
        };
        let material = match self.kty.as_str() {
            "oct" => secret_of(algorithm, &bytes(&self.k)?).ok()?,
            "RSA" if algorithm.rsa().is_some() => Material::Rsa(bytes(&self.n)?, bytes(&self.e)?),
            // A curve has one algorithm.
            "EC" if usual == Some(algorithm) => {
                Material::Public([&[4][..], &bytes(&self.x)?, &bytes(&self.y)?].concat())
            }
            "OKP" if usual == Some(algorithm) => Material::Public(bytes(&self.x)?),
            _ => return None,
        };
        Some(Key { kid: self.kid, algorithm, material })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.keys.read();
        f.debug_list().entries(keys.iter().map(|key| (key.algorithm, key.kid.as_deref()))).finish()
    }
}
