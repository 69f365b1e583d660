//! Tower middleware for HTTP upgrades.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod commit;
mod copy;
mod decision;
mod future;
mod handler;
mod layer;
mod linger;
mod negotiate;
mod pending_upgrade;
mod protocol;
mod rejection;
mod request;
mod service;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod trace;
mod upgraded;

pub use crate::{
    body::{RequestBody, ResponseBody},
    copy::copy,
    future::ResponseFuture,
    handler::{Accept, HandlerFn, ProtocolHandler, When, handler_fn},
    layer::UpgradeLayer,
    negotiate::Preference,
    pending_upgrade::PendingUpgrade,
    protocol::{InvalidProtocol, Protocol},
    rejection::{Rejection, RejectionReason},
    request::{UpgradeKind, UpgradeRequest},
    service::{Upgrade, UpgradeRequired},
    session::Session,
    upgraded::{BoxIo, Parts, Upgraded},
};

/// Any error: what handlers end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
