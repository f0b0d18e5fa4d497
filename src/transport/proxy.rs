//! Finds the proxy for the service in the environment or in the system's settings. The client does this once, so that
//! all its connections agree.

use std::ffi::OsString;
use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::Host;

use crate::config::{BaseUrl, ProxyUrl, is_plain_name};
use crate::error::Error;

/// The variables with a proxy for https. The first one that is not empty counts.
const PROXY: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// The variables with hosts to reach without a proxy. The first one that is not empty counts.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A proxy.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) url: ProxyUrl,
    /// Its credentials, if they are not in the URL.
    pub(super) credentials: Option<HeaderValue>,
}

/// Returns the proxy for a service that is not on this machine.
///
/// # Errors
/// Returns [`Error::Configuration`] if a relevant variable is invalid. The error contains the name of the variable, but
/// not its value, which may contain a password.
pub(super) fn found(base_url: &BaseUrl) -> Result<Option<Found>, Error> {
    of_variables(base_url, |name| std::env::var_os(name))
}

fn of_variables(base_url: &BaseUrl, variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Found>, Error> {
    let first = |names: &[&'static str]| {
        let mut set = names.iter().filter_map(|name| Some((*name, variable(name)?)));
        set.find(|(_, value)| value.to_str().is_none_or(|text| !text.trim().is_empty()))
    };
    let is_exempt = || match first(&NO_PROXY) {
        Some((name, value)) => exempts(name, &text(name, value)?, base_url),
        None => Ok(false),
    };
    if let Some((name, value)) = first(&PROXY) {
        return Ok(if is_exempt()? {
            None
        } else {
            Some(Found { url: ProxyUrl::of_variable(name, &text(name, value)?)?, credentials: None })
        });
    }
    let destination: Option<Uri> = base_url.to_string().parse().ok();
    let Some(system) = destination.and_then(|uri| Matcher::from_system().intercept(&uri)) else { return Ok(None) };
    if is_exempt()? {
        return Ok(None);
    }
    let url = ProxyUrl::of_variable("the system's proxy", &system.uri().to_string())?;
    Ok(Some(Found { url, credentials: system.basic_auth().cloned() }))
}

fn text(name: &str, value: OsString) -> Result<String, Error> {
    value.into_string().map_err(|_| Error::Configuration(format!("{name} is not UTF-8")))
}

/// Returns whether a list exempts the host of the service. The list contains names (each including its subdomains),
/// addresses, networks and `*`, separated by commas or spaces. A port after a name or an address limits the entry to
/// that port.
///
/// # Errors
/// Returns an error if an entry is invalid and may match the host.
fn exempts(variable: &str, list: &str, base_url: &BaseUrl) -> Result<bool, Error> {
    let (host, port) = base_url.host_and_port();
    let is_name = matches!(host, Host::Domain(_));
    let mut entries = Vec::new();
    let separate = |character: char| character == ',' || character.is_whitespace();
    for (index, entry) in list.split(separate).filter(|entry| !entry.is_empty()).enumerate() {
        let (entry, only_port) = without_port(entry);
        if only_port.is_some_and(|only| Some(only) != port) {
            continue;
        }
        let name = entry.strip_prefix("*.").unwrap_or(entry).trim_start_matches('.');
        if entry == "*" {
            return Ok(true);
        }
        if is_address(entry) {
            entries.push(entry);
        } else if is_plain_name(name) {
            entries.push(name);
        } else if !(is_name && name.starts_with(|first: char| first.is_ascii_digit())) {
            // A pattern of addresses does not match a name.
            let place = index + 1;
            return Err(Error::Configuration(format!(
                "{variable}: entry {place} cannot be read; use host names, addresses, networks such as 10.0.0.0/8 or \
                *, separated by commas and without quotes"
            )));
        }
    }
    let matcher = Matcher::builder().all("http://proxy.invalid").no(entries.join(",")).build();
    let destination: Option<Uri> = base_url.to_string().parse().ok();
    Ok(destination.is_some_and(|uri| matcher.intercept(&uri).is_none()))
}

/// Returns an entry without its brackets and its port.
fn without_port(entry: &str) -> (&str, Option<u16>) {
    let in_brackets = entry.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, rest) = match in_brackets {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (entry, None),
        },
    };
    match rest.map(str::parse) {
        Some(Ok(port)) => (host, Some(port)),
        Some(Err(_)) => (entry, None),
        None => (host, None),
    }
}

/// Returns whether an entry is an address or a network.
fn is_address(entry: &str) -> bool {
    let (address, bits) = entry.split_once('/').unwrap_or((entry, "0"));
    match address.parse() {
        Ok(IpAddr::V4(_)) => bits.parse().is_ok_and(|bits: u8| bits <= 32),
        Ok(IpAddr::V6(_)) => bits.parse().is_ok_and(|bits: u8| bits <= 128),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{BaseUrl, OsString, exempts, of_variables};

    const SERVICE: &str = "https://api.reply.io/v3";

    /// Returns the proxy's URL without what messages must not contain.
    fn found(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        let found = of_variables(&BaseUrl::new(SERVICE).unwrap(), variable);
        found.map(|found| found.map(|found| found.url.expose().to_owned())).map_err(|error| error.to_string())
    }

    fn is_exempt(list: &str, url: &str) -> Result<bool, String> {
        exempts("NO_PROXY", list, &BaseUrl::new(url).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_variable_that_is_not_empty_counts() {
        let url = |host: &str| Ok(Some(format!("http://{host}:3128/")));
        assert_eq!(found(&[("ALL_PROXY", "http://a:3128"), ("HTTPS_PROXY", "http://b:3128")]), url("b"));
        assert_eq!(found(&[("ALL_PROXY", "http://a:3128"), ("HTTPS_PROXY", " ")]), url("a"));
        assert_eq!(found(&[("https_proxy", "a:3128")]), url("a"));
        assert_eq!(found(&[("https_proxy", " http://a:3128\r\n")]), url("a"));
        assert_eq!(found(&[("HTTP_PROXY", "http://a:3128")]), Ok(None), "it is for http");
    }

    #[test]
    fn a_proxy_in_a_cgi_program_is_used() {
        let expected = Ok(Some("http://a:3128/".to_owned()));
        assert_eq!(found(&[("HTTPS_PROXY", "http://a:3128"), ("REQUEST_METHOD", "GET")]), expected);
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_refused_by_its_name_and_not_shown() {
        for bad in [
            "\"http://canary:3128\"",
            "'http://canary:3128'",
            "\"canary:3128\"",
            "socks://canary:1080/",
            "socks5://canary:1080",
            "http://canary:1080/path",
            "http://canary\\user:canary/1@127.0.0.1:1",
            "http://user:canary/1@127.0.0.1:1",
            "http://user:1/canary@127.0.0.1:1",
            "http://user:a@canary#1@127.0.0.1:1",
            "http://user:canary?1@127.0.0.1:1",
            "http://can\nary:3128",
            "http://can\tary:3128",
            "http://can ary:3128",
            "http://user:can\x07ary@proxy:3128",
            "http://",
            "http://:3128",
            "http://canary:99999",
        ] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                let message = found(&[(name, bad)]).unwrap_err();
                assert!(message.starts_with(&format!("{name} must be")), "{message}");
                assert!(!message.contains("canary") && !message.contains("can"), "{message}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_unicode_is_refused_by_its_name() {
        use std::os::unix::ffi::OsStringExt;
        let variable = |name: &str| (name == "HTTPS_PROXY").then(|| OsString::from_vec(b"http://\xff:1".to_vec()));
        let refused = of_variables(&BaseUrl::new(SERVICE).unwrap(), variable).unwrap_err();
        assert_eq!(refused.to_string(), "HTTPS_PROXY is not UTF-8");
    }

    #[test]
    fn special_characters_of_a_password_are_kept() {
        let expected = Ok(Some("http://user:p%40ss%2Fw%23@proxy:3128/".to_owned()));
        assert_eq!(found(&[("HTTPS_PROXY", "http://user:p%40ss%2Fw%23@proxy:3128")]), expected);
        let expected = Ok(Some("http://user:p%40ss@proxy:3128/".to_owned()));
        assert_eq!(found(&[("HTTPS_PROXY", "http://user:p@ss@proxy:3128")]), expected);
    }

    #[test]
    fn hosts_in_no_proxy_are_reached_without_one() {
        for list in [
            "reply.io",
            ".reply.io",
            "*.reply.io",
            "API.reply.io",
            "localhost, reply.io",
            "localhost reply.io",
            "reply.io:443",
            "*",
            "10.*,169.254/16,reply.io\r",
        ] {
            assert_eq!(is_exempt(list, SERVICE), Ok(true), "{list}");
        }
        for list in ["", ",", "eply.io", "reply.io:8080", "example.com", "10.0.0.0/8", "169.254/16,10.*", "::1"] {
            assert_eq!(is_exempt(list, SERVICE), Ok(false), "{list}");
        }
        let address = |list| is_exempt(list, "https://10.1.2.3:8443/v3");
        for list in ["10.1.2.3", "10.1.2.3:8443", "10.0.0.0/8", "*"] {
            assert_eq!(address(list), Ok(true), "{list}");
        }
        assert_eq!(address("10.1.2.3:443"), Ok(false));
        for list in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443", "2001:db8::/32"] {
            assert_eq!(is_exempt(list, "https://[2001:db8::1]/v3"), Ok(true), "{list}");
        }
    }

    #[test]
    fn an_entry_of_no_proxy_that_cannot_be_read_is_refused_by_its_number() {
        for list in ["localhost,\"reply.io\"", "localhost,'reply.io", "a,https://reply.io", "a,api.*", "a,reply.io:x"] {
            let message = is_exempt(list, SERVICE).unwrap_err();
            assert!(message.starts_with("NO_PROXY: entry 2 cannot be read"), "{message}");
            assert!(!message.contains("reply.io"), "{message}");
        }
        assert!(is_exempt("10.1.2", "https://10.1.2.3/v3").is_ok(), "it can be a name");
        assert!(is_exempt("10.*", "https://10.1.2.3/v3").is_err());
        assert!(is_exempt("10.1/16", "https://10.1.2.3/v3").is_err());
    }

    #[test]
    fn no_proxy_matters_only_beside_a_proxy() {
        assert_eq!(found(&[("NO_PROXY", "\"")]), Ok(None));
        assert!(found(&[("NO_PROXY", "\""), ("HTTPS_PROXY", "http://a:1")]).is_err());
        let beside = found(&[("no_proxy", "reply.io"), ("HTTPS_PROXY", "unreadable \"")]);
        assert_eq!(beside, Ok(None), "a proxy that is not used is not judged");
    }
}
