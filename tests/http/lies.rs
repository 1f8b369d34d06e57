//! Servers that lie: what is no list is no empty one, what is not the file that was listed is not
//! damage, and secrets go to one server only.

use super::{Place, TIME, run, write_source};
use crate::support::{DavServer, Env, Mounted, S3Server};
use parking_lot::Mutex;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What a request gets: a whole answer; without one, what the real server says.
type Answer = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A server before another one, which answers some requests itself, and keeps all that it was sent.
struct Liar {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<Answer>>>,
}

impl Liar {
    /// Stands before the server at a port.
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let (hears, answers) = (heard.clone(), answer.clone());
        std::thread::spawn(move || {
            for line in listener.incoming().flatten() {
                let (hears, answers) = (hears.clone(), answers.clone());
                std::thread::spawn(move || serve(line, server, &hears, &answers));
            }
        });
        Self { port, heard, answer }
    }

    /// Answers so from now on.
    fn lie(&self, answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        *self.answer.lock() = Some(Arc::new(answer));
    }

    fn stop(&self) {
        *self.answer.lock() = None;
    }

    /// Returns all heads that have come.
    fn heard(&self) -> String {
        self.heard.lock().concat()
    }
}

/// Takes one request of a line, and closes it after the answer.
fn serve(
    line: TcpStream,
    server: u16,
    heard: &Mutex<Vec<String>>,
    answer: &Mutex<Option<Answer>>,
) -> Option<()> {
    let mut reader = BufReader::new(line.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
        let (name, value) = head[start..].split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
        if &head[start..] == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    heard.lock().push(head.clone());
    let lie = answer.lock().clone().and_then(|answer| answer(&head));
    let mut line = line;
    if let Some(lie) = lie {
        line.write_all(lie.as_bytes()).ok()?;
        return Some(());
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    let head = head.trim_end_matches("\r\n").to_string() + "\r\nConnection: close\r\n\r\n";
    upstream.write_all(head.as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    std::io::copy(&mut upstream, &mut line).ok()?;
    Some(())
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

fn is_list(head: &str) -> bool {
    head.contains("list-type=2")
        || (head.starts_with("PROPFIND") && head.to_lowercase().contains("depth: 1"))
}

const PAGE: &str = "<html><body>Please log in to the network</body></html>";

/// A page for people, an error with the status of success, a list without its end, or of another
/// folder: all of them end with an error, and nothing is deleted or begun anew.
#[test]
fn what_is_no_list_is_not_an_empty_one() {
    for name in ["s3", "dav"] {
        let (env, port) = match name {
            "s3" => (Env::new(), S3Server::shared().port()),
            _ => (Env::new(), DavServer::shared().port()),
        };
        let liar = Liar::before(port);
        let place = match name {
            "s3" => Place::s3("lies-list", liar.port),
            _ => Place::dav("webdav", "open/lies-list", liar.port),
        };
        write_source(&env, 1);
        run(
            place.dupfs(&env),
            &["full", "--current-time", &TIME.to_string(), "source", &place.url],
        )
        .success();
        let quick = || {
            let mut command = place.dupfs(&env);
            command.args(["--num-retries", "1", "--timeout", "5"]);
            command
        };
        let lists = match name {
            "s3" => vec![
                answer("200 OK", "", PAGE),
                answer("200 OK", "", "<Error><Code>InternalError</Code></Error>"),
                answer(
                    "200 OK",
                    "",
                    "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
                ),
                answer(
                    "200 OK",
                    "",
                    "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken></ListBucketResult>",
                ),
            ],
            _ => vec![
                answer("200 OK", "", PAGE),
                answer("207 Multi-Status", "", "<multistatus xmlns='DAV:'></multistatus>"),
                answer(
                    "207 Multi-Status",
                    "",
                    "<multistatus xmlns='DAV:'><response><href>/elsewhere/a</href></response></multistatus>",
                ),
            ],
        };
        for list in lists {
            liar.lie(move |head| is_list(head).then(|| list.clone()));
            for words in [
                &["collection-status"][..],
                &["cleanup", "--force"],
                &["incremental", "source"],
                &["backup", "source"],
            ] {
                run(quick(), &[words, &[place.url.as_str()]].concat()).failure(50, &[]);
            }
        }
        liar.stop();
        write_source(&env, 2);
        run(quick(), &["incremental", "source", &place.url]).success();
    }
}

/// A page in the place of a file, or half of what was asked for, is a failure that passes: what is
/// read through a mount is right again when the server is.
#[test]
fn what_is_not_the_file_is_no_damage() {
    let env = Env::new();
    let liar = Liar::before(S3Server::shared().port());
    let place = Place::s3("lies-file", liar.port);
    let content = crate::support::Random::new(5).bytes(3_000_000);
    std::fs::write(env.source().join("large"), &content).unwrap();
    run(place.dupfs(&env), &["full", "--current-time", &TIME.to_string(), "source", &place.url])
        .success();
    let is_file = |head: &str| head.starts_with("GET") && head.contains("difftar");
    let half = |head: &str| -> Option<String> {
        let (_, range) = head.split_once("bytes=")?;
        let (range, _) = range.split_once("\r\n")?;
        let headers = format!("Content-Range: bytes {range}/9999999\r\n");
        Some(answer("206 Partial Content", &headers, "short"))
    };
    for lie in 0..2 {
        env.clear_caches();
        let mut mount = place.dupfs(&env);
        mount.args(["--num-retries", "1", "mount", "--foreground", &place.url]);
        mount.arg(env.mountpoint());
        let mounted = Mounted::start(mount, &env.mountpoint());
        let file = mounted.at(TIME).join("large");
        liar.lie(move |head| {
            let page = || answer("200 OK", "", PAGE);
            is_file(head).then(|| if lie == 0 { page() } else { half(head).unwrap_or_else(page) })
        });
        assert_eq!(std::fs::read(&file).unwrap_err().raw_os_error(), Some(libc::EIO));
        liar.stop();
        assert!(std::fs::read(&file).unwrap() == content, "{lie}: {}", mounted.log());
    }
}

/// An answer in chunks, without a length, is read as long as the file was listed.
#[test]
fn answers_without_a_length_are_read() {
    let env = Env::new();
    let liar = Liar::before(1);
    write_source(&env, 1);
    let direct = Place::dav("webdav", "open/lies-chunks", DavServer::shared().port());
    run(direct.dupfs(&env), &["full", "source", &direct.url]).success();
    let folder = DavServer::shared().files().join("open/lies-chunks");
    let list = {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        let of = |name: String, size: u64| {
            format!(
                "<response><href>/open/lies-chunks/{name}</href><propstat><prop><getcontentlength>{size}</getcontentlength><resourcetype/></prop><status>HTTP/1.1 200 OK</status></propstat></response>"
            )
        };
        let files: String = files
            .map(|file| of(file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
            .collect();
        format!(
            "<?xml version='1.0'?><multistatus xmlns='DAV:'><response><href>/open/lies-chunks/</href><propstat><prop><resourcetype><collection/></resourcetype></prop></propstat></response>{files}</multistatus>"
        )
    };
    // Plain text alone: a manifest.
    liar.lie(move |head| {
        if head.starts_with("PROPFIND") {
            return Some(answer("207 Multi-Status", "", &list));
        }
        let (_, name) = head.lines().next()?.split_once("lies-chunks/")?;
        let text = std::fs::read_to_string(folder.join(name.split(' ').next()?)).ok()?;
        Some(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n", text.len()))
    });
    env.clear_caches();
    let place = Place::dav("webdav", "open/lies-chunks", liar.port);
    let status = run(place.dupfs(&env), &["collection-status", &place.url]).success();
    assert!(status.stdout.contains("Full"), "{status}");
}

/// A redirection to another server gets neither the password nor further headers, and no signed
/// request follows it.
#[test]
fn secrets_stay_with_their_server() {
    let env = Env::new();
    write_source(&env, 1);
    let (home, foreign) = (Liar::before(1), Liar::before(1));
    let there = format!("Location: http://127.0.0.1:{}/folder/\r\n", foreign.port);
    home.lie(move |_| Some(answer("307 Temporary Redirect", &there, "")));
    let folder =
        "<multistatus xmlns='DAV:'><response><href>/folder/</href></response></multistatus>";
    foreign.lie(move |head| {
        Some(match is_list(head) {
            true => answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
            false => answer("207 Multi-Status", "", folder),
        })
    });
    let mut dav = Place::dav("webdav", "folder", home.port);
    dav.options.extend(["--webdav-headers".into(), "X-Secret,tell-nobody".into()]);
    for place in [dav, Place::s3("lies-home", home.port)] {
        let mut command = place.dupfs(&env);
        command.args(["--num-retries", "1"]).env("AWS_SESSION_TOKEN", "session-token");
        let outcome = run(command, &["collection-status", &place.url]);
        assert!([50, 51].contains(&outcome.code), "{outcome}");
    }
    let heard = foreign.heard();
    assert!(heard.contains("PROPFIND"), "{heard}");
    for secret in ["authorization", "x-secret", "tell-nobody", "session-token"] {
        assert!(!heard.to_lowercase().contains(secret), "{heard}");
    }
    assert!(home.heard().to_lowercase().contains("x-secret"));
}
