//! Reports every second that this node runs, with its members, and reads the same of the other nodes.

use super::{Redis, json, lock};
use crate::{embedded::epoch, local::People};
use ::redis::RedisResult;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};

const INTERVAL: Duration = Duration::from_secs(1);
/// The members of a node that has failed leave after this time and one interval.
const LIFETIME: Duration = Duration::from_secs(3);
/// A third of the lifetime of a name, in intervals.
const NAMES: u32 = 20;

pub(super) async fn beat(redis: Arc<Redis>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 1_u32.. {
        ticks.tick().await;
        let reported = report(&redis).await;
        if let Err(error) = &reported {
            tracing::warn!(%error, "Redis does not know the members on this node");
        }
        redis
            .is_available
            .store(reported.is_ok(), Ordering::Relaxed);
        if count % NAMES == 0 {
            keep_names(&redis).await;
        }
    }
}

async fn report(redis: &Redis) -> RedisResult<()> {
    let rooms = redis.local.positions();
    let mut script = redis.scripts.beat.prepare_invoke();
    script.arg(&redis.node).arg(json(&redis.local.people()));
    script.arg(LIFETIME.as_millis() as u64).arg(epoch());
    for (room, position) in &rooms {
        script.arg(room).arg(&position.epoch).arg(position.offset);
    }
    type Report = (Vec<(String, String)>, Vec<String>, Vec<String>);
    let (nodes, epochs, names): Report = redis.run(&script).await?;

    let mut elsewhere = People::new();
    let mut others = Vec::new();
    for (node, people) in nodes {
        others.push(node);
        let people: People = serde_json::from_str(&people).unwrap_or_default();
        for (room, names) in people {
            elsewhere.entry(room).or_default().extend(names);
        }
    }
    *lock(&redis.others) = others;
    redis.local.set_elsewhere(elsewhere);
    redis.local.set_rooms(names.into_iter().collect());

    for ((room, position), epoch) in rooms.iter().zip(epochs) {
        // Redis has lost the messages of the room. The members are informed when the room is read.
        if position.epoch != epoch && redis.load(room).await.is_err() {
            tracing::warn!(room, "the room cannot be read");
        }
    }
    Ok(())
}

/// Extends the claims of the users on this node, and restores those that Redis has lost.
async fn keep_names(redis: &Redis) {
    let names: Vec<_> = lock(&redis.names).values().cloned().collect();
    for names in names.chunks(500) {
        let mut pipe = ::redis::pipe();
        for (name, claim) in names {
            let key = format!("chat:name:{name}");
            pipe.cmd("SET")
                .arg(&key)
                .arg(claim)
                .arg(&["NX", "EX", "60"]);
            pipe.ignore().expire(key, 60).ignore();
        }
        let mut connection = redis.connection.clone();
        let _ = tokio::time::timeout(super::PATIENCE, pipe.exec_async(&mut connection)).await;
    }
}
