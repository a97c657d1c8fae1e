//! What can be set.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};

use crate::tls::Tls;

/// Options of a [`PostgresBus`](crate::PostgresBus) or an [`emitter`](crate::emitter()). All servers of a cluster need the
/// same prefix and table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// What the names of channels begin with. Default: `socket.io`. Node: `channelPrefix`.
    pub channel_prefix: String,
    /// The table for what does not fit into a notification. Default: `socket_io_attachments`. Node: `tableName`.
    pub table: String,
    /// Messages of more bytes go through the table; at most 7,999, more does not fit into a notification. Default: 7,999. Node: `payloadThreshold`.
    pub payload_threshold: usize,
    /// How often old rows are deleted, and how old they are then. Default: 30 s. Node: `cleanupInterval`.
    pub cleanup_interval: Duration,
    /// Which certificates are trusted where the address says `sslmode=require`, in PEM. Default: those that the system trusts.
    /// libpq: `sslrootcert`.
    pub root_certificates: Option<Vec<u8>>,
    /// What is shown to a database that wants to see a certificate, with `sslmode=require`. Default: none. libpq: `sslcert`,
    /// `sslkey`.
    pub client_certificate: Option<ClientCertificate>,
    /// How many bytes wait for a database that is away or too slow. Default: 16 MiB.
    pub buffer_bytes: usize,
    /// How long a connection may take to be made. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the database may take to answer before the connection counts as lost. Default: 10 s.
    pub answer_timeout: Duration,
    /// How long after an outage nothing is written yet, so that the other servers listen again, too: what nobody listens to is lost.
    /// Default: 750 ms.
    pub regather: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            channel_prefix: "socket.io".to_owned(),
            table: "socket_io_attachments".to_owned(),
            payload_threshold: 7_999,
            cleanup_interval: Duration::from_secs(30),
            root_certificates: None,
            client_certificate: None,
            buffer_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            regather: Duration::from_millis(750),
        }
    }
}

/// A certificate of one's own, and the key that proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl ClientCertificate {
    /// The certificate with its chain, and its key, both in PEM. They are read when the bus or the emitter is made.
    pub fn new(chain_pem: &[u8], key_pem: &[u8]) -> Self {
        Self { chain: chain_pem.to_vec(), key: key_pem.to_vec() }
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret.
        f.write_str("ClientCertificate")
    }
}

/// The address or an option makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOption(pub(crate) String);

impl PostgresOptions {
    /// Checks all options and reads the address.
    pub(crate) fn checked(mut self, url: &str) -> Result<(Config, Tls, Self), InvalidOption> {
        let mut config: Config = in_words_of_the_driver(url)?
            .parse()
            .map_err(|error| InvalidOption(format!("the address: {}", told(&error))))?;
        config.connect_timeout(self.connect_timeout);
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if self.table.is_empty() || !self.table.chars().all(letter) {
            return Err(InvalidOption("a table has a name of letters, digits and `_`".to_owned()));
        }
        if self.channel_prefix.contains('\0') {
            return Err(InvalidOption("a name of a channel has no zero byte".to_owned()));
        }
        if self.cleanup_interval < Duration::from_secs(1) {
            return Err(InvalidOption("rows have to be kept for a second at least".to_owned()));
        }
        self.payload_threshold = self.payload_threshold.min(7_999);
        let tls = self.tls(&mut config)?;
        Ok((config, tls, self))
    }

    fn tls(&self, config: &mut Config) -> Result<Tls, InvalidOption> {
        let invalid = |why: &str| Err(InvalidOption(why.to_owned()));
        if config.get_ssl_mode() != SslMode::Require {
            if self.root_certificates.is_some() || self.client_certificate.is_some() {
                return invalid("certificates are for `sslmode=require`");
            }
            if config.get_ssl_negotiation() == SslNegotiation::Direct {
                return invalid("`sslnegotiation=direct` is for `sslmode=require`");
            }
            // The driver would else encrypt what it can.
            config.ssl_mode(SslMode::Disable);
            return Ok(Tls::none());
        }
        let named = |host: &Host| match host {
            Host::Tcp(name) => ServerName::try_from(name.as_str()).is_ok(),
            Host::Unix(_) => false,
        };
        if config.get_hosts().is_empty() || !config.get_hosts().iter().all(named) {
            return invalid("`sslmode=require` is for hosts with a name that can be checked");
        }
        Tls::trusting(self.root_certificates.as_deref(), self.client_certificate.as_ref())
    }
}

/// The driver does not know `verify-full`, which is what its `require` comes to with our TLS; and what would encrypt without
/// a full check, or perhaps not at all, is an error here.
fn in_words_of_the_driver(url: &str) -> Result<String, InvalidOption> {
    // As the driver finds them: behind the password, which may hold anything.
    let behind = url.find('@').map_or(0, |at| at + 1);
    let Some(question) = url[behind..].find('?').filter(|_| url.contains("://")) else { return Ok(url.to_owned()) };
    let (front, parameters) = url.split_at(behind + question + 1);
    let mut words = Vec::new();
    for parameter in parameters.split('&') {
        words.push(match parameter.strip_prefix("sslmode=") {
            None | Some("disable" | "require") => parameter,
            Some("verify-full") => "sslmode=require",
            Some(_) => {
                let why =
                    "`sslmode` is `disable`, `require` or `verify-full`: nothing is encrypted without a full check";
                return Err(InvalidOption(why.to_owned()));
            }
        });
    }
    Ok(format!("{front}{}", words.join("&")))
}

/// An error with its causes, which the driver's do not tell by themselves.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_address_says_of_encryption_is_done_or_refused() {
        const ONLY_CHECKED: &str = "nothing is encrypted without a full check";
        const NO_NAME: &str = "a name that can be checked";
        check("postgres://a/x", Ok(SslMode::Disable));
        check("postgres://a/x?sslmode=disable", Ok(SslMode::Disable));
        check("postgres://a/x?sslmode=require", Ok(SslMode::Require));
        check("postgres://a?application_name=y&sslmode=verify-full&channel_binding=require", Ok(SslMode::Require));
        check("postgresql://me:p?sslmode=prefer&x@a,10.0.0.1,[::1]:7/x?sslmode=verify-full", Ok(SslMode::Require));
        check("host=a sslmode=require", Ok(SslMode::Require));
        check("host=a password=?sslmode=prefer", Ok(SslMode::Disable));
        check("postgres://a/x?sslmode=prefer", Err(ONLY_CHECKED));
        check("postgres://a/x?sslmode=allow", Err(ONLY_CHECKED));
        check("postgres://a/x?sslmode=verify-ca", Err(ONLY_CHECKED));
        check("postgres://a/x?sslmode=", Err(ONLY_CHECKED));
        check("postgres://a/x?sslmode=disable&sslmode=verify-fuller", Err(ONLY_CHECKED));
        check("host=a sslmode=verify-ca", Err("sslmode"));
        check("postgres:///x?host=/run/postgresql&sslmode=require", Err(NO_NAME));
        check("postgres:///x?hostaddr=10.0.0.1&sslmode=require", Err(NO_NAME));
        check("postgres://a,b%20c/x?sslmode=require", Err(NO_NAME));
        check("postgres://a/x?sslnegotiation=direct", Err("sslnegotiation"));
        check("postgres://a/x?sslrootcert=ca.pem", Err("sslrootcert"));

        #[track_caller]
        fn check(url: &str, want: Result<SslMode, &str>) {
            // One that is certainly there.
            let root = rcgen::generate_simple_self_signed(Vec::new()).expect("a certificate").cert.pem().into_bytes();
            let required = want == Ok(SslMode::Require);
            let options = PostgresOptions { root_certificates: required.then_some(root), ..PostgresOptions::default() };
            match (options.checked(url), want) {
                (Ok((config, _, _)), Ok(mode)) => assert_eq!(config.get_ssl_mode(), mode, "{url}"),
                (Err(InvalidOption(why)), Err(part)) => assert!(why.contains(part), "{url}: {why}"),
                (other, _) => panic!("{url}: {:?}", other.map(|(config, _, _)| config)),
            }
        }
    }

    #[test]
    fn certificates_that_are_none_or_of_no_use_are_an_error() {
        let made = rcgen::generate_simple_self_signed(Vec::new()).expect("a certificate");
        let other = rcgen::generate_simple_self_signed(Vec::new()).expect("a certificate").signing_key.serialize_pem();
        let (good, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check("require", Some(&good), None, true);
        check("require", Some(&good), Some((&good, &key)), true);
        check("disable", Some(&good), None, false);
        check("disable", None, Some((&good, &key)), false);
        check("require", Some(""), None, false);
        check("require", Some(broken), None, false);
        check("require", Some(&good), Some(("", &key)), false);
        check("require", Some(&good), Some((&good, "")), false);
        check("require", Some(&good), Some((&good, &other)), false);

        #[track_caller]
        fn check(mode: &str, roots: Option<&str>, own: Option<(&str, &str)>, want: bool) {
            let options = PostgresOptions {
                root_certificates: roots.map(|pem| pem.as_bytes().to_vec()),
                client_certificate: own.map(|(chain, key)| ClientCertificate::new(chain.as_bytes(), key.as_bytes())),
                ..PostgresOptions::default()
            };
            assert!(!format!("{options:?}").contains("KEY"));
            assert_eq!(options.checked(&format!("postgres://a/x?sslmode={mode}")).is_ok(), want);
        }
    }
}
