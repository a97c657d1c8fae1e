//! Compression of polling answers. Node: `httpCompression`.

use std::io::Write;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

/// A content coding that we offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// Picks the coding for an `Accept-Encoding` header: the client's favourite, gzip when it has none. A weight of zero
/// excludes one (RFC 9110 §12.5.3).
pub(crate) fn negotiate(accepted: Option<&str>) -> Option<Encoding> {
    let mut best: Option<(u16, Encoding)> = None;
    for item in accepted?.split(',').take(32) {
        let mut parts = item.split(';');
        let encoding = match parts.next()?.trim() {
            name if name.eq_ignore_ascii_case("gzip") => Encoding::Gzip,
            name if name.eq_ignore_ascii_case("deflate") => Encoding::Deflate,
            "*" => Encoding::Gzip,
            _ => continue,
        };
        let weight = parts
            .find_map(|parameter| parameter.trim().strip_prefix("q="))
            .map_or(1000, |q| q.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16));
        let better = best.is_none_or(|(held, kind)| weight > held || (weight == held && kind == Encoding::Deflate));
        if weight > 0 && better {
            best = Some((weight, encoding));
        }
    }
    best.map(|(_, encoding)| encoding)
}

pub(crate) fn compress(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    let out = Vec::with_capacity(body.len() / 2);
    // Writing into memory does not fail.
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::fast());
            let _ = encoder.write_all(body);
            encoder.finish().unwrap_or_default()
        }
        // The coding named `deflate` is the zlib format.
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, Compression::fast());
            let _ = encoder.write_all(body);
            encoder.finish().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_clients_favourite_coding_is_used() {
        check("gzip, deflate, br", Some(Encoding::Gzip));
        check("deflate, gzip", Some(Encoding::Gzip));
        check("deflate", Some(Encoding::Deflate));
        check("gzip;q=0.2, deflate;q=0.7", Some(Encoding::Deflate));
        check("gzip;q=0", None);
        check("*", Some(Encoding::Gzip));
        check("br", None);
        check("identity", None);
        check("", None);

        #[track_caller]
        fn check(header: &str, want: Option<Encoding>) {
            assert_eq!(negotiate(Some(header)), want, "{header}");
        }
        assert_eq!(negotiate(None), None);
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let body = b"42[\"hello\"]".repeat(500);
        let mut gzip = Vec::new();
        let squeezed = compress(Encoding::Gzip, &body);
        assert!(squeezed.len() < body.len() / 10);
        flate2::read::GzDecoder::new(&squeezed[..]).read_to_end(&mut gzip).unwrap();
        assert_eq!(gzip, body);
        let mut zlib = Vec::new();
        flate2::read::ZlibDecoder::new(&compress(Encoding::Deflate, &body)[..]).read_to_end(&mut zlib).unwrap();
        assert_eq!(zlib, body);
    }
}
