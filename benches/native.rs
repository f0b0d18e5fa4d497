//! Measures the baseline that `compare.py` divides by: the same update in Rust alone, with the reqwest of the crate:
//! serialize sixteen fields, PUT, check the status, parse the account. No retry, no quota, no time limits, no Python.
//!
//! `native sequential|in-flight PORT CALLS WARMUP [CONCURRENCY]` prints one line of JSON.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The body of the update.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    name: String,
    description: Option<String>,
    domain_name: Option<String>,
    domain_secondary: Option<String>,
    industry: Option<String>,
    company_size: Option<String>,
    country: Option<String>,
    state: Option<String>,
    city: Option<String>,
    time_zone_id: Option<String>,
    linked_in_url: Option<String>,
    phone: Option<String>,
    twitter_url: Option<String>,
    logo_url: Option<String>,
    email: Option<String>,
    owner_user_id: Option<i64>,
}

/// The answer: the sixteen fields and what is read-only. Its dates stay text, which is less work than the product does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "parsing them is what is measured")]
struct Account {
    id: u64,
    owner_user_id: i64,
    name: String,
    linked_prospects_count: i64,
    created_date: String,
    last_activity_date: String,
    description: Option<String>,
    domain_name: Option<String>,
    domain_secondary: Option<String>,
    industry: Option<String>,
    company_size: Option<String>,
    country: Option<String>,
    state: Option<String>,
    city: Option<String>,
    time_zone_id: Option<String>,
    linked_in_url: Option<String>,
    phone: Option<String>,
    twitter_url: Option<String>,
    logo_url: Option<String>,
    email: Option<String>,
    stage: Option<Stage>,
    email_provider: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "parsing them is what is measured")]
struct Stage {
    id: i64,
    name: String,
    color_id: Option<i64>,
}

struct Caller {
    client: reqwest::Client,
    base_url: String,
    fields: Fields,
}

impl Caller {
    fn new(port: u16) -> Outcome<Self> {
        rustls::crypto::ring::default_provider().install_default().map_err(|_| "rustls has a provider already")?;
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            ("x-api-key".parse()?, HeaderValue::from_static("k")),
        ]);
        Ok(Self {
            client: reqwest::Client::builder().default_headers(headers).no_proxy().build()?,
            base_url: format!("http://127.0.0.1:{port}/v3"),
            fields: serde_json::from_str(include_str!("data/fields.json"))?,
        })
    }

    async fn update(&self, id: u64) -> Outcome<()> {
        let url = format!("{}/contact-accounts/{id}", self.base_url);
        let body = serde_json::to_vec(&self.fields)?;
        let response = self.client.put(url).body(body).send().await?.error_for_status()?;
        let account: Account = serde_json::from_slice(&response.bytes().await?)?;
        if account.id == id { Ok(()) } else { Err(format!("asked for {id}, answered {}", account.id).into()) }
    }
}

/// The processor time of this process's only thread, user and system.
fn cpu_time() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().ok_or("/proc/self/schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

#[expect(clippy::cast_precision_loss, reason = "counts and times far below 2^52")]
fn per_call(total: Duration, calls: u64) -> f64 {
    total.as_nanos() as f64 / 1_000.0 / calls as f64
}

async fn sequential(caller: &Caller, calls: u64, warmup: u64) -> Outcome<String> {
    for id in 1..=warmup {
        caller.update(id).await?;
    }
    let mut latencies = Vec::with_capacity(usize::try_from(calls)?);
    let cpu = cpu_time()?;
    let start = Instant::now();
    for id in 1..=calls {
        let begin = Instant::now();
        caller.update(id).await?;
        latencies.push(begin.elapsed());
    }
    let (wall, cpu) = (start.elapsed(), cpu_time()?.saturating_sub(cpu));
    latencies.sort_unstable();
    let percentile =
        |percent: usize| per_call(latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default(), 1);
    Ok(format!(
        "\"p50_us\":{:.3},\"p90_us\":{:.3},\"p99_us\":{:.3},{}",
        percentile(50),
        percentile(90),
        percentile(99),
        rates(wall, cpu, calls)
    ))
}

async fn in_flight(caller: Caller, calls: u64, warmup: u64, concurrency: u64) -> Outcome<String> {
    let caller = Arc::new(caller);
    run_concurrently(&caller, warmup, concurrency).await?;
    let cpu = cpu_time()?;
    let start = Instant::now();
    run_concurrently(&caller, calls, concurrency).await?;
    Ok(rates(start.elapsed(), cpu_time()?.saturating_sub(cpu), calls))
}

async fn run_concurrently(caller: &Arc<Caller>, calls: u64, concurrency: u64) -> Outcome<()> {
    let next = Arc::new(AtomicU64::new(1));
    let mut workers = Vec::new();
    for _ in 0..concurrency {
        let (caller, next) = (Arc::clone(caller), Arc::clone(&next));
        workers.push(tokio::spawn(async move {
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id > calls {
                    return Outcome::Ok(());
                }
                caller.update(id).await?;
            }
        }));
    }
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rates(wall: Duration, cpu: Duration, calls: u64) -> String {
    format!(
        "\"calls\":{calls},\"calls_per_s\":{:.1},\"cpu_us\":{:.3}",
        calls as f64 / wall.as_secs_f64(),
        per_call(cpu, calls)
    )
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let figures = match *arguments.as_slice() {
        ["sequential", port, calls, warmup] => {
            sequential(&Caller::new(port.parse()?)?, calls.parse()?, warmup.parse()?).await?
        }
        ["in-flight", port, calls, warmup, concurrency] => {
            in_flight(Caller::new(port.parse()?)?, calls.parse()?, warmup.parse()?, concurrency.parse()?).await?
        }
        _ => {
            writeln!(io::stdout(), "a part of benches/compare.py, not a benchmark by itself: run `make bench`")?;
            return Ok(());
        }
    };
    writeln!(io::stdout(), "{{{figures}}}")?;
    Ok(())
}
