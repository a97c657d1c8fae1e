//! `permessage-deflate` (RFC 7692): compression of single messages, and its negotiation.
//!
//! [`Options`] says what one side wants, [`Agreement`] what both settled on; from it come the [`Inflater`] that a
//! [`Decoder`](super::Decoder) is given and the [`Deflater`] for what is sent. Contexts are made when a message needs one.
//! Without context takeover they go as soon as the message is done, so an idle connection holds none.
//!
//! A compressed message is a frame with the RSV1 bit whose payload came from [`Deflater::compress`]. Whether to compress is
//! decided per message: leave secrets and what is already compressed alone.

mod compress;
mod inflate;
mod offer;

pub use compress::Deflater;
pub use inflate::Inflater;

use super::Role;
use super::handshake::{HandshakeRefusal, ResponseError};
use offer::{Extension, parse};
use std::fmt::Write as _;

/// What one side wants of compression. Node: `perMessageDeflate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Messages with fewer bytes are sent as they are. Default: 1,024. Node: `threshold`.
    pub threshold: usize,
    /// How hard to compress, 1 (fast) to 9 (small). Default: 6. Node: `zlibDeflateOptions.level`.
    pub level: u8,
    /// Whether the server starts every message with an empty window. Default: true, so that one compressed frame serves all
    /// recipients and an idle connection holds no context. Node: `serverNoContextTakeover`, default off.
    pub server_no_context_takeover: bool,
    /// Whether the client does. Default: true, for the same memory. Node: `clientNoContextTakeover`, default off.
    pub client_no_context_takeover: bool,
    /// The largest window of the server's compressor, 9 to 15 bits. Default: 15. Node: `serverMaxWindowBits`.
    pub server_max_window_bits: u8,
    /// The largest window of the client's compressor, 9 to 15 bits; below 15 a server agrees to compression only with
    /// clients that can be told. Default: 15. Node: `clientMaxWindowBits`.
    pub client_max_window_bits: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threshold: 1_024,
            level: 6,
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: LARGEST,
            client_max_window_bits: LARGEST,
        }
    }
}

impl Options {
    /// Answers a client's offers: the values of all its `Sec-WebSocket-Extensions` headers.
    ///
    /// The first offer that can be honoured wins; other extensions are passed over, and so are offers with parameters that
    /// are unknown, repeated or out of range, and those that ask for a window of 8 bits. `None` means no compression: answer
    /// without the header. Put [`Agreement::header_value`] into the response otherwise. With compression switched off do
    /// not call this: the header is then none of our business.
    ///
    /// # Errors
    /// The header does not follow the grammar.
    pub fn accept_offer<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Agreement>, HandshakeRefusal> {
        let mut agreement = None;
        for value in values {
            let offers =
                parse(value).ok_or(HandshakeRefusal::new("Invalid or unacceptable Sec-WebSocket-Extensions header"))?;
            agreement = agreement.or_else(|| offers.iter().find_map(|offer| self.answer(offer)));
        }
        Ok(agreement)
    }

    /// What to answer to one offer, if it can be honoured.
    fn answer(&self, offer: &Extension<'_>) -> Option<Agreement> {
        let offer = Parameters::read(offer)?;
        let server = match offer.server_max_window_bits {
            Some(Bits(SMALLEST)) => return None,
            Some(Bits(bits)) => bits.min(self.server_bits()),
            Some(Unspecified) => return None,
            None => self.server_bits(),
        };
        let client = match offer.client_max_window_bits {
            Some(Bits(bits)) => bits.min(self.client_bits()),
            Some(Unspecified) => self.client_bits(),
            None if self.client_bits() < LARGEST => return None,
            None => LARGEST,
        };
        Some(Agreement {
            server_no_context_takeover: offer.server_no_context_takeover || self.server_no_context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || self.client_no_context_takeover,
            server_max_window_bits: server,
            client_max_window_bits: client,
        })
    }

    /// The value of a client's `Sec-WebSocket-Extensions` header.
    pub fn offer(&self) -> String {
        let mut offer = String::from(NAME);
        if self.server_no_context_takeover {
            offer.push_str("; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            offer.push_str("; client_no_context_takeover");
        }
        if self.server_bits() < LARGEST {
            let _ = write!(offer, "; server_max_window_bits={}", self.server_bits());
        }
        // Without it the server may not ask for a smaller window.
        offer.push_str("; client_max_window_bits");
        if self.client_bits() < LARGEST {
            let _ = write!(offer, "={}", self.client_bits());
        }
        offer
    }

    /// Reads the server's answer to [`Options::offer`]: the values of all its `Sec-WebSocket-Extensions` headers. `None`
    /// means that the server does not compress.
    ///
    /// # Errors
    /// The answer does not fit the offer, so the connection must be failed.
    pub fn check_response<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Agreement>, ResponseError> {
        let mut extensions = Vec::new();
        for value in values {
            extensions.extend(parse(value).ok_or(ResponseError::Extensions)?);
        }
        let answer = match &*extensions {
            [] => return Ok(None),
            [answer] => Parameters::read(answer).ok_or(ResponseError::Extensions)?,
            _ => return Err(ResponseError::Extensions),
        };
        let server = match answer.server_max_window_bits {
            Some(Bits(bits)) if bits <= self.server_bits() => bits,
            // Silence means the largest window; we can read it even if we asked for less.
            None => LARGEST,
            Some(_) => return Err(ResponseError::Extensions),
        };
        let client = match answer.client_max_window_bits {
            Some(Bits(bits)) => bits.min(self.client_bits()),
            None => self.client_bits(),
            Some(Unspecified) => return Err(ResponseError::Extensions),
        };
        Ok(Some(Agreement {
            server_no_context_takeover: answer.server_no_context_takeover,
            client_no_context_takeover: answer.client_no_context_takeover || self.client_no_context_takeover,
            server_max_window_bits: server,
            client_max_window_bits: client,
        }))
    }

    fn server_bits(&self) -> u8 {
        self.server_max_window_bits.clamp(SMALLEST + 1, LARGEST)
    }

    fn client_bits(&self) -> u8 {
        self.client_max_window_bits.clamp(SMALLEST + 1, LARGEST)
    }
}

/// Checks a response to a request that offered no extensions.
///
/// # Errors
/// The server chose one all the same.
pub fn refuse_any<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<(), ResponseError> {
    if values.into_iter().next().is_some() { Err(ResponseError::Extensions) } else { Ok(()) }
}

/// What both sides settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Whether the server starts every message with an empty window.
    pub server_no_context_takeover: bool,
    /// Whether the client does.
    pub client_no_context_takeover: bool,
    /// The window of the server's compressor, 8 to 15 bits.
    pub server_max_window_bits: u8,
    /// The window of the client's compressor, 8 to 15 bits.
    pub client_max_window_bits: u8,
}

impl Agreement {
    /// The value of the server's `Sec-WebSocket-Extensions` header.
    pub fn header_value(&self) -> String {
        let mut value = String::from(NAME);
        if self.server_no_context_takeover {
            value.push_str("; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            value.push_str("; client_no_context_takeover");
        }
        if self.server_max_window_bits < LARGEST {
            let _ = write!(value, "; server_max_window_bits={}", self.server_max_window_bits);
        }
        if self.client_max_window_bits < LARGEST {
            let _ = write!(value, "; client_max_window_bits={}", self.client_max_window_bits);
        }
        value
    }

    /// The decompressor for what `role`, our side, receives.
    pub fn inflater(&self, role: Role) -> Inflater {
        match role {
            Role::Server => Inflater::new(self.client_max_window_bits, !self.client_no_context_takeover),
            Role::Client => Inflater::new(self.server_max_window_bits, !self.server_no_context_takeover),
        }
    }

    /// The compressor for what `role`, our side, sends.
    ///
    /// `None` if the window was settled at 8 bits, which the compression library does not have: everything is then sent
    /// uncompressed, as any message may be.
    pub fn deflater(&self, role: Role, options: &Options) -> Option<Deflater> {
        let (bits, takeover) = match role {
            Role::Server => (self.server_max_window_bits, !self.server_no_context_takeover),
            Role::Client => (self.client_max_window_bits, !self.client_no_context_takeover),
        };
        (bits > SMALLEST).then(|| Deflater::new(bits, takeover, options))
    }

    /// Whether the server may send this connection frames that were compressed once for everybody, by
    /// [`Deflater::shared`].
    pub fn takes_shared_frames(&self) -> bool {
        self.server_no_context_takeover && self.server_max_window_bits == LARGEST
    }
}

/// The parameters of one `permessage-deflate` element, each known, in range and at most once.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<WindowBits>,
    client_max_window_bits: Option<WindowBits>,
}

#[derive(Clone, Copy)]
enum WindowBits {
    Unspecified,
    Bits(u8),
}
use WindowBits::{Bits, Unspecified};

impl Parameters {
    fn read(extension: &Extension<'_>) -> Option<Self> {
        if extension.name != NAME {
            return None;
        }
        let mut parameters = Self::default();
        for (name, value) in &extension.parameters {
            let fresh = match (*name, value.as_deref()) {
                ("server_no_context_takeover", None) => {
                    !std::mem::replace(&mut parameters.server_no_context_takeover, true)
                }
                ("client_no_context_takeover", None) => {
                    !std::mem::replace(&mut parameters.client_no_context_takeover, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    parameters.server_max_window_bits.replace(window_bits(value)?).is_none()
                }
                ("client_max_window_bits", None) => parameters.client_max_window_bits.replace(Unspecified).is_none(),
                ("client_max_window_bits", Some(value)) => {
                    parameters.client_max_window_bits.replace(window_bits(value)?).is_none()
                }
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(parameters)
    }
}

/// 8 to 15, in decimal without leading zeros.
fn window_bits(value: &str) -> Option<WindowBits> {
    match value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(Bits(digit - b'0')),
        [b'1', digit @ b'0'..=b'5'] => Some(Bits(10 + digit - b'0')),
        _ => None,
    }
}

const NAME: &str = "permessage-deflate";
const SMALLEST: u8 = 8;
const LARGEST: u8 = 15;
