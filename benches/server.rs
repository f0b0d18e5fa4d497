//! The server that all measured clients talk to: HTTP/1.1 with keep-alive on 127.0.0.1, as little work per
//! request as possible, so that the client is what is measured.
//!
//! It prints its port, answers `PUT /v3/contact-accounts/{id}` with `data/answer.json` under that id and
//! `GET /v3/contact-accounts?top=…&skip=…` with a page of 100,000 accounts, with `&search=…` of the first one. It
//! refuses what a benchmark must not send by mistake (another method or path, no key, no length), and ends when its
//! stdin closes.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &str = include_str!("data/answer.json");
const REQUEST_LINE: &[u8] = b"PUT /v3/contact-accounts/";
const LIST_LINE: &[u8] = b"GET /v3/contact-accounts?";
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n\
    Date: Tue, 08 Sep 2026 12:08:22 GMT\r\nContent-Length: ";
/// The number of accounts of the list.
const ACCOUNTS: usize = 100_000;
/// The most accounts of a page.
const LONGEST_PAGE: usize = 1_000;
/// The members whose text differs from account to account, as in `bulk.rs`.
const OWN: [&str; 9] =
    ["name", "description", "domainName", "domainSecondary", "linkedInUrl", "phone", "twitterUrl", "logoUrl", "email"];

/// The accounts of the list, separated by commas, as the pages have them.
struct List {
    text: String,
    /// Where each account begins, and where one after the last would.
    starts: Vec<usize>,
}

impl List {
    /// The list, made when it is first asked for.
    fn get() -> Option<&'static Self> {
        static LIST: OnceLock<Option<List>> = OnceLock::new();
        LIST.get_or_init(|| Self::new().ok()).as_ref()
    }

    fn new() -> Result<Self, serde_json::Error> {
        let template: Map<String, Value> = serde_json::from_str(ANSWER)?;
        let (mut text, mut starts) = (String::new(), Vec::with_capacity(ACCOUNTS + 1));
        for id in 1..=ACCOUNTS {
            let mut account = template.clone();
            account.insert("id".to_owned(), id.into());
            for name in OWN {
                if let Some(Value::String(value)) = account.get_mut(name) {
                    *value = format!("{value} {id}");
                }
            }
            starts.push(text.len());
            text.push_str(&serde_json::to_string(&account)?);
            text.push(',');
        }
        starts.push(text.len());
        Ok(Self { text, starts })
    }

    /// Writes a page of the first accounts.
    fn write(&self, Page { top, skip, accounts }: Page, out: &mut Vec<u8>) -> io::Result<()> {
        let (first, last) = (skip.min(accounts), skip.saturating_add(top).min(accounts));
        let start = |place: usize| self.starts.get(place).copied().unwrap_or(self.text.len());
        // Without the comma after the last account.
        let items = self.text.get(start(first)..start(last).saturating_sub(1)).unwrap_or_default();
        let (before, after) = (r#"{"items":["#, format!(r#"],"hasMore":{}}}"#, last < accounts));
        let length = before.len() + items.len() + after.len();
        write!(out, "{HEAD}{length}\r\n\r\n{before}{items}{after}")
    }
}

/// What a request asks for.
enum Asked<'a> {
    Update(Head<'a>),
    Page(Page),
}

/// A page of the list of so many accounts.
struct Page {
    top: usize,
    skip: usize,
    accounts: usize,
}

/// Reads the head of a request, or says with which status to refuse it.
fn read_request(head: &[u8]) -> Result<Asked<'_>, &'static str> {
    let Some(rest) = head.strip_prefix(LIST_LINE) else { return read_head(head).map(Asked::Update) };
    let query = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
    let (mut top, mut skip, mut accounts) = (None, None, ACCOUNTS);
    for pair in std::str::from_utf8(query).map_err(|_| "400 Bad Request")?.split('&') {
        match pair.split_once('=') {
            Some(("top", value)) => top = value.parse().ok(),
            Some(("skip", value)) => skip = value.parse().ok(),
            Some(("search", _)) => accounts = 1,
            _ => return Err("400 Bad Request"),
        }
    }
    if !String::from_utf8_lossy(head).to_ascii_lowercase().contains("\r\nx-api-key:") {
        return Err("401 Unauthorized");
    }
    match (top, skip) {
        (Some(top @ 1..=LONGEST_PAGE), Some(skip)) => Ok(Asked::Page(Page { top, skip, accounts })),
        _ => Err("400 Bad Request"),
    }
}

/// The answer around the id.
struct Answer {
    before: &'static str,
    after: &'static str,
}

impl Answer {
    fn new() -> Result<Self, &'static str> {
        let (start, after) = ANSWER.trim_end().split_once("\"id\":0,").ok_or("answer.json must start with \"id\":0")?;
        if start != "{" {
            return Err("answer.json must start with its id");
        }
        Ok(Self { before: "{\"id\":", after })
    }

    fn write(&self, id: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let length = self.before.len() + id.len() + 1 + self.after.len();
        write!(out, "{HEAD}{length}\r\n\r\n{}", self.before)?;
        out.extend_from_slice(id);
        out.push(b',');
        out.extend_from_slice(self.after.as_bytes());
        Ok(())
    }
}

/// What the head of a request says: the id in its path and the length of its body.
struct Head<'a> {
    id: &'a [u8],
    length: usize,
}

/// Reads a head, or says with which status to refuse it.
fn read_head(head: &[u8]) -> Result<Head<'_>, &'static str> {
    let rest = head.strip_prefix(REQUEST_LINE).ok_or("404 Not Found")?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).ok_or("400 Bad Request")?;
    let (id, rest) = rest.split_at(end);
    if id.is_empty() || !rest.starts_with(b" HTTP/1.1\r\n") {
        return Err("404 Not Found");
    }
    let mut length = None;
    let mut key = false;
    for line in rest.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            length =
                std::str::from_utf8(value.get(1..).unwrap_or_default()).ok().and_then(|text| text.trim().parse().ok());
        } else if name.eq_ignore_ascii_case(b"x-api-key") {
            key = true;
        }
    }
    if !key {
        return Err("401 Unauthorized");
    }
    Ok(Head { id, length: length.ok_or("411 Length Required")? })
}

async fn serve(mut stream: TcpStream, answer: Arc<Answer>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(16 * 1024);
    let mut output = Vec::with_capacity(4 * 1024);
    loop {
        let body = loop {
            if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        output.clear();
        let length = match read_request(input.get(..body).unwrap_or_default()) {
            Ok(Asked::Update(head)) => {
                answer.write(head.id, &mut output)?;
                head.length
            }
            Ok(Asked::Page(page)) => {
                let list = List::get().ok_or_else(|| io::Error::other("answer.json is no account"))?;
                list.write(page, &mut output)?;
                0
            }
            Err(status) => {
                write!(output, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
                return stream.write_all(&output).await;
            }
        };
        while input.len() < body + length {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        input.drain(..body + length);
        stream.write_all(&output).await?;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == "--bench") {
        writeln!(io::stdout(), "a part of benches/compare.py, not a benchmark by itself: run `make bench`")?;
        return Ok(());
    }
    let answer = Arc::new(Answer::new()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            // A client that goes away in the middle is the client's affair.
            let _ = serve(stream, answer).await;
        });
    }
}
