//! Public keys in PEM: just enough of DER (X.690) to find the key in a SubjectPublicKeyInfo (RFC 5280, 4.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The bytes of the key in the first `PUBLIC KEY` block: for RSA its own DER, for curves the point.
pub(crate) fn key_of(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split_once("-----BEGIN PUBLIC KEY-----")?.1.split_once("-----END PUBLIC KEY-----")?.0;
    let text: String = body.chars().filter(|char| !char.is_whitespace()).collect();
    let der = STANDARD.decode(text).ok()?;
    let (info, rest) = element(&der, 0x30)?;
    let (_algorithm, key) = element(info, 0x30)?;
    let (bits, after) = element(key, 0x03)?;
    // A bit string begins with the number of bits that it has too many.
    match bits {
        [0, key @ ..] if rest.is_empty() && after.is_empty() => Some(key.to_vec()),
        _ => None,
    }
}

/// The content of the element with this tag in front, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = der else { return None };
    if *first != tag {
        return None;
    }
    let (length, rest) = match *length {
        short if short < 0x80 => (usize::from(short), rest),
        // Up to 64 KiB: no key is longer.
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_and_what_is_none_is_not() {
        let pem =
            |der: &[u8]| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        let good = [0x30, 9, 0x30, 2, 5, 0, 3, 3, 0, 7, 8];
        assert_eq!(key_of(&pem(&good)), Some(vec![7, 8]));
        for cut in 0..good.len() {
            assert_eq!(key_of(&pem(&good[..cut])), None, "{cut}");
        }
        assert_eq!(key_of(&pem(&[&good[..], &[0]].concat())), None);
        assert_eq!(key_of(&pem(&[0x30, 0x84, 255, 255, 255, 255])), None);
        assert_eq!(key_of("-----BEGIN PUBLIC KEY-----"), None);
    }
}
