//! The server that all measured clients talk to: HTTP/1.1 with keep-alive on 127.0.0.1, as little work per
//! request as possible, so that the client is what is measured.
//!
//! It prints its port, answers `PUT /v3/contact-accounts/{id}` with `data/answer.json` under that id, refuses what a
//! benchmark must not send by mistake (another method or path, no key, no length), and ends when its stdin closes.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &str = include_str!("data/answer.json");
const REQUEST_LINE: &[u8] = b"PUT /v3/contact-accounts/";

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
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n\
             Date: Tue, 08 Sep 2026 12:08:22 GMT\r\nContent-Length: {length}\r\n\r\n{}",
            self.before,
        )?;
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
        let length = match read_head(input.get(..body).unwrap_or_default()) {
            Ok(head) => {
                answer.write(head.id, &mut output)?;
                head.length
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
