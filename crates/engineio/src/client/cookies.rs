//! The cookies of one session: what load balancers with sticky sessions set. Host-only, few and short.

use http::{HeaderMap, HeaderValue, header::SET_COOKIE};

/// What the server has set. Paths, domains and dates are not looked at: a jar lives as long as one session and speaks to
/// one host.
#[derive(Debug, Default)]
pub(super) struct Jar {
    cookies: Vec<(String, String)>,
}

impl Jar {
    pub(super) fn store(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let Ok(text) = value.to_str() else { continue };
            let mut parts = text.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim(), value.trim());
            // A cookie that asks not to be sent in the clear, or only to be deleted.
            let mut attributes = parts.map(|part| part.trim().to_ascii_lowercase());
            let deleted = attributes.any(|attribute| {
                attribute.strip_prefix("max-age=").is_some_and(|age| age.parse::<i64>().is_ok_and(|age| age <= 0))
            });
            self.cookies.retain(|(known, _)| known != name);
            let fits = !name.is_empty() && name.len() + value.len() <= MAX_LEN && self.cookies.len() < MAX_COOKIES;
            if fits && !deleted {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// The value of the `Cookie` header, with what the application sends by itself in front.
    pub(super) fn header(&self, own: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.cookies.is_empty() {
            return None;
        }
        let own = own.and_then(|own| own.to_str().ok()).map(str::to_owned);
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        HeaderValue::from_str(&own.into_iter().chain(pairs).collect::<Vec<_>>().join("; ")).ok()
    }
}

const MAX_COOKIES: usize = 50;
const MAX_LEN: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_sent_back() {
        check(&["io=abc; Path=/; HttpOnly; SameSite=Lax"], Some("io=abc"));
        check(&["a=1", "b=2; Max-Age=60", "a=3"], Some("b=2; a=3"));
        check(&["a=1", "a=; Max-Age=0"], None);
        check(&["a=1; max-age=-1", "novalue", "=x", ""], None);
        check(&[&format!("a={}", "x".repeat(5_000))], None);

        #[track_caller]
        fn check(set: &[&str], want: Option<&str>) {
            let mut headers = HeaderMap::new();
            for value in set {
                headers.append(SET_COOKIE, HeaderValue::from_str(value).unwrap());
            }
            let mut jar = Jar::default();
            jar.store(&headers);
            assert_eq!(jar.header(None).as_ref().and_then(|value| value.to_str().ok()), want, "{set:?}");
        }
    }

    #[test]
    fn the_jar_is_small_and_keeps_the_applications_own() {
        let mut jar = Jar::default();
        let mut headers = HeaderMap::new();
        for n in 0..100 {
            headers.append(SET_COOKIE, HeaderValue::from_str(&format!("c{n}=1")).unwrap());
        }
        jar.store(&headers);
        assert_eq!(jar.cookies.len(), MAX_COOKIES);
        let sent = jar.header(Some(&HeaderValue::from_static("mine=1"))).unwrap();
        assert!(sent.to_str().unwrap().starts_with("mine=1; c0=1; "));
    }
}
