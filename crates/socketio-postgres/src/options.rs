//! What can be set.

use std::time::Duration;

use tokio_postgres::Config;

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
    /// How many bytes wait for a database that is away or too slow. Default: 16 MiB.
    pub buffer_bytes: usize,
    /// How long a connection may take to be made. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the database may take to answer before the connection counts as lost. Default: 10 s.
    pub answer_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            channel_prefix: "socket.io".to_owned(),
            table: "socket_io_attachments".to_owned(),
            payload_threshold: 7_999,
            cleanup_interval: Duration::from_secs(30),
            buffer_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
        }
    }
}

/// The address or an option makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOption(String);

impl PostgresOptions {
    /// Checks all options and reads the address.
    pub(crate) fn checked(mut self, url: &str) -> Result<(Config, Self), InvalidOption> {
        let mut config: Config = url.parse().map_err(|error| InvalidOption(format!("the address: {error}")))?;
        config.connect_timeout(self.connect_timeout);
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if self.table.is_empty() || !self.table.chars().all(letter) {
            return Err(InvalidOption(format!("`{}` is no name for a table", self.table)));
        }
        if self.channel_prefix.len() > 40 || self.channel_prefix.contains('\0') {
            return Err(InvalidOption("the prefix of channels is longer than 40 bytes".to_owned()));
        }
        if self.cleanup_interval < Duration::from_secs(1) {
            return Err(InvalidOption("rows have to be kept for a second at least".to_owned()));
        }
        self.payload_threshold = self.payload_threshold.min(7_999);
        Ok((config, self))
    }
}
