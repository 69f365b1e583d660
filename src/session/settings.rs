//! The settings of a session: time limits, the registry, callbacks.

use crate::session::{Closed, Sessions};
#[cfg(feature = "testing")]
use http::Extensions;
use std::{fmt, sync::Arc, time::Duration};

const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_LIMIT: u64 = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of one layer. An unset value is taken from the outer layer, or is the default.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) accept_timeout: Option<Duration>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) shutdown_timeout: Option<Duration>,
    pub(crate) govern_keep_alive: Option<Duration>,
    pub(crate) body_limit: Option<u64>,
    pub(crate) body_timeout: Option<Duration>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) on_close: Option<OnClose>,
    /// Set by the outermost layer from the extensions of the request, not by the user.
    #[cfg(feature = "testing")]
    pub(crate) observer: Option<Observer>,
}

/// The callback for ended sessions.
pub(crate) type OnClose = Arc<dyn Fn(&Closed) + Send + Sync>;

impl Settings {
    /// Returns these settings, with unset values from `outer`.
    pub(crate) fn or(&self, outer: &Self) -> Self {
        Self {
            accept_timeout: self.accept_timeout.or(outer.accept_timeout),
            handshake_timeout: self.handshake_timeout.or(outer.handshake_timeout),
            idle_timeout: self.idle_timeout.or(outer.idle_timeout),
            lifetime: self.lifetime.or(outer.lifetime),
            shutdown_timeout: self.shutdown_timeout.or(outer.shutdown_timeout),
            govern_keep_alive: self.govern_keep_alive.or(outer.govern_keep_alive),
            body_limit: self.body_limit.or(outer.body_limit),
            body_timeout: self.body_timeout.or(outer.body_timeout),
            sessions: self.sessions.as_ref().or(outer.sessions.as_ref()).cloned(),
            on_close: self.on_close.as_ref().or(outer.on_close.as_ref()).cloned(),
            #[cfg(feature = "testing")]
            observer: outer.observer.clone(),
        }
    }

    /// Returns the idle timeout. The default is `None`.
    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.filter(|limit| *limit != Duration::MAX)
    }

    /// Returns the maximum lifetime. The default is `None`.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime.filter(|limit| *limit != Duration::MAX)
    }

    /// Returns these settings for one session, with a lifetime of at most `lifetime`.
    pub(crate) fn with_lifetime(&self, lifetime: Duration) -> Self {
        let lifetime = self.lifetime().map_or(lifetime, |own| own.min(lifetime));
        Self {
            lifetime: Some(lifetime),
            ..self.clone()
        }
    }

    /// Returns `true` if sessions have neither an idle timeout nor a maximum lifetime.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.idle_timeout().is_none() && self.lifetime().is_none()
    }

    pub(crate) fn accept_timeout(&self) -> Duration {
        self.accept_timeout.unwrap_or(ACCEPT_TIMEOUT)
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT)
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT)
    }

    /// Returns the interval of pings on governed WebSockets. The default is `None`.
    pub(crate) fn govern_keep_alive(&self) -> Option<Duration> {
        self.govern_keep_alive
            .filter(|interval| *interval != Duration::MAX)
    }

    pub(crate) fn body_limit(&self) -> u64 {
        self.body_limit.unwrap_or(BODY_LIMIT)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        self.body_timeout.unwrap_or(BODY_TIMEOUT)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("accept_timeout", &self.accept_timeout)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("lifetime", &self.lifetime)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("govern_keep_alive", &self.govern_keep_alive)
            .field("body_limit", &self.body_limit)
            .field("body_timeout", &self.body_timeout)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// Reports the end of one session to a test. The test inserts the observer into the extensions of its request; the
/// outermost layer moves it into the settings of the session.
///
/// An observer does not make a layer the outermost one, and a user's `on_close` does not replace the observer.
#[cfg(feature = "testing")]
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(Closed) + Send + Sync>);

#[cfg(feature = "testing")]
impl Observer {
    pub(crate) fn new(report: impl Fn(Closed) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Moves the observer from the extensions of a request into its settings, if a test inserted one.
    pub(crate) fn take_in(settings: Arc<Settings>, extensions: &mut Extensions) -> Arc<Settings> {
        match extensions.remove() {
            Some(observer) => Arc::new(Settings {
                observer: Some(observer),
                ..Settings::clone(&settings)
            }),
            None => settings,
        }
    }

    pub(crate) fn report(&self, closed: Closed) {
        (self.0)(closed);
    }
}
