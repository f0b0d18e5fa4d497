//! Normalizes domains as people write them.

use std::borrow::Cow;

use url::Host;

/// Returns the comparable form of a domain: ignores scheme, port, path, `www.`, letter case, a trailing dot, and
/// punycode against Unicode. Converts text that is not a domain to lower case.
///
/// # Examples
/// ```
/// use replyio::plan::source::comparable_domain;
///
/// assert_eq!(comparable_domain("https://www.Bücher.example/about?x=1"), "xn--bcher-kva.example");
/// assert_eq!(comparable_domain("acme.com"), "acme.com");
/// ```
pub fn comparable_domain(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    // Most domains already have their comparable form.
    if text.bytes().all(is_plain) && !text.starts_with("www.") && !text.ends_with('.') && !text.contains("xn--") {
        return Cow::Borrowed(text);
    }
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.trim_start_matches('/').split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    let host = host.trim_end_matches('.');
    let Ok(Host::Domain(domain)) = Host::parse(host) else { return Cow::Owned(text.to_lowercase()) };
    match domain.strip_prefix("www.").filter(|rest| rest.contains('.')) {
        Some(rest) => Cow::Owned(rest.to_owned()),
        None => Cow::Owned(domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_write_a_domain_make_no_difference() {
        for text in [
            "acme.com",
            "ACME.com",
            " acme.com ",
            "acme.com.",
            "www.acme.com",
            "WWW.Acme.com",
            "http://acme.com",
            "https://www.acme.com/",
            "https://acme.com:443/about?x=1#y",
            "//acme.com",
            "acme.com/about",
            "acme.com:8080",
        ] {
            assert_eq!(comparable_domain(text), "acme.com", "{text}");
        }
        for text in ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example"] {
            assert_eq!(comparable_domain(text), "xn--bcher-kva.example", "{text}");
        }
    }

    #[test]
    fn other_domains_stay_others() {
        let all = ["acme.com", "acme.co", "www.com", "com", "wwwacme.com", "shop.acme.com", "www.shop.acme.com.no"];
        for (index, left) in all.iter().enumerate() {
            for right in all.iter().skip(index + 1) {
                assert_ne!(comparable_domain(left), comparable_domain(right), "{left} {right}");
            }
        }
    }

    #[test]
    fn what_is_no_domain_is_compared_as_text() {
        for (text, expected) in
            [("Acme AS", "acme as"), ("127.0.0.1", "127.0.0.1"), ("a@b c", "a@b c"), ("[::1]", "[::1]")]
        {
            assert_eq!(comparable_domain(text), expected);
        }
        assert_eq!(comparable_domain("http://"), "http://");
    }
}
