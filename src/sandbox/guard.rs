//! Refuses web pages: only programs of this machine may use the sandbox.
//!
//! A page in a browser on this machine can send requests to 127.0.0.1. With its own name that resolves to 127.0.0.1
//! (DNS rebinding), it could also read the answers, and the accounts of a sandbox may be copies of real ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode};

use super::answer::Answer;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns the 403 for a request whose Host is not this machine, or that comes from a page of another origin.
pub(super) fn refusal(parts: &Parts) -> Option<Answer> {
    let detail = match only(&parts.headers, &HOST) {
        Some(host) if is_loopback(host) && parts.uri.authority().is_none_or(|name| is_loopback(name.as_str())) => {
            is_from_another_page(&parts.headers, host)
                .then_some("The sandbox does not answer requests from web pages.")?
        }
        _ => "The sandbox answers only at localhost, 127.0.0.1 and [::1], and the Host header must name one of them.",
    };
    Some(Answer::problem(StatusCode::FORBIDDEN, detail, None))
}

/// Returns the value of a header that occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Returns whether a host, with or without a port, is this machine. No other name counts, whatever it resolves to.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || bracketed.and_then(|name| name.parse::<Ipv6Addr>().ok()).is_some_and(|address| address.is_loopback())
}

/// Returns whether a browser sends this for a page of another origin. Programs send neither of the two headers.
fn is_from_another_page(headers: &HeaderMap, host: &str) -> bool {
    let here = |origin: &str| origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host));
    let foreign_origin = headers.contains_key(ORIGIN) && !only(headers, &ORIGIN).is_some_and(here);
    let foreign_site = headers.contains_key(&FETCH_SITE)
        && !only(headers, &FETCH_SITE).is_some_and(|site| matches!(site, "none" | "same-origin"));
    foreign_origin || foreign_site
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(target: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        refusal(&request.body(()).unwrap().into_parts().0).is_some()
    }

    #[test]
    fn this_machine_has_few_names() {
        for host in ["127.0.0.1:8080", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8080", "[::1]", "127.9.9.9"] {
            assert!(!is_refused("/", &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.nip.io",
            "0.0.0.0",
            "10.0.0.1",
            "[::]",
            "[::ffff:127.0.0.1]",
            "127.1",
            "2130706433",
            "localhost.",
            "user@localhost",
            "localhost@evil.example",
            "",
            "local host",
        ] {
            assert!(is_refused("/", &[("host", host)]), "{host}");
        }
        assert!(is_refused("/", &[]));
        assert!(is_refused("/", &[("host", "localhost"), ("host", "localhost")]));
        assert!(is_refused("http://evil.example/", &[("host", "localhost")]));
        assert!(!is_refused("http://localhost/", &[("host", "localhost")]));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let with = |name, value| is_refused("/", &[("host", "127.0.0.1:8080"), (name, value)]);
        for origin in [
            "null",
            "http://evil.example",
            "https://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://127.0.0.1:8081",
            "http://localhost:8080",
            "http://127.0.0.1:8080.evil.example",
            "",
        ] {
            assert!(with("origin", origin), "{origin}");
        }
        assert!(!with("origin", "http://127.0.0.1:8080"));
        assert!(with("sec-fetch-site", "cross-site") && with("sec-fetch-site", "same-site"));
        assert!(!with("sec-fetch-site", "none") && !with("sec-fetch-site", "same-origin"));
    }
}
