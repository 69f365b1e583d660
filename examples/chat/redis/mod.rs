//! The store of several nodes, in Redis.
//!
//! | key | type | contents |
//! |---|---|---|
//! | `chat:rooms` | sorted set | the names of the rooms, by the time of their last use |
//! | `chat:room:ROOM` | hash | the epoch, and the offset of the last message |
//! | `chat:messages:ROOM` | stream | the messages: the entry `N-0` has the offset `N` |
//! | `chat:sent:EPOCH:ROOM:NAME:ID` | string | the offset of a message, for 10 minutes, to recognize a resent one |
//! | `chat:name:NAME` | string | the user and the session that have the name; expires |
//! | `chat:nodes` | set | the ids of the nodes |
//! | `chat:node:NODE` | string | the members on the node, by room; expires |
//! | `chat:control:NODE` | stream | commands for the node; expires |
//!
//! Each script runs as one step: between a check and the change that depends on it, no other node changes Redis. The
//! scripts derive keys from their arguments, so the chat needs one Redis, not a cluster.

mod beat;
mod reader;
mod scripts;

use self::scripts::Scripts;
use crate::{
    embedded::epoch,
    local::Local,
    log::{Log, Position},
    messages::Message,
    rooms::{LOBBY, MAX_ROOMS},
    store::{Command, Seat, Store, StoreError, User},
};
use ::redis::{
    Client, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_upgrade::{BoxError, Sessions};

/// The time for an answer of Redis. A session waits for it when its page sends a message.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time for the reports of other nodes.
const REPORTS: Duration = Duration::from_secs(1);

pub(crate) struct Redis {
    /// The id of this process, not of a place: a restarted node ignores the commands for its predecessor.
    node: String,
    local: Arc<Local>,
    sessions: Sessions,
    history: usize,
    connection: ConnectionManager,
    scripts: Scripts,
    /// The names of the users on this node, by member.
    names: Mutex<BTreeMap<u64, (String, String)>>,
    others: Mutex<Vec<String>>,
    is_available: AtomicBool,
    beat: Mutex<Option<JoinHandle<()>>>,
}

impl Redis {
    /// Starts to follow Redis, also if it cannot be reached yet.
    pub(crate) fn start(
        url: &str,
        local: Arc<Local>,
        sessions: Sessions,
        history: usize,
    ) -> Result<Arc<dyn Store>, BoxError> {
        let client = Client::open(url)?;
        // A session that waits for Redis should fail soon, and its page tries again.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(2)
            .set_max_delay(Duration::from_millis(300))
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let redis = Arc::new(Self {
            node: epoch()[..8].to_owned(),
            local,
            sessions,
            history,
            connection: client.get_connection_manager_lazy(config)?,
            scripts: Scripts::new(),
            names: Mutex::default(),
            others: Mutex::default(),
            is_available: AtomicBool::new(false),
            beat: Mutex::default(),
        });
        tokio::spawn(reader::read(Arc::clone(&redis), client));
        let beat = tokio::spawn(beat::beat(Arc::clone(&redis)));
        *lock(&redis.beat) = Some(beat);
        Ok(Arc::new(redis))
    }

    /// Runs a script.
    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> RedisResult<T> {
        let mut connection = self.connection.clone();
        match timeout(PATIENCE, script.invoke_async(&mut connection)).await {
            Ok(result) => result,
            Err(elapsed) => Err(RedisError::from(std::io::Error::from(elapsed))),
        }
    }

    async fn query<T: FromRedisValue>(&self, command: &::redis::Cmd) -> RedisResult<T> {
        let mut connection = self.connection.clone();
        match timeout(PATIENCE, command.query_async(&mut connection)).await {
            Ok(result) => result,
            Err(elapsed) => Err(RedisError::from(std::io::Error::from(elapsed))),
        }
    }

    /// Reads a room, and puts it into the local part.
    async fn load(&self, room: &str) -> Result<(), StoreError> {
        let mut script = self.scripts.open.prepare_invoke();
        script.arg(room).arg(epoch()).arg(MAX_ROOMS);
        type Entries = Vec<(String, Vec<String>)>;
        let loaded: Option<(String, u64, Entries)> = self.run(&script).await.map_err(away)?;
        let (epoch, last, entries) = loaded.ok_or(StoreError::TooManyRooms)?;
        let mut log = Log::new(epoch, last, 2 * self.history);
        for (id, fields) in entries {
            if let [_, _, _, message] = &*fields
                && let Some(message) = reader::message(&id, message)
            {
                log.push(Arc::new(message));
            }
        }
        self.local.open(room, log);
        Ok(())
    }

    async fn claim_name(&self, user: &User, member: &str) -> Result<Option<Seat>, StoreError> {
        let mut script = self.scripts.claim.prepare_invoke();
        script.arg(user.folded_name()).arg(&user.key);
        script.arg(&self.node).arg(member);
        let older: Option<String> = self.run(&script).await.map_err(away)?;
        let older = older.ok_or(StoreError::NameTaken)?;
        Ok(serde_json::from_str(&older).ok())
    }

    async fn send_command(&self, node: &str, command: &Command) -> RedisResult<()> {
        let mut xadd = ::redis::cmd("XADD");
        xadd.arg(format!("chat:control:{node}"));
        xadd.arg(&["MAXLEN", "~", "1000", "*", "command"]);
        xadd.arg(json(command));
        self.query(&xadd).await
    }

    /// Returns the ids of the other nodes.
    fn others(&self) -> Vec<String> {
        lock(&self.others).clone()
    }
}

impl Store for Arc<Redis> {
    fn node(&self) -> &str {
        &self.node
    }

    fn check<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { self.claim_name(user, "").await.map(|_| ()) })
    }

    fn claim<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Result<Option<Seat>, StoreError>> {
        Box::pin(async {
            let member = user.member.to_string();
            let older = self.claim_name(user, &member).await?;
            let claim = serde_json::json!({
                "key": user.key, "node": self.node, "member": user.member,
            });
            let entry = (user.folded_name(), claim.to_string());
            lock(&self.names).insert(user.member, entry);
            Ok(older)
        })
    }

    fn release(&self, user: &User) {
        if lock(&self.names).remove(&user.member).is_none() {
            return;
        }
        let (redis, name, member) = (Arc::clone(self), user.folded_name(), user.member);
        tokio::spawn(async move {
            let mut script = redis.scripts.release.prepare_invoke();
            script.arg(name).arg(&redis.node).arg(member);
            // If this fails, the name expires.
            let _ = redis.run::<()>(&script).await;
        });
    }

    fn open<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if room != LOBBY && !self.local.is_listed(LOBBY) {
                self.load(LOBBY).await?;
            }
            self.load(room).await?;
            // The reader waits for the rooms that were open before.
            let redis = Arc::clone(self);
            tokio::spawn(async move { redis.send_command(&redis.node, &Command::Wake).await });
            Ok(())
        })
    }

    fn append(&self, message: Message) -> BoxFuture<'_, Result<Position, StoreError>> {
        Box::pin(async move {
            let mut script = self.scripts.append.prepare_invoke();
            script.arg(&message.room).arg(epoch()).arg(self.history);
            script.arg(format!("{}:{}:{}", message.room, message.from, message.id));
            script.arg(json(&message));
            let (epoch, offset) = self.run(&script).await.map_err(away)?;
            Ok(Position { epoch, offset })
        })
    }

    fn send<'a>(
        &'a self,
        node: Option<&'a str>,
        command: Command,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let nodes = match node {
                Some(node) => vec![node.to_owned()],
                None => self.others(),
            };
            for node in nodes {
                self.send_command(&node, &command).await.map_err(away)?;
            }
            Ok(())
        })
    }

    fn reports(&self) -> BoxFuture<'_, Vec<Value>> {
        Box::pin(async {
            let others = self.others();
            let list = format!("chat:reports:{}", epoch());
            let command = Command::Report(list.clone());
            if self.send(None, command).await.is_err() {
                return Vec::new();
            }
            let mut lrange = ::redis::cmd("LRANGE");
            lrange.arg(&list).arg(0).arg(-1);
            let mut reports: Vec<String> = Vec::new();
            let poll = async {
                while reports.len() < others.len() {
                    sleep(Duration::from_millis(20)).await;
                    reports = self.query(&lrange).await.unwrap_or_default();
                }
            };
            // A node that has just failed does not answer.
            let _ = timeout(REPORTS, poll).await;
            let reports = reports.iter();
            reports
                .filter_map(|report| serde_json::from_str(report).ok())
                .collect()
        })
    }

    fn health(&self) -> Result<(), StoreError> {
        match self.is_available.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(StoreError::Unavailable),
        }
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let beat = lock(&self.beat).take();
            if let Some(beat) = beat {
                beat.abort();
                let _ = beat.await;
            }
            let mut del = ::redis::cmd("DEL");
            del.arg(format!("chat:node:{}", self.node));
            // If this fails, the key expires.
            let _ = self.query::<()>(&del).await;
        })
    }
}

fn away(error: RedisError) -> StoreError {
    tracing::warn!(%error, "Redis");
    StoreError::Unavailable
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| unreachable!("strings and numbers are always JSON: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
