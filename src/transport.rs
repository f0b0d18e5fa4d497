//! Sends one request once. The only module that uses reqwest.

mod authorities;
mod proxy;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Uri, Version};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;
use url::Url;

use crate::answer::{Answer, Body, Headers};
use crate::config::{Config, ProxyUrl};
use crate::error::{Error, Failure, TransportFault, TransportKind, Unexpected};
use crate::exhaustion::is_exhaustion;
use crate::rate_limit::{self, ServiceWindow};
use crate::retry;
use crate::sabotage::{self, Guard};
use crate::text::plain_line;

const REQUEST_IDS: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("x-correlation-id")];

/// The capacity for a body of unknown length.
const USUAL_LIMIT: usize = 1 << 20;

/// Why a proxy opened no tunnel. hyper-util does not export the type, but it is the error of a service that it exports.
type TunnelError = <Tunnel<HttpConnector> as Service<Uri>>::Error;

/// A request, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<Bytes>,
    /// The most bytes of the answer's body.
    pub(crate) longest_body: usize,
    /// Whether the caller wants the names of the rate-limit headers.
    pub(crate) names_limits: bool,
}

/// A pool of connections. A clone shares the pool; a [`sibling`](Transport::sibling) has its own.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    setup: Arc<Setup>,
    #[cfg(feature = "simulation")]
    line: usize,
}

#[derive(Debug)]
struct Setup {
    tls: ClientConfig,
    proxy: Option<reqwest::Proxy>,
    connect_timeout: Duration,
}

impl Transport {
    /// Prepares connections according to the settings. Opens none yet.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let proxy = match &config.proxy {
            _ if config.base_url.is_loopback() => None,
            Some(url) => Some(through(url)?),
            None => match proxy::found(&config.base_url)? {
                Some(found) => {
                    let proxy = through(&found.url)?;
                    Some(found.credentials.into_iter().fold(proxy, reqwest::Proxy::custom_http_auth))
                }
                None => None,
            },
        };
        let roots = if config.base_url.is_https() || config.ca_file.is_some() {
            authorities::trusted(config.ca_file.as_deref())?
        } else {
            Arc::new(RootCertStore::empty())
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Configuration(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self::build(Arc::new(Setup { tls, proxy, connect_timeout: config.connect_timeout }))
    }

    /// Returns another pool with the same settings.
    pub(crate) fn sibling(&self) -> Result<Self, Error> {
        Self::build(Arc::clone(&self.setup))
    }

    fn build(setup: Arc<Setup>) -> Result<Self, Error> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(setup.tls.clone())
            .connect_timeout(setup.connect_timeout)
            .redirect(if sabotage::is_off(Guard::Redirects) { Policy::default() } else { Policy::none() })
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .no_proxy()
            .dns_resolver(Arc::new(Resolver));
        let builder = match &setup.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        };
        let http =
            builder.build().map_err(|error| Error::Configuration(format!("the client cannot be set up: {error}")))?;
        Ok(Self {
            http,
            setup,
            #[cfg(feature = "simulation")]
            line: crate::simulation::line(),
        })
    }

    /// Sends to the model of the service instead of the network.
    #[cfg(feature = "simulation")]
    async fn send_to_model(&self, request: &Request, headers: &HeaderMap) -> Result<Answer, Failure> {
        let (status, headers, body) = crate::simulation::exchange(self.line, request, headers).await?;
        let headers = meaningful_of(status, &headers);
        Ok(Answer { status, headers, body: if body.is_empty() { Body::Empty } else { Body::Whole(body.into()) } })
    }

    /// Sends a request once and reads the whole answer, whatever its status is.
    pub(crate) async fn send(&self, request: &Request, headers: &HeaderMap) -> Result<Answer, Failure> {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_running() {
            return self.send_to_model(request, headers).await;
        }
        let mut outgoing = reqwest::Request::new(request.method.clone(), request.url.clone());
        *outgoing.headers_mut() = headers.clone();
        *outgoing.version_mut() = Version::HTTP_11;
        if let Some(body) = &request.body {
            outgoing.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            *outgoing.body_mut() = Some(body.clone().into());
        }
        let mut response = self.http.execute(outgoing).await.map_err(|error| self.classify(error, Stage::Head))?;
        let status = response.status().as_u16();
        let too_long = || {
            Failure::Unexpected(Unexpected {
                status: Some(status),
                reason: format!("the body is longer than {} MiB", request.longest_body >> 20),
                excerpt: None,
            })
        };
        let announced = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let is_bounded = !sabotage::is_off(Guard::Bound);
        if is_bounded && announced.is_some_and(|length| length > request.longest_body) {
            return Err(too_long());
        }
        let expected = announced.unwrap_or(USUAL_LIMIT).min(request.longest_body);
        let mut headers = meaningful_of(status, response.headers());
        if request.names_limits {
            headers.limits = limits(response.headers());
        }
        let mut body = Body::Empty;
        while let Some(chunk) = response.chunk().await.map_err(|error| self.classify(error, Stage::Body))? {
            if is_bounded && body.len() + chunk.len() > request.longest_body {
                return Err(too_long());
            }
            body.push(chunk, expected);
        }
        Ok(Answer { status, headers, body })
    }

    fn classify(&self, error: reqwest::Error, stage: Stage) -> Failure {
        let error = error.without_url();
        let cause = Cause::of(&error);
        let connecting = error.is_connect();
        let timed_out = error.is_timeout();
        let whom = match &self.setup.proxy {
            Some(_) if cause.at_proxy => " to the proxy",
            Some(_) => " through the proxy",
            None => "",
        };
        let fault = |kind, detail: Cow<'static, str>| {
            Failure::Transport(TransportFault { kind, sent: !connecting, detail, source: Some(Box::new(error)) })
        };
        match cause.kind {
            CauseKind::Tls(kind, detail) if connecting => fault(kind, detail.into()),
            CauseKind::Tls(_, detail) => fault(stage.broken(), format!("the TLS connection broke: {detail}").into()),
            CauseKind::Unresolved(host) => {
                fault(TransportKind::Connect, format!("the name {host} does not resolve").into())
            }
            CauseKind::ProxyPassword => {
                fault(TransportKind::ProxyPassword, "the proxy requires a valid user name and password".into())
            }
            CauseKind::NoTunnel => fault(TransportKind::Proxy, "the proxy did not open the connection".into()),
            CauseKind::Exhausted if connecting => {
                fault(TransportKind::Exhausted, "could not connect: this process has no file descriptor left".into())
            }
            CauseKind::Io(ErrorKind::TimedOut) | CauseKind::Other if connecting && timed_out => {
                let limit = self.setup.connect_timeout.as_secs_f64();
                fault(TransportKind::Connect, format!("could not connect{whom} within {limit} s").into())
            }
            CauseKind::Io(kind) if connecting => {
                fault(TransportKind::Connect, format!("could not connect{whom} ({kind})").into())
            }
            _ if connecting => fault(TransportKind::Connect, format!("could not connect{whom}").into()),
            CauseKind::BadHttp(detail) => Failure::Unexpected(Unexpected {
                status: None,
                reason: format!("the answer is not valid HTTP ({detail})"),
                excerpt: None,
            }),
            CauseKind::Io(kind) => fault(stage.broken(), format!("the connection broke ({kind})").into()),
            CauseKind::Exhausted | CauseKind::Other => {
                fault(stage.broken(), "the connection closed before the answer was complete".into())
            }
        }
    }
}

/// How much of an answer had arrived when something failed.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Head,
    Body,
}

impl Stage {
    const fn broken(self) -> TransportKind {
        match self {
            Self::Head => TransportKind::Dropped,
            Self::Body => TransportKind::Broken,
        }
    }
}

/// The root cause of an error.
struct Cause {
    kind: CauseKind,
    /// Whether it is about the connection to a proxy.
    at_proxy: bool,
}

enum CauseKind {
    Tls(TransportKind, String),
    Unresolved(String),
    ProxyPassword,
    NoTunnel,
    BadHttp(&'static str),
    /// The system has no file descriptor left.
    Exhausted,
    Io(ErrorKind),
    Other,
}

impl Cause {
    /// Walks the chain of sources, because the top error is not specific enough: an expired certificate is a failure to
    /// connect.
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut cause = Self { kind: CauseKind::Other, at_proxy: false };
        for error in chain(error) {
            if let Some(error) = error.downcast_ref::<TunnelError>() {
                cause.at_proxy = true;
                match error {
                    TunnelError::ConnectFailed(_) => {}
                    TunnelError::ProxyAuthRequired => return Self { kind: CauseKind::ProxyPassword, ..cause },
                    _ => return Self { kind: CauseKind::NoTunnel, ..cause },
                }
            }
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                let (kind, detail) = tls_fault(error);
                return Self { kind: CauseKind::Tls(kind, detail), ..cause };
            }
            if let Some(Unresolved(host)) = error.downcast_ref() {
                return Self { kind: CauseKind::Unresolved(host.clone()), ..cause };
            }
            if let Some(error) = error.downcast_ref::<hyper::Error>()
                && error.is_parse()
            {
                return Self { kind: CauseKind::BadHttp("the response head cannot be read or is too long"), ..cause };
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                cause.kind = match error.kind() {
                    _ if is_exhaustion(error) => CauseKind::Exhausted,
                    ErrorKind::InvalidData | ErrorKind::InvalidInput => CauseKind::BadHttp("the body cannot be read"),
                    kind => CauseKind::Io(kind),
                };
            }
        }
        cause
    }
}

/// Iterates over an error and its sources.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        // The source of an `io::Error` is the source of its inner error, not the inner error itself.
        Some(error) => error.get_ref().map(|wrapped| wrapped as _),
        None => error.source(),
    })
}

/// Describes a TLS error: its kind, and its text.
fn tls_fault(error: &rustls::Error) -> (TransportKind, String) {
    use rustls::CertificateError as Bad;
    let said = |kind, words: &str| (kind, words.to_owned());
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => {
                said(TransportKind::OutOfDate, "the server's certificate has expired")
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                said(TransportKind::OutOfDate, "the server's certificate is not valid yet")
            }
            Bad::UnknownIssuer => {
                said(TransportKind::Certificate, "the server's certificate is from an unknown issuer")
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                said(TransportKind::Tls, "the server's certificate is for another host")
            }
            other => {
                let detail = plain_line(&format!("{other:?}"), 80);
                (TransportKind::Certificate, format!("the server's certificate is refused ({detail})"))
            }
        },
        rustls::Error::InvalidMessage(_) => said(TransportKind::Tls, "the server does not use TLS on this port"),
        rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            said(TransportKind::Tls, "the TLS handshake failed (the server does not use TLS 1.2 or later)")
        }
        other => {
            let detail = plain_line(&other.to_string(), 80);
            (TransportKind::Tls, format!("the TLS handshake failed ({detail})"))
        }
    }
}

/// Parses the headers of an answer; for a status of 200 only those about the quota.
fn meaningful_of(status: u16, headers: &HeaderMap) -> Headers {
    if status == 200 { Headers { windows: windows_in(headers), ..Headers::default() } } else { meaningful(headers) }
}

fn windows_in(headers: &HeaderMap) -> Vec<ServiceWindow> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    rate_limit::read(text, || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Parses the relevant headers of an answer.
pub(crate) fn meaningful(headers: &HeaderMap) -> Headers {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let starts_with = |name: &HeaderName, prefix: &str| {
        headers.get_all(name).iter().any(|value| {
            let beginning = value.as_bytes().get(..prefix.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix.as_bytes()))
        })
    };
    Headers {
        retry_after: text(&RETRY_AFTER).and_then(|value| retry::retry_after(value, text(&DATE), SystemTime::now())),
        windows: windows_in(headers),
        request_id: REQUEST_IDS.iter().find_map(text).map(str::to_owned),
        bearer_challenge: headers.get_all(&WWW_AUTHENTICATE).iter().any(|value| asks_for_bearer(value.as_bytes())),
        problem_details: starts_with(&CONTENT_TYPE, "application/problem+json"),
        location: headers.contains_key(LOCATION),
        limits: Vec::new(),
    }
}

/// Returns whether one of the challenges in a header is for the bearer scheme. Commas separate the challenges, and also
/// the parameters of a challenge. A comma in a quoted text separates nothing.
fn asks_for_bearer(challenges: &[u8]) -> bool {
    let mut is_quoted = false;
    let mut parts = challenges.split(|byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    });
    parts.any(|part| {
        let part = part.trim_ascii();
        let end = part.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(part.len());
        let (scheme, rest) = part.split_at(end);
        scheme.eq_ignore_ascii_case(b"bearer") && !rest.trim_ascii_start().starts_with(b"=")
    })
}

/// Returns the names of the rate-limit headers.
fn limits(headers: &HeaderMap) -> Vec<String> {
    let tells =
        |name: &&HeaderName| ["ratelimit", "rate-limit", "quota"].iter().any(|word| name.as_str().contains(word));
    headers.keys().filter(tells).map(|name| name.as_str().to_owned()).collect()
}

fn through(url: &ProxyUrl) -> Result<reqwest::Proxy, Error> {
    let refused = |_| Error::Configuration("proxy is not a valid URL".to_owned());
    reqwest::Proxy::https(url.expose()).map_err(refused)
}

/// Resolves names with the system's resolver, and adds the name to the error.
struct Resolver;

#[derive(Debug)]
struct Unresolved(String);

impl std::fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} does not resolve", self.0)
    }
}

impl StdError for Unresolved {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let addresses: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
            if addresses.is_empty() {
                // Without a file descriptor no name resolves, but the resolver seldom reports this as the reason.
                if let Some(error) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).err().filter(is_exhaustion) {
                    return Err(error.into());
                }
                return Err(Box::new(Unresolved(plain_line(&host, 100))) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Cause, CauseKind, ErrorKind, StdError, TransportKind, TunnelError, Unresolved, asks_for_bearer, chain, io,
    };

    fn wrapped(error: impl Into<Box<dyn StdError + Send + Sync>>) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, error)
    }

    #[test]
    fn an_error_inside_an_io_error_is_found_however_deep() {
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let error = wrapped(wrapped(wrapped(expired)));
        assert_eq!(chain(&error).count(), 4);
        let CauseKind::Tls(TransportKind::OutOfDate, detail) = Cause::of(&error).kind else { panic!("another cause") };
        assert!(detail.contains("expired"));
        let error = wrapped(Unresolved("nowhere.invalid".to_owned()));
        assert!(matches!(Cause::of(&error).kind, CauseKind::Unresolved(host) if host == "nowhere.invalid"));
    }

    #[test]
    fn a_bearer_challenge_is_found_among_others_and_nothing_else_is_one() {
        for asks in
            ["Bearer", "bearer realm=\"x\"", "Basic realm=\"a, b\", Bearer", "Digest a=1, b=2,BEARER x=1", " Bearer"]
        {
            assert!(asks_for_bearer(asks.as_bytes()), "{asks}");
        }
        for other in
            ["", "Basic", "Basic realm=\"a, Bearer b\"", "Digest bearer=1", "Digest a=1, bearer=2", "Bearers", ","]
        {
            assert!(!asks_for_bearer(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_missing_file_descriptor_is_told_from_a_broken_network() {
        for number in crate::exhaustion::EXHAUSTED {
            let error = wrapped(io::Error::from_raw_os_error(number));
            assert!(matches!(Cause::of(&error).kind, CauseKind::Exhausted));
        }
    }

    #[test]
    fn what_breaks_is_told_from_what_cannot_be_read() {
        let reset = io::Error::from(ErrorKind::ConnectionReset);
        assert!(matches!(Cause::of(&reset).kind, CauseKind::Io(ErrorKind::ConnectionReset)));
        assert!(matches!(Cause::of(&wrapped("a chunk size that is not a number")).kind, CauseKind::BadHttp(_)));
        assert!(matches!(Cause::of(&std::fmt::Error).kind, CauseKind::Other));
    }

    #[test]
    fn what_fails_at_a_proxy_is_told_from_what_fails_behind_it() {
        let refused = TunnelError::ConnectFailed(Box::new(io::Error::from(ErrorKind::ConnectionRefused)));
        let cause = Cause::of(&refused);
        assert!(cause.at_proxy && matches!(cause.kind, CauseKind::Io(ErrorKind::ConnectionRefused)));
        let password = wrapped(TunnelError::ProxyAuthRequired);
        assert!(matches!(Cause::of(&password).kind, CauseKind::ProxyPassword));
        for error in
            [TunnelError::TunnelUnsuccessful, TunnelError::TunnelUnexpectedEof, TunnelError::ProxyHeadersTooLong]
        {
            assert!(matches!(Cause::of(&error).kind, CauseKind::NoTunnel));
        }
        let reset = TunnelError::Io(io::Error::from(ErrorKind::ConnectionReset));
        assert!(matches!(Cause::of(&reset).kind, CauseKind::NoTunnel));
    }
}
