//! Collects `tracing` spans.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tracing::{
    Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

/// A recorded span.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub name: &'static str,
    pub parent: Option<u64>,
    pub follows: Vec<u64>,
    pub fields: HashMap<&'static str, String>,
    pub is_closed: bool,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// All spans, and the messages with their spans.
#[derive(Clone, Default)]
pub struct Spans {
    spans: Arc<Mutex<HashMap<u64, Seen>>>,
    events: Arc<Mutex<Vec<(Option<u64>, String)>>>,
}

impl Spans {
    /// Collects the spans and events of this thread until the guard is dropped.
    pub fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        (spans, tracing::subscriber::set_default(subscriber))
    }

    /// The only span with this name.
    pub fn only(&self, name: &str) -> (u64, Seen) {
        let spans = self.spans.lock().expect("no panic");
        let mut found = spans.iter().filter(|(_, span)| span.name == name);
        let (id, span) = found.next().expect("one span");
        assert!(found.next().is_none(), "{spans:?}");
        (*id, span.clone())
    }

    pub fn has(&self, is_it: impl Fn(&Seen) -> bool) -> bool {
        self.spans.lock().expect("no panic").values().any(is_it)
    }

    /// The messages that came in a span.
    pub fn said_in(&self, span: u64) -> Vec<String> {
        let events = self.events.lock().expect("no panic");
        let events = events.iter().filter(|(of, _)| *of == Some(span));
        events.map(|(_, message)| message.clone()).collect()
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut spans = self.spans.lock().expect("no panic");
        change(spans.entry(id.into_u64()).or_default());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.change(id, |span| {
            span.name = attributes.metadata().name();
            let current = || context.current_span().id().map(Id::into_u64);
            span.parent = match attributes.parent() {
                Some(parent) => Some(parent.into_u64()),
                None if attributes.is_contextual() => current(),
                None => None,
            };
            attributes.record(span);
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _context: Context<'_, S>) {
        self.change(id, |span| record.record(span));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _context: Context<'_, S>) {
        self.change(id, |span| span.follows.push(follows.into_u64()));
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        // h2 emits many events in the current span.
        if !matches!(event.metadata().target(), "tower_upgrade" | "spans") {
            return;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        let message = seen.fields.remove("message").unwrap_or_default();
        let span = context.event_span(event).map(|span| span.id().into_u64());
        self.events.lock().expect("no panic").push((span, message));
    }

    fn on_close(&self, id: Id, _context: Context<'_, S>) {
        self.change(&id, |span| span.is_closed = true);
    }
}
