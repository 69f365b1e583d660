//! Clients that reconnect as the page does, send numbered messages, and check the numbers that they receive.

use crate::{
    support::soon,
    verdict::{Shared, Verdict},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::{collections::HashMap, io, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

/// The number of members of a room who send.
const SENDERS: usize = 2;
/// The time after which a client resends a message, or gives up an attempt to connect.
const PATIENCE: Duration = Duration::from_secs(10);
const FOREVER: Duration = Duration::from_secs(100_000);

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Connects with the last position, if any.
pub(crate) async fn connect(
    address: &str,
    name: &str,
    room: &str,
    position: Option<&(String, u64)>,
) -> Result<Socket, Error> {
    let since = match position {
        Some((epoch, offset)) => format!("&epoch={epoch}&offset={offset}"),
        None => String::new(),
    };
    let url = format!("ws://{address}/chat?name={name}&key={name}&room={room}{since}");
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(client_async(url, tcp).await?.0)
    };
    match timeout(PATIENCE, connecting).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(io::Error::from(elapsed).into()),
    }
}

/// Opens a session that ends with its node.
pub(crate) async fn ghost(address: &str, name: &str) -> Socket {
    let mut ghost = connect(address, name, "room-0", None)
        .await
        .expect("a session");
    // The session has started when its first message arrives.
    let message = soon(ghost.next()).await.expect("a message");
    message.expect("a message");
    ghost
}

/// All clients. Dropping them ends their tasks.
pub(crate) struct Clients {
    _tasks: JoinSet<()>,
    verdict: Verdict,
}

impl std::ops::Deref for Clients {
    type Target = Verdict;

    fn deref(&self) -> &Verdict {
        &self.verdict
    }
}

impl Clients {
    /// Connects all clients, and waits until each has joined its room.
    pub(crate) async fn start(address: String, number: usize, per_room: usize) -> Self {
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let verdict = Verdict::new(number, per_room);
        let mut tasks = JoinSet::new();
        for index in 0..number {
            let mut client = Client {
                index,
                name: format!("client-{index}"),
                room: format!("room-{}", index / per_room),
                is_sender: index % per_room < SENDERS,
                position: None,
                numbers: HashMap::new(),
                sending: None,
                last: 0,
                due: Instant::now() + FOREVER,
                shared: Arc::clone(&verdict.shared),
            };
            let address = address.clone();
            tasks.spawn(async move { client.run(&address).await });
            // The listener's queue is limited.
            if index % 50 == 49 {
                verdict.until_joined(index + 1).await;
            }
        }
        verdict.until_joined(number).await;
        Self {
            _tasks: tasks,
            verdict,
        }
    }
}

struct Client {
    index: usize,
    name: String,
    room: String,
    is_sender: bool,
    position: Option<(String, u64)>,
    /// The last number received from each sender.
    numbers: HashMap<String, u64>,
    /// The message that is not acknowledged yet, with its number.
    sending: Option<(u64, Value)>,
    /// The number of the last acknowledged message.
    last: u64,
    /// The time to send again, or to send the next message.
    due: Instant,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(&mut self, address: &str) {
        loop {
            let connected = connect(address, &self.name, &self.room, self.position.as_ref());
            match connected.await {
                Ok(socket) => {
                    self.due = Instant::now();
                    let _ = self.session(socket).await;
                }
                Err(error) => self.shared.attempt_failed(&error),
            }
            self.shared.disconnected(self.index);
            // Not all in the same moment.
            sleep(Duration::from_millis(rand::random_range(50..500))).await;
        }
    }

    /// Returns when the connection ends.
    async fn session(&mut self, mut socket: Socket) -> Result<(), Error> {
        let mut has_joined = false;
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    None => return Ok(()),
                    Some(message) => if let Message::Text(text) = message? {
                        let message = serde_json::from_str(&text).expect("JSON");
                        has_joined |= self.receive(&message);
                    }
                },
                () = sleep_until(self.due), if has_joined && self.is_sender => {
                    if let Some(message) = self.next_message() {
                        socket.send(Message::text(message)).await?;
                    }
                }
            }
        }
    }

    /// Returns the message to send now.
    fn next_message(&mut self) -> Option<String> {
        self.due = Instant::now() + PATIENCE;
        if self.sending.is_none() {
            if self.shared.pause().is_none() {
                // Not started, or finished.
                self.due = Instant::now() + Duration::from_millis(100);
                return None;
            }
            let number = self.last + 1;
            let text = format!("{number} {}", self.shared.micros());
            let id = format!("{}-{number}", self.name);
            let message = json!({ "type": "say", "id": id, "room": self.room, "text": text });
            self.shared.set_sending(self.index, true);
            self.sending = Some((number, message));
        }
        self.sending
            .as_ref()
            .map(|(_, message)| message.to_string())
    }

    /// Returns whether the client has joined its room.
    fn receive(&mut self, message: &Value) -> bool {
        match message["type"].as_str() {
            Some("room") => {
                let epoch = message["epoch"].as_str().expect("an epoch");
                if message["missed"] == true {
                    self.shared.loss_reported(self.index, &self.name);
                    self.position = None;
                    self.numbers.clear();
                }
                self.receive_messages(epoch, &message["history"], true);
                let offset = message["offset"].as_u64().expect("an offset");
                let position = (epoch.to_owned(), offset);
                if self
                    .position
                    .as_ref()
                    .is_some_and(|found| *found != position)
                {
                    self.shared
                        .fail(format!("{}: the history ends early", self.name));
                }
                self.position = Some(position);
                self.shared.joined(self.index);
                return true;
            }
            Some("messages") => {
                let epoch = message["epoch"].as_str().expect("an epoch");
                self.receive_messages(epoch, &message["messages"], false);
            }
            Some("sent") => self.acknowledged(message),
            Some("people") => self.shared.set_people(self.index, &message["people"]),
            Some("error") if message["retry"] == true => {
                self.shared.send_failed();
                self.due = Instant::now() + Duration::from_millis(300);
            }
            Some("error") => self.shared.fail(format!("{}: {message}", self.name)),
            _ => {}
        }
        false
    }

    fn receive_messages(&mut self, epoch: &str, messages: &Value, is_history: bool) {
        for message in messages.as_array().expect("a list") {
            let offset = message["offset"].as_u64().expect("an offset");
            if let Some((last_epoch, last)) = &self.position
                && (last_epoch != epoch || offset != last + 1)
            {
                let name = &self.name;
                self.shared.fail(format!(
                    "{name}: {epoch} {offset} follows {last_epoch} {last}"
                ));
            }
            self.position = Some((epoch.to_owned(), offset));
            let from = message["from"].as_str().expect("a name");
            let mut text = message["text"].as_str().expect("a text").split(' ');
            let mut next = || {
                text.next()
                    .expect("a number")
                    .parse::<u64>()
                    .expect("a number")
            };
            let (number, sent_at) = (next(), next());
            let last = self.numbers.insert(from.to_owned(), number).unwrap_or(0);
            if number != last + 1 && !self.shared.may_lose() {
                let name = &self.name;
                self.shared
                    .fail(format!("{name}: {number} follows {last} of {from}"));
            }
            self.shared
                .received(self.index, from, number, sent_at, is_history);
        }
    }

    fn acknowledged(&mut self, message: &Value) {
        let Some((number, sent)) = &self.sending else {
            return;
        };
        if sent["id"] == message["id"] {
            self.last = *number;
            self.sending = None;
            self.due = Instant::now() + self.shared.pause().unwrap_or_default();
            self.shared
                .acknowledged(self.index, &self.room, &self.name, self.last);
        }
    }
}
