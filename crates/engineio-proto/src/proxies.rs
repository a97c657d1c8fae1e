//! Whose word about a client's address counts: proxies that the operator has named, and nobody else's.
//!
//! A client can write what it likes into `X-Forwarded-For` and `Forwarded` (RFC 7239). Each proxy appends what it saw, so the
//! entries are read from the end, as long as the one who wrote them is trusted.

use std::net::IpAddr;

/// The proxies in front of a server. Default: none, so that a client's address is that of its TCP connection.
///
/// ```
/// use engineio_proto::proxies::TrustedProxies;
///
/// let proxies = TrustedProxies::new(["10.0.0.0/8", "loopback"])?;
/// let client = proxies.client("10.1.2.3".parse().unwrap(), [&b"198.51.100.7"[..]]);
/// assert_eq!(client.to_string(), "198.51.100.7");
/// # Ok::<(), engineio_proto::proxies::InvalidProxy>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: ForwardedHeader,
}

/// The header in which proxies write who came to them. They must all write this one, and a proxy that does not know it would
/// pass a client's own one on: so it is one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` of RFC 7239: `for=192.0.2.60;proto=https, for="[2001:db8::1]"`.
    Forwarded,
}

impl ForwardedHeader {
    /// The name of the header, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// The name of the header that tells whether the client used TLS, in lower case: `x-forwarded-proto`, or the same
    /// `forwarded`.
    pub const fn proto_name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-proto",
            Self::Forwarded => "forwarded",
        }
    }
}

/// What is no address or network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address, network or name of networks (`loopback`, `private`)")]
pub struct InvalidProxy(String);

/// The addresses whose first bits are these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl TrustedProxies {
    /// Proxies by address (`192.0.2.1`, `::1`), by network (`10.0.0.0/8`), or by name: `loopback` for this machine, `private`
    /// for the networks that are not routed on the internet.
    ///
    /// # Errors
    /// [`InvalidProxy`] for anything else.
    pub fn new<P: AsRef<str>>(proxies: impl IntoIterator<Item = P>) -> Result<Self, InvalidProxy> {
        let mut networks = Vec::new();
        for proxy in proxies {
            let proxy = proxy.as_ref();
            let named: &[&str] = match proxy {
                "loopback" => &["127.0.0.0/8", "::1"],
                "private" => &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
                other => &[other],
            };
            for network in named {
                networks.push(Network::parse(network).ok_or_else(|| InvalidProxy(proxy.to_owned()))?);
            }
        }
        Ok(Self { networks, header: ForwardedHeader::default() })
    }

    /// Says which header these proxies write. Default: [`ForwardedHeader::XForwardedFor`].
    #[must_use]
    pub fn header(mut self, header: ForwardedHeader) -> Self {
        self.header = header;
        self
    }

    /// The header to look at.
    pub fn header_in_use(&self) -> ForwardedHeader {
        self.header
    }

    /// Whether this address is that of a proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Who the client is, if its connection comes from `peer` and the header has these values, in the order in which they
    /// came.
    ///
    /// It is the first address, from the end, that is no proxy. What cannot be read ends the search at the last one that
    /// could.
    pub fn client<'a, I>(&self, peer: IpAddr, values: I) -> IpAddr
    where
        I: IntoIterator<Item = &'a [u8]>,
        I::IntoIter: DoubleEndedIterator,
    {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        for value in values.into_iter().rev() {
            let Ok(value) = std::str::from_utf8(value) else { return client };
            let mut entries = Vec::new();
            split(value, ',', |entry| entries.push(entry));
            for entry in entries.into_iter().rev() {
                let address = match self.header {
                    ForwardedHeader::XForwardedFor => address(entry),
                    ForwardedHeader::Forwarded => parameter(entry, "for").and_then(address),
                };
                let Some(address) = address else { return client };
                client = address.to_canonical();
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }

    /// Whether the client used TLS, if its connection comes from `peer` and the header of [`ForwardedHeader::proto_name`]
    /// has these values, in the order in which they came. `None` when `peer` is no proxy, so that its word does not count.
    ///
    /// A proxy that says nothing says no. `X-Forwarded-Proto` is usually set by the outermost proxy alone; where several
    /// proxies have added to it, all of them must say `https`. Of `Forwarded`, the element counts in which the outermost proxy
    /// names the client.
    pub fn secure<'a, I>(&self, peer: IpAddr, values: I) -> Option<bool>
    where
        I: IntoIterator<Item = &'a [u8]>,
        I::IntoIter: DoubleEndedIterator,
    {
        if !self.trusts(peer) {
            return None;
        }
        let mut secure = false;
        for value in values.into_iter().rev() {
            let Ok(value) = std::str::from_utf8(value) else { return Some(false) };
            let mut entries = Vec::new();
            split(value, ',', |entry| entries.push(entry));
            for entry in entries.into_iter().rev() {
                match self.header {
                    ForwardedHeader::XForwardedFor => {
                        secure = is_tls(entry.trim());
                        if !secure {
                            return Some(false);
                        }
                    }
                    ForwardedHeader::Forwarded => {
                        secure = parameter(entry, "proto").is_some_and(is_tls);
                        let client = parameter(entry, "for").and_then(address);
                        if client.is_none_or(|client| !self.trusts(client)) {
                            return Some(secure);
                        }
                    }
                }
            }
        }
        Some(secure)
    }
}

fn is_tls(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|digit| digit.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (bits <= most).then_some(Self { address, bits })
    }

    fn contains(self, other: IpAddr) -> bool {
        // Both to the left end of 128 bits, so that one shift compares them.
        let (own, other) = match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()) << 96, u128::from(other.to_bits()) << 96)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits()),
            _ => return false,
        };
        (own ^ other).checked_shr(128 - self.bits).unwrap_or(0) == 0
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return is_port(port).then(|| address.parse().ok().filter(IpAddr::is_ipv6))?;
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (address, port) = text.split_once(':')?;
    (!port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())).then(|| address.parse().ok())?
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The value of a parameter of one element, without its quotes.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let mut found = None;
    split(element, ';', |pair| {
        if let Some((name, value)) = pair.split_once('=')
            && name.trim().eq_ignore_ascii_case(wanted)
        {
            found = Some(value.trim());
        }
    });
    let value = found?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// Splits what is not between quotes.
fn split<'a>(text: &'a str, separator: char, mut part: impl FnMut(&'a str)) {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if char == separator && !quoted => {
                part(text.get(start..at).unwrap_or_default());
                start = at + char.len_utf8();
            }
            _ => {}
        }
    }
    part(text.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_of_a_proxy_counts() {
        let none = TrustedProxies::default();
        check(&none, "192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        let proxies = TrustedProxies::new(["10.0.0.0/8", "192.0.2.1", "loopback"]).unwrap();
        // A client that connects itself may write what it likes.
        check(&proxies, "198.51.100.1", &["1.1.1.1"], "198.51.100.1");
        check(&proxies, "10.0.0.1", &[], "10.0.0.1");
        check(&proxies, "10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        // What stands before the entry of the outermost proxy was written by the client.
        check(&proxies, "10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7");
        check(&proxies, "10.0.0.1", &["1.1.1.1", "198.51.100.7"], "198.51.100.7");
        check(&proxies, "10.0.0.1", &["1.1.1.1, 198.51.100.7 ,10.9.9.9", "192.0.2.1"], "198.51.100.7");
        // Proxies all the way.
        check(&proxies, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        // What cannot be read ends the search.
        check(&proxies, "10.0.0.1", &["198.51.100.7, nonsense"], "10.0.0.1");
        check(&proxies, "10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2");
        check(&proxies, "10.0.0.1", &["198.51.100.7,"], "10.0.0.1");
        // Ports, IPv6, and IPv4 in the clothes of IPv6.
        check(&proxies, "::ffff:10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7");
        check(&proxies, "::1", &["2001:db8::7"], "2001:db8::7");
        check(&proxies, "::1", &["[2001:db8::7]:443"], "2001:db8::7");
        check(&proxies, "::1", &["[2001:db8::7"], "::1");
        check(&proxies, "::1", &["[2001:db8::7]x"], "::1");
        check(&proxies, "::1", &["198.51.100.7:x"], "::1");
        check(&proxies, "::1", &["::ffff:198.51.100.7"], "198.51.100.7");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_asked_for() {
        let proxies = TrustedProxies::new(["loopback"]).unwrap().header(ForwardedHeader::Forwarded);
        check(&proxies, "::1", &["for=198.51.100.7"], "198.51.100.7");
        check(&proxies, "::1", &["for=1.1.1.1, For=198.51.100.7;proto=https;by=10.0.0.1"], "198.51.100.7");
        check(&proxies, "::1", &[r#"proto=https; for="[2001:db8::7]:4711""#], "2001:db8::7");
        check(&proxies, "::1", &[r#"for="1.1.1.1, 2.2.2.2""#], "::1");
        check(&proxies, "::1", &[r#"by="\", for=1.1.1.1"; for=198.51.100.7"#], "198.51.100.7");
        check(&proxies, "::1", &["for=_hidden"], "::1");
        check(&proxies, "::1", &["198.51.100.7"], "::1");
        check(&proxies, "::1", &[r#"for=""#], "::1");
    }

    #[test]
    fn only_a_proxy_can_say_that_the_client_used_tls() {
        let proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
        check(&proxies, "198.51.100.1", &["https"], None); // H43
        check(&TrustedProxies::default(), "10.0.0.1", &["https"], None);
        check(&proxies, "10.0.0.1", &["https"], Some(true));
        check(&proxies, "10.0.0.1", &["HTTPS"], Some(true));
        check(&proxies, "10.0.0.1", &["wss"], Some(true));
        check(&proxies, "10.0.0.1", &["http"], Some(false));
        check(&proxies, "10.0.0.1", &[], Some(false));
        check(&proxies, "10.0.0.1", &[""], Some(false));
        check(&proxies, "10.0.0.1", &["httpsx"], Some(false));
        // A client that got its word in before the proxy's.
        check(&proxies, "10.0.0.1", &["https, http"], Some(false));
        check(&proxies, "10.0.0.1", &["https", "http"], Some(false));
        check(&proxies, "10.0.0.1", &["http, https"], Some(false));
        check(&proxies, "10.0.0.1", &["https, https"], Some(true));

        let proxies = proxies.header(ForwardedHeader::Forwarded);
        check(&proxies, "10.0.0.1", &["for=198.51.100.7;proto=https"], Some(true));
        check(&proxies, "10.0.0.1", &[r#"proto="https"; For="198.51.100.7:47""#], Some(true));
        check(&proxies, "10.0.0.1", &["for=198.51.100.7;proto=http"], Some(false));
        check(&proxies, "10.0.0.1", &["for=198.51.100.7"], Some(false));
        check(&proxies, "10.0.0.1", &["proto=https, for=198.51.100.7;proto=http"], Some(false));
        // The inner hop is plain, the client's is not.
        check(&proxies, "10.0.0.1", &["for=198.51.100.7;proto=https, for=10.0.0.2;proto=http"], Some(true));
        check(
            &proxies,
            "10.0.0.1",
            &["for=1.1.1.1;proto=https, for=198.51.100.7;proto=http, for=10.0.0.2"],
            Some(false),
        );
        check(&proxies, "10.0.0.1", &["https"], Some(false));

        #[track_caller]
        fn check(proxies: &TrustedProxies, peer: &str, values: &[&str], want: Option<bool>) {
            let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(proxies.secure(peer.parse().unwrap(), bytes), want, "{peer} {values:?}");
        }
    }

    #[test]
    fn networks_are_compared_by_their_first_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("private", "172.31.0.1", "172.32.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "127.0.0.1"),
            ("0.0.0.0/0", "203.0.113.1", "::2"),
        ] {
            let proxies = TrustedProxies::new([network]).unwrap();
            assert!(proxies.trusts(inside.parse().unwrap()), "{network} {inside}");
            assert!(!proxies.trusts(outside.parse().unwrap()), "{network} {outside}");
        }
        for nonsense in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "example.org", "10.0.0"] {
            assert!(TrustedProxies::new([nonsense]).is_err(), "{nonsense}");
        }
    }

    #[track_caller]
    fn check(proxies: &TrustedProxies, peer: &str, values: &[&str], want: &str) {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(proxies.client(peer.parse().unwrap(), values).to_string(), want);
    }
}
