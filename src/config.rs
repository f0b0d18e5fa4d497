//! The settings of a client. Each constructor validates its setting.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::acquire::Acquire;
use crate::error::{Error, KeyOrigin};
use crate::quota::Quota;
use crate::redaction::redacted;
use crate::sabotage::{self, Guard};

/// The base URL of the live service.
pub const LIVE_BASE_URL: &str = "https://api.reply.io/v3";

const LONGEST_KEY: usize = 4096;
/// The longest timeout. It prevents overflow in time arithmetic.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 86_400);
/// Beyond these limits, the system clock cannot represent the moments of the quota.
const CLOCK_SCALES: (f64, f64) = (0.001, 1_000_000.0);

/// The settings of a client.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API key.
    pub api_key: ApiKey,
    /// The base URL of the service.
    pub base_url: BaseUrl,
    /// The header that carries the key.
    pub auth: AuthScheme,
    /// The user that a master or organization key acts for.
    pub act_as: Option<ActAs>,
    /// The team that a master or organization key acts in.
    pub team_id: Option<i64>,
    /// The timeout of a whole call, including waits.
    pub timeout: Duration,
    /// The timeout of one attempt, from connecting to the last byte of the body.
    pub attempt_timeout: Duration,
    /// The timeout for opening a connection.
    pub connect_timeout: Duration,
    /// The most attempts for a request.
    pub max_attempts: u32,
    /// The most requests to send; `None` sends without a limit and waits only after a 429.
    pub quota: Option<Quota>,
    /// How much faster than real time the quota's clock runs: 1, except for a sandbox whose clock runs as fast. From
    /// 0.001 to 1,000,000.
    pub quota_clock_scale: f64,
    /// Whether other processes of the same system user share the quota, in a file.
    pub quota_shared: bool,
    /// Whether processes of the same system user change an account one after another, by means of a file.
    pub turns_shared: bool,
    /// The share of the quota's minute that a bulk run may use; single calls use the rest. More than 0, at most 1.
    pub bulk_share: f64,
    /// Grants each request after the quota allows it.
    pub acquire: Option<Arc<dyn Acquire>>,
    /// The proxy for https; `None` reads the environment.
    pub proxy: Option<ProxyUrl>,
    /// Certificate authorities, as a PEM file, that replace the system's.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// Returns the default settings for the live service.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if the key is invalid.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use replyio::{BaseUrl, Config};
    ///
    /// let config = Config {
    ///     base_url: BaseUrl::new("http://127.0.0.1:8080/v3")?,
    ///     timeout: Duration::from_secs(10),
    ///     quota: None,
    ///     ..Config::new("my-key")?
    /// };
    /// # Ok::<(), replyio::Error>(())
    /// ```
    pub fn new(api_key: impl Into<String>) -> Result<Self, Error> {
        Ok(Self {
            api_key: ApiKey::new(api_key)?,
            base_url: BaseUrl::new(LIVE_BASE_URL)?,
            auth: AuthScheme::Auto,
            act_as: None,
            team_id: None,
            timeout: Duration::from_secs(120),
            attempt_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_attempts: 4,
            quota: Some(Quota::default()),
            quota_clock_scale: 1.0,
            quota_shared: false,
            turns_shared: false,
            bulk_share: 0.9,
            acquire: None,
            proxy: None,
            ca_file: None,
        })
    }

    /// Checks the settings that their types do not check.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (name, time) in [
            ("timeout", self.timeout),
            ("attempt_timeout", self.attempt_timeout),
            ("connect_timeout", self.connect_timeout),
        ] {
            check_timeout(name, time)?;
        }
        if self.max_attempts == 0 {
            return refused("max_attempts must be a positive integer");
        }
        check_clock_scale("quota_clock_scale", self.quota_clock_scale)?;
        if !(self.bulk_share > 0.0 && self.bulk_share <= 1.0) {
            return refused("bulk_share must be a number, more than 0 and at most 1");
        }
        if self.team_id.is_some_and(|id| id < 1) {
            return refused("team_id must be a positive integer");
        }
        Ok(())
    }

    /// Returns these settings with the connection settings of another client.
    pub(crate) fn over_connections_of(self, other: &Self) -> Self {
        Self {
            api_key: other.api_key.clone(),
            base_url: other.base_url.clone(),
            connect_timeout: other.connect_timeout,
            proxy: other.proxy.clone(),
            ca_file: other.ca_file.clone(),
            ..self
        }
    }
}

/// Checks how much faster than real time the quota's clock runs. The error has the name that the caller knows.
pub(crate) fn check_timeout(name: &str, time: Duration) -> Result<(), Error> {
    if !time.is_zero() && time <= LONGEST_TIMEOUT {
        return Ok(());
    }
    let longest = LONGEST_TIMEOUT.as_secs();
    refused(format!("{name} must be a number of seconds, more than 0 and at most {longest}"))
}

pub(crate) fn check_clock_scale(name: &str, scale: f64) -> Result<(), Error> {
    let (slowest, fastest) = CLOCK_SCALES;
    if (slowest..=fastest).contains(&scale) {
        return Ok(());
    }
    refused(format!("{name} must be a number from {slowest} to {fastest}"))
}

fn refused<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Configuration(message.into()))
}

/// An API key. Nothing prints it.
#[derive(Clone)]
pub struct ApiKey {
    secret: SecretString,
    origin: KeyOrigin,
}

impl ApiKey {
    /// Parses a key: visible ASCII without spaces.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`], which does not contain the text, if it is invalid.
    pub fn new(key: impl Into<String>) -> Result<Self, Error> {
        Self::with_origin(key, KeyOrigin::Argument)
    }

    /// Parses a key from another origin. Errors name that origin.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`], which does not contain the text, if it is invalid.
    pub fn with_origin(key: impl Into<String>, origin: KeyOrigin) -> Result<Self, Error> {
        let secret = SecretString::from(key.into());
        let text = secret.expose_secret();
        if text.trim().is_empty() {
            return refused(format!("{origin} is empty; pass the key as api_key= or set REPLY_API_KEY"));
        }
        if text.len() > LONGEST_KEY {
            return refused(format!("{origin} is longer than {LONGEST_KEY} characters; does it contain a whole file?"));
        }
        if text.trim() != text {
            return refused(format!(
                "{origin} begins or ends with white space or a line end; remove it, for example with strip()"
            ));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused(format!(
                "{origin} contains a character that no key has (a space, a control character or a non-ASCII \
                character); copy the key again"
            ));
        }
        Ok(Self { secret, origin })
    }

    /// Returns where the key came from.
    pub const fn origin(&self) -> KeyOrigin {
        self.origin
    }

    /// Returns the key itself, for the header.
    pub(crate) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Returns a keyed hash of the key, which shows whether two keys are equal and reveals neither of them.
    pub fn keyed_hash(&self, salt: &[u8]) -> [u8; 32] {
        let signing = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, salt);
        let tag = ring::hmac::sign(&signing, self.expose().as_bytes());
        // Its length is always that of the hash.
        tag.as_ref().try_into().unwrap_or_default()
    }

    /// Removes the key from a text, in every spelling, in case the other side echoed it.
    pub(crate) fn redact(&self, text: &str) -> String {
        if sabotage::is_off(Guard::Redaction) { text.to_owned() } else { redacted(text, self.expose()) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(redacted)")
    }
}

/// The header that carries the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AuthScheme {
    /// `X-API-Key`. If a 401 asks for the bearer scheme, the client tries that once and keeps what worked.
    #[default]
    Auto,
    /// `X-API-Key: <key>`.
    ApiKeyHeader,
    /// `Authorization: Bearer <key>`.
    Bearer,
}

impl AuthScheme {
    /// Parses `auto`, `x-api-key` or `bearer`.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] for any other text.
    pub fn new(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "x-api-key" => Ok(Self::ApiKeyHeader),
            "bearer" => Ok(Self::Bearer),
            _ => refused("auth must be 'auto', 'x-api-key' or 'bearer'"),
        }
    }
}

/// The user that a master or organization key acts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ActAs {
    /// `X-User-Id`
    UserId(i64),
    /// `X-User-Email`
    UserEmail(String),
}

impl fmt::Display for ActAs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserId(id) => write!(formatter, "{id}"),
            Self::UserEmail(email) => formatter.write_str(email),
        }
    }
}

impl ActAs {
    /// Returns a user by number.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if it is not positive.
    pub fn user_id(id: i64) -> Result<Self, Error> {
        if id > 0 { Ok(Self::UserId(id)) } else { refused("act_as must be a positive user id or an email address") }
    }

    /// Returns a user by email address.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if it cannot be sent as a header.
    pub fn user_email(email: &str) -> Result<Self, Error> {
        if email.contains('@') && email.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self::UserEmail(email.to_owned()))
        } else {
            refused("act_as must be a positive user id or an email address")
        }
    }
}

/// The base URL of the service: https, or http for this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    url: Url,
    loopback: bool,
}

impl BaseUrl {
    /// Parses a URL such as `https://api.reply.io/v3`.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if it is not a URL, does not use https although it is not this machine, or has
    /// parts that are not allowed.
    ///
    /// # Examples
    /// ```
    /// use replyio::BaseUrl;
    ///
    /// assert!(BaseUrl::new("https://api.reply.io/v3").is_ok());
    /// assert!(BaseUrl::new("http://127.0.0.1:8080/v3").is_ok());
    /// assert!(BaseUrl::new("http://api.reply.io/v3").is_err());
    /// ```
    pub fn new(text: &str) -> Result<Self, Error> {
        Self::read("base_url", text)
    }

    /// Parses the value of a variable. The error names the variable.
    #[cfg(feature = "python")]
    pub(crate) fn of_variable(name: &str, text: &str) -> Result<Self, Error> {
        Self::read(name, text)
    }

    fn read(setting: &str, text: &str) -> Result<Self, Error> {
        let text = text.trim();
        // A URL parser drops some of these characters, and the result is another URL.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return refused(format!(
                "{setting} contains a character that no URL has: a space, a control character, a \\ or a non-ASCII \
                character"
            ));
        }
        let Ok(mut url) = Url::parse(text) else {
            return refused(format!("{setting} is not a URL; the live service has {LIVE_BASE_URL}"));
        };
        let loopback = match url.host() {
            Some(Host::Domain(name)) if !is_plain_name(name) => {
                return refused(format!("{setting} has an invalid host name"));
            }
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
            None => return refused(format!("{setting} has no host")),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => {
                return refused(format!(
                    "{setting} must use https: http would send the key unencrypted (http is allowed only for this \
                    machine, such as 127.0.0.1)"
                ));
            }
            _ => return refused(format!("{setting} must be an https URL")),
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return refused(format!("{setting} must have no user, password, query or fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self { url, loopback })
    }

    /// Returns whether it is this machine.
    pub const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Returns the host and the port, 443 if the URL has none.
    pub(crate) fn host_and_port(&self) -> (Host<&str>, Option<u16>) {
        (self.url.host().unwrap_or(Host::Domain("")), self.url.port_or_known_default())
    }

    /// Returns a text that identifies the service, the same for every spelling of its host: letter case, a trailing dot
    /// and the name of this machine make no difference. Services that differ only in the loopback address or the scheme
    /// may share it.
    pub(crate) fn service(&self) -> String {
        let (host, port) = self.host_and_port();
        let host = host.to_string();
        let host = match host.trim_end_matches('.') {
            _ if self.loopback => "localhost",
            // The parser already converted the URL to lower case.
            name => name,
        };
        format!("{host}:{}{}", port.unwrap_or_default(), self.url.path().trim_end_matches('/'))
    }

    /// Returns whether it uses https.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns the URL of a resource below it.
    pub(crate) fn join(&self, path: fmt::Arguments<'_>) -> Url {
        let mut url = self.url.clone();
        let whole = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
        url
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// Returns whether a host is a valid network name.
pub(crate) fn is_plain_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// The URL of a proxy, which may contain a password. Nothing prints it.
#[derive(Clone)]
pub struct ProxyUrl(SecretString);

impl ProxyUrl {
    /// Parses a URL such as `http://proxy.example:3128`. In a user name or a password, percent-encode characters that
    /// have a meaning in URLs, such as `%2F` for `/`.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`], which does not contain the URL, if it is invalid.
    pub fn new(text: &str) -> Result<Self, Error> {
        Self::read("proxy", text)
    }

    /// Parses the value of a variable, in which `http://` is optional.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`], which names the variable and does not contain its value, if it is invalid.
    pub(crate) fn of_variable(name: &str, text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.contains("://") { Self::read(name, text) } else { Self::read(name, &format!("http://{text}")) }
    }

    fn read(setting: &str, text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let has_spaces = text.contains(|character: char| character.is_control() || character.is_whitespace());
        let url = Url::parse(text).ok().filter(|url| {
            let is_host = match url.host() {
                Some(Host::Domain(name)) => is_plain_name(name),
                Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
                None => false,
            };
            // If the password contains an unescaped / or #, the rest of it follows the host.
            let ends = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            // The connector parses it this way, and would bypass a proxy that it cannot parse.
            let is_readable = url.as_str().parse::<http::Uri>().is_ok();
            matches!(url.scheme(), "http" | "https") && is_host && ends && is_readable && !has_spaces
        });
        match url {
            Some(url) => Ok(Self(SecretString::from(String::from(url)))),
            None => refused(format!(
                "{setting} must be a URL such as http://proxy.example:3128, without quotes, spaces or a path; in a \
                password, percent-encode / \\ ? # and @ as %2F %5C %3F %23 and %40; SOCKS is not supported"
            )),
        }
    }

    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ProxyUrl(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::{ActAs, ApiKey, AuthScheme, BaseUrl, Config, Duration, KeyOrigin, ProxyUrl};

    #[test]
    fn a_key_is_visible_ascii_and_its_refusal_does_not_echo_it() {
        assert!(ApiKey::new("k-123_ABC.~").is_ok());
        let message = ApiKey::with_origin("canary\n", KeyOrigin::Environment).unwrap_err().to_string();
        assert!(message.starts_with("REPLY_API_KEY begins") && !message.contains("canary"), "{message}");
        for bad in ["", "  ", "canary\n", " canary", "can\0ary", "canarÿ", "can ary", &"canary".repeat(1_000_000)] {
            let message = ApiKey::new(bad).unwrap_err().to_string();
            assert!(message.starts_with("api_key") && !message.contains("can"), "{message}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let mut config = Config::new("canary-key").unwrap();
        config.proxy = Some(ProxyUrl::new("http://user:canary-password@proxy:3128").unwrap());
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in ["https://api.reply.io/v3", "http://127.0.0.1:8080/v3/", "http://localhost", "http://[::1]:1/v3"] {
            assert!(BaseUrl::new(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.reply.io/v3",
            "http://localhost.example.com",
            "http://name.localhost",
            "http://127.0.0.1.example.com",
            "ftp://127.0.0.1",
            "api.reply.io",
            "https://user@api.reply.io",
            "https://api.reply.io/v3?x=1",
            "https://api.reply.io/v3#x",
            "https://reply.example/\r\nX: y",
            "https://reply.example\0",
            "https://re\nply.example/v3",
            "https://reply.example/v3\x1b[31m",
            "https://reply.example/v 3",
            "https://reply.example\\@other.example/v3",
            "https://re\u{ad}ply.example/v3",
            "https://reply.example\u{202e}/v3",
            "https://\"reply.example\"/v3",
            "\"https://reply.example/v3\"",
            "",
        ] {
            assert!(BaseUrl::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resource_is_below_the_base() {
        for base in ["https://api.reply.io/v3", "https://api.reply.io/v3/", "https://api.reply.io/v3//"] {
            let base = BaseUrl::new(base).unwrap();
            assert_eq!(
                base.join(format_args!("/contact-accounts/{}", 7)).as_str(),
                "https://api.reply.io/v3/contact-accounts/7"
            );
        }
        assert_eq!(
            BaseUrl::new("http://localhost:1").unwrap().join(format_args!("/x")).as_str(),
            "http://localhost:1/x"
        );
    }

    #[test]
    fn a_service_is_the_same_in_every_spelling_of_its_host() {
        let service = |url: &str| BaseUrl::new(url).unwrap().service();
        for (one, others) in [
            (
                "https://api.reply.io/v3",
                &["https://API.reply.io/v3/", "https://api.reply.io./v3", "https://api.reply.io:443/v3//"][..],
            ),
            (
                "http://localhost:8080/v3",
                &[
                    "http://127.0.0.1:8080/v3",
                    "http://[::1]:8080/v3/",
                    "http://127.1.2.3:8080/v3",
                    "http://[::ffff:127.0.0.1]:8080/v3",
                    "https://LocalHost.:8080/v3",
                    "https://localhost:8080/v3",
                ],
            ),
        ] {
            for other in others {
                assert_eq!(service(one), service(other), "{other}");
            }
        }
        let others = [
            "https://api.reply.io/v3",
            "https://api.reply.io/v4",
            "https://api.reply.io:444/v3",
            "https://api.reply.example/v3",
            "http://localhost/v3",
            "http://localhost:81/v3",
        ];
        let all: std::collections::HashSet<_> = others.into_iter().map(service).collect();
        assert_eq!(all.len(), others.len());
    }

    #[test]
    fn a_config_that_no_client_can_be_made_from_is_refused() {
        let refusal = |change: fn(&mut Config)| {
            let mut config = Config::new("k").unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refusal(|config| config.timeout = Duration::MAX).starts_with("timeout must be"));
        assert!(refusal(|config| config.attempt_timeout = Duration::ZERO).starts_with("attempt_timeout must be"));
        assert!(refusal(|config| config.connect_timeout = Duration::ZERO).starts_with("connect_timeout must be"));
        assert!(refusal(|config| config.max_attempts = 0).starts_with("max_attempts must be"));
        assert!(refusal(|config| config.team_id = Some(0)).starts_with("team_id must be"));
        for scale in [0.0, 1e-300, 0.000_9, 1_000_001.0, 1e300, f64::INFINITY, f64::NAN, -1.0] {
            let config = Config { quota_clock_scale: scale, ..Config::new("k").unwrap() };
            assert!(config.check().unwrap_err().to_string().starts_with("quota_clock_scale must be"), "{scale}");
        }
        assert!(Config::new("k").unwrap().check().is_ok());
    }

    #[test]
    fn the_other_settings_are_checked_too() {
        assert!(AuthScheme::new("auto").is_ok() && AuthScheme::new("basic").is_err());
        assert!(ActAs::user_id(1).is_ok() && ActAs::user_id(0).is_err());
        assert!(ActAs::user_email("a@b.example").is_ok() && ActAs::user_email("a@b\r\nX: y").is_err());
        assert!(ProxyUrl::new("http://proxy:3128").is_ok() && ProxyUrl::new("https://[2001:db8::1]:3128/").is_ok());
        for bad in
            ["socks5://proxy", "proxy:3128", "http://proxy/path", "http://u:p/w@proxy", "http://a b", "\"http://a\""]
        {
            assert!(ProxyUrl::new(bad).unwrap_err().to_string().starts_with("proxy must be a URL"), "{bad}");
        }
        let longer_than_the_connector_reads = format!("http://user:{}@proxy:3128", "p".repeat(70_000));
        assert!(ProxyUrl::new(&longer_than_the_connector_reads).is_err());
    }
}
