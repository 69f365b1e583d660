//! Runs the example `chat` as a process, and browsers on its pages.

use crate::shared::build::build;
use fantoccini::{Client, ClientBuilder, Locator, error::CmdError, key::Key};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The time after which a wait counts as a hang. The first start of a browser on a busy machine takes longest.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const PASSWORD: &str = "open sesame";

#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match timeout(LIMIT, future).await {
            Ok(output) => output,
            Err(_) => panic!("hangs at {caller}"),
        }
    }
}

// ---- The chat -----------------------------------------------------------------------------------

pub(crate) struct Chat {
    pub(crate) url: String,
    process: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Chat {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args).await
    }

    /// Starts the chat at this address, for example to restart it.
    pub(crate) async fn start_at(address: &str, args: &[&str]) -> Self {
        // One build for all tests.
        let features = match cfg!(feature = "http3") {
            true => &["deflate", "http3", "metrics"][..],
            false => &["deflate", "metrics"],
        };
        let mut process = Command::new(build("chat", features).await)
            .args(["--listen", address, "--admin-password", PASSWORD])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts");
        let stdout = process.stdout.take().expect("a piped stdout");
        let mut stdout = BufReader::new(stdout).lines();
        let line = soon(stdout.next_line()).await.expect("readable output");
        let line = line.expect("a line, not EOF");
        let url = line
            .strip_prefix("listening on ")
            .expect("the line with the address");
        Self {
            url: url.to_owned(),
            process,
            stdout,
        }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a scheme").1
    }

    /// Returns the URL of the page for administrators, with the password.
    pub(crate) fn admin(&self) -> String {
        let password = PASSWORD.replace(' ', "%20");
        let with_password = format!("://admin:{password}@");
        self.url.replacen("://", &with_password, 1) + "/admin"
    }

    /// Sends SIGTERM, waits until the process exits, and returns its last line of output.
    pub(crate) async fn stop(mut self) -> String {
        let id = self.process.id().expect("a running process");
        kill(&format!("-s TERM {id}"));
        let mut last = String::new();
        while let Some(line) = soon(self.stdout.next_line())
            .await
            .expect("readable output")
        {
            last = line;
        }
        let status = soon(self.process.wait()).await.expect("an exit status");
        assert!(status.success(), "{status}");
        last
    }

    /// Sends a GET over plain HTTP/1.1 and returns the whole response as text.
    pub(crate) async fn get(&self, path: &str, headers: &[&str]) -> String {
        let mut io = TcpStream::connect(self.address())
            .await
            .expect("a listening chat");
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            self.address()
        );
        io.write_all(request.as_bytes())
            .await
            .expect("an open connection");
        let mut answer = String::new();
        let read = soon(io.read_to_string(&mut answer)).await;
        read.expect("a response");
        answer
    }
}

/// Returns the hash of the public key in the certificate of a server, in Chromium's form.
async fn key_hash(address: &str) -> String {
    const SCRIPT: &str = "
import base64, hashlib, ssl, sys
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
host, port = sys.argv[1].split(':')
certificate = ssl.get_server_certificate((host, int(port))).encode()
key = x509.load_pem_x509_certificate(certificate).public_key()
key = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
print(base64.b64encode(hashlib.sha256(key).digest()).decode())";
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/quic/bin/python");
    let output = soon(Command::new(python).args(["-c", SCRIPT, address]).output()).await;
    let output = output.expect("the environment that `.ci/run` creates");
    let hash = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "no certificate of {address}");
    hash.trim().to_owned()
}

fn kill(arguments: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", &format!("kill {arguments}")])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "kill failed");
}

// ---- Browsers -----------------------------------------------------------------------------------

/// A chromedriver process, which starts browsers. Dropping it kills them.
pub(crate) struct Driver {
    url: String,
    /// The temporary directory of the browsers.
    directory: PathBuf,
    is_phone: bool,
    args: Vec<String>,
    process: Child,
    // Keep the pipe open, because chromedriver writes to it until it exits.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    pub(crate) async fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = format!("chat-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        std::fs::create_dir(&directory).expect("a directory");
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .env("TMPDIR", &directory)
            // A new process group, which contains its browsers.
            .process_group(0)
            .spawn()
            .expect(
                "`chromedriver` is not installed: on Debian, `apt-get install chromium-driver`",
            );
        let stdout = process.stdout.take().expect("a piped stdout");
        let mut stdout = BufReader::new(stdout).lines();
        let port = loop {
            let line = soon(stdout.next_line()).await.expect("readable output");
            let line = line.expect("a line, not EOF");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        Self {
            url: format!("http://127.0.0.1:{port}"),
            directory,
            is_phone: false,
            args: Vec::new(),
            process,
            _stdout: stdout,
        }
    }

    /// Starts a driver with phone emulation: 360 pixels wide, with touch.
    pub(crate) async fn start_phone() -> Self {
        let mut driver = Self::start().await;
        driver.is_phone = true;
        driver
    }

    /// Starts a driver with browsers that use this proxy and accept every certificate.
    pub(crate) async fn start_behind(proxy: &str) -> Self {
        let mut driver = Self::start().await;
        // `acceptInsecureCerts` covers certificates of pages only: the first argument covers that of the proxy.
        let proxy = format!("--proxy-server={proxy}");
        driver.args = vec!["--ignore-certificate-errors".to_owned(), proxy];
        driver
    }

    /// Starts a driver with browsers that use HTTP/3 for the chat, also for WebSocket.
    pub(crate) async fn start_http3(chat: &Chat) -> Self {
        let mut driver = Self::start().await;
        let key = key_hash(chat.address()).await;
        driver.args = vec![
            "--enable-quic".to_owned(),
            "--enable-features=EnableWebsocketsOverHttp3".to_owned(),
            format!("--origin-to-force-quic-on={}", chat.address()),
            // For QUIC, `acceptInsecureCerts` does not hold.
            format!("--ignore-certificate-errors-spki-list={key}"),
        ];
        driver
    }

    /// Opens a page in a new browser with a new profile.
    pub(crate) async fn page(&self, url: &str) -> Page {
        self.visit(url).await.expect("a page")
    }

    /// Opens a page in a new browser, or returns the error of the navigation.
    pub(crate) async fn visit(&self, url: &str) -> Result<Page, CmdError> {
        let mut args = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
        ];
        args.extend(self.args.iter().map(String::as_str));
        if !self.args.iter().any(|arg| arg == "--enable-quic") {
            args.push("--disable-quic");
        }
        let mut options = json!({
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": args },
        });
        if self.is_phone {
            let screen = json!({ "width": 360, "height": 740, "pixelRatio": 2.0, "touch": true });
            options["goog:chromeOptions"]["mobileEmulation"] = json!({ "deviceMetrics": screen });
        }
        let mut browser = ClientBuilder::new(HttpConnector::new());
        let Value::Object(options) = options else {
            unreachable!("the options are an object")
        };
        let client = soon(browser.capabilities(options).connect(&self.url)).await;
        let client = client.expect("a browser");
        let page = Page { client };
        soon(page.client.goto(url)).await?;
        Ok(page)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(id) = self.process.id() {
            kill(&format!("-s KILL -- -{id}"));
        }
        // A killed browser may still be writing.
        for _ in 0..100 {
            if std::fs::remove_dir_all(&self.directory).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) struct Page {
    client: Client,
}

impl Page {
    /// Enters the chat with the keyboard alone, which relies on the initial focus.
    pub(crate) async fn enter(driver: &Driver, url: &str, name: &str) -> Self {
        let page = Self::submit_name(driver, url, name).await;
        page.until_state("open").await;
        page
    }

    /// Opens the chat, types a name, and presses Enter.
    pub(crate) async fn submit_name(driver: &Driver, url: &str, name: &str) -> Self {
        let page = driver.page(url).await;
        // Record every status text of the connection, however briefly the page shows it.
        page.run(
            "window.words = [];
             new MutationObserver(() => words.push(said.textContent))
                 .observe(said, { childList: true, characterData: true, subtree: true });",
        )
        .await;
        page.type_name(name).await;
        page
    }

    /// Types a name into the name dialog.
    pub(crate) async fn type_name(&self, name: &str) {
        self.until("the dialog", "return door.open").await;
        self.type_into("#name", name).await;
    }

    pub(crate) async fn send(&self, text: &str) {
        self.type_into("#text", text).await;
    }

    pub(crate) async fn type_into(&self, field: &str, text: &str) {
        let field = soon(self.client.find(Locator::Css(field))).await;
        let field = field.expect("a field");
        let text = format!("{text}{}", char::from(Key::Enter));
        soon(field.send_keys(&text)).await.expect("a text field");
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = soon(self.client.find(Locator::Css(selector))).await;
        soon(element.expect("an element").click())
            .await
            .expect("a clickable element");
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        let result = soon(self.client.execute(script, Vec::new())).await;
        result.expect("a script that works")
    }

    /// Waits until `script` returns true.
    #[track_caller]
    pub(crate) fn until(&self, condition: &str, script: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let polling = async {
                while self.run(script).await != Value::Bool(true) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if timeout(LIMIT, polling).await.is_err() {
                let seen = self.run("return document.body.innerText").await;
                panic!("{caller}: never saw {condition}, but\n{seen}");
            }
        }
    }

    #[track_caller]
    pub(crate) fn until_state(&self, state: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let script = format!("return document.body.dataset.state === {}", json!(state));
            let condition = format!("the state {state}, for {caller}");
            self.until(&condition, &script).await;
        }
    }

    /// Waits for a message that the server has confirmed.
    pub(crate) async fn until_message(&self, text: &str) {
        let script = format!(
            "return Array.from(document.querySelectorAll('.message:not(.waiting) .text'))
                 .some(text => text.firstChild.textContent === {})",
            json!(text)
        );
        self.until(text, &script).await;
    }

    /// Waits until the page shows, or has shown, this status text.
    pub(crate) async fn until_status(&self, words: &str) {
        let script = format!("return words.some(said => said.includes({}))", json!(words));
        self.until(words, &script).await;
    }

    /// Returns the texts of all elements that match a selector.
    pub(crate) async fn texts(&self, selector: &str) -> Vec<String> {
        let script = format!(
            "return Array.from(document.querySelectorAll({}), found => found.textContent)",
            json!(selector)
        );
        serde_json::from_value(self.run(&script).await).expect("texts")
    }

    #[track_caller]
    pub(crate) fn until_texts<'a>(
        &'a self,
        selector: &'a str,
        expected: &'a [&str],
    ) -> impl Future<Output = ()> + 'a {
        let script = format!(
            "return JSON.stringify(Array.from(document.querySelectorAll({}),
                 found => found.textContent)) === JSON.stringify({})",
            json!(selector),
            json!(expected)
        );
        let caller = std::panic::Location::caller();
        async move {
            let condition = format!("{selector} with {expected:?}, for {caller}");
            self.until(&condition, &script).await;
        }
    }
}
