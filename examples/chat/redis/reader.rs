//! Reads the messages of all rooms that are open on this node, and the commands for the node, over one connection.

use super::Redis;
use crate::{admin, messages::Message, store::Command};
use ::redis::{
    AsyncConnectionConfig, Client, RedisError, RedisResult,
    streams::{StreamId, StreamReadReply},
};
use std::{collections::HashMap, convert::Infallible, io, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// The time for which Redis waits for new entries.
const BLOCK: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(3);

/// Reads until the process ends. After a failure the reader continues at the last offset of each room.
pub(super) async fn read(redis: Arc<Redis>, client: Client) {
    // A new id of a node has no older commands.
    let mut last_command = "0-0".to_owned();
    loop {
        let Err(error) = follow(&redis, &client, &mut last_command).await;
        tracing::warn!(%error, "reading from Redis failed");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn follow(
    redis: &Arc<Redis>,
    client: &Client,
    last_command: &mut String,
) -> RedisResult<Infallible> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let control = format!("chat:control:{}", redis.node);
    loop {
        let rooms = redis.local.positions();
        let streams = rooms
            .iter()
            .map(|(room, _)| (format!("chat:messages:{room}"), room));
        let streams: HashMap<String, &String> = streams.collect();
        let mut command = ::redis::cmd("XREAD");
        command.arg("COUNT").arg(500);
        command.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        command.arg("STREAMS").arg(&control);
        for (room, _) in &rooms {
            command.arg(format!("chat:messages:{room}"));
        }
        command.arg(&*last_command);
        for (_, position) in &rooms {
            command.arg(format!("{}-0", position.offset));
        }
        let reply = command.query_async::<Option<StreamReadReply>>(&mut connection);
        let reply = timeout(BLOCK + CONNECT, reply).await;
        let reply = reply.map_err(|elapsed| RedisError::from(io::Error::from(elapsed)))??;
        for stream in reply.into_iter().flat_map(|reply| reply.keys) {
            if let Some(room) = streams.get(&stream.key) {
                receive(redis, room, &stream.ids).await;
            } else {
                for entry in stream.ids {
                    let command: Option<String> = entry.get("command");
                    *last_command = entry.id;
                    if let Some(command) = command
                        && let Ok(command) = serde_json::from_str(&command)
                    {
                        obey(redis, command).await;
                    }
                }
            }
        }
    }
}

/// Sends new messages of a room to the members on this node.
async fn receive(redis: &Redis, room: &str, entries: &[StreamId]) {
    let Some(epoch) = entries
        .first()
        .and_then(|entry| entry.get::<String>("epoch"))
    else {
        return;
    };
    let same_epoch = entries
        .iter()
        .take_while(|entry| entry.get::<String>("epoch").as_ref() == Some(&epoch));
    let messages = same_epoch.filter_map(|entry| {
        let message: String = entry.get("message")?;
        Some(Arc::new(self::message(&entry.id, &message)?))
    });
    if redis.local.receive(&epoch, messages.collect()).is_err() && redis.load(room).await.is_err() {
        // The next read returns the same entries.
        sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the message of an entry.
pub(super) fn message(id: &str, message: &str) -> Option<Message> {
    let mut message: Message = serde_json::from_str(message).ok()?;
    message.offset = id.split_once('-')?.0.parse().ok()?;
    Some(message)
}

async fn obey(redis: &Arc<Redis>, command: Command) {
    match command {
        Command::Replace(member) => redis.local.replace(member),
        Command::Close(id) => {
            redis.sessions.close(id.into(), admin::GRACE);
        }
        Command::Drain => drop(redis.sessions.drain(admin::GRACE)),
        Command::Report(list) => {
            let report = admin::report(&redis.sessions, &redis.node).to_string();
            let mut connection = redis.connection.clone();
            let mut pipe = ::redis::pipe();
            pipe.rpush(&list, report)
                .ignore()
                .expire(&list, 10)
                .ignore();
            // The administrator sees the report in the next second.
            let _ = timeout(super::PATIENCE, pipe.exec_async(&mut connection)).await;
        }
        Command::Wake => {}
    }
}
