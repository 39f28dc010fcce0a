//! A browser of one's own: Chromium without a window, driven by the DevTools protocol.
//!
//! In: addresses, scripts, keys. Out: what the page says, and all that it asked for and complained
//! about. It must stay true that it leaves nothing behind and asks nobody by itself. It is spoken
//! to through a pair of named pipes (`--remote-debugging-pipe`: JSON that ends with a NUL), so that
//! no port and no WebSocket is needed. <https://chromedevtools.github.io/devtools-protocol/>

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::process::Process;
use super::wait::{self, PATIENCE};

const NAMES: [&str; 2] = ["chromium", "chromium-browser"];

/// As the shell opens the pipes, Chromium reads 3 and writes 4.
const START: &str = r#"exec "$0" "$@" 3<>"$TO" 4<>"$FROM""#;

/// Nothing that is not asked for. Without a sandbox, which root may not have.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-sync",
    "--disable-component-update",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "about:blank",
];

/// Chromium with one page open.
pub struct Browser {
    process: Process,
    home: TempDir,
    to: File,
    from: UnboundedReceiver<Value>,
    session: Option<String>,
    calls: i64,
    events: Vec<Value>,
}

/// A key that does something.
#[derive(Clone, Copy)]
pub enum Key {
    Tab,
    Enter,
    Space,
    Escape,
}

impl Key {
    /// Its name, its number, and what it types.
    fn parts(self) -> (&'static str, i64, &'static str) {
        match self {
            Self::Tab => ("Tab", 9, ""),
            Self::Enter => ("Enter", 13, "\r"),
            Self::Space => (" ", 32, " "),
            Self::Escape => ("Escape", 27, ""),
        }
    }
}

impl Browser {
    /// Starts one; none where there is none, which is said.
    pub async fn start() -> Option<Self> {
        let Some(program) = NAMES.into_iter().find_map(wait::in_path) else {
            writeln!(std::io::stderr(), "SKIPPED: no chromium is here (.ci/install-servers)").ok();
            return None;
        };
        let home = tempfile::Builder::new().prefix("walrelay-browser-").tempdir().expect("dir");
        let [to, from] = ["to", "from"].map(|name| home.path().join(name));
        let made = Command::new("mkfifo").arg(&to).arg(&from).status().expect("mkfifo");
        assert!(made.success(), "cannot make pipes in {}", home.path().display());
        // For both directions: to open one of a pipe would wait for somebody at its other end.
        let open = |path: &Path| File::options().read(true).write(true).open(path).expect("a pipe");
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(program).args(FLAGS);
        command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
        command.env("TO", &to).env("FROM", &from).env("HOME", home.path());
        let (writer, reader) = (open(&to), open(&from));
        let log = home.path().join("log");
        let process = Process::spawn("chromium", &mut command, &log, home.path());
        let from = messages(reader);
        let (session, calls, events) = (None, 0, Vec::new());
        let mut browser = Self { process, home, to: writer, from, session, calls, events };
        browser.attach().await;
        Some(browser)
    }

    async fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let asked = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", asked).await;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({})).await;
        }
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let text = format!("{message}\0");
        self.to.write_all(text.as_bytes()).expect("a pipe to the browser");
        loop {
            let next = tokio::time::timeout(PATIENCE, self.from.recv()).await;
            let Ok(Some(mut message)) = next else { panic!("no answer to {method}") };
            if message["id"] == self.calls {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    /// Goes to an address, and awaits what is there.
    pub async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        let there = format!("document.readyState === 'complete' && location.href === {url:?}");
        self.until(&there, "location.href").await;
    }

    /// The value of an expression in the page.
    pub async fn value(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Awaits an expression to be true; panics with what `told` is by then.
    pub async fn until(&mut self, expression: &str, told: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.value(expression).await != Value::Bool(true) {
            let is_over = std::time::Instant::now() >= deadline;
            assert!(!is_over, "in vain for {expression}; {told}: {}", self.value(told).await);
            tokio::time::sleep(wait::PAUSE).await;
        }
    }

    /// Awaits an element whose text holds these words.
    pub async fn until_says(&mut self, id: &str, words: &str) {
        let text = format!("document.getElementById('{id}').textContent");
        self.until(&format!("{text}.includes({words:?})"), &text).await;
    }

    /// Presses a key and lets it go.
    pub async fn press(&mut self, key: Key) {
        let (name, number, text) = key.parts();
        for (kind, text) in [("keyDown", text), ("keyUp", "")] {
            let asked = json!({
                "type": kind, "key": name, "windowsVirtualKeyCode": number, "text": text
            });
            self.call("Input.dispatchKeyEvent", asked).await;
        }
    }

    /// Types into whatever has the focus.
    pub async fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Goes on by Tab until an expression is true of the element that has the focus (`at`).
    pub async fn tab_to(&mut self, expression: &str) {
        for _ in 0..60 {
            self.press(Key::Tab).await;
            let asked = format!("(at => {expression})(document.activeElement)");
            if self.value(&asked).await == Value::Bool(true) {
                return;
            }
        }
        panic!("no way by keyboard to: {expression}");
    }

    /// A window of this size, in CSS pixels.
    pub async fn resize(&mut self, width: u32, height: u32) {
        let asked =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.call("Emulation.setDeviceMetricsOverride", asked).await;
    }

    /// As somebody who prefers `light` or `dark`.
    pub async fn prefer(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    /// Every address that the page asked for.
    pub fn asked(&self) -> Vec<&str> {
        self.of("Network.requestWillBeSent", "/request/url")
    }

    /// Every error in its console: scripts that failed, and what the policy forbade. A page that
    /// asks and is told 401 is no error.
    pub fn complaints(&self) -> Vec<&str> {
        let mut found = self.of("Log.entryAdded", "/entry/text");
        found.retain(|text| !text.starts_with("Failed to load resource"));
        found.extend(self.of("Runtime.exceptionThrown", "/exceptionDetails/text"));
        found
    }

    fn of(&self, method: &str, member: &str) -> Vec<&str> {
        let events = self.events.iter().filter(|event| event["method"] == method);
        events.filter_map(|event| event["params"].pointer(member)?.as_str()).collect()
    }
}

/// What comes out of the pipe, read by a thread that ends with the test.
fn messages(pipe: File) -> UnboundedReceiver<Value> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for message in BufReader::new(pipe).split(0) {
            let message = message.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if message.is_none_or(|message| sender.send(message).is_err()) {
                break;
            }
        }
    });
    receiver
}
