//! A headless Chromium, driven by its protocol for developers: it opens a page and lists its faults.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// Time that the browser may take for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The radius of a dot. Only its middle has to be inside a frame.
const DOT: f64 = 6.0;

/// Reads from the page the boxes of its charts: of lines, frames, texts, and the whole.
const LOOK: &str = "
    (() => {
        const box = (element) => {
            const { x, y, width, height } = element.getBBox();
            return { x, y, width, height, what: element.textContent || element.getAttribute('class') };
        };
        const charts = [...document.querySelectorAll('svg.chart')].map((chart) => ({
            id: chart.id,
            width: chart.getBoundingClientRect().width,
            whole: chart.viewBox.baseVal,
            frame: box(chart.querySelector('.frame')),
            marks: [...chart.querySelectorAll('path.line, circle.middle')].map(box),
            texts: [...chart.querySelectorAll('text')].map(box),
        })).map(({ whole, ...rest }) => ({
            ...rest, whole: { x: 0, y: 0, width: whole.width, height: whole.height },
        }));
        const root = document.documentElement;
        return { charts, overflow: root.scrollWidth - root.clientWidth };
    })()";

/// A browser with one page.
pub struct Browser {
    process: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    sent: u64,
    /// Events that came while an answer was waited for.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; `None` if none is installed, which on CI is a failure.
    pub fn start() -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
        let Some(name) = names.iter().find(is_there) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "chromium is not installed"
            );
            // Not captured, so that the skip is seen.
            let _ = writeln!(io::stderr(), "skipped: chromium is not installed");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new(name)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--remote-debugging-port=0",
                "--disable-dev-shm-usage",
                "about:blank",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let url = lines.find_map(|line| {
            line.strip_prefix("DevTools listening on ")
                .map(str::to_owned)
        });
        let url = url.expect("the browser says where it listens");
        // The rest of its output must be read, or it would block.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(&url).unwrap();
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut browser = Browser {
            process,
            socket,
            session: None,
            sent: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Opens a page in a window of this width and returns its faults, a sentence each. Faults are messages of the console,
    /// requests, charts that are empty or outside their frames, and texts that are cut off.
    pub fn inspect(&mut self, page: &Path, width: u32) -> Vec<String> {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let url = format!("file://{}", page.display());
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        self.wait_for("Page.loadEventFired");
        let seen = self.evaluate(LOOK);
        let mut findings: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| complaint(event, &url))
            .collect();
        findings.extend(about_charts(&seen));
        findings
    }

    /// The text that is shown when the pointer is in the middle of a chart.
    pub fn hover(&mut self, id: &str) -> String {
        let middle = self.evaluate(&format!(
            "(() => {{
                const chart = document.getElementById('{id}');
                chart.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                const box = chart.getBoundingClientRect();
                return {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
            }})()"
        ));
        let event = json!({ "type": "mouseMoved", "x": middle["x"], "y": middle["y"] });
        self.call("Input.dispatchMouseEvent", &event);
        let text = self.evaluate("document.querySelector('#tip:not([hidden])')?.innerText ?? ''");
        text.as_str().unwrap().to_owned()
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            &json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }),
        );
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let mut request = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(request.to_string()))
            .unwrap();
        loop {
            let message = self.receive();
            if message["id"] == self.sent {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn wait_for(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.receive();
            self.events.push(event);
        }
    }

    fn receive(&mut self) -> Value {
        let message = self.socket.read().expect("the browser answers");
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The fault that an event tells of, if it does. A request for anything but the page is one.
fn complaint(event: &Value, page: &str) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(format!("exception: {}", params["exceptionDetails"])),
        "Runtime.consoleAPICalled" => Some(format!("console: {}", params["args"])),
        "Log.entryAdded" => Some(format!("log: {}", params["entry"]["text"])),
        "Network.requestWillBeSent" => {
            let url = params["request"]["url"].as_str()?;
            (url != page).then(|| format!("request: {url}"))
        }
        _ => None,
    }
}

fn about_charts(seen: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let charts = seen["charts"].as_array().expect("a list");
    if charts.is_empty() {
        findings.push("there is no chart".to_owned());
    }
    if seen["overflow"].as_f64() > Some(0.0) {
        findings.push(format!(
            "the page is wider than its window by {}",
            seen["overflow"]
        ));
    }
    for chart in charts {
        let id = &chart["id"];
        let marks = chart["marks"].as_array().expect("a list");
        if marks.is_empty() || chart["width"].as_f64() < Some(100.0) {
            findings.push(format!("{id} shows nothing"));
        }
        for mark in marks {
            if mark["width"].as_f64() <= Some(0.0) && mark["height"].as_f64() <= Some(0.0) {
                findings.push(format!("{id} has an empty line"));
            } else if !is_inside(mark, &chart["frame"], DOT) {
                findings.push(format!("{id} has a line outside of its frame: {mark}"));
            }
        }
        for text in chart["texts"].as_array().expect("a list") {
            if !is_inside(text, &chart["whole"], 1.0) {
                findings.push(format!("{id} has a text that is cut off: {text}"));
            }
        }
    }
    findings
}

/// Whether a box is inside another, with this leeway.
fn is_inside(inner: &Value, outer: &Value, leeway: f64) -> bool {
    let ends = |of: &Value, from: &str, length: &str| {
        let from = of[from].as_f64().unwrap();
        (from, from + of[length].as_f64().unwrap())
    };
    [("x", "width"), ("y", "height")]
        .iter()
        .all(|(from, length)| {
            let (inner, outer) = (ends(inner, from, length), ends(outer, from, length));
            inner.0 >= outer.0 - leeway && inner.1 <= outer.1 + leeway
        })
}
